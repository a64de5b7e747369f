//! The actor's own process: reads orders from stdin, does each as plain system calls, answers on
//! stdout. It has one thread, so that the task that acts is always the process itself.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, sockopt};
use rustix::process::{Resource, getrlimit, setrlimit};

use super::order::{Answer, Kind, Order, Outcome, SocketOption};
use super::{brief, heirs, shell, ways, workers};
use crate::load;

/// The first argument of a process that is to be an actor.
pub(super) const ARGUMENT: &str = "actor";
const BACKLOG: i32 = 4096;

/// Turns the process into an actor when its first argument asks for that; else returns at once. To be
/// called first in `main`.
pub fn run_if_asked() {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let Some((asked, others)) = words.split_first() else { return };
    if asked == brief::ARGUMENT {
        std::process::exit(brief::run(others.iter().map(|word| word.as_os_str())));
    }
    if asked == shell::REVERSE {
        std::process::exit(shell::run_reverse(others.iter().map(|word| word.as_os_str())));
    }
    if asked == shell::SIT {
        std::process::exit(shell::sit());
    }
    if asked == heirs::SERVICE {
        std::process::exit(heirs::serve());
    }
    if asked == ARGUMENT {
        let done = raise_descriptor_limit().and_then(|()| Stage::default().obey());
        std::process::exit(i32::from(done.is_err()));
    }
}

/// As many descriptors as the process may ask for: a benchmark opens a thousand listeners.
fn raise_descriptor_limit() -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// The sockets that the actor holds, by descriptor number.
#[derive(Default)]
struct Stage {
    sockets: BTreeMap<i32, OwnedFd>,
}

impl Stage {
    fn obey(&mut self) -> anyhow::Result<()> {
        for line in std::io::stdin().lock().lines() {
            let order: Order = serde_json::from_str(&line?)?;
            if order == Order::Exit {
                break;
            }
            let answer: Answer = self.perform(order).map_err(Errno::raw_os_error);
            let mut text = serde_json::to_vec(&answer)?;
            text.push(b'\n');
            std::io::stdout().write_all(&text)?;
            std::io::stdout().flush()?;
        }
        Ok(())
    }

    fn perform(&mut self, order: Order) -> Result<Outcome, Errno> {
        match order {
            Order::Socket { kind, v6 } => self.open(kind, v6),
            Order::Set { fd, option } => set(self.get(fd)?, option).map(nothing),
            Order::Bind { fd, to } => rustix::net::bind(self.get(fd)?, &to).map(nothing),
            Order::Listen { fd } => rustix::net::listen(self.get(fd)?, BACKLOG).map(nothing),
            Order::Connect { fd, to } => rustix::net::connect(self.get(fd)?, &to).map(nothing),
            Order::Disconnect { fd } => rustix::net::connect_unspec(self.get(fd)?).map(nothing),
            Order::AwaitConnect { fd } => await_connect(self.get(fd)?).map(nothing),
            Order::Accept { fd, with_address } => self.accept(fd, with_address),
            Order::LocalAddress { fd } => local_address(self.get(fd)?),
            Order::Send { fd, bytes } => send(self.get(fd)?, bytes),
            Order::Receive { fd, bytes } => receive(self.get(fd)?, bytes),
            Order::ReceivePid { fd } => receive_pid(self.get(fd)?),
            Order::SendTo { fd, to, bytes, count, spacing_us } => {
                send_to(self.get(fd)?, to, bytes, count, Duration::from_micros(spacing_us))
            }
            Order::ReceiveFrom { fd } => receive_from(self.get(fd)?),
            Order::Close { fd } => self.sockets.remove(&fd).map(drop).ok_or(Errno::BADF).map(nothing),
            Order::SetName { name } => set_name(&name).map(nothing),
            Order::ForkWorkers { fd, count } => workers::fork_workers(&self.listener(fd)?, count, false),
            Order::ForkKeepers { fd, count } => workers::fork_workers(&self.listener(fd)?, count, true),
            Order::ForkHeir => heirs::fork_heir(),
            Order::OpenDoor { path } => heirs::open_door(&path).map(|door| self.keep(door)),
            Order::Give { fd, path } => heirs::give(self.get(fd)?, &path).map(nothing),
            Order::TakeIn { fd } => heirs::receive(self.get(fd)?).map(|socket| self.keep(socket)),
            Order::Activate { fd } => heirs::activate(&self.listener(fd)?),
            Order::Serve { fd, total } => workers::serve(&self.listener(fd)?, total),
            Order::Generate { targets, load } => workers::generate(&targets, load),
            Order::ServeInThreads { fd, threads, with_address, total } => {
                workers::serve_in_threads(&self.listener(fd)?, threads, with_address, total)
            }
            Order::Dismiss { fd, total } => workers::dismiss(&self.listener(fd)?, total),
            Order::Call { to, count } => workers::call(to, count),
            Order::Reach { way, to } => ways::reach(way, to),
            Order::Take { fd, mode } => ways::take(mode, self.get(fd)?),
            Order::StartBrief { program, brief } => brief::start(&program, &brief),
            Order::ReverseShell { to } => shell::reverse(to),
            Order::StartOn { fd } => shell::serve(self.sockets.remove(&fd).ok_or(Errno::BADF)?),
            Order::Make(traffic) => load::make(&traffic).map(|made| Outcome {
                count: made.count,
                took_ns: made.nanoseconds,
                ..Outcome::default()
            }),
            Order::Exit => Ok(Outcome::default()),
        }
    }

