//! Who has a socket: who opened it, who holds it, who used it last. These differ where it was inherited over fork, passed
//! on, or handed to the service that it was opened for.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use foldhash::fast::FixedState;

use super::{Host, Socket};
use crate::model::{
    address::{Direction, scopes_overlap},
    change::Change,
    event::{Attribution, Family, Process, ProcessId, Protocol, SocketId},
    socket::Unowned,
};

/// A socket that is still there after a process that had it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// The socket.
    pub id: SocketId,
    /// Inode number of its network namespace.
    pub netns: u32,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Its own family.
    pub family: Family,
}

/// What the listeners that a connection may have come to say of it.
pub(super) struct Behind {
    /// The process that has them, when there is only one.
    pub(super) owner: Option<Arc<Process>>,
    /// Why there is no such process.
    pub(super) unowned: Option<Unowned>,
    /// Who opened them, when that is one process.
    pub(super) opener: Option<Arc<Process>>,
}

impl Host {
    /// Sockets that are still there and that processes had which have ended, in the order of their ids.
    #[must_use]
    pub fn left_by(&self, ended: &[ProcessId]) -> Vec<Left> {
        let ended = ended.iter().flat_map(|id| [*id, id.rounded()]);
        let mut left: BTreeSet<SocketId> = ended.clone().flat_map(|id| self.index.judged_by(id)).collect();
        // Sessions that no rule looks at are in no index.
        if self.index.len_by_process() < self.sockets.len() {
            let ended: HashSet<ProcessId, FixedState> = ended.collect();
            let had = |socket: &Socket| socket.processes().any(|process| ended.contains(&process));
            left.extend(self.sockets.values().filter(|socket| had(socket)).map(|socket| socket.id));
        }
        let known = left.into_iter().filter_map(|id| self.get(id));
        known
            .filter_map(|socket| {
                let Socket { id, netns, protocol, family, .. } = *socket;
                Some(Left { id, netns: netns?, protocol, family })
            })
            .collect()
    }

    /// Takes what somebody found of who holds a socket that is there.
    pub(super) fn held(&mut self, id: SocketId, found: &[ProcessId], change: &mut Change) {
        self.note_affected(id, change);
        let holders = self.known(found);
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        self.index.remove(socket);
        let is_new = socket.leave_to(holders);
        self.index(id);
        self.note_affected(id, change);
        if is_new {
            change.affected.insert(id);
        }
    }

    /// Those of some processes that are known.
    pub(super) fn known(&self, ids: &[ProcessId]) -> Vec<Arc<Process>> {
        let mut known = Vec::with_capacity(ids.len()); // nearly always just right for what is kept of it
        known.extend(ids.iter().filter_map(|id| self.processes.get(id)).cloned());
        known
    }

    /// A connection was taken by its owner: who opened the listener opened the connection, and who took it has used the
    /// listener. `expected` had the listener alone.
    pub(super) fn taken(
        &mut self,
        id: SocketId,
        is_new: bool,
        expected: Option<ProcessId>,
        change: &mut Change,
    ) {
        let Some(session) = self.get(id) else { return };
        let worker = session.owner.clone().filter(|_| session.attribution == Attribution::Exact);
        if is_new || session.opener.is_none() {
            let opener = self.behind(session).opener.or_else(|| worker.clone());
            if let Some(session) = self.sockets.get_mut(&id) {
                session.opener = opener;
            }
        }
        if let Some(worker) = worker.filter(|worker| Some(worker.id) != expected) {
            self.accepted_from(id, worker, change);
        }
    }

    /// Notes the use of a listener; of several that share a port it cannot be told which.
    fn accepted_from(&mut self, session: SocketId, worker: Arc<Process>, change: &mut Change) {
        let Some(session) = self.get(session) else { return };
        let mut listeners = self.listeners(session).map(|listener| listener.id);
        let (Some(id), None) = (listeners.next(), listeners.next()) else { return };
        drop(listeners);
        let Some(listener) = self.sockets.get_mut(&id) else { return };
        let owner = listener.owner.as_ref();
        if owner.is_some_and(|owner| owner.id == worker.id) {
            return;
        }
        let is_judged_otherwise = owner.is_none_or(|owner| owner.is_judged_otherwise(&worker));
        // Workers that take turns change nothing in the index.
        let are_known =
            listener.is_held_by(worker.id) && owner.is_some_and(|owner| listener.is_held_by(owner.id));
        if are_known {
            listener.acted(worker, Attribution::Exact);
        } else if listener.has_room_for_users() {
            self.index.remove(listener);
            listener.acted(worker, Attribution::Exact);
            self.index(id);
        } else {
            return;
        }
        if is_judged_otherwise || !are_known {
            self.note_affected(id, change);
            change.affected.insert(id);
        }
    }

    /// TCP listeners that a connection may have come to.
    pub(super) fn listeners<'a>(&'a self, session: &Socket) -> impl Iterator<Item = &'a Socket> {
        let bound = session.bound_address();
        self.neighbours(session.netns, session.local.port)
            .filter(move |other| other.is_listener() && scopes_overlap(other.bound_address(), bound))
    }

    /// What the listeners say that a connection may have come to.
    pub(super) fn behind(&self, session: &Socket) -> Behind {
        let (mut owner, mut held): (Option<&Arc<Process>>, Vec<ProcessId>) = (None, Vec::new());
        let mut opener: Option<&Arc<Process>> = None;
        for (number, listener) in self.listeners(session).enumerate() {
            held.extend(listener.processes());
            // Of two pictures of one process the later listener's is taken.
            owner = listener.owner.as_ref().filter(|own| owner.is_none_or(|o| own.id <= o.id)).or(owner);
            let id = |opener: Option<&Arc<Process>>| opener.map(|opener| opener.id);
            let is_agreed = number == 0 || id(opener) == id(listener.opener.as_ref());
            opener = listener.opener.as_ref().filter(|_| is_agreed);
        }
        held.sort_unstable();
        held.dedup_by(|a, b| a.is(*b));
        let (owner, unowned) = match (owner, held.len()) {
            (Some(owner), 1) => (Some(Arc::clone(owner)), None),
            (_, 0) => (None, Some(Unowned::NoListener)),
            (_, n) => (None, Some(Unowned::Shared(u32::try_from(n).unwrap_or(u32::MAX)))),
        };
        Behind { owner, unowned, opener: opener.cloned() }
    }

    /// Who opened a socket that was found: of a connection who opened its listener, else the holder from which all others
    /// descend.
    pub(super) fn guess_opener(&self, socket: &Socket) -> Option<Arc<Process>> {
        let inbound = socket.direction == Some(Direction::Inbound);
        let behind = if inbound { self.behind(socket).opener } else { None };
        behind.or_else(|| forefather(&socket.holders).cloned())
    }
}

/// The one among processes from which all others descend, as far as their ancestors are known.
fn forefather(processes: &[Arc<Process>]) -> Option<&Arc<Process>> {
    processes.iter().find(|elder| {
        let descends = |other: &Arc<Process>| other.lineage.iter().any(|parent| parent.pid == elder.id.pid);
        processes.iter().all(|other| other.id == elder.id || descends(other))
    })
}
