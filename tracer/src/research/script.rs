//! What an interpreter was told to run, by its arguments, and what became of that file: the program that a person means.

use std::{
    borrow::Cow,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::{
    file::{Files, file_at, open_folder},
    layer,
    mounts::Mounts,
    packages::Root,
    path::without_dots,
};
use crate::{
    model::{
        event::ProcessId,
        program::plain_name,
        provenance::{self, FileState, Provenance},
    },
    sink::escape::escape,
    source::stat::Stat,
};

/// What an interpreter runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// A file, by its path as it was given: it may be relative to the folder that the process was started in.
    File(Vec<u8>),
    /// A module (`python3 -m NAME`).
    Module {
        /// Its name.
        name: Vec<u8>,
        /// It is looked for in the folder that the process was started in, before all others.
        begins_here: bool,
    },
}

/// How an interpreter reads its arguments. The letters are those of options that may stand together behind one `-`.
struct Interpreter {
    /// Its names, without a version.
    names: &'static [&'static str],
    /// What comes is text to run, or it is read from standard input: there is no file.
    code: &'static str,
    /// What comes is a module's name.
    module: &'static str,
    /// What comes is the file.
    file: &'static str,
    /// What comes belongs to the option: the rest of the word, or the next one.
    value: &'static str,
    /// The rest of the word belongs to the option.
    rest: &'static str,
    /// A module is not looked for in the folder that the process was started in.
    elsewhere: &'static str,
    /// Long options, or words of one `-`, with a word of their own behind them.
    long_value: &'static [&'static str],
    /// Such options behind which text to run comes.
    long_code: &'static [&'static str],
}

const NONE: Interpreter = Interpreter {
    names: &[],
    code: "",
    module: "",
    file: "",
    value: "",
    rest: "",
    elsewhere: "",
    long_value: &[],
    long_code: &[],
};

/// By the manual pages of each.
const INTERPRETERS: &[Interpreter] = &[
    Interpreter {
        names: &["python", "pypy"],
        code: "c",
        module: "m",
        value: "WXQ",
        elsewhere: "IP",
        long_value: &["--check-hash-based-pycs"],
        ..NONE
    },
    Interpreter { names: &["perl"], code: "eE", value: "I", rest: "0CDFMSVilmx", ..NONE },
    Interpreter { names: &["ruby"], code: "e", value: "CEIr", rest: "0FTWKix", ..NONE },
    Interpreter {
        names: &["node", "nodejs"],
        code: "ep",
        value: "rC",
        long_value: &[
            "--require",
            "--import",
            "--loader",
            "--experimental-loader",
            "--conditions",
            "--env-file",
        ],
        long_code: &["--eval", "--print"],
        ..NONE
    },
    Interpreter { names: &["php"], code: "BERSr", file: "fF", value: "cdgtz", ..NONE },
    Interpreter { names: &["lua", "luajit"], value: "el", ..NONE },
    Interpreter { names: &["tclsh", "wish", "expect"], code: "c", value: "", ..NONE },
    Interpreter {
        names: &["sh", "bash", "rbash", "dash", "ash", "zsh", "ksh", "mksh", "fish"],
        code: "cs",
        value: "oO",
        long_value: &["--rcfile", "--init-file"],
        long_code: &["--command"],
        ..NONE
    },
];

/// Names of the interpreters whose arguments can be read, without a version.
#[cfg(test)]
pub(crate) fn interpreters() -> impl Iterator<Item = &'static str> {
    INTERPRETERS.iter().flat_map(|one| one.names).copied()
}

impl Script {
    /// What a program with this path or name runs by these arguments, each of which ends with NUL, the first being its
    /// name; nothing where it is no interpreter, or runs no file.
    #[must_use]
    pub fn of(exe: &[u8], args: &[u8]) -> Option<Self> {
        let interpreter = interpreter(exe)?;
        let args = args.strip_suffix(&[0]).unwrap_or(args);
        interpreter.script(args.split(|byte| *byte == 0).skip(1))
    }
}

