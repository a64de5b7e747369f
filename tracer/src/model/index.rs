//! Which sockets bear on each other's verdicts: by port, and by process.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    address::BindScope,
    event::{ProcessId, SocketId},
    socket::Socket,
};

/// Where the index has a socket: most are nowhere, and cost nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entered {
    by_port: bool,
    by_process: bool,
}

/// Look-up tables over the host's sockets. A socket is removed before it changes and added after.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// TCP listeners and UDP sockets by namespace and local port.
    ports: BTreeMap<(Option<u32>, u16), BTreeSet<SocketId>>,
    /// What is judged by its owner.
    holdings: BTreeMap<ProcessId, Holdings>,
    /// How many sockets are in `holdings`.
    held: usize,
}

/// Sockets of one process that matter to each other, and others that are judged by it.
#[derive(Debug, Default)]
struct Holdings {
    loopback_listeners: BTreeSet<SocketId>,
    remote_sessions: BTreeSet<SocketId>,
    others: BTreeSet<SocketId>,
}

impl Holdings {
    fn all(&self) -> impl Iterator<Item = SocketId> {
        [&self.loopback_listeners, &self.remote_sessions, &self.others].into_iter().flatten().copied()
    }
}

impl Index {
    /// TCP listeners and UDP sockets on a port of a namespace.
    pub(super) fn on_port(&self, netns: Option<u32>, port: u16) -> impl Iterator<Item = SocketId> {
        self.ports.get(&(netns, port)).into_iter().flatten().copied()
    }

    /// The first of the sessions with a real remote that processes of this socket hold.
    pub(super) fn remote_session(&self, socket: &Socket) -> Option<SocketId> {
        self.of(socket).filter_map(|holdings| holdings.remote_sessions.first()).min().copied()
    }

    /// Loopback listeners that are judged by this socket too, as it was entered: those that its processes hold. Most sessions
    /// have a remote on this machine or wait for their process, and bear on none.
    pub(super) fn loopback_listeners(&self, socket: &Socket) -> impl Iterator<Item = SocketId> {
        let bears = socket.entered.by_process.then(|| self.of(socket));
        bears.into_iter().flatten().flat_map(|holdings| &holdings.loopback_listeners).copied()
    }

    /// Sockets that are judged by this process.
    pub(super) fn judged_by(&self, process: ProcessId) -> impl Iterator<Item = SocketId> {
        self.holdings.get(&process).into_iter().flat_map(Holdings::all)
    }

    /// How many sockets are found by their processes.
    pub(super) fn len_by_process(&self) -> usize {
        self.held
    }

    fn of(&self, socket: &Socket) -> impl Iterator<Item = &Holdings> {
        socket.processes().filter_map(|id| self.holdings.get(&id))
    }

    /// Enters a socket; `remote` says that it is a session with a real remote.
    pub(super) fn add(&mut self, socket: &mut Socket, remote: bool) {
        self.remove(socket);
        let on_port = socket.is_listener() || socket.protocol.is_datagram();
        let relay = socket.is_listener() && socket.scope() == BindScope::Loopback;
        let by_port = on_port && socket.local.port != 0;
        socket.entered = Entered { by_port, by_process: remote || by_port };
        if socket.entered.by_port {
            self.ports.entry((socket.netns, socket.local.port)).or_default().insert(socket.id);
        }
        if socket.entered.by_process {
            self.held += 1;
            for process in socket.processes() {
                let holdings = self.holdings.entry(process).or_default();
                let set = match (relay, remote) {
                    (true, _) => &mut holdings.loopback_listeners,
                    (false, true) => &mut holdings.remote_sessions,
                    (false, false) => &mut holdings.others,
                };
                set.insert(socket.id);
            }
        }
    }

    /// Takes a socket out, as it was when it was entered.
    pub(super) fn remove(&mut self, socket: &mut Socket) {
        let Entered { by_port, by_process } = std::mem::take(&mut socket.entered);
        if by_port {
            self.remove_from_port(socket);
        }
        if by_process {
            self.held -= 1;
            for process in socket.processes() {
                self.remove_from(process, socket.id);
            }
        }
    }

    fn remove_from_port(&mut self, socket: &Socket) {
        let key = (socket.netns, socket.local.port);
        if let Some(ids) = self.ports.get_mut(&key) {
            ids.remove(&socket.id);
            if ids.is_empty() {
                self.ports.remove(&key);
            }
        }
    }

    fn remove_from(&mut self, process: ProcessId, id: SocketId) {
        let Some(holdings) = self.holdings.get_mut(&process) else { return };
        holdings.loopback_listeners.remove(&id);
        holdings.remote_sessions.remove(&id);
        holdings.others.remove(&id);
        if holdings.all().next().is_none() {
            self.holdings.remove(&process);
        }
    }
}
