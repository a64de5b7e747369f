//! The pipeline from events to what is said, without a kernel.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::model::event::{
    Attribution, BootNanos, Endpoint, Family, Lost, PolicyFile, Process, ProcessId, Protocol, SocketChange,
    SocketEvent, SocketId, State,
};

const NETNS: u32 = 4_026_531_840;
const OUTSIDE: &str = "9.1.1.2:443";

/// Feeds an engine with events of one namespace and keeps what it says.
struct Script {
    engine: Engine,
    now: BootNanos,
}

impl Script {
    fn new() -> Self {
        let mut script = Self { engine: Engine::default(), now: 1_000_000_000 };
        for (pid, exe) in [(10, "/usr/bin/one"), (20, "/usr/bin/two")] {
            script.fact(Fact::Process(Box::new(process(pid, exe))));
        }
        script
    }

    fn fact(&mut self, fact: Fact) -> Vec<String> {
        self.now += 1_000_000;
        let mut said = Vec::new();
        let event = Event { at: self.now, fact };
        self.engine.step(&event, &mut |output| said.push(told(&output.body))).unwrap();
        said
    }

    fn socket(&mut self, event: SocketEvent) -> Vec<String> {
        self.fact(Fact::Socket(event))
    }

    fn listen(&mut self, id: u64, pid: u32, local: &str) -> Vec<String> {
        self.socket(event(id, pid, SocketChange::Listen, State::Listen, local, None))
    }

    fn bind(&mut self, id: u64, pid: u32, local: &str) -> Vec<String> {
        let bound = event(id, pid, SocketChange::Bind, State::Close, local, None);
        self.socket(SocketEvent { protocol: Protocol::Udp, ..bound })
    }

    fn connect(&mut self, id: u64, pid: u32, local: &str, remote: &str) -> Vec<String> {
        self.socket(event(id, pid, SocketChange::Connect, State::SynSent, local, Some(remote)))
    }

    fn close(&mut self, id: u64) -> Vec<String> {
        let change = SocketChange::Close { sent: Some(5), received: Some(3) };
        self.socket(SocketEvent { process: None, ..event(id, 0, change, State::Close, "0.0.0.0:0", None) })
    }

    fn datagrams(&mut self, id: u64, local: &str, remote: &str, sent: bool, count: u64) -> Vec<String> {
        let change = SocketChange::Datagrams { sent, count };
        let udp = event(id, 10, change, State::Close, local, Some(remote));
        self.socket(SocketEvent { protocol: Protocol::Udp, ..udp })
    }
}

fn process(pid: u32, exe: &str) -> Process {
    Process {
        id: ProcessId { pid, started: 1 },
        ppid: Some(1),
        comm: Some("x".to_owned()),
        exe: Some(exe.to_owned()),
        exe_file: Some((1, pid.into())),
        args: Some(Vec::new()),
        uid: Some(0),
        user: Some("root".to_owned()),
        lineage: Vec::new(),
        unknown: None,
    }
}

fn end(text: &str) -> Endpoint {
    let end: std::net::SocketAddr = text.parse().unwrap();
    Endpoint { ip: end.ip(), port: end.port() }
}

fn event(
    id: u64,
    pid: u32,
    change: SocketChange,
    state: State,
    local: &str,
    remote: Option<&str>,
) -> SocketEvent {
    SocketEvent {
        id: SocketId(id),
        change,
        netns: Some(NETNS),
        protocol: Protocol::Tcp,
        family: if local.starts_with('[') { Family::Ipv6 } else { Family::Ipv4 },
        state,
        local: Some(end(local)),
        remote: remote.map(end),
        v6only: false,
        port_bound: true,
        process: Some((ProcessId { pid, started: 1 }, Attribution::Exact)),
    }
}

/// One record in a few words: `flag 7 listen research unexplained-listener`.
fn told(body: &Body<'_>) -> String {
    let words = |kind: &str, report: &Report<'_>| {
        let rules: Vec<_> = report.rules.iter().map(|spoken| spoken.rule).collect();
        let verdict = report.verdict.as_str();
        let (id, event) = (report.socket.id.0, report.event.as_str());
        format!("{kind} {id} {event} {verdict} {}", rules.join(" ")).trim_end().to_owned()
    };
    match body {
        Body::Start { .. } => "start".to_owned(),
        Body::Flag(_, report) => words("flag", report),
        Body::Clear(_, report) => words("clear", report),
        Body::Event(report) => words("event", report),
        Body::Gap(lost) => format!("gap {} {}", lost.stage.as_str(), lost.count),
        Body::Degraded(degraded) => format!("degraded {} {}", degraded.hook, degraded.delivers),
        Body::End(totals) => format!("end {} {} {}", totals.events, totals.flags, totals.lost),
    }
}

