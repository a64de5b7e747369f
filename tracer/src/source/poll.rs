//! The last rung, without any hook: the sockets are read again and again by sock_diag and /proc, and what
//! differs from the reading before is told.
//!
//! What comes and goes between two readings is not seen; [`Poll::coverage`] says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use super::{
    baseline::Baseline,
    live::{boot_now, cpu_time},
    namespaces::Names,
    processes::Processes,
    sockdiag,
};
use crate::{
    bpf::decode::{Decoded, Task},
    model::event::{
        BootNanos, Coverage, Event, Fact, Lost, LostStage, ProcessId, SocketChange, SocketEvent, SocketId,
        State,
    },
};

/// From the beginning of one reading to that of the next.
pub const PERIOD: Duration = Duration::from_millis(500);
/// Of a processor's time, at most one part in so many is spent on reading: where reading takes long, the
/// period is stretched.
const SHARE: u64 = 10;

/// Sockets as they were read last.
pub struct Poll {
    only: Option<u32>,
    processes: Processes,
    own: BTreeMap<u32, BTreeSet<IpAddr>>,
    names: Names,
    known: Known,
    next: BootNanos,
    /// Records of one reading that were not understood, as far as they were told.
    unknown: u64,
    /// The first reading, until it is told.
    first: Option<Baseline>,
    coverage: Vec<Coverage>,
}

impl Poll {
    /// Reads the sockets for the first time; `only` restricts it to one namespace.
    #[must_use]
    pub fn begin(only: Option<u32>) -> Self {
        let (begun, used) = (boot_now(), cpu_time());
        let (found, unread) = sockdiag::read(only);
        Self {
            only,
            processes: Processes::new(),
            own: BTreeMap::new(),
            names: Names::default(),
            known: Known::default(),
            next: next(begun, cpu_time() - used),
            unknown: 0,
            first: Some(found),
            coverage: coverage(&unread),
        }
    }

    /// What it sees and what it does not.
    #[must_use]
    pub fn coverage(&self) -> &[Coverage] {
        &self.coverage
    }

    /// Tells the first reading.
    pub fn baseline(&mut self, out: &mut Vec<Event>) {
        let found = self.first.take().unwrap_or_else(|| sockdiag::read(self.only).0);
        self.tell(found, boot_now(), out);
    }

    /// Reads again when it is time.
    pub fn tick(&mut self, now: BootNanos, out: &mut Vec<Event>) {
        if now < self.next {
            return;
        }
        let used = cpu_time();
        let (found, unread) = sockdiag::read(self.only);
        for what in unread {
            tracing::debug!("not read: {what}");
        }
        self.next = next(now, cpu_time() - used);
        self.tell(found, boot_now(), out);
    }

    /// Hashes what a process runs.
    pub fn hash(&mut self, id: ProcessId, now: BootNanos, out: &mut Vec<Event>) {
        let mut facts = Vec::new();
        self.processes.hash(id, now, &mut facts);
        out.extend(facts.into_iter().map(|fact| Event { at: now, fact }));
    }

    /// When [`Poll::tick`] has something to do next.
    #[must_use]
    pub fn next_due(&self) -> BootNanos {
        self.next
    }

    fn tell(&mut self, found: Baseline, at: BootNanos, out: &mut Vec<Event>) {
        let mut facts = Vec::new();
        self.names.read(at, &mut facts);
        out.extend(facts.into_iter().map(|fact| Event { at, fact }));
        for (netns, namespace) in found.namespaces {
            if self.own.get(&netns) != Some(&namespace.own) {
                let own = namespace.own.iter().copied().collect();
                out.push(Event { at, fact: Fact::Addresses { netns, own } });
                self.own.insert(netns, namespace.own);
            }
        }
        for (event, tasks) in self.known.differences(found.sockets, &found.waiting) {
            let mut facts = Vec::new();
            tasks.iter().for_each(|task| self.processes.tell(task, at, &mut facts));
            facts.push(Fact::Socket(event));
            out.extend(facts.into_iter().map(|fact| Event { at, fact }));
        }
        self.processes.forget_untold();
        if found.unknown > self.unknown {
            let count = found.unknown - self.unknown;
            let lost = Lost { stage: LostStage::Record, count, from: at, to: at, resynced: false };
            out.push(Event { at, fact: Fact::Lost(lost) });
            self.unknown = found.unknown;
        }
    }
}

/// When to read next, after a reading that used so many nanoseconds of processor time.
fn next(begun: BootNanos, used: u64) -> BootNanos {
    let period = BootNanos::try_from(PERIOD.as_nanos()).unwrap_or(BootNanos::MAX);
    begun + period.max(used * SHARE)
}

/// The sockets of the reading before.
#[derive(Default)]
struct Known(BTreeMap<SocketId, Socket>);

