//! A storm of connections made by one thread: on loopback a handshake is over when connect() returns, so that
//! nobody waits and one core is filled.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::pace::{self, Bounds};
use super::{Made, PORT, loopback};

const BACKLOG: i32 = 4096;

/// Connects, accepts and closes. The accepted end closes first, so that the port of the other is free again at
/// once.
pub(super) fn storm(bounds: Bounds) -> Result<Made, Errno> {
    let at = loopback(1, PORT);
    let listener = listener(at)?;
    pace::keep(bounds, || {
        let caller = socket()?;
        rustix::net::connect(caller.as_fd(), &at)?;
        let (accepted, _) = rustix::net::acceptfrom(&listener)?;
        drop(accepted);
        drop(caller);
        Ok(1)
    })
}

/// A listener.
pub(super) fn listener(at: SocketAddr) -> Result<OwnedFd, Errno> {
    let listener = socket()?;
    sockopt::set_socket_reuseaddr(&listener, true)?;
    rustix::net::bind(&listener, &at)?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// A TCP socket.
pub(super) fn socket() -> Result<OwnedFd, Errno> {
    rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)
}
