//! The fold: what is true of the machine after each event.
//!
//! Every event gives a [`Change`]: what happened, to be told, and which other sockets may have to be
//! judged anew. Nothing here knows rules, clocks or output.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use foldhash::fast::FixedState;

use super::{
    address::{Direction, RemoteClass, scopes_overlap},
    change::{Change, SocketRef, What},
    event::{
        Attribution, BootNanos, Endpoint, Event, Fact, Family, Process, ProcessId, SocketChange, SocketEvent,
        SocketId, State,
    },
    index::{Entered, Index},
    own::Own,
    socket::{Datagrams, Phase, PortOrigin, Socket, Unowned},
};

/// An inbound connection that no process was seen to take is told after this time, with the
/// listener's holder in place of the acceptor's: nanoseconds.
const GRACE: BootNanos = 50_000_000;

/// By identities that the kernel hands out: no hashing order may reach the output.
type Table<K, V> = HashMap<K, V, FixedState>;

/// The machine, as far as it was told.
#[derive(Debug, Default)]
pub struct Host {
    sockets: Table<SocketId, Box<Socket>>,
    processes: Table<ProcessId, Arc<Process>>,
    index: Index,
    own: Own,
    deadlines: BTreeSet<(BootNanos, SocketId)>,
}

impl Host {
    /// Takes one event in; `change`, emptied before, tells what came of it.
    pub fn apply(&mut self, event: &Event, change: &mut Change) {
        change.clear();
        match &event.fact {
            Fact::Socket(socket) => self.socket(socket, event.at, change),
            Fact::Process(process) => {
                self.processes.insert(process.id, Arc::new((**process).clone()));
            }
            Fact::Forget(id) => {
                self.processes.remove(id);
            }
            Fact::Addresses { netns, own } => self.addresses(*netns, own, change),
            Fact::Reread { from } => self.reread(*from, change),
            Fact::Tick => self.tick(event.at, change),
            Fact::Start(_)
            | Fact::Clock(_)
            | Fact::Policy(_)
            | Fact::Services(_)
            | Fact::Ready
            | Fact::Lost(_)
            | Fact::Degraded(_)
            | Fact::End => {}
        }
    }

    /// A socket that is there.
    #[must_use]
    pub fn get(&self, id: SocketId) -> Option<&Socket> {
        self.sockets.get(&id).map(|socket| &**socket)
    }

    /// When time alone will change something.
    #[must_use]
    pub fn next_deadline(&self) -> Option<BootNanos> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Class of a remote address, seen from a socket's namespace.
    #[must_use]
    pub fn class(&self, netns: Option<u32>, ip: IpAddr) -> RemoteClass {
        self.own.class(netns, ip)
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
        self.index.remote_session(listener).and_then(|id| self.get(id))
    }

    fn neighbours(&self, netns: Option<u32>, port: u16) -> impl Iterator<Item = &Socket> {
        self.index.on_port(netns, port).filter_map(|id| self.get(id))
    }

    fn addresses(&mut self, netns: u32, own: &[IpAddr], change: &mut Change) {
        if !self.own.set(netns, own) {
            return;
        }
        for socket in self.sockets.values_mut() {
            if socket.netns == Some(netns) && socket.remote.is_some() {
                let remote = self.own.is_remote(socket);
                self.index.add(socket, remote);
                change.affected.insert(socket.id);
            }
        }
    }

    fn reread(&mut self, from: BootNanos, change: &mut Change) {
        let lost = self.sockets.values().filter(|socket| socket.last_seen < from).map(|socket| socket.id);
        let lost: BTreeSet<_> = lost.collect();
        for id in lost {
            self.note_affected(id, change);
            if let Some(mut gone) = self.remove(id) {
                gone.state = State::Close;
                change.gone.push(gone);
            }
        }
    }

    fn tick(&mut self, now: BootNanos, change: &mut Change) {
        while let Some(&(at, id)) = self.deadlines.first()
            && at <= now
        {
            self.deadlines.pop_first();
            let Some(socket) = self.sockets.get_mut(&id) else { continue };
            if socket.phase == Phase::Waiting && !socket.noticed {
                socket.noticed = true;
                self.index(id);
                change.noticed.insert(id);
                self.note_affected(id, change);
            }
        }
    }

    fn socket(&mut self, event: &SocketEvent, at: BootNanos, change: &mut Change) {
        self.note_affected(event.id, change);
        match &event.change {
            SocketChange::Seen { holders } => self.seen(event, at, holders, change),
            SocketChange::Bind => self.bind(event, at, change),
            SocketChange::Listen => self.listen(event, at, change),
            SocketChange::Connect => self.connect(event, at, change),
            SocketChange::Established => self.established(event, at, change),
            SocketChange::Incoming => self.incoming(event, at, change),
            SocketChange::Accept => self.accept(event, at, change),
            SocketChange::Failed { errno } => self.failed(event, at, *errno, change),
            SocketChange::Datagrams { sent, count } => self.datagrams(event, at, *sent, *count, change),
            SocketChange::Close { sent, received } => self.close(event, at, (*sent, *received), change),
        }
        self.note_affected(event.id, change);
        change.affected.remove(&event.id);
    }

