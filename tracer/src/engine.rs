//! The glue: an event goes into the host, what changed is judged, and what is to be said comes out.
//! A pure fold: no clock, no I/O; the same events give the same output.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    errno,
    model::{
        address::{Direction, RemoteClass},
        event::{Endpoint, Event, Fact, Lost, SocketId, Start},
        host::{Happened, Host, SocketRef, What},
        socket::{Exchange, Socket},
    },
    output::{Body, EventKind, FlagId, Output, RemoteView, Report, Role, SocketView, Totals, Verdict},
    sink::escape::escape,
    triage::{
        facts::{Facts, service_protocol, serving_port},
        judge::{Judgement, judge},
        policy::{Policy, PolicyError, parse},
        services::Services,
    },
};

#[cfg(test)]
mod tests;

/// Everything that is known and everything that was said.
#[derive(Default)]
pub struct Engine {
    host: Host,
    policy: Policy,
    policy_files: Vec<String>,
    services: Option<Services>,
    start: Option<Arc<Start>>,
    clock_offset: i64,
    flags: BTreeMap<SocketId, Flagged>,
    next_flag: u64,
    totals: Totals,
}

/// A flag that stands.
struct Flagged {
    id: FlagId,
    verdict: Verdict,
}

impl Engine {
    /// Takes one event in; gives what is to be said of it, in order.
    ///
    /// # Errors
    /// A policy in the event that does not parse.
    pub fn step(&mut self, event: &Event) -> Result<Vec<Output>, Vec<PolicyError>> {
        let change = self.host.apply(event);
        let bodies = match &event.fact {
            Fact::Clock(offset) => {
                self.clock_offset = *offset;
                Vec::new()
            }
            Fact::Start(start) => {
                self.start = Some(Arc::new((**start).clone()));
                Vec::new()
            }
            Fact::Policy(file) => {
                self.policy.extend(parse(&file.path, &file.text)?)?;
                self.policy_files.push(file.path.clone());
                Vec::new()
            }
            Fact::Services(text) => {
                self.services = Some(Services::with_text(text));
                Vec::new()
            }
            Fact::Lost(lost) => self.lost(lost),
            Fact::Degraded(degraded) => vec![Body::Degraded(degraded.clone())],
            Fact::End => vec![Body::End(std::mem::take(&mut self.totals))],
            Fact::Socket(_)
            | Fact::Process(_)
            | Fact::Forget(_)
            | Fact::Addresses { .. }
            | Fact::Reread { .. }
            | Fact::Ready
            | Fact::Tick => self.tell(change),
        };
        let time = self.wall(event.at);
        let start = self.start_record(event).map(|body| Output { time, body });
        Ok(start.into_iter().chain(bodies.into_iter().map(|body| Output { time, body })).collect())
    }

