//! Rules about UDP server ports and their TCP twins.

use super::{
    facts::{Evidence, Facts, Twin},
    listener::reach,
};
use crate::{
    model::{address::BindScope, event::Process, socket::PortOrigin},
    output::Verdict,
};

/// A UDP server port beyond loopback, without a twin, that nothing explains.
pub(super) fn unexplained_udp(facts: &Facts<'_>) -> Option<Evidence> {
    if !is_unexplained(facts) {
        return None;
    }
    let why = || {
        let port = facts.socket.local.port;
        let service = facts.local_service().map(|name| format!(" ({name})")).unwrap_or_default();
        let role = match facts.socket.datagrams.port {
            PortOrigin::Chosen => "the program chose the port",
            PortOrigin::Bind => "the program bound it and left the port to the kernel",
            PortOrigin::Autobind => "it receives from peers that it did not call",
        };
        format!(
            "UDP port {port}{service} is open on {}, has no TCP twin ({role}), and nothing explains it",
            reach(facts)
        )
    };
    Some(Evidence::leads_to(Verdict::Research, facts.says(why)))
}

/// The same program listens on the same TCP port: look there.
pub(super) fn udp_twin(facts: &Facts<'_>) -> Option<Evidence> {
    let twin = twin(facts, true)?;
    let why = || {
        let port = facts.socket.local.port;
        let who = name(twin.listener.owner.as_deref());
        format!("TCP port {port} of {who} is its twin: the verdict is that port's")
    };
    Some(Evidence::adds(facts.says(why)))
}

/// Another program or user listens on the same TCP port.
pub(super) fn twin_other_owner(facts: &Facts<'_>) -> Option<Evidence> {
    let twin = twin(facts, false)?;
    if facts.explained.is_some() {
        return None;
    }
    let why = || {
        let port = facts.socket.local.port;
        let (own, other) = (name(facts.owner), name(twin.listener.owner.as_deref()));
        format!("UDP port {port} belongs to {own}, but TCP port {port} to {other}")
    };
    Some(Evidence::leads_to(Verdict::Suspicious, facts.says(why)))
}

/// The condition of [`unexplained_udp`].
pub(super) fn is_unexplained(facts: &Facts<'_>) -> bool {
    facts.socket.is_udp_server()
        && facts.scope != BindScope::Loopback
        && facts.explained.is_none()
        && twin(facts, true).is_none()
}

fn twin<'a>(facts: &Facts<'a>, same_owner: bool) -> Option<Twin<'a>> {
    facts.twin.filter(|twin| twin.same_owner == Some(same_owner))
}

fn name(process: Option<&Process>) -> String {
    let Some(process) = process else { return "an unknown process".to_owned() };
    let what = process.exe.as_deref().or(process.comm.as_deref()).unwrap_or("an unknown program");
    let user = process.user.clone().or_else(|| process.uid.map(|uid| format!("uid {uid}")));
    match user {
        Some(user) => format!("{what} (pid {}, {user})", process.id.pid),
        None => format!("{what} (pid {})", process.id.pid),
    }
}