impl Script {
    /// Looks at the file, as the process sees it; of one that has ended no more is known than what it was told to run.
    /// `told_by_kernel`: the arguments are those of an exec, and not what /proc shows, which a process may change.
    pub(super) fn look_up(
        &self,
        id: ProcessId,
        told_by_kernel: bool,
        files: &mut Files,
    ) -> provenance::Script {
        let root = PathBuf::from(format!("/proc/{}/root", id.pid));
        let unknown = || match self {
            Self::File(path) => provenance::Script::File { path: escape(path), found: Provenance::default() },
            Self::Module { name, .. } => provenance::Script::Module(escape(name)),
        };
        let Some(given) = self.given(id.pid, &root) else { return unknown() };
        let opened = Root::open(&root);
        let Some(path) = absolute(id.pid, &given) else { return unknown() };
        let is_there = file_at(&root, &path).is_some();
        let file = match (is_there, given.starts_with(b"/")) {
            (true, _) => FileState::Present,
            (false, true) => FileState::Deleted,
            // The process may have been started in another folder than the one that it is in.
            (false, false) => FileState::Unknown,
        };
        let open_folder = if file == FileState::Unknown { None } else { open_folder(&root, &path) };
        // Looked at last: when it is still the same process then, all of the above was its own.
        if Stat::of(id).is_none() {
            return unknown();
        }
        let mut found = Provenance { file, open_folder, ..Provenance::default() };
        let opened = opened.ok().filter(|_| is_there);
        let (opened, mounts) = (opened.map(|root| (root.file(&path).ok(), root)), Mounts::of(id));
        let file = opened.and_then(|(read, root)| {
            let package = read.as_ref().and_then(|file| file.try_clone().ok());
            if let Ok(root) = root.or_own() {
                found.package = files.packages.look_up(&root, &without_links(&root, &path), package);
            }
            found.layer = read.as_ref().and_then(|file| layer::of(file, &mounts));
            read
        });
        if !(told_by_kernel && given.starts_with(b"/")) {
            found.package = found.package.doubted();
        }
        files.hash(file.as_ref(), &mounts, &mut found);
        provenance::Script::File { path: escape(&path), found }
    }
}

impl Script {
    /// The path that was given, or that a module has which is in the folder where the process is. Where others lie, only the
    /// interpreter knows.
    fn given(&self, pid: u32, root: &Path) -> Option<Cow<'_, [u8]>> {
        let (name, begins_here) = match self {
            Self::File(path) => return Some(path.into()),
            Self::Module { name, begins_here } => (name, *begins_here),
        };
        let is_name = |part: &[u8]| {
            part.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii())
        };
        if !begins_here || !name.split(|byte| *byte == b'.').all(|part| !part.is_empty() && is_name(part)) {
            return None;
        }
        let name: Vec<u8> = name.iter().map(|byte| if *byte == b'.' { b'/' } else { *byte }).collect();
        let path = |end: &str| [&name, end.as_bytes()].concat();
        let is_there =
            |end: &str| absolute(pid, &path(end)).is_some_and(|path| file_at(root, &path).is_some());
        // In the order of importlib's FileFinder: a package comes before a module of its name, a folder without __init__ after.
        let ends = ["/__main__.py", ".py", "/__main__.py"];
        let ends = if is_there("/__init__.py") { &ends[..] } else { &ends[1..] };
        ends.iter().find(|end| is_there(end)).map(|end| path(end).into())
    }
}

/// The path without links: only in the tracer's own root, whose links can be followed from here.
fn without_links(root: &Root, path: &[u8]) -> Vec<u8> {
    let plain = fs::canonicalize(std::ffi::OsStr::from_bytes(path)).ok().filter(|_| root.is_own());
    plain.map_or_else(|| path.to_vec(), |plain| plain.as_os_str().as_bytes().to_vec())
}

/// The path within the process's root, without dots.
fn absolute(pid: u32, given: &[u8]) -> Option<Vec<u8>> {
    if given.starts_with(b"/") {
        return Some(normal(given));
    }
    let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).ok();
    let (root, folder) = (link("root")?, link("cwd")?);
    let folder = folder.as_os_str().as_bytes();
    // Of a root in this mount namespace links tell where it lies here.
    let within = match root.as_os_str().as_bytes() {
        b"/" => folder,
        root => folder.strip_prefix(root)?,
    };
    Some(normal(&[within, b"/", given].concat()))
}

