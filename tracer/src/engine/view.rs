//! A socket as the rules and the records see it.

use std::{borrow::Cow, sync::Arc};

use crate::{
    errno,
    model::{
        address::{Direction, RemoteClass},
        change::{Happened, What},
        event::{Endpoint, Process},
        host::Host,
        peers::Exchange,
        socket::Socket,
    },
    output::{EventKind, RemoteView, Report, Role, SocketView, Spoken, Verdict},
    sink::escape::escape,
    triage::{
        facts::{Expected, Facts, Reason, service_protocol, serving_port},
        judge::{Judgement, Weight, judge, weigh},
        policy::Policy,
        services::Services,
    },
};

/// Everything that a verdict depends on.
#[derive(Default)]
pub(super) struct Known {
    pub(super) host: Host,
    pub(super) policy: Policy,
    /// Whether the provenance of a program explains its ports.
    pub(super) provenance: bool,
    pub(super) services: Services,
}

impl Known {
    /// What the rules come to, and nothing else.
    pub(super) fn weigh(&self, socket: &Socket) -> Weight {
        weigh(&self.facts(socket, false), |facts| self.weigh_twin(facts))
    }

    fn judge<'a>(&'a self, socket: &'a Socket, rules: &mut Vec<Spoken>) -> Judgement<'a> {
        judge(&self.facts(socket, true), |facts| self.weigh_twin(facts), rules)
    }

    fn weigh_twin(&self, facts: &Facts<'_>) -> Option<Verdict> {
        Some(weigh(&self.facts(facts.twin?.listener, false), |_| None).verdict)
    }

    fn facts<'a>(&'a self, socket: &'a Socket, in_words: bool) -> Facts<'a> {
        let expected = Expected { policy: &self.policy, provenance: self.provenance };
        Facts::gather(socket, &self.host, expected, &self.services, in_words)
    }

    /// The record of a socket, without its kind; `rules` is room for those that speak.
    pub(super) fn report<'a>(
        &'a self,
        socket: &'a Socket,
        happened: Option<&Happened>,
        event: EventKind,
        rules: &'a mut Vec<Spoken>,
    ) -> Report<'a> {
        let Judgement { weight, explained_by } = self.judge(socket, rules);
        let what = happened.map(|happened| &happened.what);
        let peer = match what {
            Some(What::Udp { peer, .. }) => *peer,
            _ => None,
        };
        let mut report = Report {
            event,
            verdict: weight.verdict,
            flagged: weight.flagged,
            rules,
            explained_by: explained_by.map(named),
            socket: self.view(socket, peer.or(socket.remote)),
            process: socket.owner.as_ref(),
            process_unknown: unknown(socket),
            attribution: socket.attribution,
            opener: opener(socket),
            holders: holders(socket),
            error: None,
            bytes_sent: None,
            bytes_received: None,
            duration_ms: None,
            count: None,
        };
        match what {
            Some(What::Failed { errno }) => report.error = errno.map(errno::name),
            Some(What::Udp { count, .. }) => report.count = Some(*count),
            Some(What::Close { sent, received, duration }) => {
                report.bytes_sent = *sent;
                report.bytes_received = *received;
                report.duration_ms = duration.map(|nanos| nanos / 1_000_000);
            }
            Some(
                What::Seen | What::Bind | What::Listen | What::Connect | What::Established | What::Accept,
            )
            | None => {}
        }
        report
    }

    fn view(&self, socket: &Socket, remote: Option<Endpoint>) -> SocketView<'_> {
        let datagram = socket.protocol.is_datagram();
        let role = (datagram && (socket.local.port != 0 || socket.remote.is_some()))
            .then(|| if socket.is_udp_server() { Role::Server } else { Role::Client });
        SocketView {
            id: socket.id,
            netns: socket.netns,
            netns_name: self.host.netns_name(socket.netns),
            protocol: socket.protocol,
            family: socket.family,
            state: socket.state,
            local: socket.local,
            scope: socket.scope(),
            direction: socket.direction.or(remote.and_then(|end| flow_direction(socket, end))),
            remote: remote.map(|end| self.remote(socket, end)),
            role,
        }
    }

    fn remote(&self, socket: &Socket, end: Endpoint) -> RemoteView<'_> {
        let direction = flow_direction(socket, end).or(socket.direction);
        let port = serving_port(direction, socket.local.port, end.port);
        let service = self.services.name(service_protocol(socket.protocol), port);
        let class: RemoteClass = self.host.class(socket.netns, end.ip);
        RemoteView { end, class, service }
    }
}

/// What explains a socket, as records name it, escaped.
fn named(reason: Reason<'_>) -> String {
    match reason {
        Reason::Entry(name) => escape(name.as_bytes()),
        Reason::Provenance { package, unit } => format!("provenance: {package}, {unit}"),
    }
}

/// Who began to exchange datagrams with this peer.
fn flow_direction(socket: &Socket, peer: Endpoint) -> Option<Direction> {
    socket.datagrams.peers.get(&peer).map(Exchange::direction)
}

/// Who opened it, where that is not the process that acted.
fn opener(socket: &Socket) -> Option<&Process> {
    let acted = |opener: &&Process| socket.owner.as_ref().is_some_and(|owner| owner.id.is(opener.id));
    socket.opener.as_deref().filter(|opener| !acted(opener))
}

/// Who holds it, where that is not the process that acted alone.
fn holders(socket: &Socket) -> &[Arc<Process>] {
    match &*socket.holders {
        [holder] if socket.owner.as_ref().is_some_and(|owner| owner.id == holder.id) => &[],
        holders => holders,
    }
}

/// Why the process, or a part of it, is not known.
fn unknown(socket: &Socket) -> Option<Cow<'_, str>> {
    match &socket.owner {
        Some(owner) => owner.unknown.as_deref().map(Cow::Borrowed),
        None => socket.owner_unknown.map(|why| Cow::Owned(why.to_string())),
    }
}
