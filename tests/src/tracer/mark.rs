//! Sockets of the harness itself, by which it learns how far a tracer has come: what the tracer tells of
//! them is no part of the test. They wait where the tracer waits, so that a mark that was told means that
//! all that was caused before it was told as well.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};

use super::Stream;
use crate::net::{A4, B4, Netns};
use crate::records::Record;

/// Ports that marks alone use: a scenario uses others, and so does the kernel (`ip_local_port_range`).
pub(super) const PORTS: Range<u16> = 20_000..21_000;

static NEXT: AtomicU16 = AtomicU16::new(PORTS.start);

/// Whether a record tells of a mark.
pub(super) fn is_of(record: &Record) -> bool {
    let ports = [record.local(), record.remote()].map(|end| end.map(|end| end.port()));
    ports.into_iter().flatten().any(|port| PORTS.contains(&port))
}

/// Both namespaces of a network, to make marks in.
pub(super) struct Marks {
    /// The namespace that has [`A4`].
    pub(super) a: Netns,
    /// The namespace that has [`B4`].
    pub(super) b: Netns,
}

impl Marks {
    /// A listener in each namespace: the tracer has come as far as to now. Their addresses make it see who
    /// it is that has this namespace's number now.
    pub(super) fn listeners(&self, stream: &Stream) -> Result<()> {
        for (netns, ip) in [(&self.a, A4), (&self.b, B4)] {
            let address = next(ip);
            // A namespace that nobody stands in is not found without hooks.
            netns.enter(|| {
                let _listener = TcpListener::bind(address).context("binding a mark")?;
                wait(stream, "the mark of a listener", 1, |r| r.local() == Some(address))
            })?;
        }
        Ok(())
    }

    /// A session that nobody accepts: it is told when the tracer has given up waiting for its accept.
    pub(super) fn session(&self, stream: &Stream) -> Result<()> {
        let address = next(B4);
        let _listener = self.b.enter(|| TcpListener::bind(address).context("binding a mark"))?;
        let _session = self.a.enter(|| TcpStream::connect(address).context("connecting a mark"))?;
        wait(stream, "the mark of a session", 1, |r| r.tells("established") && r.local() == Some(address))
    }

    /// Two datagrams: the second is told when the period of the first is over.
    pub(super) fn flow(&self, stream: &Stream) -> Result<()> {
        let address = next(B4);
        let _server = self.b.enter(|| UdpSocket::bind(address).context("binding a mark"))?;
        let client = self.a.enter(|| UdpSocket::bind((A4, 0)).context("binding a mark"))?;
        for _ in 0..2 {
            client.send_to(b"mark", address)?;
        }
        wait(stream, "the mark of a flow", 2, |r| r.tells("udp") && r.remote() == Some(address))
    }
}

fn next(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, NEXT.fetch_add(1, Ordering::Relaxed))
}

fn wait(stream: &Stream, what: &str, count: usize, is: impl Fn(&Record) -> bool) -> Result<()> {
    stream.wait_in(what, |output| (output.marks.iter().filter(|r| is(r)).count() >= count).then_some(()))
}
