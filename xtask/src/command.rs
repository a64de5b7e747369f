//! Starting other programs: what is run is printed, and a failure names the program. No knowledge of any
//! program.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

/// Runs to the end with our stdout and stderr; a status other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    announce(command);
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("cannot start {}", name(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", name(command));
    }
    Ok(())
}

/// Runs silently and returns stdout as text; a status other than 0 is an error that carries stderr.
pub(crate) fn text(command: &mut Command) -> Result<String> {
    String::from_utf8(bytes(command)?).with_context(|| format!("{} printed what is not UTF-8", name(command)))
}

/// Runs silently and returns stdout; a status other than 0 is an error that carries stderr.
pub(crate) fn bytes(command: &mut Command) -> Result<Vec<u8>> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", name(command)))?;
    if !output.status.success() {
        bail!(
            "{} failed: {}\n{}",
            name(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(output.stdout)
}

/// Runs to the end, prints each line of stdout as it comes and shows it to `see`. The status is the caller's
/// to judge.
pub(crate) fn stream(command: &mut Command, mut see: impl FnMut(&str)) -> Result<ExitStatus> {
    announce(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", name(command)))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.context("reading a program's output")?;
            let line = String::from_utf8_lossy(&line);
            writeln!(std::io::stdout(), "{line}").context("writing to stdout")?;
            see(&line);
        }
    }
    child.wait().with_context(|| format!("waiting for {}", name(command)))
}

/// Where `program` is: PATH first, then the folders of system programs, which users' PATHs often lack.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| is_executable(candidate))
}

/// `folder` before the PATH of this process, for a child's environment.
pub(crate) fn path_with(folder: &Path) -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_path_buf()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).context("PATH cannot be extended")
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn announce(command: &Command) {
    let args: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    eprintln!("+ {} {}", name(command), args.join(" "));
}

fn name(command: &Command) -> String {
    Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_named_with_what_it_said() {
        let error = text(Command::new("sh").args(["-c", "echo no >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh failed") && error.contains("3") && error.contains("no"), "{error}");
    }

    #[test]
    fn every_line_is_shown_even_when_it_is_not_utf8_or_not_ended() {
        let mut lines = Vec::new();
        let status =
            stream(Command::new("printf").arg("a\\n\\377b"), |line| lines.push(line.to_owned())).unwrap();
        assert!(status.success());
        assert_eq!(lines, ["a", "\u{fffd}b"]);
    }

    #[test]
    fn a_program_is_found_or_not() {
        assert!(which("sh").is_some());
        assert_eq!(which("no-such-program-anywhere"), None);
    }
}