    /// When time alone will change something, nanoseconds since boot.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.host.next_deadline()
    }

    /// Wall clock minus boot clock, nanoseconds.
    #[must_use]
    pub fn clock_offset(&self) -> i64 {
        self.clock_offset
    }

    /// The start record is due at the first event that is not part of the preamble: by then the
    /// clock and the policies are known.
    fn start_record(&mut self, event: &Event) -> Option<Body> {
        let preamble =
            matches!(event.fact, Fact::Start(_) | Fact::Clock(_) | Fact::Policy(_) | Fact::Services(_));
        let start = self.start.take_if(|_| !preamble)?;
        Some(Body::Start { start, policy: self.policy_files.clone() })
    }

    fn lost(&mut self, lost: &Lost) -> Vec<Body> {
        self.totals.lost += lost.count;
        vec![Body::Gap(lost.clone())]
    }

    fn wall(&self, at: u64) -> i64 {
        i64::try_from(at).unwrap_or(i64::MAX).saturating_add(self.clock_offset)
    }

    fn tell(&mut self, change: crate::model::host::Change) -> Vec<Body> {
        let mut bodies = Vec::new();
        let mut cause = EventKind::Seen;
        for happened in &change.happened {
            cause = kind(&happened.what);
            self.happened(happened, &mut bodies);
        }
        for socket in &change.gone {
            self.take_back(socket, EventKind::Seen, None, &mut bodies);
        }
        for id in change.noticed {
            self.rejudge(id, EventKind::Established, &mut bodies);
        }
        for id in change.affected {
            self.rejudge(id, cause, &mut bodies);
        }
        bodies
    }

    fn happened(&mut self, happened: &Happened, bodies: &mut Vec<Body>) {
        self.totals.events += 1;
        let ended = matches!(happened.what, What::Close { .. } | What::Failed { .. });
        let (report, flagged) = match &happened.socket {
            SocketRef::Last(socket) => self.report(socket, Some(happened), kind(&happened.what)),
            SocketRef::Live(id) => {
                let Some(socket) = self.host.get(*id) else { return };
                self.report(socket, Some(happened), kind(&happened.what))
            }
        };
        if ended {
            let report = over(report);
            bodies.push(Body::Event(Box::new(report.clone())));
            self.clear(report, bodies);
        } else {
            self.settle(report, flagged, true, bodies);
        }
    }

    /// A socket whose verdict may have changed though nothing happened to itself.
    fn rejudge(&mut self, id: SocketId, cause: EventKind, bodies: &mut Vec<Body>) {
        let Some(socket) = self.host.get(id) else { return };
        let (report, flagged) = self.report(socket, None, cause);
        self.settle(report, flagged, false, bodies);
    }

    /// Raises, changes or takes back the flag of a socket; tells the event itself otherwise.
    fn settle(&mut self, report: Report, flagged: bool, tell: bool, bodies: &mut Vec<Body>) {
        let standing = self.flags.get(&report.socket.id).map(|flag| flag.verdict);
        if flagged && standing != Some(report.verdict) {
            bodies.push(self.raise(report));
        } else if tell {
            bodies.push(Body::Event(Box::new(report.clone())));
            if !flagged {
                self.clear(report, bodies);
            }
        } else if !flagged {
            self.clear(report, bodies);
        }
    }

    fn raise(&mut self, report: Report) -> Body {
        self.next_flag += 1;
        let id = FlagId(self.next_flag);
        self.flags.insert(report.socket.id, Flagged { id, verdict: report.verdict });
        self.totals.flags += 1;
        for spoken in &report.rules {
            *self.totals.rules.entry(spoken.rule).or_default() += 1;
        }
        Body::Flag(id, Box::new(report))
    }

    fn clear(&mut self, report: Report, bodies: &mut Vec<Body>) {
        if let Some(flag) = self.flags.remove(&report.socket.id) {
            self.totals.clears += 1;
            bodies.push(Body::Clear(flag.id, Box::new(report)));
        }
    }

    fn take_back(
        &mut self,
        socket: &Socket,
        cause: EventKind,
        what: Option<&Happened>,
        bodies: &mut Vec<Body>,
    ) {
        let (report, _) = self.report(socket, what, cause);
        self.clear(report, bodies);
    }

    fn judge(&self, socket: &Socket) -> Judgement {
        let builtin;
        let services = match &self.services {
            Some(services) => services,
            None => {
                builtin = Services::builtin();
                &builtin
            }
        };
        let facts = Facts::gather(socket, &self.host, &self.policy, services);
        judge(&facts, |facts| {
            let twin = Facts::gather(facts.twin?.listener, &self.host, &self.policy, services);
            Some(judge(&twin, |_| None))
        })
    }

    fn report(&self, socket: &Socket, happened: Option<&Happened>, event: EventKind) -> (Report, bool) {
        let judgement = self.judge(socket);
        let what = happened.map(|happened| &happened.what);
        let peer = match what {
            Some(What::Udp { peer, .. }) => *peer,
            _ => None,
        };
        let mut report = Report {
            event,
            verdict: judgement.verdict,
            rules: judgement.rules,
            explained_by: judgement.explained_by.map(|name| escape(name.as_bytes())),
            socket: self.view(socket, peer.or(socket.remote)),
            process: socket.owner.clone(),
            process_unknown: unknown(socket),
            attribution: socket.attribution,
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
        (report, judgement.flagged)
    }

    fn view(&self, socket: &Socket, remote: Option<Endpoint>) -> SocketView {
        let datagram = socket.protocol.is_datagram();
        let role = (datagram && (socket.local.port != 0 || socket.remote.is_some()))
            .then(|| if socket.is_udp_server() { Role::Server } else { Role::Client });
        SocketView {
            id: socket.id,
            netns: socket.netns,
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

    fn remote(&self, socket: &Socket, end: Endpoint) -> RemoteView {
        let direction = flow_direction(socket, end).or(socket.direction);
        let port = serving_port(direction, socket.local.port, end.port);
        let protocol = service_protocol(socket.protocol);
        let service = match &self.services {
            Some(services) => services.name(protocol, port).map(str::to_owned),
            None => Services::builtin().name(protocol, port).map(str::to_owned),
        };
        let class: RemoteClass = self.host.class(socket.netns, end.ip);
        RemoteView { end, class, service }
    }
}

/// Who began to exchange datagrams with this peer.
fn flow_direction(socket: &Socket, peer: Endpoint) -> Option<Direction> {
    socket.datagrams.peers.get(&peer).map(Exchange::direction)
}

/// What ended is nothing to look at any more; what was left aside stays named.
fn over(report: Report) -> Report {
    if report.verdict.is_flagged() {
        Report { verdict: Verdict::Ok, rules: Vec::new(), ..report }
    } else {
        report
    }
}

/// Why the process, or a part of it, is not known.
fn unknown(socket: &Socket) -> Option<String> {
    match &socket.owner {
        Some(owner) => owner.unknown.clone(),
        None => socket.owner_unknown.clone(),
    }
}

fn kind(what: &What) -> EventKind {
    match what {
        What::Seen => EventKind::Seen,
        What::Bind => EventKind::Bind,
        What::Listen => EventKind::Listen,
        What::Connect => EventKind::Connect,
        What::Established => EventKind::Established,
        What::Accept => EventKind::Accept,
        What::Failed { .. } => EventKind::Failed,
        What::Udp { .. } => EventKind::Udp,
        What::Close { .. } => EventKind::Close,
    }
}
