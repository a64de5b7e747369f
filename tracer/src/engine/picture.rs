//! The sockets that are there at the start. A verdict depends on other sockets, and each is told once: none is told before
//! all are known.

use crate::model::{
    change::{Change, Happened, SocketRef, What},
    event::{BootNanos, Fact, SocketChange},
};

/// What was seen, in order.
#[derive(Default)]
pub(super) struct Picture(Vec<(BootNanos, SocketRef)>);

impl Picture {
    /// Whether a fact may come before all sockets are known; anything else happens after that.
    pub(super) fn may_have(fact: &Fact) -> bool {
        match fact {
            Fact::Socket(socket) => matches!(socket.change, SocketChange::Seen { .. }),
            Fact::Start(_)
            | Fact::Clock(_)
            | Fact::Policy(_)
            | Fact::Services(_)
            | Fact::Held { .. }
            | Fact::Process(_)
            | Fact::Stdio(_)
            | Fact::Forget(_)
            | Fact::Addresses { .. }
            | Fact::Namespace { .. } => true,
            Fact::Life(_)
            | Fact::Lost(_)
            | Fact::Degraded(_)
            | Fact::Reread { .. }
            | Fact::Ready
            | Fact::Tick
            | Fact::End => false,
        }
    }

    /// Takes what was seen out of `change`. Which others it bears on needs no note: all are still to be judged.
    pub(super) fn take(&mut self, at: BootNanos, change: &mut Change) {
        self.0.extend(change.happened.drain(..).map(|happened| (at, happened.socket)));
    }

    /// What was seen when, in order.
    pub(super) fn seen(self) -> impl Iterator<Item = (BootNanos, Happened)> {
        self.0.into_iter().map(|(at, socket)| (at, Happened { what: What::Seen, socket }))
    }
}
