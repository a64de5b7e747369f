//! io_uring: the same calls without a system call of their own.

use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use io_uring::{IoUring, opcode, squeue, types};
use rustix::io::Errno;

use super::{Mode, RAW_LENGTH, datagram, keep, raw, stream};
use crate::actor::errno;

/// The polling thread sleeps when it had nothing to do for so long, milliseconds.
const IDLE: u32 = 50;

pub(super) fn connect(mode: Mode, to: SocketAddrV4) -> Result<(), Errno> {
    let (socket, address) = (stream(to.into())?, raw(to));
    let connect = opcode::Connect::new(types::Fixed(0), (&raw const address).cast(), RAW_LENGTH);
    run(mode, socket.as_fd(), connect.build())?;
    keep(socket);
    Ok(())
}

pub(super) fn send(mode: Mode, to: SocketAddrV4) -> Result<(), Errno> {
    let (socket, mut address, mut bytes) = (datagram(to.into())?, raw(to), [b'x'; 20]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: a msghdr of zeroes is one without name, parts and control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut address).cast();
    message.msg_namelen = RAW_LENGTH;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    run(mode, socket.as_fd(), opcode::SendMsg::new(types::Fixed(0), &raw const message).build())?;
    keep(socket);
    Ok(())
}

pub(super) fn accept(mode: Mode, listener: BorrowedFd) -> Result<(), Errno> {
    let accept = opcode::Accept::new(types::Fixed(0), std::ptr::null_mut(), std::ptr::null_mut());
    let fd = run(mode, listener, accept.build())?;
    // SAFETY: the descriptor that the kernel has just made.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // Where no hook sees accept() itself, the first use tells it.
    rustix::net::send(&socket, b"x", rustix::net::SendFlags::NOSIGNAL)?;
    keep(socket);
    Ok(())
}

/// Runs one entry whose descriptor is the fixed one with number 0, and waits for its result.
fn run(mode: Mode, fd: BorrowedFd, entry: squeue::Entry) -> Result<i32, Errno> {
    // A kernel or an administrator without io_uring refuses here, whatever the number of the error.
    let mut ring = ring(mode).map_err(|_| Errno::NOSYS)?;
    let error = |error: std::io::Error| errno(&error);
    ring.submitter().register_files(&[fd.as_raw_fd()]).map_err(error)?;
    let flags = if mode == Mode::Worker { squeue::Flags::ASYNC } else { squeue::Flags::empty() };
    // SAFETY: what the entry points to lives in the caller until the result is there.
    unsafe { ring.submission().push(&entry.flags(flags)) }.map_err(|_| Errno::AGAIN)?;
    ring.submit_and_wait(1).map_err(error)?;
    let result = ring.completion().next().map(|done| done.result()).ok_or(Errno::AGAIN)?;
    if result < 0 { Err(Errno::from_raw_os_error(-result)) } else { Ok(result) }
}

fn ring(mode: Mode) -> std::io::Result<IoUring> {
    let mut builder = IoUring::builder();
    if mode == Mode::Polling {
        builder.setup_sqpoll(IDLE);
    }
    builder.build(8)
}
