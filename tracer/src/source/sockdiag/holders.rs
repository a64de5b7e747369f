//! Which processes hold a socket, by the links in `/proc/PID/fd`.
//!
//! A thread that unshared its descriptors from those of its process is not looked into, unless the
//! process's first thread has ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CStr,
    fs::{self, File},
    io::Read,
    os::fd::OwnedFd,
};

use rustix::{
    fs::{Dir, Mode, OFlags, openat, readlinkat},
    io::{Errno, Result},
};

use crate::{
    bpf::decode::Task,
    model::event::ProcessId,
    research::stdio::STDIO,
    source::{
        baseline::StdioUsers,
        stat::{Stat, TICK, effective_user, padded, socket_inode},
    },
};

/// `PF_KTHREAD` of `include/linux/sched.h`: threads of the kernel hold no descriptors.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// Who holds one socket.
#[derive(Default)]
pub(super) struct Held {
    /// In the order of the pids.
    pub(super) tasks: Vec<Task>,
    /// Those of them that have it as their standard input, output or error.
    pub(super) stdio: StdioUsers,
}

/// The wanted inodes to which descriptors of a process lead, each with those that are its standard input, output or error.
type Inodes = BTreeMap<u32, BTreeSet<u8>>;

/// The holders of these inodes, and in sentences what could not be read.
pub(super) fn of(wanted: &BTreeSet<u32>) -> (BTreeMap<u32, Held>, Vec<String>) {
    let mut holders: BTreeMap<u32, Held> = BTreeMap::new();
    let mut unread = Vec::new();
    let mut closed = 0_u32;
    match pids() {
        Ok(pids) => {
            for pid in pids {
                match held(pid, wanted) {
                    Ok(Some((task, inodes))) => {
                        for (inode, descriptors) in inodes {
                            let held = holders.entry(inode).or_default();
                            held.tasks.push(task);
                            if !descriptors.is_empty() {
                                held.stdio.insert(task.id, descriptors);
                            }
                        }
                    }
                    Ok(None) | Err(Errno::NOENT | Errno::SRCH) => {} // none, or the process is gone
                    Err(_) => closed += 1,
                }
            }
        }
        Err(error) => unread.push(format!("/proc: {error}: no holder is known for any socket")),
    }
    if closed > 0 {
        let processes = if closed == 1 { "process" } else { "processes" };
        unread.push(format!(
            "the descriptors of {closed} {processes} (as a rule that takes CAP_SYS_PTRACE): no holder is known \
             for their sockets, and a network namespace that nobody else is in is not seen"
        ));
    }
    // Process 1 is always there: not to see it is to see nobody else's.
    if fs::metadata("/proc/1").is_err() {
        unread.push(
            "the processes of other users, which /proc hides (hidepid): no holder is known for their sockets"
                .to_owned(),
        );
    }
    (holders, unread)
}

fn pids() -> std::io::Result<BTreeSet<u32>> {
    let entries = fs::read_dir("/proc")?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// The wanted inodes that a process holds. All is read through one descriptor of its folder: should
/// the pid be given to another process meanwhile, that one is not taken for it.
fn held(pid: u32, wanted: &BTreeSet<u32>) -> Result<Option<(Task, Inodes)>> {
    let process = folder(rustix::fs::CWD, format!("/proc/{pid}"))?;
    let mut inodes = Inodes::new();
    match descriptors(&process, wanted, &mut inodes) {
        Err(Errno::ACCESS | Errno::PERM) if is_kernel_thread(&process) => return Ok(None),
        other => other?,
    }
    if inodes.is_empty() {
        return Ok(None);
    }
    let stat = Stat::parse(&contents(&process, "stat")?).ok_or(Errno::NOENT)?;
    let uid = effective_user(&contents(&process, "status")?).ok_or(Errno::NOENT)?;
    let id = ProcessId { pid, started: stat.started.saturating_mul(TICK) };
    Ok(Some((Task { id, tid: pid, ppid: stat.ppid, uid, exec_id: 0, comm: padded(&stat.comm) }, inodes)))
}

fn descriptors(process: &OwnedFd, wanted: &BTreeSet<u32>, inodes: &mut Inodes) -> Result<()> {
    if links(&folder(process, "fd")?, wanted, inodes)? > 0 {
        return Ok(());
    }
    // The first thread may have ended before the others, which still hold what they opened.
    let tasks = folder(process, "task")?;
    for task in names(&tasks)? {
        let Ok(task) = folder(&tasks, task?.file_name()) else { continue };
        links(&folder(&task, "fd")?, wanted, inodes)?;
    }
    Ok(())
}

/// Adds the wanted ones among a folder's links; gives how many links it has.
fn links(folder: &OwnedFd, wanted: &BTreeSet<u32>, inodes: &mut Inodes) -> Result<usize> {
    let mut text = Vec::new();
    let mut count = 0;
    for entry in names(folder)? {
        let entry = entry?;
        match readlinkat(folder, entry.file_name(), text) {
            Ok(link) => {
                if let Some(inode) = socket_inode(link.to_bytes()).filter(|inode| wanted.contains(inode)) {
                    inodes.entry(inode).or_default().extend(on_stdio(entry.file_name()));
                }
                text = link.into_bytes();
            }
            Err(Errno::NOENT) => text = Vec::new(), // closed meanwhile
            Err(error) => return Err(error),
        }
        count += 1;
    }
    Ok(count)
}

/// The number of a descriptor that is standard input, output or error.
fn on_stdio(name: &CStr) -> Option<u8> {
    let number = name.to_str().ok()?.parse().ok()?;
    STDIO.contains(&number).then_some(number)
}

fn folder(at: impl std::os::fd::AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd> {
    openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn names(folder: &OwnedFd) -> Result<impl Iterator<Item = Result<rustix::fs::DirEntry>>> {
    let own = |entry: &Result<rustix::fs::DirEntry>| {
        entry.as_ref().is_ok_and(|entry| entry.file_name().to_bytes().starts_with(b"."))
    };
    Ok(Dir::read_from(folder)?.filter(move |entry| !own(entry)))
}

fn contents(process: &OwnedFd, name: &str) -> Result<Vec<u8>> {
    let mut file = File::from(openat(process, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
    let mut bytes = Vec::new();
    let read = file.read_to_end(&mut bytes);
    read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(bytes)
}

fn is_kernel_thread(process: &OwnedFd) -> bool {
    let stat = contents(process, "stat").ok().and_then(|bytes| Stat::parse(&bytes));
    stat.is_some_and(|stat| stat.flags & KERNEL_THREAD != 0)
}