    fn seen(&mut self, event: &SocketEvent, at: BootNanos, found: &[ProcessId], change: &mut Change) {
        let owner = found.first().and_then(|id| self.processes.get(id)).cloned();
        if let Some(socket) = self.sockets.get_mut(&event.id) {
            self.index.remove(socket);
            socket.last_seen = at;
            socket.holders = found.into();
            if socket.owner.is_none() && owner.is_some() {
                socket.owner = owner;
                socket.attribution = Attribution::Holder;
                socket.owner_unknown = None;
            }
            self.index(event.id);
            return;
        }
        let mut socket = Box::new(new_socket(event, at, None));
        socket.opened = None;
        socket.holders = found.into();
        socket.noticed = true;
        socket.owner_unknown = owner.is_none().then_some(Unowned::NotHeld(event.state));
        socket.attribution = if owner.is_some() { Attribution::Holder } else { Attribution::Unknown };
        socket.owner = owner;
        socket.direction = self.guess_direction(&socket);
        if socket.state == State::Established && socket.owner.is_none() {
            socket.phase = Phase::Waiting;
        }
        match event.state {
            // Nothing will be told of these again: they have no end that a hook sees.
            State::TimeWait | State::NewSynRecv => change.told(What::Seen, SocketRef::Last(socket)),
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
        let was = self.get(event.id).is_some_and(Socket::is_listener);
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
        let mut socket = Box::new(new_socket(event, at, self.owner_of(event)));
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
    fn listener_owner(&self, socket: &Socket) -> (Option<Arc<Process>>, Option<Unowned>) {
        let listeners = self.neighbours(socket.netns, socket.local.port).filter(|other| {
            other.is_listener() && scopes_overlap(other.bound_address(), socket.bound_address())
        });
        let (mut owner, mut held): (Option<&Arc<Process>>, Vec<ProcessId>) = (None, Vec::new());
        for listener in listeners {
            held.extend(listener.processes());
            // Of two pictures of one process the later listener's is taken.
            owner = listener.owner.as_ref().filter(|own| owner.is_none_or(|o| own.id <= o.id)).or(owner);
        }
        held.sort_unstable();
        held.dedup();
        match (owner, held.len()) {
            (Some(owner), 1) => (Some(Arc::clone(owner)), None),
            (_, 0) => (None, Some(Unowned::NoListener)),
            (_, n) => (None, Some(Unowned::Shared(u32::try_from(n).unwrap_or(u32::MAX)))),
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
            let mut socket = Box::new(new_socket(event, at, self.owner_of(event)));
            socket.direction = Some(Direction::Outbound);
            socket.phase = Phase::Connecting;
            socket.state = State::SynSent;
            socket.noticed = true;
            change.told(What::Connect, SocketRef::Last(socket.clone()));
            self.insert(socket);
        }
        if let Some(mut socket) = self.remove(event.id) {
            socket.state = State::Close;
            change.told(What::Failed { errno }, SocketRef::Last(socket));
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
        change.told(what, SocketRef::Last(socket));
    }

    /// The event's socket, made when it is new, with what the event says of it; the index does not have it.
    fn touch(&mut self, event: &SocketEvent, at: BootNanos) -> &mut Socket {
        let owner = self.owner_of(event);
        let socket = self.sockets.entry(event.id);
        let socket = socket.or_insert_with(|| Box::new(new_socket(event, at, owner.clone())));
        self.index.remove(socket);
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
        socket
    }

    /// The process that acted, when it is known, and how it was found.
    fn owner_of(&self, event: &SocketEvent) -> Option<(Arc<Process>, Attribution)> {
        event.process.and_then(|(id, how)| Some((self.processes.get(&id)?.clone(), how)))
    }

    fn insert(&mut self, mut socket: Box<Socket>) {
        let remote = self.own.is_remote(&socket);
        self.index.add(&mut socket, remote);
        self.sockets.insert(socket.id, socket);
    }

    fn remove(&mut self, id: SocketId) -> Option<Box<Socket>> {
        let mut socket = self.sockets.remove(&id)?;
        self.index.remove(&mut socket);
        Some(socket)
    }

    /// Adds the sockets that are judged by this one: UDP sockets on a listener's port, and loopback
    /// listeners of a session's owner.
    fn note_affected(&self, id: SocketId, change: &mut Change) {
        let Some(socket) = self.get(id) else { return };
        if socket.is_listener() {
            let udp = self.neighbours(socket.netns, socket.local.port).filter(|s| s.protocol.is_datagram());
            change.affected.extend(udp.map(|other| other.id));
        } else if socket.remote.is_some() {
            change.affected.extend(self.index.loopback_listeners(socket));
        }
    }

    /// Enters a socket into the index as it is now.
    fn index(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            let remote = self.own.is_remote(socket);
            self.index.add(socket, remote);
        }
    }
}

/// A socket of which nothing was known before.
fn new_socket(event: &SocketEvent, at: BootNanos, owner: Option<(Arc<Process>, Attribution)>) -> Socket {
    let (owner, attribution) = match owner {
        Some((owner, how)) => (Some(owner), how),
        None => (None, Attribution::Unknown),
    };
    let any = match event.family {
        Family::Ipv4 => IpAddr::from([0; 4]),
        Family::Ipv6 => IpAddr::from([0; 16]),
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
        owner_unknown: owner.is_none().then_some(Unowned::Unseen),
        owner,
        attribution,
        holders: Box::default(),
        opened: Some(at),
        last_seen: at,
        noticed: false,
        datagrams: Datagrams { port, ..Datagrams::default() },
        entered: Entered::default(),
    }
}
