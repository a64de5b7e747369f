//! The fold: what is true of the machine after each event.
//!
//! Every event gives a [`Change`]: what happened, to be told, and which other sockets may have to be
//! judged anew. Nothing here knows rules, clocks or output.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    address::{Direction, RemoteClass, remote_class, scopes_overlap},
    event::{
        Attribution, BootNanos, Endpoint, Event, Fact, Process, ProcessId, SocketChange, SocketEvent,
        SocketId, State,
    },
    index::Index,
    socket::{Datagrams, Phase, PortOrigin, Socket},
};

/// An inbound connection that no process was seen to take is told after this time, with the
/// listener's holder in place of the acceptor's: nanoseconds.
const GRACE: BootNanos = 50_000_000;

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
    pub gone: Vec<Socket>,
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

/// The machine, as far as it was told.
#[derive(Debug, Default)]
pub struct Host {
    sockets: BTreeMap<SocketId, Socket>,
    processes: BTreeMap<ProcessId, Arc<Process>>,
    index: Index,
    own: BTreeMap<u32, BTreeSet<IpAddr>>,
    deadlines: BTreeSet<(BootNanos, SocketId)>,
}

impl Host {
    /// Takes one event in.
    pub fn apply(&mut self, event: &Event) -> Change {
        match &event.fact {
            Fact::Socket(socket) => self.socket(socket, event.at),
            Fact::Process(process) => self.process(process),
            Fact::Forget(id) => {
                self.processes.remove(id);
                Change::default()
            }
            Fact::Addresses { netns, own } => self.addresses(*netns, own),
            Fact::Reread { from } => self.reread(*from),
            Fact::Tick => self.tick(event.at),
            Fact::Start(_)
            | Fact::Clock(_)
            | Fact::Policy(_)
            | Fact::Services(_)
            | Fact::Ready
            | Fact::Lost(_)
            | Fact::Degraded(_)
            | Fact::End => Change::default(),
        }
    }

    /// A socket that is there.
    #[must_use]
    pub fn get(&self, id: SocketId) -> Option<&Socket> {
        self.sockets.get(&id)
    }

    /// When time alone will change something.
    #[must_use]
    pub fn next_deadline(&self) -> Option<BootNanos> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Class of a remote address, seen from a socket's namespace.
    #[must_use]
    pub fn class(&self, netns: Option<u32>, ip: IpAddr) -> RemoteClass {
        static NONE: BTreeSet<IpAddr> = BTreeSet::new();
        let own = netns.and_then(|netns| self.own.get(&netns)).unwrap_or(&NONE);
        remote_class(ip, own)
    }

    /// TCP listeners on the port of a UDP socket, in its namespace, with overlapping scope.
    pub fn twins(&self, socket: &Socket) -> impl Iterator<Item = &Socket> {
        self.neighbours(socket.netns, socket.local.port).filter(|other| {
            other.is_listener() && scopes_overlap(other.bound_address(), socket.bound_address())
        })
    }

    /// A session with a remote that is neither loopback nor own, held by a process of this listener.
    #[must_use]
    pub fn relayed_session(&self, listener: &Socket) -> Option<&Socket> {
        self.index.remote_sessions(listener).min().and_then(|id| self.sockets.get(&id))
    }

    fn neighbours(&self, netns: Option<u32>, port: u16) -> impl Iterator<Item = &Socket> {
        self.index.on_port(netns, port).filter_map(|id| self.sockets.get(&id))
    }

    fn process(&mut self, process: &Process) -> Change {
        self.processes.insert(process.id, Arc::new(process.clone()));
        Change::default()
    }

    fn addresses(&mut self, netns: u32, own: &[IpAddr]) -> Change {
        let own: BTreeSet<IpAddr> = own.iter().copied().collect();
        if self.own.insert(netns, own.clone()) == Some(own) {
            return Change::default();
        }
        let concerned = |s: &&Socket| s.netns == Some(netns) && s.remote.is_some();
        let affected: BTreeSet<_> = self.sockets.values().filter(concerned).map(|s| s.id).collect();
        for id in &affected {
            self.index(*id);
        }
        Change { affected, ..Change::default() }
    }

    fn reread(&mut self, from: BootNanos) -> Change {
        let lost = self.sockets.values().filter(|socket| socket.last_seen < from).map(|socket| socket.id);
        let lost: Vec<_> = lost.collect();
        let mut change = Change::default();
        for id in lost {
            self.note_affected(id, &mut change);
            let gone = self.remove(id);
            change.gone.extend(gone.map(|socket| Socket { state: State::Close, ..socket }));
        }
        change
    }

