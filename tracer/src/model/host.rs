//! The fold: what is true of the machine after each event.
//!
//! Every event gives a [`Change`]: what happened, to be told, and which other sockets may have to be
//! judged anew. Nothing here knows rules, clocks or output.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use foldhash::fast::FixedState;

mod holders;

use self::holders::Behind;
pub use self::holders::Left;
use super::{
    address::{Direction, RemoteClass, scopes_overlap},
    change::{Change, SocketRef, What},
    event::{
        Attribution, BootNanos, Endpoint, Event, Fact, Family, Process, ProcessId, SocketChange, SocketEvent,
        SocketId, State, Stdio,
    },
    index::{Entered, Index},
    own::Own,
    socket::{Datagrams, OnStdio, Phase, PortOrigin, Socket, Unowned},
};

/// An inbound connection that no process was seen to take is told after this time, with the
/// listener's holder in place of the acceptor's: nanoseconds.
const GRACE: BootNanos = 50_000_000;

/// Processes that are remembered to have a socket as their standard input, output or error: what a shell starts has it too.
const ON_STDIO: usize = 8;

/// By identities that the kernel hands out: no hashing order may reach the output.
type Table<K, V> = HashMap<K, V, FixedState>;

/// The machine, as far as it was told.
#[derive(Debug, Default)]
pub struct Host {
    sockets: Table<SocketId, Box<Socket>>,
    processes: Table<ProcessId, Arc<Process>>,
    index: Index,
    own: Own,
    /// Names of network namespaces, by inode number.
    names: BTreeMap<u32, String>,
    deadlines: BTreeSet<(BootNanos, SocketId)>,
}

