//! The self-test's traffic: a process, and TCP and UDP over loopback, in a network namespace of its own, on a thread of its
//! own. What it proves is decided in `proofs`.
//!
//! The namespace has no name and no mount; it goes with the thread. The programs tell nothing of it but that
//! they ran.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::{
    net::{AddressFamily, SocketType, sockopt},
    thread::{UnshareFlags, unshare_unsafe},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::namespaces;

/// No step waits longer; the first that would ends the test.
const PATIENCE: Duration = Duration::from_millis(400);

/// What a round of traffic came to.
pub type Traffic = Result<Exercised, String>;

/// The families that the traffic went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exercised {
    /// IPv6, beside IPv4: nothing goes through it where the kernel gives the namespace no `::1`.
    pub v6: bool,
}

/// The thread in its namespace; both end when this goes.
pub struct SelfTest {
    netns: Option<u32>,
    opened: mpsc::Receiver<io::Result<u32>>,
    orders: mpsc::Sender<()>,
    reports: UnboundedReceiver<Traffic>,
}

impl SelfTest {
    /// Begins to make the namespace, without waiting for it.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn begin() -> io::Result<Self> {
        let (opening, opened) = mpsc::channel();
        let (orders, ordered) = mpsc::channel();
        let (report, reports) = unbounded_channel();
        let thread = thread::Builder::new().name("self-test".to_owned());
        thread.spawn(move || run(&opening, &ordered, &report))?;
        Ok(Self { netns: None, opened, orders, reports })
    }

    /// Inode number of the namespace, as soon as it is there.
    ///
    /// # Errors
    /// When it cannot be made: that takes CAP_SYS_ADMIN.
    pub fn netns(&mut self) -> io::Result<u32> {
        if let Some(number) = self.netns {
            return Ok(number);
        }
        let number = self.opened.recv().unwrap_or_else(|_| Err(io::Error::other("its thread died")))?;
        self.netns = Some(number);
        Ok(number)
    }

    /// Orders a round of traffic.
    pub fn start(&self) {
        // A thread that is gone gives no report, and the hooks stay unproven.
        let _ = self.orders.send(());
    }

    /// The next round's outcome; never, when the thread is gone.
    pub async fn report(&mut self) -> Traffic {
        match self.reports.recv().await {
            Some(traffic) => traffic,
            None => std::future::pending().await,
        }
    }

    /// As [`SelfTest::report`], outside the loop.
    pub fn wait(&mut self) -> Traffic {
        self.reports.blocking_recv().unwrap_or_else(|| Err("its thread died".to_owned()))
    }
}

fn run(
    opening: &mpsc::Sender<io::Result<u32>>,
    orders: &mpsc::Receiver<()>,
    report: &UnboundedSender<Traffic>,
) {
    let opened = open();
    let ready = opened.is_ok();
    if opening.send(opened).is_err() || !ready {
        return;
    }
    while orders.recv().is_ok() {
        if report.send(traffic().map_err(|e| e.to_string())).is_err() {
            return;
        }
    }
}

/// Takes the calling thread into a new namespace whose loopback is up.
fn open() -> io::Result<u32> {
    // SAFETY: only what is unsafe about files is: their table stays shared with the other threads.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    raise_loopback()?;
    namespaces::inode(Path::new("/proc/thread-self/ns/net"))
}

fn raise_loopback() -> io::Result<()> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: a plain structure of numbers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads a whole `ifreq`.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Everything that a hook can see, once for each family.
fn traffic() -> io::Result<Exercised> {
    let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
    process()?;
    tcp(v4)?;
    udp(v4)?;
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    if UdpSocket::bind((v6, 0)).is_err() {
        return Ok(Exercised { v6: false });
    }
    tcp(v6)?;
    udp(v6)?;
    Ok(Exercised { v6: true })
}

/// A process is born, becomes another program, which is the tracer itself, and ends.
fn process() -> io::Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().map(drop)
}

/// A listener, a connection to it, the accept with the peer's name asked for, a byte each way, the ends.
fn tcp(ip: IpAddr) -> io::Result<()> {
    let listener = TcpListener::bind((ip, 0))?;
    bound(&listener)?;
    let mut client = TcpStream::connect_timeout(&listener.local_addr()?, PATIENCE)?;
    let (mut server, _) = listener.accept()?;
    for stream in [&client, &server] {
        bound(stream)?;
    }
    client.write_all(b"1")?;
    server.read_exact(&mut [0])?;
    server.write_all(b"2")?;
    client.read_exact(&mut [0])
}

/// A datagram each way between unconnected sockets, and each way after one of them is connected.
fn udp(ip: IpAddr) -> io::Result<()> {
    let (server, client) = (UdpSocket::bind((ip, 0))?, UdpSocket::bind((ip, 0))?);
    bound(&server)?;
    bound(&client)?;
    let server_end = server.local_addr()?;
    client.send_to(b"1", server_end)?;
    let client_end = answer(&server)?;
    client.recv_from(&mut [0])?;
    client.connect(server_end)?;
    client.send(b"3")?;
    if answer(&server)? != client_end {
        return Err(io::Error::other("a datagram came from another end than it was sent from"));
    }
    client.recv(&mut [0])?;
    Ok(())
}

/// Takes a datagram and answers it; gives where it came from.
fn answer(server: &UdpSocket) -> io::Result<SocketAddr> {
    let (_, from) = server.recv_from(&mut [0])?;
    server.send_to(b"2", from)?;
    Ok(from)
}

/// No call on the socket waits longer than [`PATIENCE`].
fn bound(socket: &impl AsFd) -> io::Result<()> {
    for which in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
        sockopt::set_socket_timeout(socket, which, Some(PATIENCE))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_traffic_runs_where_there_is_loopback() {
        assert!(traffic().is_ok());
    }

    #[test]
    fn a_wait_ends() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        bound(&socket).unwrap();
        assert_eq!(socket.recv_from(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