/// The path without dots.
fn normal(path: &[u8]) -> Vec<u8> {
    let parts = without_dots(path.split(|byte| *byte == b'/'));
    parts.into_iter().flat_map(|part| [b"/".as_slice(), part]).flatten().copied().collect()
}

fn interpreter(exe: &[u8]) -> Option<&'static Interpreter> {
    let name = plain_name(exe);
    INTERPRETERS.iter().find(|one| one.names.iter().any(|own| own.as_bytes() == name))
}

impl Interpreter {
    fn script<'a>(&self, mut words: impl Iterator<Item = &'a [u8]>) -> Option<Script> {
        let file = |path: &[u8]| (!path.is_empty()).then(|| Script::File(path.to_vec()));
        let mut begins_here = true;
        while let Some(word) = words.next() {
            match word {
                b"--" => return file(words.next()?),
                b"-" => return None,
                [b'-', b'-', ..] if is_one_of(self.long_code, word) => return None,
                [b'-', b'-', ..] => {
                    if is_one_of(self.long_value, word) {
                        words.next()?;
                    }
                }
                [b'-' | b'+', letters @ ..] => match self.option(letters, &mut begins_here) {
                    Meaning::Flags => {}
                    Meaning::Code => return None,
                    Meaning::Value(rest) => {
                        if rest.is_empty() {
                            words.next()?;
                        }
                    }
                    Meaning::Module(rest) => {
                        let name = if rest.is_empty() { words.next()? } else { rest };
                        return Some(Script::Module { name: name.to_vec(), begins_here });
                    }
                    Meaning::File(rest) => return file(if rest.is_empty() { words.next()? } else { rest }),
                },
                _ => return file(word),
            }
        }
        None
    }

    fn option<'a>(&self, letters: &'a [u8], begins_here: &mut bool) -> Meaning<'a> {
        for (at, letter) in letters.iter().enumerate() {
            let rest = &letters[at + 1..];
            let is_of = |set: &str| set.as_bytes().contains(letter);
            if is_of(self.code) {
                return Meaning::Code;
            } else if is_of(self.module) {
                return Meaning::Module(rest);
            } else if is_of(self.file) {
                return Meaning::File(rest);
            } else if is_of(self.value) {
                return Meaning::Value(rest);
            } else if is_of(self.rest) {
                return Meaning::Flags;
            }
            *begins_here &= !is_of(self.elsewhere);
        }
        Meaning::Flags
    }
}

