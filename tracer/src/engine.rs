//! The glue: an event goes into the host, what changed is judged, and what is to be said comes out.
//! A pure fold: no clock, no I/O; the same events give the same output.

use crate::{
    model::{
        change::{Change, Happened, SocketRef, What},
        event::{BootNanos, Event, Fact, ProcessId, Start},
        host::Left,
        socket::Socket,
    },
    output::{Body, EventKind, Output, Report, Spoken, Verdict},
    triage::{
        judge::Weight,
        policy::{PolicyError, parse},
        services::Services,
    },
};

mod flags;
mod picture;
#[cfg(test)]
mod tests;
mod view;

use flags::Flags;
use picture::Picture;
use view::Known;

/// Everything that is known and everything that was said.
#[derive(Default)]
pub struct Engine {
    known: Known,
    flags: Flags,
    policy_files: Vec<String>,
    start: Option<Start>,
    clock_offset: i64,
    /// Only flags and their ends are wanted: of other events nothing is made.
    quiet: bool,
    /// The sockets that are there at the start, until all are known.
    picture: Option<Picture>,
    change: Change,
    rules: Vec<Spoken>,
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

    /// Takes one event in; what is to be said of it goes to `say`, in order.
    ///
    /// # Errors
    /// A policy in the event that does not parse.
    pub fn step(&mut self, event: &Event, say: &mut impl FnMut(&Output<'_>)) -> Result<(), Vec<PolicyError>> {
        if !Picture::may_have(&event.fact) {
            self.tell_picture(say);
        }
        self.known.host.apply(event, &mut self.change);
        if let Fact::Clock(offset) = event.fact {
            self.clock_offset = offset;
        }
        let time = self.wall(event.at);
        let say = &mut |body: Body<'_>| say(&Output { time, body });
        self.say_start(event, say);
        match &event.fact {
            Fact::Clock(_) => {}
            Fact::Start(start) => {
                self.known.provenance = start.provenance;
                self.start = Some((**start).clone());
                self.picture = Some(Picture::default());
            }
            Fact::Policy(file) => {
                self.known.policy.extend(parse(&file.path, &file.text)?)?;
                self.policy_files.push(file.path.clone());
            }
            Fact::Services(text) => self.known.services = Services::with_text(text),
            Fact::Lost(lost) => {
                self.flags.totals.lost += lost.count;
                say(Body::Gap(lost));
            }
            Fact::Life(life) => {
                if !self.quiet {
                    say(Body::Life(life));
                }
            }
            Fact::Degraded(degraded) => say(Body::Degraded(degraded)),
            Fact::End => say(Body::End(&std::mem::take(&mut self.flags.totals))),
            Fact::Socket(_)
            | Fact::Held { .. }
            | Fact::Process(_)
            | Fact::Stdio(_)
            | Fact::Forget(_)
            | Fact::Addresses { .. }
            | Fact::Namespace { .. }
            | Fact::Reread { .. }
            | Fact::Ready
            | Fact::Tick => match &mut self.picture {
                Some(picture) => picture.take(event.at, &mut self.change),
                None => self.tell(say),
            },
        }
        Ok(())
    }

    /// When time alone will change something, nanoseconds since boot.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.known.host.next_deadline()
    }

    /// Sockets that are still there and that processes had which have ended.
    #[must_use]
    pub fn left_by(&self, ended: &[ProcessId]) -> Vec<Left> {
        self.known.host.left_by(ended)
    }

    /// Wall clock minus boot clock, nanoseconds.
    #[must_use]
    pub fn clock_offset(&self) -> i64 {
        self.clock_offset
    }