struct Socket {
    event: SocketEvent,
    /// It waits in a listener's queue.
    waits: bool,
    /// The last reading did not find it.
    absent: bool,
}

impl Known {
    /// What has happened since the reading before, each with the processes that must be known first.
    fn differences(
        &mut self,
        found: Vec<(Decoded, Vec<Task>)>,
        waiting: &BTreeSet<SocketId>,
    ) -> Vec<(SocketEvent, Vec<Task>)> {
        let mut told = Vec::new();
        let (mut present, mut over) = (BTreeSet::new(), BTreeSet::new());
        for (Decoded { event, remnant, .. }, tasks) in found {
            let id = event.id;
            if remnant {
                over.insert(id);
                continue;
            }
            present.insert(id);
            let waits = waiting.contains(&id);
            let socket = Socket { event, waits, absent: false };
            let before = self.0.get(&id);
            let step = before.and_then(|before| step(before, &socket));
            told.extend(step.map(|change| (SocketEvent { change, ..socket.event.clone() }, tasks.clone())));
            // Other processes hold it, or have it elsewhere.
            if before.is_none_or(|before| before.event.change != socket.event.change) {
                told.push((socket.event.clone(), tasks));
            }
            self.0.insert(id, socket);
        }
        told.extend(self.gone(&present, &over).into_iter().map(|event| (event, Vec::new())));
        told
    }

    /// Sockets that are closed: those of which only a remnant is left, and those that two readings did not
    /// find. A single one can miss a socket that is there, when the table changes while it is read.
    fn gone(&mut self, present: &BTreeSet<SocketId>, over: &BTreeSet<SocketId>) -> Vec<SocketEvent> {
        let gone = self.0.extract_if(.., |id, socket| {
            let was_absent = std::mem::replace(&mut socket.absent, !present.contains(id));
            !present.contains(id) && (was_absent || over.contains(id))
        });
        let close = SocketChange::Close { sent: None, received: None };
        gone.map(|(_, socket)| SocketEvent {
            change: close.clone(),
            state: State::Close,
            process: None,
            ..socket.event
        })
        .collect()
    }
}

/// What two readings of one socket show it to have done between them.
fn step(before: &Socket, now: &Socket) -> Option<SocketChange> {
    let (was, is) = (&before.event, &now.event);
    if was.protocol.is_datagram() {
        (is.remote.is_some() && was.remote != is.remote).then_some(SocketChange::Connect)
    } else if before.waits && !now.waits {
        Some(SocketChange::Accept)
    } else {
        (was.state == State::SynSent && is.state != State::SynSent).then_some(SocketChange::Established)
    }
}

fn coverage(unread: &[String]) -> Vec<Coverage> {
    let seen = |event: &str, by: String| Coverage { event: event.to_owned(), by: Some(by), why: None };
    let unseen =
        |event: &str, why: &str| Coverage { event: event.to_owned(), by: None, why: Some(why.to_owned()) };
    let ms = PERIOD.as_millis();
    let mut rows = vec![
        seen(
            "seen",
            format!(
                "sock_diag and /proc, read again every {ms} ms; less often where reading takes more than a \
                 tenth of that in processor time"
            ),
        ),
        seen("close", "absence from two readings; without byte counts".to_owned()),
        unseen("short-lived sockets", "what comes and goes between two readings is missed"),
    ];
    rows.extend(UNSEEN.iter().map(|(event, why)| unseen(event, why)));
    rows.extend(unread.iter().map(|what| unseen(what, "it could not be read")));
    rows
}

