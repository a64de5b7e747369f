//! Records that the tests of this directory share.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use crate::{
    model::{
        address::{BindScope, Direction, RemoteClass},
        belongs::{Belongs, Container, Runtime},
        event::{
            Ancestor, Attribution, Coverage, Degraded, Endpoint, Family, Life, LifeChange, Lost, LostStage,
            Process, ProcessId, Protocol, SocketId, Start, State,
        },
    },
    output::{
        Body, EventKind, FlagId, Output, RemoteView, Report, Role, SocketView, Spoken, Totals, Verdict,
    },
};

/// 2026-11-22T21:04:05.123456789Z
pub(super) const TIME: i64 = 1_795_381_445_123_456_789;
/// The machine was started 1000 seconds before that.
pub(super) const CLOCK_OFFSET: i64 = TIME - 1000 * 1_000_000_000;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn end(address: &str, port: u16) -> Endpoint {
    Endpoint { ip: ip(address), port }
}

pub(super) fn at(body: Body<'_>) -> Output<'_> {
    Output { time: TIME, body }
}

/// Outputs are lent; those of the samples last as long as the tests.
fn lent<'a, T: 'a>(value: T) -> &'a T {
    Box::leak(Box::new(value))
}

pub(super) fn start() -> Output<'static> {
    let part = |event: &str, by: Option<&str>, why: Option<&str>| Coverage {
        event: event.into(),
        by: by.map(Into::into),
        why: why.map(Into::into),
    };
    let start = Start {
        version: "0.1.0".into(),
        kernel: "6.18.0".into(),
        hooks: "tracepoint".into(),
        netns: None,
        provenance: true,
        coverage: vec![
            part("listen", Some("state_change"), None),
            part("bind", None, Some("no hook sees it")),
        ],
    };
    at(Body::Start { start: lent(start), policy: lent(["base.toml".into()]) })
}

pub(super) fn netcat() -> Process {
    Process {
        id: ProcessId { pid: 4242, started: 999_976_543_211 },
        ppid: Some(4200),
        comm: Some("nc".into()),
        exe: Some("/usr/bin/nc.openbsd".into()),
        exe_file: Some((2049, 77)),
        args: Some(["nc", "-l", "4444"].map(Into::into).to_vec()),
        uid: Some(1000),
        user: Some("ada".into()),
        lineage: vec![Ancestor { pid: 4200, comm: Some("bash".into()), exe: Some("/usr/bin/bash".into()) }],
        unknown: None,
        provenance: None,
        belongs: None,
    }
}

/// The process as research finds that it belongs there.
pub(super) fn belonging(belongs: Belongs) -> Option<&'static Arc<Process>> {
    Some(lent(Arc::new(Process { belongs: Some(Arc::new(belongs)), ..netcat() })))
}

/// The flag of the contract's example.
pub(super) fn listener() -> Report<'static> {
    Report {
        event: EventKind::Listen,
        verdict: Verdict::Research,
        flagged: true,
        rules: lent([Spoken {
            rule: "unexplained-listener",
            why: "TCP port 4444 is open on every interface and nothing explains it".to_owned().into(),
        }]),
        explained_by: None,
        socket: SocketView {
            id: SocketId(15006),
            netns: Some(4_026_531_840),
            netns_name: None,
            protocol: Protocol::Tcp,
            family: Family::Ipv4,
            state: State::Listen,
            local: end("0.0.0.0", 4444),
            scope: BindScope::Any,
            remote: None,
            direction: None,
            role: None,
        },
        process: Some(lent(Arc::new(netcat()))),
        process_unknown: None,
        attribution: Attribution::Exact,
        opener: None,
        holders: &[],
        error: None,
        bytes_sent: None,
        bytes_received: None,
        duration_ms: None,
        count: None,
    }
}

/// The same in a container, for somebody else who logged in.
pub(super) fn contained() -> Report<'static> {
    let id = "3f2a9c1b7d550123456789abcdef0123456789abcdef0123456789abcdef0123";
    let belongs = Belongs {
        login_uid: Some(1001),
        login_user: Some("bob".into()),
        session: Some(3),
        cgroup: Some(format!("/system.slice/docker-{id}.scope")),
        unit: Some(format!("docker-{id}.scope")),
        user_unit: None,
        container: Some(Container { id: id.into(), runtime: Some(Runtime::Docker) }),
    };
    Report { process: belonging(belongs), ..listener() }
}

