//! The exception to "loopback is safe": a tunnel or pivot listens on loopback and talks outside.

use super::facts::{Evidence, Facts};
use crate::{model::address::BindScope, output::Verdict};

/// The owner of a loopback listener also holds a session with a real remote.
pub(super) fn loopback_relay(facts: &Facts<'_>) -> Option<Evidence> {
    let session = facts.relayed?;
    let remote = session.remote?;
    if !facts.socket.is_listener() || facts.scope != BindScope::Loopback || facts.explained.is_some() {
        return None;
    }
    let why = || {
        format!(
            "the process that listens on {} port {} also talks to {} port {}: a tunnel or a pivot looks like this",
            facts.socket.local.ip, facts.socket.local.port, remote.ip, remote.port,
        )
    };
    Some(Evidence::leads_to(Verdict::Suspicious, facts.says(why)))
}
