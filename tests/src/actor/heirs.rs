//! Sockets that come into other hands: given away, inherited, or handed to the service that they were opened for.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketType,
};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::errno;
use super::order::Outcome;

/// The first argument of a process that is a service for one connection.
pub(super) const SERVICE: &str = "service";
/// The first descriptor that is handed to a service (`SD_LISTEN_FDS_START`).
const FIRST: i32 = 3;
/// A child that outlives its parent ends by itself after so many seconds.
const LIFE: u32 = 120;

/// A Unix socket that others find at `path`.
pub(super) fn open_door(path: &Path) -> Result<OwnedFd, Errno> {
    let door = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    rustix::net::bind(&door, &SocketAddrUnix::new(path)?)?;
    Ok(door)
}

/// Gives a second descriptor of `socket` to whoever opened the door at `path`.
pub(super) fn give(socket: BorrowedFd, path: &Path) -> Result<(), Errno> {
    let line = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    rustix::net::connect(&line, &SocketAddrUnix::new(path)?)?;
    pass(&line, socket)
}

/// Sends a second descriptor of `socket` over a Unix socket (`SCM_RIGHTS`).
pub(super) fn pass(line: &OwnedFd, socket: BorrowedFd) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let (mut control, sockets) = (SendAncillaryBuffer::new(&mut space), [socket]);
    if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(Errno::NOBUFS);
    }
    rustix::net::sendmsg(line, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).map(drop)
}

/// The socket that comes over a Unix socket.
pub(super) fn receive(line: BorrowedFd) -> Result<OwnedFd, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let (mut control, mut byte) = (RecvAncillaryBuffer::new(&mut space), [0]);
    rustix::net::recvmsg(line, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::empty())?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut sockets) = message {
            return sockets.next().ok_or(Errno::BADF);
        }
    }
    Err(Errno::BADF)
}

/// Forks a child that does nothing but hold.
pub(super) fn fork_heir() -> Result<Outcome, Errno> {
    forked(|| {
        // SAFETY: both take and give numbers; the alarm ends the process, should nobody else do so.
        unsafe {
            libc::alarm(LIFE);
            libc::pause();
        }
    })
}

/// Starts this very program as a service of the listener.
pub(super) fn activate(listener: &TcpListener) -> Result<Outcome, Errno> {
    let program = std::env::current_exe().map_err(|error| errno(&error))?;
    forked(move || {
        // SAFETY: the call takes numbers; the descriptor stays open in the program that this process becomes.
        if unsafe { libc::dup2(listener.as_fd().as_raw_fd(), FIRST) } == FIRST {
            let mut service = Command::new(&program);
            service.arg(SERVICE).env("LISTEN_FDS", "1").env("LISTEN_PID", std::process::id().to_string());
            let _ = service.stdin(Stdio::null()).stdout(Stdio::null()).exec(); // comes back only when it failed
        }
    })
}

/// A child that does `work` and ends.
fn forked(work: impl FnOnce()) -> Result<Outcome, Errno> {
    // SAFETY: an actor has one thread, so that no lock can be held by another at the fork.
    match unsafe { libc::fork() } {
        -1 => Err(Errno::NOMEM),
        0 => {
            work();
            std::process::exit(1)
        }
        pid => Ok(Outcome { pids: vec![pid.unsigned_abs()], ..Outcome::default() }),
    }
}

/// What a service does; answers its exit status.
pub(super) fn serve() -> i32 {
    // SAFETY: the descriptor that whoever started the service left open for it.
    let listener = TcpListener::from(unsafe { OwnedFd::from_raw_fd(FIRST) });
    let served = || -> std::io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let (mut connection, _) = listener.accept()?;
        connection.write_all(&std::process::id().to_le_bytes())?;
        while connection.read(&mut [0; 64])? > 0 {}
        Ok(())
    };
    i32::from(served().is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_comes_through_the_door_as_the_one_that_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door");
        let door = open_door(&path).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        give(listener.as_fd(), &path).unwrap();
        let given = TcpListener::from(receive(door.as_fd()).unwrap());
        assert_ne!(given.as_raw_fd(), listener.as_raw_fd());
        assert_eq!(given.local_addr().unwrap(), listener.local_addr().unwrap());
    }
}