/// An outbound IPv6 session of a process that is gone.
pub(super) fn session(event: EventKind, state: State) -> Report<'static> {
    let socket = SocketView {
        id: SocketId(u64::MAX),
        netns: None,
        family: Family::Ipv6,
        state,
        local: end("2001:db8::5", 0),
        scope: BindScope::Specific,
        remote: Some(RemoteView {
            end: end("2606:4700::1111", 443),
            class: RemoteClass::Internet,
            service: Some("https"),
        }),
        direction: Some(Direction::Outbound),
        ..listener().socket
    };
    Report {
        event,
        verdict: Verdict::Ok,
        rules: &[],
        socket,
        process: None,
        process_unknown: Some("it ended before it was read".into()),
        attribution: Attribution::Unknown,
        ..listener()
    }
}

/// A UDP server, found in the baseline.
pub(super) fn udp_server() -> Report<'static> {
    let mut report = listener();
    report.event = EventKind::Seen;
    report.verdict = Verdict::Suspicious;
    let twin = Spoken { rule: "twin-other-owner", why: "sshd owns TCP port 4444".to_owned().into() };
    report.rules = lent([twin, report.rules[0].clone()]);
    report.attribution = Attribution::Holder;
    report.socket.protocol = Protocol::Udp;
    report.socket.state = State::Close;
    report.socket.role = Some(Role::Server);
    report.process = Some(lent(Arc::new(Process {
        comm: None,
        exe: None,
        args: None,
        user: None,
        ppid: None,
        lineage: vec![Ancestor { pid: 1, comm: None, exe: None }],
        ..netcat()
    })));
    report
}

/// A listener that the process was given by another, and that it shares with so many others.
pub(super) fn shared_listener(others: u32) -> Report<'static> {
    let worker = |pid| Process {
        id: ProcessId { pid, started: 1 },
        comm: Some(r"wor\x1bker".into()),
        exe: (pid != 5000).then(|| "/usr/sbin/a \"server\"".into()),
        ..netcat()
    };
    let holders = (0..others).map(|number| Arc::new(worker(5000 + number)));
    let holders: Vec<_> = [Arc::new(netcat())].into_iter().chain(holders).collect();
    let opener =
        Process { id: ProcessId { pid: 1, started: 1 }, comm: Some("systemd".into()), exe: None, ..netcat() };
    Report { opener: Some(lent(opener)), holders: lent(holders), ..listener() }
}

pub(super) fn flag(id: u64, report: Report<'_>) -> Output<'_> {
    at(Body::Flag(FlagId(id), lent(report)))
}

pub(super) fn clear(id: u64, report: Report<'_>) -> Output<'_> {
    at(Body::Clear(FlagId(id), lent(report)))
}

pub(super) fn event(report: Report<'_>) -> Output<'_> {
    at(Body::Event(lent(report)))
}

pub(super) fn life(change: LifeChange) -> Output<'static> {
    at(Body::Life(lent(Life { process: netcat(), change })))
}

pub(super) fn gap(count: u64) -> Output<'static> {
    let (from, to) = (998_000_000_000, 1_000_000_000_000);
    at(Body::Gap(lent(Lost { stage: LostStage::Ring, count, from, to, resynced: false })))
}

pub(super) fn degraded(delivers: bool) -> Output<'static> {
    let (unseen, why) = if delivers { (vec![], "delivers again") } else { (vec!["udp"], "it was detached") };
    let unseen = unseen.into_iter().map(Into::into).collect();
    at(Body::Degraded(lent(Degraded { hook: "cgroup sendmsg4".into(), unseen, why: why.into(), delivers })))
}

pub(super) fn finish() -> Output<'static> {
    let rules = BTreeMap::from([("unexplained-listener", 2), ("unexplained-session", 1)]);
    at(Body::End(lent(Totals { events: 1204, flags: 3, clears: 1, lost: 5, rules })))
}