    fn tick(&mut self, now: BootNanos) -> Change {
        let mut change = Change::default();
        while let Some(&(at, id)) = self.deadlines.first()
            && at <= now
        {
            self.deadlines.pop_first();
            let Some(socket) = self.sockets.get_mut(&id) else { continue };
            if socket.phase == Phase::Waiting && !socket.noticed {
                socket.noticed = true;
                self.index(id);
                change.noticed.insert(id);
                self.note_affected(id, &mut change);
            }
        }
        change
    }

    fn socket(&mut self, event: &SocketEvent, at: BootNanos) -> Change {
        let mut change = Change::default();
        self.note_affected(event.id, &mut change);
        match &event.change {
            SocketChange::Seen { holders } => self.seen(event, at, holders, &mut change),
            SocketChange::Bind => self.bind(event, at, &mut change),
            SocketChange::Listen => self.listen(event, at, &mut change),
            SocketChange::Connect => self.connect(event, at, &mut change),
            SocketChange::Established => self.established(event, at, &mut change),
            SocketChange::Incoming => self.incoming(event, at, &mut change),
            SocketChange::Accept => self.accept(event, at, &mut change),
            SocketChange::Failed { errno } => self.failed(event, at, *errno, &mut change),
            SocketChange::Datagrams { sent, count } => self.datagrams(event, at, *sent, *count, &mut change),
            SocketChange::Close { sent, received } => self.close(event, at, (*sent, *received), &mut change),
        }
        self.note_affected(event.id, &mut change);
        change.affected.remove(&event.id);
        change
    }

    fn seen(&mut self, event: &SocketEvent, at: BootNanos, found: &[ProcessId], change: &mut Change) {
        let owner = found.first().and_then(|id| self.processes.get(id)).cloned();
        self.unindex(event.id);
        if let Some(socket) = self.sockets.get_mut(&event.id) {
            socket.last_seen = at;
            socket.holders = found.to_vec();
            if socket.owner.is_none() && owner.is_some() {
                socket.owner = owner;
                socket.attribution = Attribution::Holder;
                socket.owner_unknown = None;
            }
            self.index(event.id);
            return;
        }
        let mut socket = self.new_socket(event, at);
        socket.opened = None;
        socket.holders = found.to_vec();
        socket.noticed = true;
        socket.owner_unknown = owner.is_none().then(|| not_held(event.state).to_owned());
        socket.attribution = if owner.is_some() { Attribution::Holder } else { Attribution::Unknown };
        socket.owner = owner;
        socket.direction = self.guess_direction(&socket);
        if socket.state == State::Established && socket.owner.is_none() {
            socket.phase = Phase::Waiting;
        }
        match event.state {
            // Nothing will be told of these again: they have no end that a hook sees.
            State::TimeWait | State::NewSynRecv => change.told(What::Seen, SocketRef::Last(Box::new(socket))),
            State::Established
            | State::SynSent
            | State::SynRecv
            | State::FinWait1
            | State::FinWait2
            | State::Close
            | State::CloseWait
            | State::LastAck
            | State::Listen
            | State::Closing => {
                self.insert(socket);
                change.told(What::Seen, SocketRef::Live(event.id));
            }
        }
    }

    /// Who opened a session that was there before the tracer: inbound when its port is listened on.
    fn guess_direction(&self, socket: &Socket) -> Option<Direction> {
        if socket.remote.is_none() || socket.is_listener() {
            return None;
        }
        let listened = self.neighbours(socket.netns, socket.local.port).any(|other| {
            other.is_listener() && scopes_overlap(other.bound_address(), socket.bound_address())
        });
        Some(if listened { Direction::Inbound } else { Direction::Outbound })
    }

    fn bind(&mut self, event: &SocketEvent, at: BootNanos, change: &mut Change) {
        let socket = self.touch(event, at);
        if socket.datagrams.port == PortOrigin::Autobind {
            socket.datagrams.port = PortOrigin::Bind;
        }
        if event.port_bound {
            socket.datagrams.port = PortOrigin::Chosen;
        }
        self.index(event.id);
        change.told(What::Bind, SocketRef::Live(event.id));
    }

    fn listen(&mut self, event: &SocketEvent, at: BootNanos, change: &mut Change) {
        let was = self.sockets.get(&event.id).is_some_and(Socket::is_listener);
        let socket = self.touch(event, at);
        socket.phase = Phase::Listening;
        socket.state = State::Listen;
        self.index(event.id);
        if !was {
            change.told(What::Listen, SocketRef::Live(event.id));
        }
    }

    fn connect(&mut self, event: &SocketEvent, at: BootNanos, change: &mut Change) {
        // Known already: found by a later reading, or told before its local end was.
        let known = self.sockets.get(&event.id).is_some_and(|socket| {
            socket.last_seen > at || (socket.phase == Phase::Connecting && socket.direction.is_some())
        });
        let socket = self.touch(event, at);
        socket.direction = Some(Direction::Outbound);
        socket.noticed = true;
        if event.protocol.is_datagram() {
            socket.state = State::Established;
        } else if !known {
            socket.phase = Phase::Connecting;
            socket.state = State::SynSent;
        }
        self.index(event.id);
        if !known {
            change.told(What::Connect, SocketRef::Live(event.id));
        }
    }

