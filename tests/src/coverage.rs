//! What each hook plan tells of every way of talking, as a table: the live runs claim it (`scenarios/ways`),
//! and `docs/coverage.md` is this table as text.

use std::fmt::Write;

use crate::actor::{Mode, Way};
use crate::tracer::Plan;

/// The plans that have hooks, in the order of the columns.
pub const PLANS: [Plan; 3] = [Plan::Fentry, Plan::Kprobe, Plan::Tracepoint];

/// Who acts, and how.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// A process reaches a peer's TCP listener.
    Session(Way),
    /// A process reaches a peer's UDP port.
    Datagram(Way),
    /// As [`Act::Session`], to the peer's process: the number is filled in when it is known.
    SessionNear(fn(u32) -> Way),
    /// A process accepts by io_uring.
    Accept(Mode),
}

/// An event that is told with the process that acted.
pub struct Told {
    /// `event`.
    pub event: &'static str,
    /// How many sockets or datagrams it is told of.
    pub count: u64,
    /// Plans that tell it otherwise with this process: how often, where 0 is not at all, and why.
    pub otherwise: &'static [(Plan, u64, &'static str)],
}

impl Told {
    /// How often the plan tells it with the process that acted.
    #[must_use]
    pub fn under(&self, plan: Plan) -> u64 {
        self.otherwise.iter().find(|(other, ..)| *other == plan).map_or(self.count, |(_, count, _)| *count)
    }
}

/// A way of talking.
pub struct Case {
    /// The scenario's name.
    pub name: &'static str,
    /// What is done.
    pub what: &'static str,
    /// How it is done here.
    pub act: Act,
    /// The socket's `protocol`.
    pub protocol: &'static str,
    /// What is told of it.
    pub told: &'static [Told],
}

const fn told(event: &'static str) -> Told {
    Told { event, count: 1, otherwise: &[] }
}

const fn twice(event: &'static str) -> Told {
    Told { event, count: 2, otherwise: &[] }
}

const SESSION: &[Told] = &[told("connect"), told("established")];
const TWO_SESSIONS: &[Told] = &[twice("connect"), twice("established")];
const DATAGRAM: &[Told] = &[told("udp")];
const ACCEPT: &[Told] = &[told("accept")];
const CORKED: &[Told] = &[Told {
    event: "udp",
    count: 1,
    otherwise: &[(Plan::Fentry, 2, EACH_WRITE), (Plan::Kprobe, 2, EACH_WRITE)],
}];
const EACH_WRITE: &str = "each write counts";
const CONNECTED: &[Told] = &[told("connect"), told("udp")];

const fn tcp(name: &'static str, what: &'static str, way: Way) -> Case {
    Case { name, what, act: Act::Session(way), protocol: "tcp", told: SESSION }
}

const fn udp(name: &'static str, what: &'static str, way: Way, told: &'static [Told]) -> Case {
    Case { name, what, act: Act::Datagram(way), protocol: "udp", told }
}

const fn accept(name: &'static str, what: &'static str, mode: Mode) -> Case {
    Case { name, what, act: Act::Accept(mode), protocol: "tcp", told: ACCEPT }
}

