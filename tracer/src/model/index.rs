//! Which sockets bear on each other's verdicts: by port, and by process.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    address::BindScope,
    event::{ProcessId, SocketId},
    socket::Socket,
};

/// Look-up tables over the host's sockets. A socket is removed before it changes and added after.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// TCP listeners and UDP sockets by namespace and local port.
    ports: BTreeMap<(Option<u32>, u16), BTreeSet<SocketId>>,
    /// What ties a loopback listener to sessions of its owner.
    holdings: BTreeMap<ProcessId, Holdings>,
}

/// Sockets of one process that matter to each other.
#[derive(Debug, Default)]
struct Holdings {
    loopback_listeners: BTreeSet<SocketId>,
    remote_sessions: BTreeSet<SocketId>,
}

impl Index {
    /// TCP listeners and UDP sockets on a port of a namespace.
    pub(super) fn on_port(&self, netns: Option<u32>, port: u16) -> impl Iterator<Item = SocketId> {
        self.ports.get(&(netns, port)).into_iter().flatten().copied()
    }

    /// Sessions with a real remote that processes of this socket hold.
    pub(super) fn remote_sessions(&self, socket: &Socket) -> impl Iterator<Item = SocketId> {
        self.of(socket).flat_map(|holdings| &holdings.remote_sessions).copied()
    }

    /// Loopback listeners that processes of this socket hold.
    pub(super) fn loopback_listeners(&self, socket: &Socket) -> impl Iterator<Item = SocketId> {
        self.of(socket).flat_map(|holdings| &holdings.loopback_listeners).copied()
    }

    fn of(&self, socket: &Socket) -> impl Iterator<Item = &Holdings> {
        socket.processes().into_iter().filter_map(|id| self.holdings.get(&id))
    }

    /// Enters a socket; `remote` says that it is a session with a real remote.
    pub(super) fn add(&mut self, socket: &Socket, remote: bool) {
        let on_port = socket.is_listener() || socket.protocol.is_datagram();
        if on_port && socket.local.port != 0 {
            self.ports.entry((socket.netns, socket.local.port)).or_default().insert(socket.id);
        }
        let relay = socket.is_listener() && socket.scope() == BindScope::Loopback;
        if !remote && !relay {
            return;
        }
        for process in socket.processes() {
            let holdings = self.holdings.entry(process).or_default();
            let set = if relay { &mut holdings.loopback_listeners } else { &mut holdings.remote_sessions };
            set.insert(socket.id);
        }
    }

    /// Takes a socket out, as it was when it was entered.
    pub(super) fn remove(&mut self, socket: &Socket) {
        let key = (socket.netns, socket.local.port);
        if let Some(ids) = self.ports.get_mut(&key) {
            ids.remove(&socket.id);
            if ids.is_empty() {
                self.ports.remove(&key);
            }
        }
        for process in socket.processes() {
            let Some(holdings) = self.holdings.get_mut(&process) else { continue };
            holdings.loopback_listeners.remove(&socket.id);
            holdings.remote_sessions.remove(&socket.id);
            if holdings.loopback_listeners.is_empty() && holdings.remote_sessions.is_empty() {
                self.holdings.remove(&process);
            }
        }
    }
}
