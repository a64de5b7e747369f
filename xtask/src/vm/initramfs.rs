//! The guest's whole file system: init, the programs, modules, and the few files that programs expect.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::cpio::Archive;
use super::modules::Module;
use super::protocol::{COMMANDS, ENVIRONMENT, LIMIT, MODULES, SEPARATOR};

const FOLDERS: [&str; 8] = ["bin", "dev", "etc", "proc", "root", "run", "sys", "var"];
const PASSWD: &str = "root:x:0:0:root:/root:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n";

/// What the guest is made of.
pub(crate) struct Contents<'a> {
    /// The first process.
    pub(crate) init: &'a Path,
    /// Name under /bin and file of each static program.
    pub(crate) programs: Vec<(&'a str, &'a Path)>,
    /// Dependencies first.
    pub(crate) modules: &'a [Module],
    /// What init runs, word by word.
    pub(crate) commands: &'a [Vec<String>],
    /// Variables of the commands' environment, `NAME=VALUE`.
    pub(crate) environment: &'a [String],
    /// Time for each command.
    pub(crate) limit: Duration,
}

/// The archive that the kernel unpacks as its first file system.
pub(crate) fn build(contents: &Contents<'_>) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.directory(folder, 0o755);
    }
    archive.directory("tmp", 0o1777);
    archive.directory("lib", 0o755);
    // The kernel opens it for init before anything is mounted.
    archive.character_device("dev/console", 0o600, (5, 1));
    archive.file("init", 0o755, &read(contents.init)?);
    for (name, path) in &contents.programs {
        archive.file(&format!("bin/{name}"), 0o755, &read(path)?);
    }
    for module in contents.modules {
        archive.file(&module_path(module), 0o644, &module.bytes);
    }
    archive.file("etc/passwd", 0o644, PASSWD.as_bytes());
    archive.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n");
    let modules: Vec<_> = contents.modules.iter().map(|module| format!("/{}", module_path(module))).collect();
    archive.file(relative(MODULES), 0o644, lines(&modules).as_bytes());
    let commands: Vec<_> = contents.commands.iter().map(|words| words.join(&SEPARATOR.to_string())).collect();
    archive.file(relative(COMMANDS), 0o644, lines(&commands).as_bytes());
    archive.file(relative(ENVIRONMENT), 0o644, lines(contents.environment).as_bytes());
    archive.file(relative(LIMIT), 0o644, contents.limit.as_secs().to_string().as_bytes());
    Ok(archive.finish())
}

fn module_path(module: &Module) -> String {
    format!("lib/{}.ko", module.name)
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

fn lines(items: &[String]) -> String {
    items.iter().map(|item| format!("{item}\n")).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_was_given_is_in_it() {
        let program = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(program.path(), "the program").unwrap();
        let modules = [Module { name: "veth".into(), bytes: b"the module".to_vec() }];
        let archive = build(&Contents {
            init: program.path(),
            programs: vec![("tracer", program.path())],
            modules: &modules,
            commands: &[vec!["/bin/tracer".into(), "--version".into()]],
            environment: &["NAME=VALUE".into()],
            limit: Duration::from_secs(77),
        })
        .unwrap();
        let text = String::from_utf8_lossy(&archive);
        for part in [
            "bin/tracer\0",
            "lib/veth.ko\0",
            "the module",
            "/lib/veth.ko\n",
            "/bin/tracer\t--version\n",
            "nobody",
            "NAME=VALUE\n",
            "77",
        ] {
            assert!(text.contains(part), "{part:?} is missing");
        }
    }
}
