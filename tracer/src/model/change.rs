//! What an event changed: what is to be told, and who may have to be judged anew.

use std::collections::BTreeSet;

use super::{
    event::{BootNanos, Endpoint, SocketId},
    socket::Socket,
};

/// What an event changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What happened, in order.
    pub happened: Vec<Happened>,
    /// Other sockets whose verdict may depend on it, in the order of their ids.
    pub affected: BTreeSet<SocketId>,
    /// Inbound connections that have waited so long for a process that they are judged without one.
    pub noticed: BTreeSet<SocketId>,
    /// Sockets that were found gone, without their end having been seen.
    pub gone: Vec<Box<Socket>>,
}

/// One thing that happened to one socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// What.
    pub what: What,
    /// The socket: after the change, or as it was before its end.
    pub socket: SocketRef,
}

/// A socket that is still there, or the last that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketRef {
    /// In the host's table.
    Live(SocketId),
    /// Not there any more, or never kept.
    Last(Box<Socket>),
}

/// What can happen, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the contract's events")]
pub enum What {
    Seen,
    Bind,
    Listen,
    Connect,
    Established,
    Accept,
    Failed { errno: Option<u32> },
    Udp { peer: Option<Endpoint>, count: u64 },
    Close { sent: Option<u64>, received: Option<u64>, duration: Option<BootNanos> },
}

impl What {
    /// Nothing will happen to the socket after it.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Close { .. } | Self::Failed { .. })
    }
}

impl Change {
    pub(super) fn told(&mut self, what: What, socket: SocketRef) {
        self.happened.push(Happened { what, socket });
    }

    /// Empties it for the next event; what it allocated stays.
    pub(super) fn clear(&mut self) {
        let Self { happened, affected, noticed, gone } = self;
        happened.clear();
        gone.clear();
        // To clear even an empty tree is to walk it.
        if !affected.is_empty() || !noticed.is_empty() {
            affected.clear();
            noticed.clear();
        }
    }
}
