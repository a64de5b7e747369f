//! Rules about sessions: TCP connections, and UDP flows that are connected or repeated.

use super::facts::{Evidence, Facts, Session};
use crate::{
    model::{
        address::{BindScope, Direction},
        event::{Protocol, State},
    },
    output::Verdict,
};

/// A session with a real remote that nothing explains.
pub(super) fn unexplained_session(facts: &Facts<'_>) -> Option<Evidence> {
    let session = unexplained(facts)?;
    Some(Evidence::leads_to(Verdict::Research, facts.says(|| describe(facts, &session))))
}

fn describe(facts: &Facts<'_>, session: &Session<'_>) -> String {
    let kind = match session.datagrams {
        None => "TCP session".to_owned(),
        Some(0) => "connected UDP socket".to_owned(),
        Some(1) => "UDP flow of 1 datagram".to_owned(),
        Some(n) => format!("UDP flow of {n} datagrams"),
    };
    let opened = match session.direction {
        Some(Direction::Inbound) => "inbound ",
        Some(Direction::Outbound) => "outbound ",
        None => "",
    };
    let preposition = if session.direction == Some(Direction::Inbound) { "from" } else { "to" };
    let service = facts.session_service(session).map(|name| format!(" ({name})")).unwrap_or_default();
    let serving = match session.direction {
        Some(Direction::Inbound) => format!(", local port {}{service}", facts.socket.local.port),
        Some(Direction::Outbound) | None => format!(" port {}{service}", session.remote.port),
    };
    let outcome = if facts.socket.state == State::SynSent { ", not answered yet" } else { "" };
    format!(
        "{opened}{kind} {preposition} {} address {}{serving}{outcome}; nothing explains it",
        session.class.as_str(),
        session.remote.ip,
    )
}

/// An active socket without a remote address.
pub(super) fn active_without_remote(facts: &Facts<'_>) -> Option<Evidence> {
    let socket = facts.socket;
    let active = socket.protocol == Protocol::Tcp && socket.is_active_session();
    if !active || socket.remote.is_some() {
        return None;
    }
    let why = || format!("the socket is in state {} and yet has no remote address", socket.state.as_str());
    Some(Evidence::leads_to(Verdict::Suspicious, facts.says(why)))
}

/// The session that [`unexplained_session`] speaks of.
pub(super) fn unexplained<'a>(facts: &Facts<'a>) -> Option<Session<'a>> {
    let loopback = facts.scope == BindScope::Loopback;
    facts.session.filter(|session| session.is_remote() && session.explained.is_none() && !loopback)
}
