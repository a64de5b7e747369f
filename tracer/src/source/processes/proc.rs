//! What /proc tells of one process.

use std::{
    fs, io,
    os::unix::{ffi::OsStringExt, fs::MetadataExt},
    path::PathBuf,
};

use super::{
    super::stat::{Stat, TICK, padded},
    program::{Program, arguments, no_arguments},
};
use crate::{
    model::event::ProcessId,
    research::{file::Started, script::Script},
    sink::escape::escape,
};

/// A process as /proc shows it.
pub(super) struct Found {
    /// With its start rounded down to what /proc tells.
    pub(super) id: ProcessId,
    /// Name that the process gives itself, NUL padded.
    pub(super) comm: [u8; 16],
    /// What it runs.
    pub(super) program: Program,
}

/// Reads one process; nothing when there is none, or it ended meanwhile.
pub(super) fn read(pid: u32) -> Option<Found> {
    let folder = format!("/proc/{pid}");
    // The arguments come in several pieces: a process that still has an executable after them had not ended before the last.
    let args = fs::read(format!("{folder}/cmdline")).ok();
    let file = fs::metadata(format!("{folder}/exe")).ok().map(|m| (m.dev(), m.ino()));
    let exe = fs::read_link(format!("{folder}/exe"));
    // Read last: when it is still the same process then, all of the above was its own.
    let stat = Stat::read(pid)?;
    let comm = padded(&stat.comm);
    Some(Found {
        id: ProcessId { pid, started: stat.started * TICK },
        comm,
        program: program(exe, file, args),
    })
}

/// What it runs, by the link to its executable, that file, and its arguments, which were read in the reverse order.
fn program(exe: io::Result<PathBuf>, file: Option<(u64, u64)>, args: Option<Vec<u8>>) -> Program {
    let is_gone = exe.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    let (exe, unknown) = match exe {
        Ok(path) => (Some(path.into_os_string().into_vec()), None),
        Err(_) if is_gone => {
            (None, Some("it has no executable: a thread of the kernel, or it is ending".to_owned()))
        }
        Err(error) => (None, Some(format!("its executable could not be read: {error}"))),
    };
    // None are shown as well while it becomes another program.
    let args = args.filter(|args| !args.is_empty() && !is_gone);
    let named = exe.as_deref().zip(args.as_deref());
    let started =
        Started { script: named.and_then(|(exe, args)| Script::of(exe, args)), ..Started::default() };
    let args = args.as_deref().map(arguments);
    let unknown = unknown.or_else(|| no_arguments(args.as_deref()));
    Program { started, exe: exe.as_deref().map(escape), file, args, unknown, ..Program::default() }
}

/// Process ids of all processes.
pub(super) fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(exe: Result<&str, io::ErrorKind>, args: &[u8]) -> Program {
        program(exe.map(PathBuf::from).map_err(io::Error::from), Some((1, 2)), Some(args.to_vec()))
    }

    #[test]
    fn arguments_are_believed_of_a_process_that_has_its_executable_after_them() {
        let whole = of(Ok("/usr/bin/nc"), b"nc\0-l\0");
        assert_eq!((whole.args, whole.unknown), (Some(vec!["nc".to_owned(), "-l".to_owned()]), None));
        let ended = of(Err(io::ErrorKind::NotFound), b"nc\0-");
        assert_eq!(ended.args, None);
        assert!(ended.unknown.is_some_and(|why| why.contains("ending")));
    }

    #[test]
    fn arguments_that_are_missing_are_told() {
        let program = of(Ok("/usr/bin/nc"), b"");
        assert_eq!((program.exe.as_deref(), &program.args), (Some("/usr/bin/nc"), &None));
        assert!(program.unknown.is_some_and(|why| why.contains("arguments")));
    }

    #[test]
    fn an_executable_that_may_not_be_seen_takes_no_arguments_away() {
        let program = of(Err(io::ErrorKind::PermissionDenied), b"nc\0");
        assert_eq!(program.args, Some(vec!["nc".to_owned()]));
        assert!(program.unknown.is_some_and(|why| why.contains("permission denied")));
    }
}