/// What no reading shows, and why.
const UNSEEN: &[(&str, &str)] = &[
    ("listen", "no hook: a listener that is still there at the next reading is told as `seen`"),
    ("bind", "no hook: a bound UDP socket that is still there at the next reading is told as `seen`"),
    ("connect", "no hook: a session that is still there at the next reading is told as `seen`"),
    ("established", "only of connects that a reading found under way; other sessions are told as `seen`"),
    ("failed", "a connect that fails leaves nothing to read"),
    (
        "accept",
        "only of connections that a reading found waiting, and the process is one that holds the connection",
    ),
    ("udp", "the kernel's tables do not show datagrams: peers of unconnected sockets are not known"),
    ("namespaces that come and go", "one that no process is in at a reading is not found"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bpf::decode::Meaning,
        model::event::{Attribution, Endpoint, Family, ProcessId, Protocol, Stdio},
    };

    fn socket(id: u64, protocol: Protocol, state: State, remote: Option<u16>) -> (Decoded, Vec<Task>) {
        let end = |port| Endpoint { ip: IpAddr::from([9, 1, 1, 1]), port };
        let process = ProcessId { pid: 7, started: 1 };
        let event = SocketEvent {
            id: SocketId(id),
            change: SocketChange::Seen { holders: vec![process], stdio: None },
            netns: Some(1),
            protocol,
            family: Family::Ipv4,
            state,
            local: Some(end(4444)),
            remote: remote.map(end),
            v6only: false,
            port_bound: false,
            process: Some((process, Attribution::Holder)),
        };
        let remnant = state == State::TimeWait;
        (Decoded { at: 5, event, meaning: Meaning::Seen, task: None, remnant, address: None }, Vec::new())
    }

    fn told(
        known: &mut Known,
        found: Vec<(Decoded, Vec<Task>)>,
        waiting: &[u64],
    ) -> Vec<(u64, SocketChange)> {
        let waiting = waiting.iter().copied().map(SocketId).collect();
        let told = known.differences(found, &waiting);
        told.into_iter().map(|(event, _)| (event.id.0, event.change)).collect()
    }

    fn close() -> SocketChange {
        SocketChange::Close { sent: None, received: None }
    }

    #[test]
    fn a_socket_is_told_once_and_closed_when_two_readings_miss_it() {
        let mut known = Known::default();
        let listener = || vec![socket(1, Protocol::Tcp, State::Listen, None)];
        let first = told(&mut known, listener(), &[]);
        assert!(matches!(first.as_slice(), [(1, SocketChange::Seen { .. })]), "{first:?}");
        assert_eq!(told(&mut known, listener(), &[]), []);
        assert_eq!(told(&mut known, vec![], &[]), []);
        assert_eq!(told(&mut known, listener(), &[]), [], "one reading may miss what is there");
        assert_eq!(told(&mut known, vec![], &[]), []);
        assert_eq!(told(&mut known, vec![], &[]), [(1, close())]);
        assert_eq!(told(&mut known, vec![], &[]), []);
    }

    #[test]
    fn what_is_left_of_a_connection_closes_it_at_once_and_is_not_told_itself() {
        let mut known = Known::default();
        told(&mut known, vec![socket(1, Protocol::Tcp, State::Established, Some(443))], &[]);
        let remnants = vec![
            socket(1, Protocol::Tcp, State::TimeWait, Some(443)),
            socket(2, Protocol::Tcp, State::TimeWait, Some(443)),
        ];
        assert_eq!(told(&mut known, remnants, &[]), [(1, close())]);
    }

    #[test]
    fn steps_between_two_readings_are_told_by_their_names() {
        let mut known = Known::default();
        let before = vec![
            socket(1, Protocol::Tcp, State::SynSent, Some(443)),
            socket(2, Protocol::Tcp, State::Established, Some(443)),
            socket(3, Protocol::Udp, State::Close, None),
        ];
        told(&mut known, before, &[2]);
        let after = vec![
            socket(1, Protocol::Tcp, State::Established, Some(443)),
            socket(2, Protocol::Tcp, State::Established, Some(443)),
            socket(3, Protocol::Udp, State::Established, Some(53)),
        ];
        let steps = [(1, SocketChange::Established), (2, SocketChange::Accept), (3, SocketChange::Connect)];
        assert_eq!(told(&mut known, after, &[]), steps);
    }

    #[test]
    fn who_has_a_socket_there_is_told_beside_a_step_and_when_that_is_over() {
        let mut known = Known::default();
        let shell = |state, users: &[u32]| {
            let mut shell = socket(1, Protocol::Tcp, state, Some(443));
            let on = |pid| Stdio {
                socket: SocketId(1),
                process: ProcessId { pid, started: 1 },
                descriptors: vec![0],
            };
            let stdio = Some(users.iter().copied().map(on).collect());
            let change = SocketChange::Seen { holders: Vec::new(), stdio };
            shell.0.event.change = change.clone();
            (shell, change)
        };
        told(&mut known, vec![shell(State::SynSent, &[]).0], &[]);
        let (begun, is_there) = shell(State::Established, &[7]);
        let expected = [(1, SocketChange::Established), (1, is_there)];
        assert_eq!(told(&mut known, vec![begun.clone()], &[]), expected);
        assert_eq!(told(&mut known, vec![begun], &[]), []);
        let (over, is_gone) = shell(State::Established, &[]);
        assert_eq!(told(&mut known, vec![over], &[]), [(1, is_gone)]);
    }

    #[test]
    fn long_readings_stretch_the_period() {
        assert_eq!(next(1_000, 10_000_000), 1_000 + 500_000_000);
        assert_eq!(next(1_000, 200_000_000), 1_000 + 2_000_000_000);
    }

    #[test]
    fn every_event_of_the_base_set_is_spoken_of() {
        let rows = coverage(&["the moon".to_owned()]);
        for event in crate::bpf::loader::BASE.iter().chain(&["seen", "the moon"]) {
            assert!(rows.iter().any(|row| row.event == *event), "{event}");
        }
    }
}
