//! What a process runs.

use crate::{
    bpf::lives::Exec,
    model::provenance::{FileState, Provenance},
    research::{
        file::{Examined, Started},
        script::Script,
    },
    sink::escape::escape,
};

/// What a process runs, as it was told: by the kernel when it ran exec, or by /proc.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Program {
    /// Path of the executable, escaped. That of an exec is as it was called, until it is looked up: it may lead over links.
    pub(super) exe: Option<String>,
    /// Device and inode of the executable.
    pub(super) file: Option<(u64, u64)>,
    /// Arguments, escaped.
    pub(super) args: Option<Vec<String>>,
    /// Why something is missing.
    pub(super) unknown: Option<String>,
    /// What it was started as; nothing is known of that where /proc told of it.
    pub(super) started: Started,
    /// What was found out of the executable.
    pub(super) provenance: Option<Provenance>,
}

impl Program {
    /// What the kernel told of an exec.
    pub(super) fn of_exec(exec: &Exec) -> Self {
        let args = exec.args.as_deref().map(arguments);
        // The kernel puts the interpreter's path before the arguments of a script.
        let called = if exec.is_script {
            exec.args.as_deref().and_then(|args| args.split(|byte| *byte == 0).next())
        } else {
            exec.name.as_deref()
        };
        let path = called.filter(|name| is_plain(name));
        let unknown = match (path, called) {
            (Some(_), _) => no_arguments(args.as_deref()),
            (None, None) => Some("the name of its executable could not be read".to_owned()),
            (None, Some(name)) => {
                Some(format!("its executable was called as `{}`, and was not looked up yet", escape(name)))
            }
        };
        let started = Started {
            path: path.map(<[u8]>::to_vec),
            file: Some(exec.file),
            links: Some(exec.links),
            magic: Some(exec.magic),
            script: called.zip(exec.args.as_deref()).and_then(|(exe, args)| Script::of(exe, args)),
        };
        let (exe, file) = (path.map(escape), started.file);
        Self { exe, file, args, unknown, started, provenance: None }
    }

    /// The same, with what was found out of its executable.
    pub(super) fn examined(&self, found: Examined) -> Self {
        let mut program = self.clone();
        if let Some(path) = found.path {
            program.exe = Some(path);
            program.unknown = no_arguments(program.args.as_deref());
        }
        program.file = found.file.or(program.file);
        // Of a process that has ended less is found than when it was looked at before.
        if found.provenance.file != FileState::Unknown || program.provenance.is_none() {
            let before = program.provenance.replace(found.provenance);
            keep_digest(program.provenance.as_mut(), before);
        }
        program
    }
}

/// A digest stays while the next one is waited for: what runs cannot be written to.
fn keep_digest(now: Option<&mut Provenance>, before: Option<Provenance>) {
    if let Some((now, before)) = now.zip(before) {
        now.sha256 = now.sha256.take().or(before.sha256);
    }
}

/// True for a path that says by itself which file it names, but for links.
fn is_plain(path: &[u8]) -> bool {
    let is_descriptor = path.starts_with(b"/dev/fd/") || path.starts_with(b"/proc/");
    let mut parts = path.split(|byte| *byte == b'/');
    path.len() > 1
        && parts.next() == Some(b"")
        && !is_descriptor
        && parts.all(|part| !matches!(part, b"" | b"." | b".."))
}

/// Why arguments are missing, where they are.
pub(super) fn no_arguments(args: Option<&[String]>) -> Option<String> {
    args.is_none().then(|| "its arguments could not be read, or it has none".to_owned())
}

/// Splits arguments that end with NUL each, as `/proc/PID/cmdline` has them.
pub(super) fn arguments(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::provenance::{Digest, Sha256};

    fn exec(name: &[u8], args: &[u8], is_script: bool) -> Program {
        Program::of_exec(&Exec {
            name: Some(name.to_vec()),
            args: Some(args.to_vec()),
            args_cut: false,
            is_script,
            file: (1, 2),
            links: 1,
            magic: 0,
        })
    }

    #[test]
    fn arguments_end_with_nul_and_may_be_empty() {
        assert_eq!(arguments(b"nc\0\0-l\0"), ["nc", "", "-l"]);
        assert_eq!(arguments(b""), [""; 0]);
    }

    #[test]
    fn an_absolute_name_is_the_path() {
        let program = exec(b"/usr/bin/nc", b"nc\0-l\0", false);
        assert_eq!(program.exe.as_deref(), Some("/usr/bin/nc"));
        assert_eq!(program.args.as_deref(), Some(["nc".to_owned(), "-l".to_owned()].as_slice()));
        assert_eq!(program.unknown, None);
    }

    #[test]
    fn arguments_that_are_missing_stay_told_when_the_executable_is_found() {
        let program = Program { args: None, ..exec(b"./nc", b"nc\0", false) };
        let found = Examined { path: Some("/usr/bin/nc".to_owned()), ..Examined::default() };
        let program = program.examined(found);
        assert_eq!(program.exe.as_deref(), Some("/usr/bin/nc"));
        assert!(program.unknown.is_some_and(|why| why.contains("arguments")));
    }

    #[test]
    fn a_name_that_does_not_say_which_file_is_no_path() {
        for name in ["./x", "x", "/dev/fd/5", "/usr/bin/../../tmp/x", "/usr//bin/x", "/proc/self/exe", ""] {
            let program = exec(name.as_bytes(), b"x\0", false);
            assert_eq!(program.exe, None, "{name}");
            assert!(program.unknown.is_some_and(|why| why.contains(name)), "{name}");
        }
    }

    #[test]
    fn what_was_found_stands_when_a_later_look_finds_nothing() {
        let found = |file| {
            let provenance = Provenance { file, ..Provenance::default() };
            Examined { path: None, file: None, provenance }
        };
        let deleted = exec(b"/x", b"x\0", false).examined(found(FileState::Deleted));
        assert_eq!(deleted.examined(found(FileState::Unknown)), deleted);
        let replaced = deleted.examined(found(FileState::Replaced));
        assert_eq!(replaced.provenance.map(|found| found.file), Some(FileState::Replaced));
    }

    #[test]
    fn a_digest_stands_until_there_is_another() {
        let found = |sha256: Option<u8>| {
            let sha256 = sha256.map(|byte| Box::new(Sha256::Is(Digest([byte; 32]))));
            let provenance = Provenance { file: FileState::Present, sha256, ..Provenance::default() };
            Examined { path: None, file: None, provenance }
        };
        let program = exec(b"/x", b"x\0", false).examined(found(Some(1)));
        assert_eq!(program.examined(found(None)), program);
        let other = program.examined(found(Some(2))).provenance.and_then(|found| found.sha256);
        assert_eq!(other.as_deref(), Some(&Sha256::Is(Digest([2; 32]))));
    }

    #[test]
    fn a_script_is_run_by_its_interpreter() {
        let program = exec(b"./x.py", b"/usr/bin/python3\0./x.py\0", true);
        assert_eq!(program.exe.as_deref(), Some("/usr/bin/python3"));
    }
}
