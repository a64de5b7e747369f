//! Processes that live for one connection: started one after the other, each with an argument of its own.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, bind, connect, sockopt};
use rustix::process::{Pid, Signal, WaitOptions, set_parent_process_death_signal, waitpid};

use super::errno;
use super::order::{Brief, Outcome, Pids};

/// The first argument of a process that is to connect once and end.
pub(super) const ARGUMENT: &str = "brief";
/// The kernel gives the next process the number behind the one that stands here.
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
/// Numbers are below this one.
const PID_MAX: &str = "/proc/sys/kernel/pid_max";
/// So far above the last number that was given the few begin, so that what others start meanwhile does not take theirs.
const AHEAD: u32 = 1000;
/// The kernel begins again here, when it has come to the last one (`RESERVED_PIDS` in kernel/pid.c).
const LOWEST: u32 = 300;

/// The word that only the `n`th process is given.
#[must_use]
pub fn word(n: u64) -> String {
    format!("the-one-with-number-{n}")
}

/// Starts the processes; each has ended before the next one begins. With few pids each gets the number of one that ended
/// shortly before. Tells who started them, where that is not the actor itself.
pub(super) fn start(program: &Path, brief: &Brief) -> Result<Outcome, Errno> {
    match brief.pids {
        Pids::Fresh => start_all(program, brief, |_| Ok(()))?,
        Pids::Few(pids) => reuse(program, brief, pids)?,
        Pids::FewNested(pids) => return nest(|| reuse(program, brief, pids)),
    }
    Ok(Outcome { count: brief.count, ..Outcome::default() })
}

/// The numbers begin some way above those that the kernel would give now, or where it begins itself when it has come to the
/// last one: there they are free again for a while.
fn reuse(program: &Path, brief: &Brief, pids: u32) -> Result<(), Errno> {
    let most: u32 = read_number(PID_MAX)?;
    let ahead = read_number(LAST_PID)? + AHEAD;
    let first = if ahead + pids < most { ahead } else { LOWEST };
    start_all(program, brief, |n| {
        let last = first + n as u32 % pids;
        fs::write(LAST_PID, last.to_string()).map_err(|error| errno(&error))
    })
}

fn start_all(program: &Path, brief: &Brief, number: impl Fn(u64) -> Result<(), Errno>) -> Result<(), Errno> {
    for n in 0..brief.count {
        number(n)?;
        let from = SocketAddr::new(brief.from.ip(), brief.from.port() + n as u16);
        let mut command = Command::new(program);
        command.arg(ARGUMENT).args([from, brief.to].map(|end| end.to_string())).arg(word(n));
        let status = command.stdin(Stdio::null()).status().map_err(|error| errno(&error))?;
        if !status.success() {
            return Err(Errno::from_raw_os_error(status.code().unwrap_or(libc::ECHILD)));
        }
    }
    Ok(())
}

/// Does `work` as the first process of a new pid namespace, which ends with it; tells the number that it has in this one.
fn nest(work: impl FnOnce() -> Result<(), Errno>) -> Result<Outcome, Errno> {
    let flags = libc::c_long::from(libc::CLONE_NEWPID | libc::SIGCHLD);
    // SAFETY: without a stack and without shared memory this is fork(2); an actor has one thread, so that no lock can be held
    // by another.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
        -1 => Err(errno(&std::io::Error::last_os_error())),
        0 => {
            let done = set_parent_process_death_signal(Some(Signal::KILL)).and_then(|()| work());
            std::process::exit(done.map_or_else(Errno::raw_os_error, |()| 0))
        }
        pid => {
            let child = Pid::from_raw(pid as i32).ok_or(Errno::SRCH)?;
            let (_, status) = waitpid(Some(child), WaitOptions::empty())?.ok_or(Errno::CHILD)?;
            match status.exit_status() {
                Some(0) => Ok(Outcome { pids: vec![pid as u32], ..Outcome::default() }),
                Some(code) => Err(Errno::from_raw_os_error(code)),
                None => Err(Errno::CHILD),
            }
        }
    }
}

fn read_number(path: &str) -> Result<u32, Errno> {
    let text = fs::read_to_string(path).map_err(|error| errno(&error))?;
    text.trim().parse().map_err(|_| Errno::INVAL)
}

/// What such a process does; answers its exit status, which is an errno.
pub(super) fn run<'a>(mut arguments: impl Iterator<Item = &'a OsStr>) -> i32 {
    let mut end = || -> Option<SocketAddr> { arguments.next()?.to_str()?.parse().ok() };
    let (Some(from), Some(to)) = (end(), end()) else { return libc::EINVAL };
    call(from, to).map_or_else(Errno::raw_os_error, |()| 0)
}

fn call(from: SocketAddr, to: SocketAddr) -> Result<(), Errno> {
    let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &from)?;
    connect(&socket, &to)
}
