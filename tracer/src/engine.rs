//! The glue: an event goes into the host, what changed is judged, and what is to be said comes out.
//! A pure fold: no clock, no I/O; the same events give the same output.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    errno,
    model::{
        address::{Direction, RemoteClass},
        change::{Change, Happened, SocketRef, What},
        event::{Endpoint, Event, Fact, SocketId, Start},
        host::Host,
        peers::Exchange,
        socket::Socket,
    },
    output::{Body, EventKind, FlagId, Output, RemoteView, Report, Role, SocketView, Totals, Verdict},
    sink::escape::escape,
    triage::{
        facts::{Facts, service_protocol, serving_port},
        judge::{Judgement, Weight, judge, weigh},
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
    services: Services,
    start: Option<Arc<Start>>,
    clock_offset: i64,
    flags: BTreeMap<SocketId, Flagged>,
    next_flag: u64,
    totals: Totals,
    /// Only flags and their ends are wanted: of other events nothing is made.
    quiet: bool,
    change: Change,
}

/// A flag that stands.
struct Flagged {
    id: FlagId,
    verdict: Verdict,
}

/// What is said at one event, in order.
struct Said {
    time: i64,
    outputs: Vec<Output>,
}

impl Said {
    fn push(&mut self, body: Body) {
        self.outputs.push(Output { time: self.time, body });
    }
}

/// What is to be said of a socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Say {
    Event,
    Flag,
    Clear,
    /// The event, which ends the flag.
    EventAndClear,
}

impl Engine {
    /// An engine that gives flags and their ends, and no other events of sockets.
    #[must_use]
    pub fn flags_only() -> Self {
        Self { quiet: true, ..Self::default() }
    }

