//! One socket as it is now.

use std::{fmt, mem, net::IpAddr, sync::Arc};

use super::{
    address::{BindScope, Direction, bind_scope},
    event::{Attribution, BootNanos, Endpoint, Family, Process, ProcessId, Protocol, SocketId, State},
    index::Entered,
    peers::Peers,
};

/// Holders that are learnt by what they do; a reading may find more.
const USERS: usize = 64;

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
    /// The process that opened it: the first that a hook saw act on it. Of an accepted connection, the one that
    /// opened the listener; of a socket that was there before, the holder from which all others descend.
    pub opener: Option<Arc<Process>>,
    /// The process that acted on it last, as far as a hook saw; one that holds it, when that one was found to have
    /// left it behind. To accept from a listener is to act on it.
    pub owner: Option<Arc<Process>>,
    /// How `owner` was found.
    pub attribution: Attribution,
    /// Why `owner` is not known.
    pub owner_unknown: Option<Unowned>,
    /// Processes that are known to hold it, in the order of their pids: those that a reading found, and those that
    /// acted. None where neither found more than the owner.
    pub holders: Box<[Arc<Process>]>,
    /// First sign of it, when that was seen to be its beginning.
    pub opened: Option<BootNanos>,
    /// Last time that an event or a re-reading showed it.
    pub last_seen: BootNanos,
    /// A session that is there to be judged: not one that still waits for its process.
    pub noticed: bool,
    /// How a UDP socket came to its port, and whom it spoke to.
    pub datagrams: Datagrams,
    /// Processes that have it as their standard input, output or error; most sockets have none.
    pub stdio: Vec<OnStdio>,
    /// Where the index has it.
    pub(super) entered: Entered,
}

/// A process that has a socket as its standard input, output or error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnStdio {
    /// The process.
    pub process: Arc<Process>,
    /// Which of its descriptors 0, 1 and 2.
    pub descriptors: Vec<u8>,
}

/// Why the process of a socket is not known: a few bytes, which become a sentence where they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unowned {
    /// No hook saw a process act on it.
    Unseen,
    /// It was found in this state, and no process with a descriptor of it.
    NotHeld(State),
    /// The connection's listener is not known.
    NoListener,
    /// So many processes hold the listener.
    Shared(u32),
}

impl fmt::Display for Unowned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unseen => f.write_str("no hook saw a process act on this socket"),
            Self::NotHeld(state) => f.write_str(not_held(*state)),
            Self::NoListener => f.write_str("the listener of this connection is not known"),
            Self::Shared(count) => {
                write!(f, "{count} processes hold the listener, and none has used the connection yet")
            }
        }
    }
}

/// Why a socket that was found has no process.
fn not_held(state: State) -> &'static str {
    match state {
        State::Established | State::NewSynRecv | State::SynRecv => {
            "no process has a descriptor of it: it waits in a listener's queue, or belongs to the kernel"
        }
        State::TimeWait
        | State::FinWait1
        | State::FinWait2
        | State::Closing
        | State::LastAck
        | State::CloseWait => "its process has closed it; the kernel finishes the connection",
        State::Listen | State::SynSent | State::Close => {
            "no process that can be read has a descriptor of it: it belongs to the kernel, or to another pid namespace"
        }
    }
}

/// What is known of a UDP socket beyond its ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Datagrams {
    /// How it came to its port.
    pub port: PortOrigin,
    /// Whom it exchanged datagrams with.
    pub peers: Peers,
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

impl Socket {
    /// Bind scope of the local end.
    #[must_use]
    pub fn scope(&self) -> BindScope {
        bind_scope(self.local.ip)
    }

    /// The processes that have it, as far as is known; each once.
    pub fn processes(&self) -> impl Iterator<Item = ProcessId> {
        let owner = self.owner.as_ref().map(|owner| owner.id).filter(|owner| !self.is_held_by(*owner));
        self.holders.iter().map(|holder| holder.id).chain(owner)
    }

    /// True when this process is among the known holders.
    #[must_use]
    pub fn is_held_by(&self, process: ProcessId) -> bool {
        self.holders.binary_search_by_key(&process, |holder| holder.id).is_ok()
    }

    /// True when there is room for holders that are learnt by what they do.
    pub(super) fn has_room_for_users(&self) -> bool {
        self.holders.len() < USERS
    }

    /// Takes a process as the one that acted last. The one before is not known to have let go of it.
    pub(super) fn acted(&mut self, process: Arc<Process>, how: Attribution) {
        let holds = |how: Attribution| matches!(how, Attribution::Exact | Attribution::Holder);
        let other = self.owner.take().filter(|owner| holds(self.attribution) && !owner.id.is(process.id));
        if holds(how) {
            if let Some(other) = &other {
                self.add_holder(other);
            }
            if !self.holders.is_empty() {
                self.add_holder(&process);
            }
        }
        self.owner = Some(process);
        self.attribution = how;
        self.owner_unknown = None;
    }

    fn add_holder(&mut self, process: &Arc<Process>) {
        let pid = process.id.pid;
        let place = self.holders.partition_point(|holder| holder.id.pid < pid);
        // Under the number of another, that one has ended.
        if let Some(holder) = self.holders.get_mut(place).filter(|holder| holder.id.pid == pid) {
            *holder = Arc::clone(process);
        } else if self.has_room_for_users() {
            let mut holders = mem::take(&mut self.holders).into_vec();
            holders.insert(place, Arc::clone(process));
            self.holders = holders.into();
        }
    }

    /// Takes what somebody found of who holds it; where the owner does not any more, a holder stands for it. True when that
    /// says something new.
    pub(super) fn leave_to(&mut self, mut holders: Vec<Arc<Process>>) -> bool {
        let owner = self.owner.as_ref();
        for holder in &mut holders {
            if let Some(owner) = owner.filter(|owner| owner.id != holder.id && owner.id.is(holder.id)) {
                *holder = Arc::clone(owner);
            }
        }
        holders.sort_unstable_by_key(|holder| holder.id);
        holders.dedup_by_key(|holder| holder.id.pid);
        let is_known = |id: ProcessId| self.is_held_by(id) || owner.is_some_and(|owner| owner.id == id);
        let all_known = holders.iter().all(|holder| is_known(holder.id));
        let is_new = !all_known || holders.len().max(1) != self.processes().count().max(1);
        self.holders = holders.into();
        let is_held = self.owner.as_ref().is_some_and(|owner| self.is_held_by(owner.id));
        if let Some(heir) = self.holders.first().filter(|_| !is_held) {
            self.owner = Some(Arc::clone(heir));
            self.attribution = Attribution::Holder;
            self.owner_unknown = None;
        }
        is_new
    }

    /// Puts what is known of a process now in the place of what was known; true when it is the owner.
    pub(super) fn renew(&mut self, now: &Arc<Process>) -> bool {
        let is_owner = self.owner.as_ref().is_some_and(|owner| owner.id == now.id);
        let known = self.opener.iter_mut().chain(&mut self.owner).chain(&mut self.holders);
        known.filter(|process| process.id == now.id).for_each(|process| *process = Arc::clone(now));
        is_owner
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
        self.datagrams.peers.add(peer, sent, count, at);
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