impl Host {
    /// Takes one event in; `change`, emptied before, tells what came of it.
    pub fn apply(&mut self, event: &Event, change: &mut Change) {
        change.clear();
        match &event.fact {
            Fact::Socket(socket) => self.socket(socket, event.at, change),
            Fact::Held { socket, holders } => self.held(*socket, holders, change),
            Fact::Process(process) => self.process(process, change),
            Fact::Forget(id) => {
                self.processes.remove(id);
            }
            Fact::Stdio(stdio) => self.stdio(stdio, change),
            Fact::Addresses { netns, own } => self.addresses(*netns, own, change),
            Fact::Namespace { netns, name } => self.namespace(*netns, name.as_deref()),
            Fact::Reread { from } => self.reread(*from, change),
            Fact::Tick => self.tick(event.at, change),
            Fact::Start(_)
            | Fact::Clock(_)
            | Fact::Policy(_)
            | Fact::Services(_)
            | Fact::Ready
            | Fact::Life(_)
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

    /// What a network namespace is called.
    #[must_use]
    pub fn netns_name(&self, netns: Option<u32>) -> Option<&str> {
        self.names.get(&netns?).map(String::as_str)
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

    /// What is known of a process; where that bears on verdicts, its sockets are judged anew.
    fn process(&mut self, process: &Process, change: &mut Change) {
        let now = Arc::new(process.clone());
        let Some(before) = self.processes.insert(now.id, Arc::clone(&now)) else { return };
        if !before.is_judged_otherwise(&now) {
            return;
        }
        let judged: Vec<SocketId> = self.index.judged_by(now.id).collect();
        for id in judged {
            if self.sockets.get_mut(&id).is_some_and(|socket| socket.renew(&now)) {
                change.affected.insert(id);
                self.note_affected(id, change);
            }
        }
    }

    /// A process has a socket as its standard input, output or error, or has it there no more.
    fn stdio(&mut self, stdio: &Stdio, change: &mut Change) {
        let Stdio { socket: id, process, descriptors } = stdio;
        let process = self.processes.get(process).cloned();
        let Some(socket) = self.sockets.get_mut(id) else { return };
        socket.stdio.retain(|other| other.process.id != stdio.process);
        let on_stdio = process.filter(|_| !descriptors.is_empty() && socket.stdio.len() < ON_STDIO);
        let descriptors = descriptors.clone();
        socket.stdio.extend(on_stdio.map(|process| OnStdio { process, descriptors }));
        change.affected.insert(*id);
    }

    /// All processes that have a socket there by what a picture shows; nothing is new where it does not show that.
    fn all_on_stdio(&mut self, id: SocketId, found: Option<&[Stdio]>, change: &mut Change) {
        let Some(now) = found.map(|found| self.on_stdio(found)) else { return };
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if socket.stdio != now {
            socket.stdio = now;
            change.affected.insert(id);
        }
    }

    /// Those of the processes that are known, and no more than are remembered.
    fn on_stdio(&self, found: &[Stdio]) -> Vec<OnStdio> {
        let on_stdio = |stdio: &Stdio| {
            let process = self.processes.get(&stdio.process).cloned()?;
            Some(OnStdio { process, descriptors: stdio.descriptors.clone() })
        };
        found.iter().filter_map(on_stdio).take(ON_STDIO).collect()
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

    fn namespace(&mut self, netns: u32, name: Option<&str>) {
        match name {
            Some(name) => self.names.insert(netns, name.to_owned()),
            None => self.names.remove(&netns),
        };
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
        if let SocketChange::Seen { holders, stdio } = &event.change
            && let Some(socket) = self.sockets.get_mut(&event.id)
        {
            socket.last_seen = at;
            self.all_on_stdio(event.id, stdio.as_deref(), change);
            return self.held(event.id, holders, change);
        }
        self.note_affected(event.id, change);
        match &event.change {
            SocketChange::Seen { holders, stdio } => {
                self.seen(event, at, (holders, stdio.as_deref()), change);
            }
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

    /// A socket that was not known before.
    fn seen(
        &mut self,
        event: &SocketEvent,
        at: BootNanos,
        (found, stdio): (&[ProcessId], Option<&[Stdio]>),
        change: &mut Change,
    ) {
        let mut socket = Box::new(new_socket(event, at, None));
        socket.opened = None;
        socket.noticed = true;
        socket.leave_to(self.known(found));
        socket.stdio = self.on_stdio(stdio.unwrap_or_default());
        socket.owner_unknown = socket.owner.is_none().then_some(Unowned::NotHeld(event.state));
        socket.direction = self.guess_direction(&socket);
        socket.opener = self.guess_opener(&socket);
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
        let listened = self.listeners(socket).next().is_some();
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
        let Behind { owner, unowned, opener } = self.behind(&socket);
        (socket.owner, socket.owner_unknown, socket.opener) = (owner, unowned, opener);
        socket.attribution =
            if socket.owner.is_some() { Attribution::Listener } else { Attribution::Unknown };
        self.deadlines.insert((at + GRACE, event.id));
        self.insert(socket);
    }

    fn accept(&mut self, event: &SocketEvent, at: BootNanos, change: &mut Change) {
        let known = self.sockets.get(&event.id);
        let waiting = known.map(|socket| socket.phase);
        if waiting.is_none() && event.local.is_none() {
            return; // neither known before nor told with its ends: there is nothing to show
        }
        let expected = known.and_then(|socket| socket.owner.as_ref()).map(|owner| owner.id);
        let socket = self.touch(event, at);
        socket.direction = Some(Direction::Inbound);
        socket.phase = Phase::Open;
        socket.noticed = true;
        self.index(event.id);
        self.taken(event.id, waiting.is_none(), expected, change);
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
            socket.acted(owner, how);
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
        opener: owner.clone().filter(|_| attribution == Attribution::Exact),
        owner,
        attribution,
        holders: Box::default(),
        opened: Some(at),
        last_seen: at,
        noticed: false,
        datagrams: Datagrams { port, ..Datagrams::default() },
        stdio: Vec::new(),
        entered: Entered::default(),
    }
}
