//! Loads that one process makes by itself: storms of connections, floods of datagrams, sockets that are only
//! held. Each is bounded in number and in time. What is measured meanwhile is the callers'.

mod hold;
mod pace;
mod tcp;
mod udp;

use std::net::{Ipv4Addr, SocketAddr};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

pub use pace::Bounds;

/// The port that a load serves, on addresses of the loopback device.
pub const PORT: u16 = 7000;

/// How datagrams are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sending {
    /// By a connected socket to its one peer.
    Connected,
    /// By `sendto()` to so many peers in turn.
    Unconnected {
        /// Sockets that receive.
        peers: u16,
    },
}

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Held {
    /// TCP sessions over loopback, both ends, and their listener.
    Sessions,
    /// Descriptors that are no sockets, and one listener.
    Files,
}

/// A load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Traffic {
    /// TCP connections over loopback, one after the other: connect, accept, close of the accepted end, close.
    Storm(Bounds),
    /// Datagrams over loopback, each sent and received.
    Flood {
        /// How they are sent.
        sending: Sending,
        /// How many.
        bounds: Bounds,
    },
    /// Descriptors that stay open until the process ends.
    Hold {
        /// Which.
        held: Held,
        /// How many, at most.
        count: usize,
        /// Of the loads in one namespace each has another address, 127.0.0.`host`.
        host: u8,
    },
}

/// What a load came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Connections, datagrams or descriptors.
    pub count: u64,
    /// The time that it took, nanoseconds.
    pub nanoseconds: u64,
}

impl Made {
    /// How many in a second.
    #[must_use]
    pub fn rate(self) -> f64 {
        self.count as f64 / self.seconds()
    }

    /// The time that it took, seconds; never 0.
    #[must_use]
    pub fn seconds(self) -> f64 {
        self.nanoseconds.max(1) as f64 / 1e9
    }
}

/// Makes a load in this process.
///
/// # Errors
/// The errno of the call that failed.
pub fn make(traffic: &Traffic) -> Result<Made, Errno> {
    match *traffic {
        Traffic::Storm(bounds) => tcp::storm(bounds),
        Traffic::Flood { sending: Sending::Connected, bounds } => udp::connected(bounds),
        Traffic::Flood { sending: Sending::Unconnected { peers }, bounds } => udp::unconnected(peers, bounds),
        Traffic::Hold { held: Held::Sessions, count, host } => hold::sessions(count, host),
        Traffic::Hold { held: Held::Files, count, host } => hold::files(count, host),
    }
}

fn loopback(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(127, 0, 0, host).into(), port)
}