    fn get(&self, fd: i32) -> Result<BorrowedFd<'_>, Errno> {
        self.sockets.get(&fd).map(OwnedFd::as_fd).ok_or(Errno::BADF)
    }

    /// A second descriptor of the listening socket; the first stays in the table.
    fn listener(&self, fd: i32) -> Result<TcpListener, Errno> {
        Ok(rustix::io::fcntl_dupfd_cloexec(self.get(fd)?, 0)?.into())
    }

    fn keep(&mut self, socket: OwnedFd) -> Outcome {
        let fd = socket.as_raw_fd();
        self.sockets.insert(fd, socket);
        Outcome { fd: Some(fd), ..Outcome::default() }
    }

    fn open(&mut self, kind: Kind, v6: bool) -> Result<Outcome, Errno> {
        let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
        let kind = match kind {
            Kind::Tcp => SocketType::STREAM,
            Kind::Udp => SocketType::DGRAM,
        };
        rustix::net::socket(family, kind, None).map(|socket| self.keep(socket))
    }

    fn accept(&mut self, fd: i32, with_address: bool) -> Result<Outcome, Errno> {
        let listener = self.get(fd)?;
        if !with_address {
            let socket = rustix::net::accept(listener)?;
            return Ok(self.keep(socket));
        }
        let (socket, peer) = rustix::net::acceptfrom(listener)?;
        let address = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
        Ok(Outcome { address, ..self.keep(socket) })
    }
}

fn nothing((): ()) -> Outcome {
    Outcome::default()
}

fn set(fd: BorrowedFd, option: SocketOption) -> Result<(), Errno> {
    match option {
        SocketOption::ReuseAddress => sockopt::set_socket_reuseaddr(fd, true),
        SocketOption::ReusePort => sockopt::set_socket_reuseport(fd, true),
        SocketOption::V6Only(only) => sockopt::set_ipv6_v6only(fd, only),
        SocketOption::NonBlocking => {
            rustix::fs::fcntl_setfl(fd, rustix::fs::fcntl_getfl(fd)? | OFlags::NONBLOCK)
        }
    }
}

fn await_connect(fd: BorrowedFd) -> Result<(), Errno> {
    poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None)?;
    sockopt::socket_error(fd)?
}

fn local_address(fd: BorrowedFd) -> Result<Outcome, Errno> {
    let address = SocketAddr::try_from(rustix::net::getsockname(fd)?)?;
    Ok(Outcome { address: Some(address), ..Outcome::default() })
}

fn send(fd: BorrowedFd, bytes: usize) -> Result<Outcome, Errno> {
    let buffer = vec![b'x'; bytes];
    let mut sent = 0;
    while sent < bytes {
        sent += rustix::net::send(fd, &buffer[sent..], SendFlags::NOSIGNAL)?;
    }
    Ok(Outcome { count: sent as u64, ..Outcome::default() })
}

fn receive(fd: BorrowedFd, bytes: usize) -> Result<Outcome, Errno> {
    let mut buffer = vec![0; bytes];
    let mut received = 0;
    while received < bytes {
        let (length, _) = rustix::net::recv(fd, &mut buffer[received..], RecvFlags::empty())?;
        if length == 0 {
            break;
        }
        received += length;
    }
    Ok(Outcome { count: received as u64, ..Outcome::default() })
}

fn receive_pid(fd: BorrowedFd) -> Result<Outcome, Errno> {
    let mut pid = [0; 4];
    let (length, _) = rustix::net::recv(fd, &mut pid, RecvFlags::WAITALL)?;
    let pids = vec![u32::from_le_bytes(pid)];
    if length == pid.len() { Ok(Outcome { pids, ..Outcome::default() }) } else { Err(Errno::PIPE) }
}

fn send_to(
    fd: BorrowedFd,
    to: SocketAddr,
    bytes: usize,
    count: u64,
    spacing: Duration,
) -> Result<Outcome, Errno> {
    let buffer = vec![b'x'; bytes];
    for number in 0..count {
        if number > 0 {
            std::thread::sleep(spacing);
        }
        rustix::net::sendto(fd, &buffer, SendFlags::empty(), &to)?;
    }
    Ok(Outcome { count, ..Outcome::default() })
}

fn receive_from(fd: BorrowedFd) -> Result<Outcome, Errno> {
    let mut buffer = [0; 2048];
    let (_, length, peer) = rustix::net::recvfrom(fd, &mut buffer[..], RecvFlags::empty())?;
    let address = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    Ok(Outcome { address, count: length as u64, ..Outcome::default() })
}

/// Sets the name of the process as raw bytes, which `CStr` alone would keep from being checked.
fn set_name(name: &[u8]) -> Result<(), Errno> {
    let name = std::ffi::CString::new(name).map_err(|_| Errno::INVAL)?;
    rustix::thread::set_name(&name)
}