#[test]
fn a_listener_beyond_loopback_is_flagged_and_cleared_when_it_closes() {
    let mut script = Script::new();
    assert_eq!(script.listen(7, 10, "0.0.0.0:4444"), ["flag 7 listen research unexplained-listener"]);
    assert_eq!(script.close(7), ["event 7 close ok", "clear 7 close ok"]);
}

#[test]
fn a_listener_on_loopback_is_left_aside() {
    let mut script = Script::new();
    for (id, local) in [(1, "127.0.0.1:80"), (2, "127.9.9.9:80"), (3, "[::1]:80")] {
        assert_eq!(script.listen(id, 10, local), [format!("event {id} listen ok loopback-only")]);
    }
}

#[test]
fn a_session_is_flagged_once_at_its_attempt() {
    let mut script = Script::new();
    let flagged = "flag 7 connect research unexplained-session";
    assert_eq!(script.connect(7, 10, "9.1.1.1:40000", OUTSIDE), [flagged]);
    let established =
        event(7, 0, SocketChange::Established, State::Established, "9.1.1.1:40000", Some(OUTSIDE));
    let told = script.socket(SocketEvent { process: None, ..established });
    assert_eq!(told, ["event 7 established research unexplained-session"]);
    assert_eq!(script.close(7), ["event 7 close ok", "clear 7 close ok"]);
}

#[test]
fn a_connect_that_no_hook_saw_begin_is_told_before_it_failed() {
    let mut script = Script::new();
    let failed = SocketChange::Failed { errno: Some(101) };
    let told = script.socket(event(7, 10, failed, State::Close, "0.0.0.0:0", Some(OUTSIDE)));
    let expected = ["flag 7 connect research unexplained-session", "event 7 failed ok", "clear 7 failed ok"];
    assert_eq!(told, expected);
}

#[test]
fn a_connect_is_told_once_when_its_local_end_comes_later() {
    let mut script = Script::new();
    assert_eq!(script.connect(7, 10, "0.0.0.0:0", "127.0.0.1:80").len(), 1);
    assert_eq!(script.connect(7, 10, "127.0.0.1:40000", "127.0.0.1:80"), [""; 0]);
    assert_eq!(script.engine.known.host.get(SocketId(7)).unwrap().local.port, 40000);
}

#[test]
fn the_twin_takes_a_udp_flag_back_and_its_end_brings_it_again() {
    let mut script = Script::new();
    assert_eq!(script.bind(1, 10, "0.0.0.0:5353"), ["flag 1 bind research unexplained-udp"]);
    let appears = script.listen(2, 10, "0.0.0.0:5353");
    assert_eq!(
        appears,
        ["flag 2 listen research unexplained-listener unknown-service", "clear 1 listen research udp-twin"]
    );
    let goes = script.close(2);
    let expected = ["event 2 close ok", "clear 2 close ok", "flag 1 close research unexplained-udp"];
    assert_eq!(goes, expected);
}

#[test]
fn a_twin_of_another_program_is_suspicious() {
    let mut script = Script::new();
    script.listen(2, 20, "0.0.0.0:5353");
    let told = script.bind(1, 10, "0.0.0.0:5353");
    assert_eq!(told, ["flag 1 bind suspicious twin-other-owner unexplained-udp"]);
}

#[test]
fn a_twin_must_overlap_in_scope_and_namespace() {
    let mut script = Script::new();
    script.listen(2, 10, "9.1.1.1:5353");
    assert_eq!(script.bind(1, 10, "9.1.1.9:5353"), ["flag 1 bind research unexplained-udp"]);
    assert_eq!(script.bind(3, 10, "9.1.1.1:5353"), ["event 3 bind research udp-twin"]);
    let mut elsewhere = event(4, 10, SocketChange::Bind, State::Close, "9.1.1.1:5353", None);
    elsewhere.protocol = Protocol::Udp;
    elsewhere.netns = Some(NETNS + 1);
    assert_eq!(script.socket(elsewhere), ["flag 4 bind research unexplained-udp"]);
}

