//! What /proc tells of one process.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
};

use super::{
    super::stat::{Stat, TICK, padded},
    program::{Program, arguments},
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
    let exe = fs::read_link(format!("{folder}/exe")).ok();
    let file = fs::metadata(format!("{folder}/exe")).ok().map(|m| (m.dev(), m.ino()));
    let args = fs::read(format!("{folder}/cmdline")).ok();
    // Read last: when it is still the same process then, all of the above was its own.
    let stat = Stat::read(pid)?;
    let unknown = exe.is_none().then_some("it has no executable: a thread of the kernel, or it is ending");
    let named = exe.as_ref().map(|path| path.as_os_str().as_bytes()).zip(args.as_deref());
    let started =
        Started { script: named.and_then(|(exe, args)| Script::of(exe, args)), ..Started::default() };
    let program = Program {
        started,
        exe: exe.map(|path| escape(path.as_os_str().as_bytes())),
        file,
        args: args.map(|bytes| arguments(&bytes)),
        unknown: unknown.map(str::to_owned),
        ..Program::default()
    };
    let comm = padded(&stat.comm);
    Some(Found { id: ProcessId { pid, started: stat.started * TICK }, comm, program })
}

/// Process ids of all processes.
pub(super) fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
