//! Sockets in the hands of other threads, processes and namespaces.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::super::heirs;
use super::super::stage::ARGUMENT;
use super::{checked, keep, stream};
use crate::actor::errno;

pub(super) fn other_thread(to: SocketAddr) -> Result<(), Errno> {
    let connect = move || {
        rustix::thread::set_name(c"kworker/0:1")?;
        let socket = stream(to)?;
        rustix::net::connect(&socket, &to)?;
        keep(socket);
        Ok(())
    };
    std::thread::spawn(connect).join().unwrap_or(Err(Errno::CANCELED))
}

pub(super) fn from_abroad(to: SocketAddr, pid: u32) -> Result<(), Errno> {
    let socket = stream(to)?;
    move_to(pid)?;
    rustix::net::connect(&socket, &to)?;
    keep(socket);
    Ok(())
}

pub(super) fn moved(to: SocketAddr, pid: u32) -> Result<(), Errno> {
    move_to(pid)?;
    let socket = stream(to)?;
    rustix::net::connect(&socket, &to)?;
    keep(socket);
    Ok(())
}

fn move_to(pid: u32) -> Result<(), Errno> {
    let file = std::fs::File::open(format!("/proc/{pid}/ns/net"));
    let file = file.map_err(|error| errno(&error))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
}

/// The other process writes a byte on the socket and ends.
pub(super) fn passed(to: SocketAddr) -> Result<(), Errno> {
    let flags = SocketFlags::empty();
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let socket = stream(to)?;
    rustix::net::connect(&socket, &to)?;
    heirs::pass(&ours, socket.as_fd())?;
    let use_it = move || {
        let socket = heirs::receive(theirs.as_fd())?;
        rustix::net::send(&socket, b"x", SendFlags::NOSIGNAL).map(drop)
    };
    ended(start(use_it)?)?;
    keep(socket);
    Ok(())
}

pub(super) fn stolen(to: SocketAddr) -> Result<u32, Errno> {
    let socket = stream(to)?;
    let owner = Pid::from_raw(std::process::id().cast_signed()).ok_or(Errno::SRCH)?;
    let number = socket.as_raw_fd();
    let steal = move || {
        let owner = pidfd_open(owner, PidfdFlags::empty())?;
        // SAFETY: the call takes three numbers.
        let fd = checked(unsafe { libc::syscall(libc::SYS_pidfd_getfd, owner.as_raw_fd(), number, 0) })?;
        // SAFETY: the descriptor that the kernel has just made.
        let stolen = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        rustix::net::connect(&stolen, &to)
    };
    let thief = start(steal)?;
    let pid = thief.id();
    ended(thief)?;
    keep(socket);
    Ok(pid)
}

/// The other program ends at once, and its end closes the socket.
pub(super) fn before_exec(to: SocketAddr) -> Result<u32, Errno> {
    let connect = move || {
        let socket = stream(to)?;
        rustix::net::connect(&socket, &to)?;
        keep(socket);
        Ok(())
    };
    let child = start(connect)?;
    let pid = child.id();
    ended(child)?;
    Ok(pid)
}

/// Whether a process that does this lives to tell that it worked.
#[cfg(target_arch = "x86_64")]
pub(super) fn survives(work: impl FnMut() -> Result<(), Errno> + Send + Sync + 'static) -> bool {
    start(work).and_then(ended).is_ok()
}

/// A new process that does `work` and becomes this program anew, which finds no order and ends.
fn start(mut work: impl FnMut() -> Result<(), Errno> + Send + Sync + 'static) -> Result<Child, Errno> {
    let error = |error: std::io::Error| errno(&error);
    let mut command = Command::new(std::env::current_exe().map_err(error)?);
    command.arg(ARGUMENT).stdin(Stdio::null()).stdout(Stdio::null());
    // SAFETY: this process has one thread, so that no lock can be held by another at the fork.
    unsafe { command.pre_exec(move || Ok(work()?)) };
    command.spawn().map_err(error)
}

fn ended(mut child: Child) -> Result<(), Errno> {
    let status = child.wait().map_err(|error| errno(&error))?;
    if status.success() && status.signal().is_none() { Ok(()) } else { Err(Errno::CHILD) }
}