#[test]
fn a_loopback_listener_becomes_a_relay_with_its_owners_session_and_is_cleared_with_its_end() {
    let mut script = Script::new();
    script.listen(1, 10, "127.0.0.1:1080");
    let told = script.connect(2, 10, "9.1.1.1:40000", OUTSIDE);
    assert_eq!(
        told,
        [
            "flag 2 connect research unexplained-session",
            "flag 1 connect suspicious loopback-relay loopback-only"
        ]
    );
    let ended = script.close(2);
    assert_eq!(ended, ["event 2 close ok", "clear 2 close ok", "clear 1 close ok loopback-only"]);
}

#[test]
fn another_process_session_makes_no_relay() {
    let mut script = Script::new();
    script.listen(1, 10, "127.0.0.1:1080");
    assert_eq!(script.connect(2, 20, "9.1.1.1:40000", OUTSIDE).len(), 1);
}

#[test]
fn an_inbound_connection_that_nobody_takes_is_flagged_after_its_grace() {
    let mut script = Script::new();
    script.listen(1, 10, "0.0.0.0:80");
    let arrives = event(2, 0, SocketChange::Incoming, State::Established, "9.1.1.1:80", Some(OUTSIDE));
    assert_eq!(script.socket(SocketEvent { process: None, ..arrives }), [""; 0]);
    assert_eq!(script.fact(Fact::Tick), [""; 0]);
    script.now = script.engine.next_deadline().unwrap();
    assert_eq!(script.fact(Fact::Tick), ["flag 2 established research unexplained-session"]);
    let accept = event(2, 20, SocketChange::Accept, State::Established, "9.1.1.1:80", Some(OUTSIDE));
    assert_eq!(script.socket(accept), ["event 2 accept research unexplained-session"]);
}

#[test]
fn an_accept_in_time_is_the_first_that_is_told() {
    let mut script = Script::new();
    script.listen(1, 10, "0.0.0.0:80");
    let arrives = event(2, 0, SocketChange::Incoming, State::Established, "9.1.1.1:80", Some(OUTSIDE));
    script.socket(SocketEvent { process: None, ..arrives });
    let accept = event(2, 20, SocketChange::Accept, State::Established, "9.1.1.1:80", Some(OUTSIDE));
    assert_eq!(script.socket(accept.clone()), ["flag 2 accept research unexplained-session"]);
    assert_eq!(script.socket(accept), [""; 0]);
    let socket = script.engine.known.host.get(SocketId(2)).unwrap();
    assert_eq!(socket.owner.as_ref().map(|owner| owner.id.pid), Some(20));
}

#[test]
fn one_datagram_is_told_and_a_repeated_flow_is_flagged() {
    let mut script = Script::new();
    let local = "9.1.1.1:40000";
    let mut first =
        event(1, 10, SocketChange::Datagrams { sent: true, count: 1 }, State::Close, local, Some(OUTSIDE));
    (first.protocol, first.port_bound) = (Protocol::Udp, false);
    assert_eq!(script.socket(first.clone()), ["event 1 udp ok"]);
    assert_eq!(script.socket(first), ["flag 1 udp research unexplained-session"]);
}

#[test]
fn a_connected_udp_socket_is_flagged_at_its_connect() {
    let mut script = Script::new();
    let mut connect = event(1, 10, SocketChange::Connect, State::Close, "0.0.0.0:0", Some(OUTSIDE));
    (connect.protocol, connect.port_bound) = (Protocol::Udp, false);
    assert_eq!(script.socket(connect), ["flag 1 connect research unexplained-session"]);
}

#[test]
fn a_port_left_to_the_kernel_is_a_servers_until_the_socket_sends_first() {
    let mut script = Script::new();
    let mut bind = event(1, 10, SocketChange::Bind, State::Close, "0.0.0.0:40000", None);
    (bind.protocol, bind.port_bound) = (Protocol::Udp, false);
    assert_eq!(script.socket(bind), ["flag 1 bind research unexplained-udp unknown-service"]);
    let mut send = event(
        1,
        10,
        SocketChange::Datagrams { sent: true, count: 1 },
        State::Close,
        "0.0.0.0:40000",
        Some(OUTSIDE),
    );
    (send.protocol, send.port_bound) = (Protocol::Udp, false);
    assert_eq!(script.socket(send), ["event 1 udp ok", "clear 1 udp ok"]);
}

