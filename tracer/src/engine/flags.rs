//! The flags that stand, and what a run comes to.

use std::collections::BTreeMap;

use crate::{
    model::event::SocketId,
    output::{Body, FlagId, Report, Totals, Verdict},
};

/// What was said of sockets so far.
#[derive(Default)]
pub(super) struct Flags {
    standing: BTreeMap<SocketId, Flag>,
    last: u64,
    pub(super) totals: Totals,
}

struct Flag {
    id: FlagId,
    verdict: Verdict,
}

impl Flags {
    /// The verdict for which a socket is flagged.
    pub(super) fn verdict(&self, socket: SocketId) -> Option<Verdict> {
        self.standing.get(&socket).map(|flag| flag.verdict)
    }

    pub(super) fn raise<'a>(&mut self, report: &'a Report<'a>) -> Body<'a> {
        self.last += 1;
        let id = FlagId(self.last);
        self.standing.insert(report.socket.id, Flag { id, verdict: report.verdict });
        self.totals.flags += 1;
        for spoken in report.rules {
            *self.totals.rules.entry(spoken.rule).or_default() += 1;
        }
        Body::Flag(id, report)
    }

    /// Nothing where the socket has no flag.
    pub(super) fn clear<'a>(&mut self, report: &'a Report<'a>) -> Option<Body<'a>> {
        let flag = self.standing.remove(&report.socket.id)?;
        self.totals.clears += 1;
        Some(Body::Clear(flag.id, report))
    }
}
