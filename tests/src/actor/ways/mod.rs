//! Ways of talking that are not the plain calls: other system calls, other tasks, other families of
//! sockets. Each leaves its sockets open until the process ends, except where another process held them.

mod datagrams;
mod others;
mod sessions;
mod uring;

use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, ipproto};
use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::actor::errno;

/// Who does the work of an io_uring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// The task that submits it.
    Inline,
    /// A worker thread (`IOSQE_ASYNC`).
    Worker,
    /// The polling thread (`IORING_SETUP_SQPOLL`).
    Polling,
}

/// A way to reach a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// `connect()` by io_uring.
    UringConnect(Mode),
    /// `sendmsg()` of a datagram by io_uring.
    UringSend(Mode),
    /// `sendto(MSG_FASTOPEN)`, twice: the first asks for the cookie that the second uses.
    FastOpenSend,
    /// `TCP_FASTOPEN_CONNECT`: `connect()` waits for the first `write()`.
    FastOpenConnect,
    /// `connect()` of a socket of `IPPROTO_MPTCP`.
    Multipath,
    /// `connect()` through `int $0x80`, the door of 32-bit programs.
    Compat,
    /// `connect()`, dissolved by `AF_UNSPEC`, and `connect()` again.
    Again,
    /// `connect()` of a socket to its own address.
    ToItself,
    /// `connect()` in a thread that calls itself `kworker/0:1`.
    OtherThread,
    /// `connect()` by a process that has left the socket's namespace for that of this process.
    FromAbroad(u32),
    /// `connect()` by a process that moved to the namespace of this process first.
    Moved(u32),
    /// `connect()`, and the socket is passed to another process by `SCM_RIGHTS`.
    Passed,
    /// `connect()` by a process that took the socket with `pidfd_getfd()`.
    Stolen,
    /// `connect()` by a process that then becomes another program.
    BeforeExec,
    /// `sendto()` once.
    Send,
    /// `sendmmsg()` of three datagrams.
    SendThree,
    /// `connect()` of a datagram socket, and nothing more.
    Connect,
    /// `connect()` of a datagram socket and `write()`.
    ConnectAndWrite,
    /// `connect()` of a datagram socket and `sendfile()`.
    SendFile,
    /// Two writes that `UDP_CORK` makes one datagram.
    Cork,
    /// `sendto()` of a UDP-Lite socket.
    Lite,
}

/// Reaches `to` in this way. Where another process acted, the outcome names it.
pub(super) fn reach(way: Way, to: SocketAddr) -> Result<Outcome, Errno> {
    match way {
        Way::UringConnect(mode) => uring::connect(mode, v4(to)?).map(ours),
        Way::UringSend(mode) => uring::send(mode, v4(to)?).map(ours),
        Way::FastOpenSend => sessions::fast_open_send(v4(to)?).map(ours),
        Way::FastOpenConnect => sessions::fast_open_connect(to).map(ours),
        Way::Multipath => sessions::multipath(to).map(ours),
        Way::Compat => sessions::compat(v4(to)?).map(ours),
        Way::Again => sessions::again(to).map(ours),
        Way::ToItself => sessions::to_itself(to).map(ours),
        Way::OtherThread => others::other_thread(to).map(ours),
        Way::FromAbroad(pid) => others::from_abroad(to, pid).map(ours),
        Way::Moved(pid) => others::moved(to, pid).map(ours),
        Way::Passed => others::passed(to).map(ours),
        Way::Stolen => others::stolen(to).map(theirs),
        Way::BeforeExec => others::before_exec(to).map(theirs),
        Way::Send => datagrams::send(to).map(ours),
        Way::SendThree => datagrams::send_three(v4(to)?).map(ours),
        Way::Connect => datagrams::connect(to).map(ours),
        Way::ConnectAndWrite => datagrams::connect_and_write(to).map(ours),
        Way::SendFile => datagrams::send_file(to).map(ours),
        Way::Cork => datagrams::cork(to).map(ours),
        Way::Lite => datagrams::lite(to).map(ours),
    }
}

/// Accepts one connection by io_uring.
pub(super) fn take(mode: Mode, listener: BorrowedFd) -> Result<Outcome, Errno> {
    uring::accept(mode, listener).map(ours)
}

fn ours((): ()) -> Outcome {
    Outcome::default()
}

fn theirs(pid: u32) -> Outcome {
    Outcome { pids: vec![pid], ..Outcome::default() }
}

fn v4(address: SocketAddr) -> Result<SocketAddrV4, Errno> {
    match address {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => Err(Errno::AFNOSUPPORT),
    }
}

/// The address as the kernel reads it.
fn raw(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}

const RAW_LENGTH: u32 = size_of::<libc::sockaddr_in>() as u32;

fn stream(near: SocketAddr) -> Result<OwnedFd, Errno> {
    rustix::net::socket(family(near), SocketType::STREAM, None)
}

fn datagram(near: SocketAddr) -> Result<OwnedFd, Errno> {
    rustix::net::socket(family(near), SocketType::DGRAM, Some(ipproto::UDP))
}

fn family(near: SocketAddr) -> AddressFamily {
    if near.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

/// Leaves a socket open until the process ends.
fn keep(socket: OwnedFd) {
    let _: i32 = socket.into_raw_fd();
}

/// What a raw system call answered.
fn checked(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result >= 0 {
        return Ok(result);
    }
    Err(errno(&std::io::Error::last_os_error()))
}