    fn established(&mut self, event: &SocketEvent, at: BootNanos, change: &mut Change) {
        let open = self.sockets.get(&event.id).is_some_and(|socket| socket.phase == Phase::Open);
        let socket = self.touch(event, at);
        socket.direction.get_or_insert(Direction::Outbound);
        socket.phase = Phase::Open;
        socket.noticed = true;
        socket.state = State::Established;
        self.index(event.id);
        if !open {
            change.told(What::Established, SocketRef::Live(event.id));
        }
    }

    /// A connection that the listener's kernel side has completed. A socket that itself connected
    /// (simultaneous open, a connect to itself) is simply established.
    fn incoming(&mut self, event: &SocketEvent, at: BootNanos, change: &mut Change) {
        match self.sockets.get(&event.id).map(|socket| socket.phase) {
            Some(Phase::Connecting) => return self.established(event, at, change),
            Some(_) => return,
            None => {}
        }
        let mut socket = self.new_socket(event, at);
        socket.direction = Some(Direction::Inbound);
        socket.phase = Phase::Waiting;
        socket.state = State::Established;
        (socket.owner, socket.owner_unknown) = self.listener_owner(&socket);
        socket.attribution =
            if socket.owner.is_some() { Attribution::Listener } else { Attribution::Unknown };
        self.deadlines.insert((at + GRACE, event.id));
        self.insert(socket);
    }

    /// The process behind the listener that a connection came to, when there is only one.
    fn listener_owner(&self, socket: &Socket) -> (Option<Arc<Process>>, Option<String>) {
        let listeners = self.neighbours(socket.netns, socket.local.port).filter(|other| {
            other.is_listener() && scopes_overlap(other.bound_address(), socket.bound_address())
        });
        let mut owners: BTreeMap<ProcessId, Arc<Process>> = BTreeMap::new();
        let mut held = BTreeSet::new();
        for listener in listeners {
            held.extend(listener.processes());
            owners.extend(listener.owner.iter().map(|owner| (owner.id, Arc::clone(owner))));
        }
        match (owners.pop_first(), held.len()) {
            (Some((_, owner)), 1) => (Some(owner), None),
            (_, 0) => (None, Some("the listener of this connection is not known".to_owned())),
            (_, n) => {
                (None, Some(format!("{n} processes hold the listener, and none has used the connection yet")))
            }
        }
    }

    fn accept(&mut self, event: &SocketEvent, at: BootNanos, change: &mut Change) {
        let waiting = self.sockets.get(&event.id).map(|socket| socket.phase);
        if waiting.is_none() && event.local.is_none() {
            return; // neither known before nor told with its ends: there is nothing to show
        }
        let socket = self.touch(event, at);
        socket.direction = Some(Direction::Inbound);
        socket.phase = Phase::Open;
        socket.noticed = true;
        self.index(event.id);
        if waiting != Some(Phase::Open) {
            change.told(What::Accept, SocketRef::Live(event.id));
        }
    }

    /// A connect that no hook saw begin never sent a packet: its attempt is told first.
    fn failed(&mut self, event: &SocketEvent, at: BootNanos, errno: Option<u32>, change: &mut Change) {
        if self.sockets.get(&event.id).map(|socket| socket.phase) != Some(Phase::Connecting) {
            if event.process.is_none() || self.sockets.contains_key(&event.id) {
                return;
            }
            let mut socket = self.new_socket(event, at);
            socket.direction = Some(Direction::Outbound);
            socket.phase = Phase::Connecting;
            socket.state = State::SynSent;
            socket.noticed = true;
            change.told(What::Connect, SocketRef::Last(Box::new(socket.clone())));
            self.insert(socket);
        }
        if let Some(mut socket) = self.remove(event.id) {
            socket.state = State::Close;
            change.told(What::Failed { errno }, SocketRef::Last(Box::new(socket)));
        }
    }

    fn datagrams(&mut self, event: &SocketEvent, at: BootNanos, sent: bool, count: u64, change: &mut Change) {
        let connected = event.state == State::Established;
        let known = self.sockets.contains_key(&event.id);
        let remote = self.sockets.get(&event.id).and_then(|socket| socket.remote);
        let socket = self.touch(event, at);
        socket.remote = if connected { event.remote } else { remote };
        socket.noticed = true;
        if event.port_bound {
            socket.datagrams.port = PortOrigin::Chosen;
        } else if !known && !sent {
            socket.datagrams.port = PortOrigin::Bind; // it received before it sent: it was bound
        }
        if connected && socket.direction.is_none() {
            socket.direction = Some(if sent { Direction::Outbound } else { Direction::Inbound });
        }
        if let Some(peer) = event.remote {
            socket.exchange(peer, sent, count, at);
        }
        self.index(event.id);
        change.told(What::Udp { peer: event.remote, count }, SocketRef::Live(event.id));
    }

