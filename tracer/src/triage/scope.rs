//! Rules about reach: what stays on this machine, and ports that no table names.

use std::net::IpAddr;

use super::facts::{Evidence, Facts, serving_port};
use crate::{
    model::address::{BindScope, spell},
    output::Verdict,
};

/// The bind scope is loopback, or the remote is loopback or this host itself.
pub(super) fn loopback_only(facts: &Facts<'_>) -> Option<Evidence> {
    let why = match (facts.scope, facts.session) {
        (BindScope::Loopback, _) => {
            facts.says(|| sentence("", facts.socket.local.ip, " is reachable from this machine only"))
        }
        (_, Some(session)) if !session.is_remote() => facts.says(|| {
            let mut why = sentence("the remote ", session.remote.ip, " is this machine itself (");
            why.extend([session.class.as_str(), ")"]);
            why
        }),
        _ => return None,
    };
    Some(Evidence::leads_to(Verdict::Ok, why))
}

/// The same, without a word.
pub(super) fn is_left_aside(facts: &Facts<'_>) -> bool {
    facts.scope == BindScope::Loopback || facts.session.is_some_and(|session| !session.is_remote())
}

/// What is said of most sockets of a busy machine: without the machinery of `format!`.
fn sentence(before: &str, ip: IpAddr, after: &str) -> String {
    let mut text = String::with_capacity(80);
    text.push_str(before);
    spell(ip, |part| text.push_str(str::from_utf8(part).unwrap_or_default()));
    text.push_str(after);
    text
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
