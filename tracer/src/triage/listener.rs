//! Rules about TCP listeners.

use super::facts::{Evidence, Facts};
use crate::{
    model::{address::BindScope, event::Family},
    output::Verdict,
};

/// A TCP socket listens beyond loopback and nothing explains it.
pub(super) fn unexplained_listener(facts: &Facts<'_>) -> Option<Evidence> {
    if !is_unexplained(facts) {
        return None;
    }
    let why = || {
        let port = facts.socket.local.port;
        let service = facts.local_service().map(|name| format!(" ({name})")).unwrap_or_default();
        format!("TCP port {port}{service} is open on {} and nothing explains it", reach(facts))
    };
    Some(Evidence::leads_to(Verdict::Research, facts.says(why)))
}

/// A socket in LISTEN has a remote address.
pub(super) fn listen_with_remote(facts: &Facts<'_>) -> Option<Evidence> {
    let remote = facts.socket.remote.filter(|_| facts.socket.is_listener())?;
    let why =
        || format!("the socket listens and yet has a remote address, {} port {}", remote.ip, remote.port);
    Some(Evidence::leads_to(Verdict::Suspicious, facts.says(why)))
}

/// The condition of [`unexplained_listener`].
pub(super) fn is_unexplained(facts: &Facts<'_>) -> bool {
    facts.socket.is_listener() && facts.scope != BindScope::Loopback && facts.explained.is_none()
}

/// Where a bound port is reachable, in words.
pub(super) fn reach(facts: &Facts<'_>) -> String {
    let socket = facts.socket;
    match facts.scope {
        BindScope::Loopback => "loopback only".to_owned(),
        BindScope::Specific => format!("address {}", socket.local.ip),
        BindScope::Any if socket.family == Family::Ipv6 && socket.v6only => {
            "every interface, IPv6 only".to_owned()
        }
        BindScope::Any if socket.family == Family::Ipv6 && socket.local.ip.is_ipv6() => {
            "every interface, IPv6 and IPv4".to_owned()
        }
        BindScope::Any => "every interface".to_owned(),
    }
}
