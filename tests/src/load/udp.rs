//! A flood of datagrams made by one thread: a few are sent, then received, so that no queue overflows.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType};

use super::pace::{self, Bounds};
use super::{Made, PORT, loopback};

/// Datagrams on their way at the same time: far less than a receive queue holds.
const BATCH: usize = 32;
const BYTES: [u8; 64] = [b'x'; 64];

/// From a connected socket to one peer.
pub(super) fn connected(bounds: Bounds) -> Result<Made, Errno> {
    let (to, receiver) = receiver(0)?;
    let sender = socket()?;
    rustix::net::connect(&sender, &to)?;
    pace::keep(bounds, || {
        for _ in 0..BATCH {
            rustix::net::send(&sender, &BYTES, SendFlags::empty())?;
        }
        for _ in 0..BATCH {
            receive(&receiver)?;
        }
        Ok(BATCH as u64)
    })
}

/// From a socket that names the peer each time, to `peers` of them in turn.
pub(super) fn unconnected(peers: u16, bounds: Bounds) -> Result<Made, Errno> {
    let receivers = (0..peers.max(1)).map(receiver).collect::<Result<Vec<_>, _>>()?;
    let sender = socket()?;
    let mut turn = (0..receivers.len()).cycle();
    pace::keep(bounds, || {
        let batch: Vec<_> = turn.by_ref().take(BATCH).collect();
        for at in &batch {
            rustix::net::sendto(&sender, &BYTES, SendFlags::empty(), &receivers[*at].0)?;
        }
        for at in &batch {
            receive(&receivers[*at].1)?;
        }
        Ok(BATCH as u64)
    })
}

fn receiver(number: u16) -> Result<(SocketAddr, OwnedFd), Errno> {
    let (at, socket) = (loopback(1, PORT + number), socket()?);
    rustix::net::bind(&socket, &at)?;
    Ok((at, socket))
}

fn socket() -> Result<OwnedFd, Errno> {
    rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)
}

/// Asks who sent it, as a server does.
fn receive(socket: &OwnedFd) -> Result<(), Errno> {
    rustix::net::recvfrom(socket, &mut [0_u8; BYTES.len()][..], RecvFlags::empty()).map(drop)
}
