//! What an actor can be told to do, and what it answers: one JSON value a line, both ways.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Mode, Way};
use crate::load::Traffic;

/// The kind of a new socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A TCP socket.
    Tcp,
    /// A UDP socket.
    Udp,
}

/// A socket option that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SocketOption {
    /// `SO_REUSEADDR`, on.
    ReuseAddress,
    /// `SO_REUSEPORT`, on.
    ReusePort,
    /// `IPV6_V6ONLY`.
    V6Only(bool),
    /// `O_NONBLOCK`, on.
    NonBlocking,
}

/// How much traffic a load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Connections a second.
    pub rate: u64,
    /// How long, in seconds.
    pub seconds: u64,
}

impl Load {
    /// Connections in all.
    #[must_use]
    pub fn total(self) -> u64 {
        self.rate * self.seconds
    }
}

/// Processes that connect once and end, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brief {
    /// How many, each from the port after that of the one before.
    pub count: u64,
    /// Where the first one connects from.
    pub from: SocketAddr,
    /// Where all connect to.
    pub to: SocketAddr,
    /// Which numbers they have.
    pub pids: Pids,
}

/// The numbers that processes have which are started one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pids {
    /// Each the one that the kernel gives it.
    Fresh,
    /// Only so many among them, which are used again and again.
    Few(u32),
    /// The same in a pid namespace of their own, whose first process starts them.
    FewNested(u32),
}

/// One order. `fd` is the actor's own descriptor number, as an earlier [`Outcome`] named it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the arguments of the call that each variant names")]
pub enum Order {
    /// `socket()`; `v6` chooses `AF_INET6`.
    Socket { kind: Kind, v6: bool },
    /// `setsockopt()` or `fcntl()`.
    Set { fd: i32, option: SocketOption },
    /// `bind()`.
    Bind { fd: i32, to: SocketAddr },
    /// `listen()`.
    Listen { fd: i32 },
    /// `connect()`.
    Connect { fd: i32, to: SocketAddr },
    /// `connect()` to `AF_UNSPEC`: the connection is dissolved, the socket is as new.
    Disconnect { fd: i32 },
    /// Waits until a non-blocking connect is decided; its `SO_ERROR` is the answer.
    AwaitConnect { fd: i32 },
    /// `accept()`, asking for the peer's address or passing NULL.
    Accept { fd: i32, with_address: bool },
    /// `getsockname()`.
    LocalAddress { fd: i32 },
    /// Sends so many bytes on a connected socket.
    Send { fd: i32, bytes: usize },
    /// Receives so many bytes, or until the peer's end; answers how many came.
    Receive { fd: i32, bytes: usize },
    /// Receives four bytes: the pid of the forked worker at the other end.
    ReceivePid { fd: i32 },
    /// `sendto()`, `count` times, `spacing_us` microseconds apart.
    SendTo { fd: i32, to: SocketAddr, bytes: usize, count: u64, spacing_us: u64 },
    /// `recvfrom()` once.
    ReceiveFrom { fd: i32 },
    /// `close()`.
    Close { fd: i32 },
    /// `prctl(PR_SET_NAME)` with these bytes.
    SetName { name: Vec<u8> },
    /// Forks so many children which accept on `fd`, write their pid as four little-endian bytes on
    /// each connection, wait for its end and close it.
    ForkWorkers { fd: i32, count: usize },
    /// As [`Order::ForkWorkers`], but the children keep every connection and go on.
    ForkKeepers { fd: i32, count: usize },
    /// Forks a child that holds what this process holds, does nothing, and outlives it.
    ForkHeir,
    /// Opens a door at `path`, a Unix datagram socket, to which others can give sockets.
    OpenDoor { path: PathBuf },
    /// Gives a socket to the process behind the door at `path`, and keeps it too.
    Give { fd: i32, path: PathBuf },
    /// Receives a socket through the door `fd`.
    TakeIn { fd: i32 },
    /// Starts a program with the listener as its descriptor 3, as systemd starts a service (`sd_listen_fds(3)`): it accepts,
    /// writes its pid on the connection, reads it to its end, and ends.
    Activate { fd: i32 },
    /// Accepts connections until `total` were served, reading each to its end.
    Serve { fd: i32, total: u64 },
    /// Opens connections at an even pace, one byte on each; `targets` take turns.
    Generate { targets: Vec<SocketAddr>, load: Load },
    /// Accepts in so many threads at the same time, with or without room for the peer's address, until
    /// `total` connections were taken; each is given a byte and read to its end.
    ServeInThreads { fd: i32, threads: usize, with_address: bool, total: u64 },
    /// Accepts connections until `total` were served: takes a byte of each and closes it first, so that the
    /// client's port is free again at once.
    Dismiss { fd: i32, total: u64 },
    /// Opens so many connections one after the other, one byte on each, and waits for the end of each.
    Call { to: SocketAddr, count: u64 },
    /// Reaches `to` in an unusual way.
    Reach { way: Way, to: SocketAddr },
    /// Accepts one connection by io_uring.
    Take { fd: i32, mode: Mode },
    /// Starts processes that live for one connection each.
    StartBrief { program: PathBuf, brief: Brief },
    /// Starts a process that connects to `to` and becomes a program with the connection in the place of its terminal.
    ReverseShell { to: SocketAddr },
    /// Starts a program with this connection in the place of its terminal, and closes the own descriptor of it.
    StartOn { fd: i32 },
    /// Makes a load of the benchmark.
    Make(Traffic),
    /// Ends the process.
    Exit,
}

/// What an order came to. Fields that do not apply are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The descriptor that was made.
    pub fd: Option<i32>,
    /// The address that was asked for, or the peer's.
    pub address: Option<SocketAddr>,
    /// Bytes moved, or connections served.
    pub count: u64,
    /// Processes that were forked.
    pub pids: Vec<u32>,
    /// Time that a load took, in nanoseconds.
    pub took_ns: u64,
}

/// The answer to an order: an outcome, or the errno of the call that failed.
pub(super) type Answer = Result<Outcome, i32>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_survive_the_pipe() {
        let order = Order::Connect { fd: 3, to: "[::ffff:9.1.1.2]:80".parse().unwrap() };
        let line = serde_json::to_string(&order).unwrap();
        assert_eq!(serde_json::from_str::<Order>(&line).unwrap(), order);
        let answer: Answer = Err(111);
        let line = serde_json::to_string(&answer).unwrap();
        assert_eq!(serde_json::from_str::<Answer>(&line).unwrap(), answer);
    }
}
