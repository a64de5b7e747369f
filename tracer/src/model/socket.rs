//! One socket as it is now.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    address::{BindScope, Direction, bind_scope},
    event::{Attribution, BootNanos, Endpoint, Family, Process, ProcessId, Protocol, SocketId, State},
};

/// Peers that are remembered of one UDP socket; past that the one that was silent longest goes.
const PEERS: usize = 256;

/// Where a socket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A TCP socket listens.
    Listening,
    /// A SYN was sent.
    Connecting,
    /// An inbound connection is established and not yet seen in a process's hands.
    Waiting,
    /// A TCP session that both ends know.
    Open,
    /// A UDP socket.
    Datagram,
}

/// A socket as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Identity.
    pub id: SocketId,
    /// Inode number of its network namespace.
    pub netns: Option<u32>,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Its own family.
    pub family: Family,
    /// State.
    pub state: State,
    /// Local end; port 0 while there is none or it is not known.
    pub local: Endpoint,
    /// Remote end.
    pub remote: Option<Endpoint>,
    /// `IPV6_V6ONLY`
    pub v6only: bool,
    /// Who opened the session.
    pub direction: Option<Direction>,
    /// Where it stands.
    pub phase: Phase,
    /// The process that acted on it last, as far as a hook saw.
    pub owner: Option<Arc<Process>>,
    /// How `owner` was found.
    pub attribution: Attribution,
    /// Why `owner` is not known.
    pub owner_unknown: Option<String>,
    /// Processes found with a descriptor of it.
    pub holders: Vec<ProcessId>,
    /// First sign of it, when that was seen to be its beginning.
    pub opened: Option<BootNanos>,
    /// Last time that an event or a re-reading showed it.
    pub last_seen: BootNanos,
    /// A session that is there to be judged: not one that still waits for its process.
    pub noticed: bool,
    /// How a UDP socket came to its port, and whom it spoke to.
    pub datagrams: Datagrams,
}

/// What is known of a UDP socket beyond its ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Datagrams {
    /// How it came to its port.
    pub port: PortOrigin,
    /// Whom it exchanged datagrams with.
    pub peers: BTreeMap<Endpoint, Exchange>,
    /// It received from a peer before it sent anything.
    pub answered_first: bool,
    /// It sent before it received anything.
    pub called_first: bool,
}

/// How a UDP socket came to its port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortOrigin {
    /// The kernel gave it at the first send or connect.
    #[default]
    Autobind,
    /// `bind()` left the choice to the kernel.
    Bind,
    /// The program named it in `bind()`.
    Chosen,
}

/// What was exchanged with one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams received.
    pub received: u64,
    /// The peer spoke first.
    pub inbound: bool,
    /// Last datagram that was told.
    pub last: BootNanos,
}

impl Exchange {
    /// Who spoke first.
    #[must_use]
    pub fn direction(&self) -> Direction {
        if self.inbound { Direction::Inbound } else { Direction::Outbound }
    }

    /// More than one datagram in one direction: not a lone probe or a lone answer.
    #[must_use]
    pub fn is_repeated(&self) -> bool {
        self.sent > 1 || self.received > 1
    }
}

impl Socket {
    /// Bind scope of the local end.
    #[must_use]
    pub fn scope(&self) -> BindScope {
        bind_scope(self.local.ip)
    }

    /// The processes that have it, as far as is known.
    #[must_use]
    pub fn processes(&self) -> BTreeSet<ProcessId> {
        self.holders.iter().copied().chain(self.owner.iter().map(|owner| owner.id)).collect()
    }

    /// True for a TCP listener.
    #[must_use]
    pub fn is_listener(&self) -> bool {
        self.state == State::Listen
    }

    /// True for a TCP session that is judged as active.
    #[must_use]
    pub fn is_active_session(&self) -> bool {
        self.protocol == Protocol::Tcp && self.noticed && is_active(self.state)
    }

    /// True for a UDP socket that is connected to one peer.
    #[must_use]
    pub fn is_connected_datagram(&self) -> bool {
        self.protocol.is_datagram() && self.remote.is_some()
    }

    /// Address and `IPV6_V6ONLY`, as scopes are compared.
    #[must_use]
    pub fn bound_address(&self) -> (IpAddr, bool) {
        (self.local.ip, self.v6only)
    }

    /// True for a UDP port that others may send to: bound on purpose and not tied to one peer, or
    /// known to receive from peers that it did not call.
    #[must_use]
    pub fn is_udp_server(&self) -> bool {
        if !self.protocol.is_datagram() || self.remote.is_some() || self.local.port == 0 {
            return false;
        }
        match self.datagrams.port {
            PortOrigin::Autobind => self.datagrams.answered_first,
            PortOrigin::Bind => !self.datagrams.called_first,
            PortOrigin::Chosen => true,
        }
    }

    /// Adds datagrams of one direction to a peer's exchange.
    pub fn exchange(&mut self, peer: Endpoint, sent: bool, count: u64, at: BootNanos) {
        let first = self.datagrams.peers.is_empty();
        if first {
            self.datagrams.called_first |= sent;
            self.datagrams.answered_first |= !sent;
        }
        if self.datagrams.peers.len() >= PEERS && !self.datagrams.peers.contains_key(&peer) {
            self.forget_quietest();
        }
        let new = Exchange { inbound: !sent, ..Exchange::default() };
        let exchange = self.datagrams.peers.entry(peer).or_insert(new);
        exchange.last = at;
        if sent {
            exchange.sent += count;
        } else {
            exchange.received += count;
        }
    }

    fn forget_quietest(&mut self) {
        let quietest = self.datagrams.peers.iter().min_by_key(|(peer, exchange)| (exchange.last, **peer));
        if let Some(peer) = quietest.map(|(peer, _)| *peer) {
            self.datagrams.peers.remove(&peer);
        }
    }
}

/// States in which a TCP socket talks, or may.
#[must_use]
pub fn is_active(state: State) -> bool {
    match state {
        State::Established
        | State::SynSent
        | State::SynRecv
        | State::FinWait1
        | State::FinWait2
        | State::CloseWait
        | State::LastAck
        | State::Closing => true,
        State::TimeWait | State::Close | State::Listen | State::NewSynRecv => false,
    }
}