    /// Takes one event in; gives what is to be said of it, in order.
    ///
    /// # Errors
    /// A policy in the event that does not parse.
    pub fn step(&mut self, event: &Event) -> Result<Vec<Output>, Vec<PolicyError>> {
        let mut change = std::mem::take(&mut self.change);
        self.host.apply(event, &mut change);
        if let Fact::Clock(offset) = event.fact {
            self.clock_offset = offset;
        }
        let mut said = Said { time: self.wall(event.at), outputs: Vec::new() };
        self.start_record(event).into_iter().for_each(|body| said.push(body));
        match &event.fact {
            Fact::Clock(_) => {}
            Fact::Start(start) => self.start = Some(Arc::new((**start).clone())),
            Fact::Policy(file) => {
                self.policy.extend(parse(&file.path, &file.text)?)?;
                self.policy_files.push(file.path.clone());
            }
            Fact::Services(text) => self.services = Services::with_text(text),
            Fact::Lost(lost) => {
                self.totals.lost += lost.count;
                said.push(Body::Gap(lost.clone()));
            }
            Fact::Degraded(degraded) => said.push(Body::Degraded(degraded.clone())),
            Fact::End => said.push(Body::End(std::mem::take(&mut self.totals))),
            Fact::Socket(_)
            | Fact::Process(_)
            | Fact::Forget(_)
            | Fact::Addresses { .. }
            | Fact::Reread { .. }
            | Fact::Ready
            | Fact::Tick => self.tell(&change, &mut said),
        }
        self.change = change;
        Ok(said.outputs)
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

    fn wall(&self, at: u64) -> i64 {
        i64::try_from(at).unwrap_or(i64::MAX).saturating_add(self.clock_offset)
    }

    fn tell(&mut self, change: &Change, said: &mut Said) {
        let mut cause = EventKind::Seen;
        for happened in &change.happened {
            self.totals.events += 1;
            cause = kind(&happened.what);
            let socket = match &happened.socket {
                SocketRef::Last(socket) => Some(&**socket),
                SocketRef::Live(id) => self.host.get(*id),
            };
            let say = socket.and_then(|socket| self.consider(socket, Some(happened), cause));
            self.say(say, said);
        }
        for socket in &change.gone {
            if self.flags.contains_key(&socket.id) {
                let (report, _) = self.report(socket, None, EventKind::Seen);
                self.clear(report, said);
            }
        }
        let noticed = change.noticed.iter().map(|id| (*id, EventKind::Established));
        for (id, cause) in noticed.chain(change.affected.iter().map(|id| (*id, cause))) {
            let say = self.host.get(id).and_then(|socket| self.consider(socket, None, cause));
            self.say(say, said);
        }
    }

    /// What is to be said of a socket to which something happened, or whose verdict may have changed though
    /// nothing happened to itself. A report is made only where it is.
    fn consider(
        &self,
        socket: &Socket,
        happened: Option<&Happened>,
        event: EventKind,
    ) -> Option<(Say, Box<Report>)> {
        let standing = self.flags.get(&socket.id).map(|flag| flag.verdict);
        let tell = happened.is_some() && !self.quiet;
        if happened.is_some_and(|happened| happened.what.is_end()) {
            let say = match (tell, standing.is_some()) {
                (false, false) => return None,
                (true, false) => Say::Event,
                (false, true) => Say::Clear,
                (true, true) => Say::EventAndClear,
            };
            return Some((say, over(self.report(socket, happened, event).0)));
        }
        if !tell {
            let say = change_of(standing, self.weigh(socket))?;
            return Some((say, self.report(socket, happened, event).0));
        }
        let (report, weight) = self.report(socket, happened, event);
        let say = match change_of(standing, weight) {
            None => Say::Event,
            Some(Say::Clear) => Say::EventAndClear,
            Some(say) => say,
        };
        Some((say, report))
    }

    fn say(&mut self, say: Option<(Say, Box<Report>)>, said: &mut Said) {
        let Some((say, report)) = say else { return };
        match say {
            Say::Event => said.push(Body::Event(report)),
            Say::Flag => said.push(self.raise(report)),
            Say::Clear => self.clear(report, said),
            Say::EventAndClear => {
                said.push(Body::Event(report.clone()));
                self.clear(report, said);
            }
        }
    }

    fn raise(&mut self, report: Box<Report>) -> Body {
        self.next_flag += 1;
        let id = FlagId(self.next_flag);
        self.flags.insert(report.socket.id, Flagged { id, verdict: report.verdict });
        self.totals.flags += 1;
        for spoken in &report.rules {
            *self.totals.rules.entry(spoken.rule).or_default() += 1;
        }
        Body::Flag(id, report)
    }

    fn clear(&mut self, report: Box<Report>, said: &mut Said) {
        if let Some(flag) = self.flags.remove(&report.socket.id) {
            self.totals.clears += 1;
            said.push(Body::Clear(flag.id, report));
        }
    }

    /// What the rules come to, and nothing else.
    fn weigh(&self, socket: &Socket) -> Weight {
        weigh(&self.facts(socket), |facts| self.weigh_twin(facts))
    }

    fn judge(&self, socket: &Socket) -> Judgement {
        judge(&self.facts(socket).in_words(), |facts| self.weigh_twin(facts))
    }

    fn weigh_twin(&self, facts: &Facts<'_>) -> Option<Verdict> {
        Some(weigh(&self.facts(facts.twin?.listener), |_| None).verdict)
    }

    fn facts<'a>(&'a self, socket: &'a Socket) -> Facts<'a> {
        Facts::gather(socket, &self.host, &self.policy, &self.services)
    }

    fn report(
        &self,
        socket: &Socket,
        happened: Option<&Happened>,
        event: EventKind,
    ) -> (Box<Report>, Weight) {
        let judgement = self.judge(socket);
        let what = happened.map(|happened| &happened.what);
        let peer = match what {
            Some(What::Udp { peer, .. }) => *peer,
            _ => None,
        };
        let mut report = Box::new(Report {
            event,
            verdict: judgement.weight.verdict,
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
        });
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
        (report, judgement.weight)
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
        let service = self.services.name(protocol, port).map(str::to_owned);
        let class: RemoteClass = self.host.class(socket.netns, end.ip);
        RemoteView { end, class, service }
    }
}

/// Who began to exchange datagrams with this peer.
fn flow_direction(socket: &Socket, peer: Endpoint) -> Option<Direction> {
    socket.datagrams.peers.get(&peer).map(Exchange::direction)
}

/// What becomes of a socket's flag by what it weighs now.
fn change_of(standing: Option<Verdict>, weight: Weight) -> Option<Say> {
    match (standing, weight.flagged) {
        (standing, true) => (standing != Some(weight.verdict)).then_some(Say::Flag),
        (Some(_), false) => Some(Say::Clear),
        (None, false) => None,
    }
}

/// What ended is nothing to look at any more; what was left aside stays named.
fn over(mut report: Box<Report>) -> Box<Report> {
    if report.verdict.is_flagged() {
        report.verdict = Verdict::Ok;
        report.rules.clear();
    }
    report
}

/// Why the process, or a part of it, is not known.
fn unknown(socket: &Socket) -> Option<String> {
    match &socket.owner {
        Some(owner) => owner.unknown.clone(),
        None => socket.owner_unknown.map(|why| why.to_string()),
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
