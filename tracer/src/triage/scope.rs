//! Rules about reach: what stays on this machine, and ports that no table names.

use super::facts::{Evidence, Facts, serving_port};
use crate::{model::address::BindScope, output::Verdict};

/// The bind scope is loopback, or the remote is loopback or this host itself.
pub(super) fn loopback_only(facts: &Facts<'_>) -> Option<Evidence> {
    let class = facts.session.map(|session| session.class);
    let why = match (facts.scope, facts.session) {
        (BindScope::Loopback, _) => format!("{} is reachable from this machine only", facts.socket.local.ip),
        (_, Some(session)) if !session.is_remote() => {
            format!("the remote {} is this machine itself ({})", session.remote.ip, class?.as_str())
        }
        _ => return None,
    };
    Some(Evidence::leads_to(Verdict::Ok, why))
}

/// The serving port is in no service table; only said of what is unexplained.
pub(super) fn unknown_service(facts: &Facts<'_>) -> Option<Evidence> {
    let protocol = facts.socket.protocol.as_str();
    let port = if super::listener::is_unexplained(facts) || super::udp::is_unexplained(facts) {
        facts.local_service.is_none().then_some(facts.socket.local.port)
    } else if let Some(session) = super::session::unexplained(facts) {
        let port = serving_port(session.direction, facts.socket.local.port, session.remote.port);
        session.service.is_none().then_some(port)
    } else {
        None
    };
    let port = port.filter(|port| *port != 0)?;
    Some(Evidence::adds(format!("port {port}/{protocol} is in no service table")))
}
