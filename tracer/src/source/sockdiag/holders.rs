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
    source::stat::{Stat, TICK},
};

/// `PF_KTHREAD` of `include/linux/sched.h`: threads of the kernel hold no descriptors.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// The holders of these inodes, each list in the order of the pids, and in sentences what could not be read.
pub(super) fn of(wanted: &BTreeSet<u32>) -> (BTreeMap<u32, Vec<Task>>, Vec<String>) {
    let mut holders: BTreeMap<u32, Vec<Task>> = BTreeMap::new();
    let mut unread = Vec::new();
    let mut closed = 0_u32;
    match pids() {
        Ok(pids) => {
            for pid in pids {
                match held(pid, wanted) {
                    Ok(Some((task, inodes))) => {
                        inodes.into_iter().for_each(|inode| holders.entry(inode).or_default().push(task));
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
fn held(pid: u32, wanted: &BTreeSet<u32>) -> Result<Option<(Task, BTreeSet<u32>)>> {
    let process = folder(rustix::fs::CWD, format!("/proc/{pid}"))?;
    let mut inodes = BTreeSet::new();
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

fn descriptors(process: &OwnedFd, wanted: &BTreeSet<u32>, inodes: &mut BTreeSet<u32>) -> Result<()> {
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
fn links(folder: &OwnedFd, wanted: &BTreeSet<u32>, inodes: &mut BTreeSet<u32>) -> Result<usize> {
    let mut text = Vec::new();
    let mut count = 0;
    for entry in names(folder)? {
        match readlinkat(folder, entry?.file_name(), text) {
            Ok(link) => {
                inodes.extend(inode(&link).filter(|inode| wanted.contains(inode)));
                text = link.into_bytes();
            }
            Err(Errno::NOENT) => text = Vec::new(), // closed meanwhile
            Err(error) => return Err(error),
        }
        count += 1;
    }
    Ok(count)
}

/// `socket:[INODE]`
fn inode(link: &CStr) -> Option<u32> {
    link.to_str().ok()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
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

/// The name as the kernel's records show it: NUL padded.
fn padded(name: &[u8]) -> [u8; 16] {
    let mut comm = [0; 16];
    comm.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
    comm
}

/// The second number of `Uid:` in `/proc/PID/status`.
fn effective_user(status: &[u8]) -> Option<u32> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_user_is_the_second_number() {
        assert_eq!(effective_user(b"Name:\t\xff\nUid:\t1\t2\t3\t4\n"), Some(2));
        assert_eq!(effective_user(b"Name:\tx\n"), None);
    }

    #[test]
    fn only_links_to_sockets_have_an_inode() {
        assert_eq!(inode(c"socket:[15006]"), Some(15006));
        assert_eq!(inode(c"pipe:[15006]"), None);
        assert_eq!(inode(c"/tmp/socket:[15006]"), None);
    }
}