    /// The start record is due at the first event that is not part of the preamble: by then the
    /// clock and the policies are known.
    fn say_start(&mut self, event: &Event, say: &mut impl FnMut(Body<'_>)) {
        let preamble =
            matches!(event.fact, Fact::Start(_) | Fact::Clock(_) | Fact::Policy(_) | Fact::Services(_));
        if let Some(start) = self.start.take_if(|_| !preamble) {
            say(Body::Start { start: &start, policy: &self.policy_files });
        }
    }

    fn wall(&self, at: BootNanos) -> i64 {
        i64::try_from(at).unwrap_or(i64::MAX).saturating_add(self.clock_offset)
    }

    /// Tells the sockets that were there at the start, once.
    fn tell_picture(&mut self, say: &mut impl FnMut(&Output<'_>)) {
        for (at, happened) in self.picture.take().into_iter().flat_map(Picture::seen) {
            let time = self.wall(at);
            let say = &mut |body: Body<'_>| say(&Output { time, body });
            let Self { known, flags, quiet, rules, .. } = self;
            Teller { known, flags, rules, quiet: *quiet, say }.tell(&happened);
        }
    }

    /// Tells what the last event changed.
    fn tell(&mut self, say: &mut impl FnMut(Body<'_>)) {
        let Self { known, flags, quiet, change, rules, .. } = self;
        let mut teller = Teller { known, flags, rules, quiet: *quiet, say };
        let mut cause = EventKind::Seen;
        for happened in &change.happened {
            cause = kind(&happened.what);
            teller.tell(happened);
        }
        for socket in &change.gone {
            teller.take_back(socket);
        }
        let noticed = change.noticed.iter().map(|id| (*id, EventKind::Established));
        for (id, cause) in noticed.chain(change.affected.iter().map(|id| (*id, cause))) {
            if let Some(socket) = known.host.get(id) {
                teller.consider(socket, None, cause);
            }
        }
    }
}

/// What tells of sockets: it sees what is known, and keeps the flags.
struct Teller<'a, F> {
    known: &'a Known,
    flags: &'a mut Flags,
    rules: &'a mut Vec<Spoken>,
    quiet: bool,
    say: &'a mut F,
}

impl<'a, F: FnMut(Body<'_>)> Teller<'a, F> {
    /// Counts what happened to a socket, and says what is to be said of it.
    fn tell(&mut self, happened: &Happened) {
        self.flags.totals.events += 1;
        let known = self.known;
        let socket = match &happened.socket {
            SocketRef::Last(socket) => Some(&**socket),
            SocketRef::Live(id) => known.host.get(*id),
        };
        if let Some(socket) = socket {
            self.consider(socket, Some(happened), kind(&happened.what));
        }
    }

    /// Says what is to be said of a socket to which something happened, or whose verdict may have changed though
    /// nothing happened to itself. A report is made only where it is.
    fn consider(&mut self, socket: &Socket, happened: Option<&Happened>, event: EventKind) {
        let standing = self.flags.verdict(socket.id);
        let tell = happened.is_some() && !self.quiet;
        if happened.is_some_and(|happened| happened.what.is_end()) {
            let say = match (tell, standing.is_some()) {
                (false, false) => return,
                (true, false) => Say::Event,
                (false, true) => Say::Clear,
                (true, true) => Say::EventAndClear,
            };
            let mut report = self.known.report(socket, happened, event, self.rules);
            put_an_end_to(&mut report);
            return say_it(say, &report, self.flags, self.say);
        }
        if !tell {
            let Some(say) = change_of(standing, self.known.weigh(socket)) else { return };
            let report = self.known.report(socket, happened, event, self.rules);
            return say_it(say, &report, self.flags, self.say);
        }
        let report = self.known.report(socket, happened, event, self.rules);
        let say = match change_of(standing, Weight { verdict: report.verdict, flagged: report.flagged }) {
            None => Say::Event,
            Some(Say::Clear) => Say::EventAndClear,
            Some(say) => say,
        };
        say_it(say, &report, self.flags, self.say);
    }

    /// Takes back the flag of a socket that was found gone.
    fn take_back(&mut self, socket: &Socket) {
        if self.flags.verdict(socket.id).is_some() {
            let report = self.known.report(socket, None, EventKind::Seen, self.rules);
            say_it(Say::Clear, &report, self.flags, self.say);
        }
    }
}

fn say_it(say: Say, report: &Report<'_>, flags: &mut Flags, tell: &mut impl FnMut(Body<'_>)) {
    match say {
        Say::Event => tell(Body::Event(report)),
        Say::Flag => tell(flags.raise(report)),
        Say::Clear => flags.clear(report).into_iter().for_each(tell),
        Say::EventAndClear => {
            tell(Body::Event(report));
            flags.clear(report).into_iter().for_each(tell);
        }
    }
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
fn put_an_end_to(report: &mut Report<'_>) {
    if report.verdict.is_flagged() {
        report.verdict = Verdict::Ok;
        report.rules = &[];
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