/// All ways.
pub const CASES: &[Case] = &[
    tcp("way-io-uring-connect", "`connect` by io_uring", Way::UringConnect(Mode::Inline)),
    tcp(
        "way-io-uring-connect-in-a-worker",
        "the same in a worker thread (`IOSQE_ASYNC`)",
        Way::UringConnect(Mode::Worker),
    ),
    tcp(
        "way-io-uring-connect-by-the-polling-thread",
        "the same by the polling thread (`SQPOLL`)",
        Way::UringConnect(Mode::Polling),
    ),
    accept("way-io-uring-accept", "`accept` by io_uring, without room for the address", Mode::Inline),
    accept("way-io-uring-accept-in-a-worker", "the same in a worker thread", Mode::Worker),
    accept("way-io-uring-accept-by-the-polling-thread", "the same by the polling thread", Mode::Polling),
    udp("way-io-uring-sendmsg", "a datagram by io_uring's `sendmsg`", Way::UringSend(Mode::Inline), DATAGRAM),
    udp(
        "way-io-uring-sendmsg-in-a-worker",
        "the same in a worker thread",
        Way::UringSend(Mode::Worker),
        DATAGRAM,
    ),
    udp(
        "way-io-uring-sendmsg-by-the-polling-thread",
        "the same by the polling thread",
        Way::UringSend(Mode::Polling),
        DATAGRAM,
    ),
    Case {
        name: "way-tcp-fast-open-sendto",
        what: "TCP fast open by `sendto`, without and with a cookie",
        act: Act::Session(Way::FastOpenSend),
        protocol: "tcp",
        told: TWO_SESSIONS,
    },
    tcp("way-tcp-fast-open-connect", "TCP fast open by `TCP_FASTOPEN_CONNECT`", Way::FastOpenConnect),
    tcp("way-multipath-tcp", "`connect` of an MPTCP socket", Way::Multipath),
    tcp("way-32-bit-connect", "`connect` by `int $0x80`", Way::Compat),
    Case {
        name: "way-connect-dissolved-and-connect-again",
        what: "`connect`, `AF_UNSPEC`, `connect` of one socket",
        act: Act::Session(Way::Again),
        protocol: "tcp",
        told: TWO_SESSIONS,
    },
    tcp("way-connect-to-itself", "`connect` of a socket to its own address", Way::ToItself),
    tcp(
        "way-connect-in-a-thread-of-another-name",
        "`connect` in a thread called `kworker/0:1`",
        Way::OtherThread,
    ),
    Case {
        name: "way-connect-from-another-namespace",
        what: "`connect` by a process that has left the socket's namespace",
        act: Act::SessionNear(Way::FromAbroad),
        protocol: "tcp",
        told: SESSION,
    },
    Case {
        name: "way-connect-after-a-change-of-namespace",
        what: "`connect` by a process that has entered another namespace",
        act: Act::SessionNear(Way::Moved),
        protocol: "tcp",
        told: SESSION,
    },
    tcp("way-socket-passed-on", "a socket passed to another process (`SCM_RIGHTS`)", Way::Passed),
    tcp("way-socket-taken-by-another", "`connect` by who took the socket with `pidfd_getfd`", Way::Stolen),
    tcp("way-exec-after-connect", "`exec` of another program after `connect`", Way::BeforeExec),
    udp("way-udp-sendto", "`sendto` once", Way::Send, DATAGRAM),
    udp(
        "way-udp-sendmmsg",
        "three datagrams by `sendmmsg`",
        Way::SendThree,
        &[Told { event: "udp", count: 3, otherwise: &[] }],
    ),
    udp("way-udp-connect", "`connect` alone", Way::Connect, &[told("connect")]),
    udp("way-udp-connect-and-write", "`connect` and `write`", Way::ConnectAndWrite, CONNECTED),
    udp("way-udp-connect-and-sendfile", "`connect` and `sendfile`", Way::SendFile, CONNECTED),
    udp("way-udp-cork", "one datagram of two corked writes", Way::Cork, CORKED),
    Case {
        name: "way-udp-lite",
        what: "a UDP-Lite datagram",
        act: Act::Datagram(Way::Lite),
        protocol: "udplite",
        told: DATAGRAM,
    },
];

/// The table as `docs/coverage.md` has it.
#[must_use]
pub fn document() -> String {
    let mut text = HEAD.to_owned();
    for case in CASES {
        let cells: Vec<String> = PLANS.iter().map(|plan| cell(case, *plan)).collect();
        let _ = writeln!(text, "| {} | {} | {} |", case.what, case.protocol, cells.join(" | "));
    }
    text
}

const HEAD: &str = "\
# What each hook plan tells of every way of talking

Each line is a live test on every kernel of the matrix that has what it needs: the events are told, so many times, with
the process that acted. The plan `poll` has no hooks: it sees of all these what is still there when it looks.
This page is `tests/src/coverage.rs` as text; a test compares the two.

| what a process does | socket | fentry | kprobe | tracepoint |
| --- | --- | --- | --- | --- |
";

fn cell(case: &Case, plan: Plan) -> String {
    let one = |told: &Told| {
        let why = told.otherwise.iter().find(|(other, ..)| *other == plan);
        let why = why.map_or_else(String::new, |(.., why)| format!(" ({why})"));
        match told.under(plan) {
            0 => format!("~~{}~~{why}", told.event),
            1 => format!("{}{why}", told.event),
            count => format!("{} ×{count}{why}", told.event),
        }
    };
    case.told.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/coverage.md");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap();
        assert!(kept == document(), "run this test with BLESS=1 and look at what changed");
    }

    #[test]
    fn what_a_plan_tells_otherwise_has_a_reason() {
        let otherwise = CASES.iter().flat_map(|case| case.told).flat_map(|told| told.otherwise);
        assert!(otherwise.into_iter().all(|(plan, _, why)| PLANS.contains(plan) && !why.is_empty()));
        assert!(CASES.iter().all(|case| !case.told.is_empty()));
    }
}