/// What a word of options says of what comes; with the rest of the word.
enum Meaning<'a> {
    Flags,
    Code,
    Value(&'a [u8]),
    Module(&'a [u8]),
    File(&'a [u8]),
}

fn is_one_of(options: &[&str], word: &[u8]) -> bool {
    options.iter().any(|option| option.as_bytes() == word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::stat::TICK;

    fn of(line: &str) -> Option<String> {
        let args: String = line.split(' ').flat_map(|word| [word, "\0"]).collect();
        let exe = line.split(' ').next().unwrap();
        Script::of(exe.as_bytes(), args.as_bytes()).map(|script| match script {
            Script::File(path) => String::from_utf8(path).unwrap(),
            Script::Module { name, begins_here } => {
                let word = if begins_here { "module" } else { "module elsewhere" };
                format!("{word} {}", String::from_utf8(name).unwrap())
            }
        })
    }

    #[test]
    fn the_file_comes_after_the_options_and_their_values() {
        for (line, script) in [
            ("/usr/bin/python3.11 x.py --port 80", "x.py"),
            ("python3 -u -W ignore -Xdev /srv/x.py", "/srv/x.py"),
            ("python3 -IB -- -x.py", "-x.py"),
            ("/usr/bin/perl -w -I lib -Mstrict -i.bak x.pl", "x.pl"),
            ("ruby3.1 -W0 -r json x.rb", "x.rb"),
            ("node --require ./hook.js --inspect=9229 server.js", "server.js"),
            ("php8.2 -d memory_limit=1G -f job.php", "job.php"),
            ("/bin/bash -eu -o pipefail ./run.sh -c", "./run.sh"),
            ("/bin/sh +x run", "run"),
            ("bash --rcfile rc script", "script"),
            ("lua5.4 -l socket x.lua", "x.lua"),
        ] {
            assert_eq!(of(line).as_deref(), Some(script), "{line}");
        }
    }

    #[test]
    fn a_module_is_named() {
        assert_eq!(of("python3 -m http.server 80").as_deref(), Some("module http.server"));
        assert_eq!(of("python3 -Em pip").as_deref(), Some("module pip"));
        assert_eq!(of("python3 -mpip").as_deref(), Some("module pip"));
        assert_eq!(of("python3 -B -Im pip").as_deref(), Some("module elsewhere pip"));
        assert_eq!(of("python3 -P -mpip").as_deref(), Some("module elsewhere pip"));
    }

    #[test]
    fn text_standard_input_and_other_programs_are_no_script() {
        for line in [
            "python3",
            "python3 -",
            "python3 -c pass x.py",
            "bash -i",
            "bash -lc ls x",
            "sh -s x",
            "perl -MIO::Socket -e 1 x",
            "node -e 1 x.js",
            "node --eval 1 x.js",
            "php -r 1; x.php",
            "/usr/bin/nc x.py",
            "pythonista x.py",
            "python3 -W",
            "",
        ] {
            assert_eq!(of(line), None, "{line}");
        }
    }

    #[test]
    fn dots_and_doubled_slashes_are_taken_out() {
        for (path, expected) in
            [("/a/./b//c", "/a/b/c"), ("/a/../../b", "/b"), ("//x.py", "/x.py"), ("/..", "")]
        {
            assert_eq!(normal(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }

    #[test]
    fn a_module_of_the_folder_where_the_process_is_is_the_file_that_python_takes() {
        let folder = tempfile::tempdir().unwrap();
        for file in [
            "web.py",
            "both.py",
            "both/__init__.py",
            "both/__main__.py",
            "bare.py",
            "bare/__main__.py",
            "a/b.py",
        ] {
            let file = folder.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        let mut child =
            std::process::Command::new("sleep").arg("60").current_dir(folder.path()).spawn().unwrap();
        let id = ProcessId { pid: child.id(), started: Stat::read(child.id()).unwrap().started * TICK };
        let look_up = |name: &str, begins_here| {
            let module = Script::Module { name: name.as_bytes().to_vec(), begins_here };
            match module.look_up(id, true, &mut Files::default()) {
                provenance::Script::File { path, found } => {
                    assert_eq!(found.file, FileState::Present, "{path}");
                    path.strip_prefix(&format!("{}/", folder.path().display())).map(str::to_owned).unwrap()
                }
                provenance::Script::Module(name) => format!("module {name}"),
            }
        };
        let found =
            ["web", "both", "bare", "a.b", "http.server", "../web", ""].map(|name| look_up(name, true));
        let elsewhere = look_up("web", false);
        child.kill().unwrap();
        child.wait().unwrap();
        let files = ["web.py", "both/__main__.py", "bare.py", "a/b.py"];
        assert_eq!(found[..4], files);
        assert_eq!(found[4..], ["module http.server", "module ../web", "module "]);
        assert_eq!(elsewhere, "module web");
    }

    #[test]
    fn the_script_of_a_living_process_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
        fs::write(open.join("run.sh"), "read line").unwrap();
        let mut child = std::process::Command::new("/bin/sh")
            .arg("./run.sh")
            .current_dir(&open)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let id = ProcessId { pid: child.id(), started: Stat::read(child.id()).unwrap().started * TICK };
        let script = Script::File(b"./run.sh".to_vec());
        let looked_at = script.look_up(id, true, &mut Files::default());
        child.kill().unwrap();
        child.wait().unwrap();
        let later = script.look_up(id, true, &mut Files::default());
        let provenance::Script::File { path, found } = looked_at else { panic!("{looked_at:?}") };
        assert_eq!(path, open.join("run.sh").display().to_string());
        assert_eq!((found.file, found.open_folder), (FileState::Present, Some(open.display().to_string())));
        let unknown = provenance::Script::File { path: "./run.sh".to_owned(), found: Provenance::default() };
        assert_eq!(later, unknown);
    }

    proptest! {
        #[test]
        fn no_arguments_make_it_panic(exe in "(/usr/bin/)?(python3|perl|bash|php|node|x)?[0-9.]{0,3}", args: Vec<u8>) {
            let _ = Script::of(exe.as_bytes(), &args);
        }
    }
}