#[test]
fn a_session_with_an_own_address_is_no_remote_session() {
    let mut script = Script::new();
    let own = vec![IpAddr::from([9, 1, 1, 1]), IpAddr::from([9, 1, 1, 7])];
    script.fact(Fact::Addresses { netns: NETNS, own });
    let told = script.connect(1, 10, "9.1.1.1:40000", "9.1.1.7:443");
    assert_eq!(told, ["event 1 connect ok loopback-only"]);
}

#[test]
fn an_address_that_becomes_own_takes_the_flag_back() {
    let mut script = Script::new();
    script.connect(1, 10, "9.1.1.1:40000", "9.1.1.7:443");
    let told = script.fact(Fact::Addresses { netns: NETNS, own: vec![IpAddr::from([9, 1, 1, 7])] });
    assert_eq!(told, ["clear 1 seen ok loopback-only"]);
}

#[test]
fn a_policy_entry_explains_and_is_named() {
    let mut script = Script::new();
    let text = "[[expect]]\nname = \"web\"\nkind = \"listener\"\nexe = \"/usr/bin/one\"\nlocal_port = 443\n";
    script.fact(Fact::Policy(PolicyFile { path: "p.toml".to_owned(), text: text.to_owned() }));
    assert_eq!(script.listen(1, 10, "0.0.0.0:443"), ["event 1 listen explained"]);
    assert_eq!(script.listen(2, 20, "0.0.0.0:443"), ["flag 2 listen research unexplained-listener"]);
}

#[test]
fn a_socket_that_a_rereading_does_not_find_is_taken_back() {
    let mut script = Script::new();
    script.listen(1, 10, "0.0.0.0:4444");
    let from = script.now + 1;
    let lost = Lost { stage: crate::model::event::LostStage::Ring, count: 9, from, to: from, resynced: true };
    assert_eq!(script.fact(Fact::Reread { from }), ["clear 1 seen ok"]);
    assert_eq!(script.fact(Fact::Lost(lost)), ["gap ring 9"]);
    assert_eq!(script.fact(Fact::End), ["end 1 1 9"]);
}

#[test]
fn a_contradiction_of_state_and_remote_is_suspicious_whatever_explains() {
    let mut script = Script::new();
    let listen = event(1, 10, SocketChange::Listen, State::Listen, "0.0.0.0:4444", Some(OUTSIDE));
    assert_eq!(script.socket(listen), ["flag 1 listen suspicious listen-with-remote unexplained-listener"]);
    let seen = SocketChange::Seen { holders: vec![ProcessId { pid: 10, started: 1 }] };
    let told = script.socket(event(2, 10, seen, State::Established, "9.1.1.1:5", None));
    assert_eq!(told, ["flag 2 seen suspicious active-without-remote"]);
}

proptest! {
    /// Whatever happens to a few sockets in whatever order: nothing panics, a flag is cleared only
    /// when it stands, and it stands at most once for each socket.
    #[test]
    fn flags_and_clears_alternate(steps in proptest::collection::vec((0..7u8, 1..5u64, 0..3usize), 0..60)) {
        let mut script = Script::new();
        let locals = ["0.0.0.0:53", "127.0.0.1:53", "9.1.1.1:53"];
        let mut standing = std::collections::BTreeSet::new();
        for (what, id, place) in steps {
            let local = locals[place];
            let told = match what {
                0 => script.listen(id, 10, local),
                1 => script.bind(id + 10, 20, local),
                2 => script.connect(id, 10, local, OUTSIDE),
                3 => script.close(id),
                4 => script.close(id + 10),
                5 => script.datagrams(id + 10, local, OUTSIDE, place == 0, 2),
                _ => script.fact(Fact::Tick),
            };
            for line in told {
                let words: Vec<&str> = line.split(' ').collect();
                if words[0] == "flag" {
                    standing.insert(words[1].to_owned());
                } else if words[0] == "clear" {
                    prop_assert!(standing.remove(words[1]), "cleared what does not stand: {line}");
                }
            }
        }
    }
}
