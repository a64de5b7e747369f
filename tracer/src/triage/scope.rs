//! Rules about reach: what stays on this machine, and ports that no table names.

use super::facts::{Evidence, Facts, serving_port};
use crate::{
    model::address::BindScope,
    output::{Verdict, Why},
};

/// The bind scope is loopback, or the remote is loopback or this host itself.
pub(super) fn loopback_only(facts: &Facts<'_>) -> Option<Evidence> {
    let why = match (facts.scope, facts.session) {
        (BindScope::Loopback, _) => Why::LocalIsLoopback(facts.socket.local.ip),
        (_, Some(session)) if !session.is_remote() => Why::RemoteIsHere(session.remote.ip, session.class),
        _ => return None,
    };
    Some(Evidence::leads_to(Verdict::Ok, why))
}

/// The same, without a word.
pub(super) fn is_left_aside(facts: &Facts<'_>) -> bool {
    facts.scope == BindScope::Loopback || facts.session.is_some_and(|session| !session.is_remote())
}

/// The serving port is in no service table; only said of what is unexplained.
pub(super) fn unknown_service(facts: &Facts<'_>) -> Option<Evidence> {
    let port = if super::listener::is_unexplained(facts) || super::udp::is_unexplained(facts) {
        facts.socket.local.port
    } else {
        let session = super::session::unexplained(facts)?;
        serving_port(session.direction, facts.socket.local.port, session.remote.port)
    };
    if port == 0 || facts.service(port).is_some() {
        return None;
    }
    let protocol = facts.socket.protocol.as_str();
    Some(Evidence::adds(facts.says(|| format!("port {port}/{protocol} is in no service table"))))
}