    fn close(
        &mut self,
        event: &SocketEvent,
        at: BootNanos,
        (sent, received): (Option<u64>, Option<u64>),
        change: &mut Change,
    ) {
        let Some(mut socket) = self.remove(event.id) else { return };
        socket.state = State::Close;
        let duration = socket.opened.map(|opened| at.saturating_sub(opened));
        let what = What::Close { sent, received, duration };
        change.told(what, SocketRef::Last(Box::new(socket)));
    }

    /// The event's socket, made when it is new, with what the event says of it.
    fn touch(&mut self, event: &SocketEvent, at: BootNanos) -> &mut Socket {
        let mut socket = self.remove(event.id).unwrap_or_else(|| self.new_socket(event, at));
        let owner = event.process.and_then(|(id, how)| Some((self.processes.get(&id)?.clone(), how)));
        socket.last_seen = socket.last_seen.max(at);
        socket.netns = socket.netns.or(event.netns);
        if let Some(local) = event.local.filter(|local| local.port != 0 || socket.local.port == 0) {
            socket.local = local;
            socket.v6only = event.v6only;
        }
        if event.remote.is_some() && !event.protocol.is_datagram()
            || matches!(event.change, SocketChange::Connect)
        {
            socket.remote = event.remote;
        }
        if let Some((owner, how)) = owner {
            socket.owner = Some(owner);
            socket.attribution = how;
            socket.owner_unknown = None;
        }
        self.sockets.entry(event.id).or_insert(socket)
    }

    fn new_socket(&self, event: &SocketEvent, at: BootNanos) -> Socket {
        let owner = event.process.and_then(|(id, how)| Some((self.processes.get(&id)?.clone(), how)));
        let (owner, attribution) = match owner {
            Some((owner, how)) => (Some(owner), how),
            None => (None, Attribution::Unknown),
        };
        let any = match event.family {
            super::event::Family::Ipv4 => IpAddr::from([0; 4]),
            super::event::Family::Ipv6 => IpAddr::from([0; 16]),
        };
        let datagram = event.protocol.is_datagram();
        let connected = !datagram || event.state == State::Established;
        let port = if event.port_bound { PortOrigin::Chosen } else { PortOrigin::Autobind };
        Socket {
            id: event.id,
            netns: event.netns,
            protocol: event.protocol,
            family: event.family,
            state: event.state,
            local: event.local.unwrap_or(Endpoint { ip: any, port: 0 }),
            remote: event.remote.filter(|_| connected),
            v6only: event.v6only,
            direction: None,
            phase: match (datagram, event.state) {
                (true, _) => Phase::Datagram,
                (false, State::Listen) => Phase::Listening,
                (false, State::SynSent) => Phase::Connecting,
                (false, _) => Phase::Open,
            },
            owner_unknown: owner.is_none().then(|| "no hook saw a process act on this socket".to_owned()),
            owner,
            attribution,
            holders: Vec::new(),
            opened: Some(at),
            last_seen: at,
            noticed: false,
            datagrams: Datagrams { port, ..Datagrams::default() },
        }
    }

    fn insert(&mut self, socket: Socket) {
        let id = socket.id;
        self.sockets.insert(id, socket);
        self.index(id);
    }

    fn remove(&mut self, id: SocketId) -> Option<Socket> {
        self.unindex(id);
        self.sockets.remove(&id)
    }

    /// Adds the sockets that are judged by this one: UDP sockets on a listener's port, and loopback
    /// listeners of a session's owner.
    fn note_affected(&self, id: SocketId, change: &mut Change) {
        let Some(socket) = self.sockets.get(&id) else { return };
        if socket.is_listener() {
            let udp = self.neighbours(socket.netns, socket.local.port).filter(|s| s.protocol.is_datagram());
            change.affected.extend(udp.map(|other| other.id));
        } else if socket.remote.is_some() {
            change.affected.extend(self.index.loopback_listeners(socket));
        }
    }

    /// Enters a socket into the index as it is now.
    fn index(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get(&id) else { return };
        let remote = socket.remote.filter(|_| socket.noticed).is_some_and(|end| {
            !matches!(self.class(socket.netns, end.ip), RemoteClass::Loopback | RemoteClass::Own)
        });
        self.index.remove(socket);
        self.index.add(socket, remote);
    }

    fn unindex(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get(&id) {
            self.index.remove(socket);
        }
    }
}

impl Change {
    fn told(&mut self, what: What, socket: SocketRef) {
        self.happened.push(Happened { what, socket });
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
