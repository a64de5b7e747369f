//! The pipeline from events to what is said, without a kernel.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::model::belongs::Belongs;
use crate::model::event::{
    Ancestor, Attribution, BootNanos, Endpoint, Family, Life, LifeChange, Lost, PolicyFile, Process,
    ProcessId, Protocol, SocketChange, SocketEvent, SocketId, State, Stdio,
};
use crate::model::provenance::{self, FileState, Layer, Package, Provenance, Shipped};

mod explained;

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

    /// Who has to do with the socket of each record that an event gives.
    fn hands(&mut self, event: SocketEvent) -> Vec<String> {
        self.now += 1_000_000;
        let (mut said, event) = (Vec::new(), Event { at: self.now, fact: Fact::Socket(event) });
        let mut say = |output: &Output<'_>| {
            if let Body::Flag(_, report) | Body::Clear(_, report) | Body::Event(report) = &output.body {
                said.push(hands(report));
            }
        };
        self.engine.step(&event, &mut say).unwrap();
        said
    }

    fn held(&mut self, id: u64, pids: &[u32]) -> Vec<String> {
        let holders = pids.iter().map(|pid| ProcessId { pid: *pid, started: 1 }).collect();
        self.fact(Fact::Held { socket: SocketId(id), holders })
    }

    fn left_by(&self, pid: u32) -> Vec<u64> {
        let left = self.engine.left_by(&[ProcessId { pid, started: 1 }]);
        left.into_iter().map(|left| left.id.0).collect()
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
        provenance: None,
        belongs: None,
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

/// Who has to do with a socket, in a few words: `20 holder, opened by 10, held by 20 30`.
fn hands(report: &Report<'_>) -> String {
    let pid = |process: &Process| process.id.pid.to_string();
    let process = report.process.map_or_else(|| "?".to_owned(), |process| pid(process));
    let opener = report.opener.map(|opener| format!(", opened by {}", pid(opener))).unwrap_or_default();
    let holders: String = report.holders.iter().map(|holder| format!(" {}", pid(holder))).collect();
    let holders = if holders.is_empty() { holders } else { format!(", held by{holders}") };
    format!("{process} {}{opener}{holders}", format!("{:?}", report.attribution).to_lowercase())
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
        Body::Life(life) => format!("{} {}", life.change.as_str(), life.process.id.pid),
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
fn what_is_there_at_the_start_is_told_once_by_all_that_is_known() {
    let seen = |id, state, local, remote| {
        let holders = vec![ProcessId { pid: 10, started: 1 }];
        let change = SocketChange::Seen { holders, stdio: None };
        SocketEvent { process: None, ..event(id, 10, change, state, local, remote) }
    };
    // As long as it is not all there, and then by whatever comes.
    for whole in [Fact::Ready, Fact::Tick, Fact::End] {
        let mut script = Script::with_provenance(false);
        let door = seen(1, State::Listen, "127.0.0.1:1080", None);
        assert_eq!(script.socket(door.clone()), [""; 0]);
        let session = seen(2, State::Established, "9.1.1.1:40000", Some(OUTSIDE));
        assert_eq!(script.socket(session), [""; 0]);
        let told = script.fact(whole);
        let sockets = [
            "flag 1 seen suspicious loopback-relay loopback-only",
            "flag 2 seen research unexplained-session",
        ];
        assert_eq!(told[..2], sockets);
        // After that it is told as it comes.
        assert_eq!(script.socket(door), [""; 0]);
        let later = seen(3, State::Listen, "127.0.0.1:1081", None);
        assert_eq!(script.socket(later), ["flag 3 seen suspicious loopback-relay loopback-only"]);
    }
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

/// The process where it belongs, as research found it.
fn placed(pid: u32, exe: &str, unit: &str) -> Fact {
    let belongs = Belongs { unit: Some(unit.to_owned()), ..Belongs::default() };
    Fact::Process(Box::new(Process { belongs: Some(belongs.into()), ..process(pid, exe) }))
}

#[test]
fn a_policy_entry_explains_when_research_has_found_the_unit_and_no_longer_when_it_is_another() {
    let mut script = Script::new();
    let text = "[[expect]]\nname = \"web\"\nunit = \"web.service\"\n";
    script.fact(Fact::Policy(PolicyFile { path: "p.toml".to_owned(), text: text.to_owned() }));
    assert_eq!(script.listen(1, 10, "0.0.0.0:443"), ["flag 1 listen research unexplained-listener"]);
    assert_eq!(script.fact(placed(10, "/usr/bin/one", "web.service")), ["clear 1 seen explained"]);
    assert_eq!(script.fact(placed(10, "/usr/bin/one", "web.service")), [""; 0]);
    let moved = script.fact(placed(10, "/usr/bin/one", "session-3.scope"));
    assert_eq!(moved, ["flag 1 seen research unexplained-listener"]);
}

#[test]
fn a_namespace_is_called_by_its_name_until_that_is_gone() {
    let mut script = Script::new();
    let name = |script: &mut Script, id| {
        let event = event(id, 10, SocketChange::Listen, State::Listen, "0.0.0.0:443", None);
        let mut names = Vec::new();
        let event = Event { at: script.now, fact: Fact::Socket(event) };
        let mut note = |output: &Output<'_>| {
            if let Body::Flag(_, report) | Body::Event(report) = &output.body {
                names.push(report.socket.netns_name.map(str::to_owned));
            }
        };
        script.engine.step(&event, &mut note).unwrap();
        names
    };
    assert_eq!(name(&mut script, 1), [None]);
    script.fact(Fact::Namespace { netns: NETNS, name: Some("blue".to_owned()) });
    script.fact(Fact::Namespace { netns: 7, name: Some("red".to_owned()) });
    assert_eq!(name(&mut script, 2), [Some("blue".to_owned())]);
    script.fact(Fact::Namespace { netns: NETNS, name: None });
    assert_eq!(name(&mut script, 3), [None]);
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
    let seen = SocketChange::Seen { holders: vec![ProcessId { pid: 10, started: 1 }], stdio: None };
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

/// The process with that file, as research found it.
fn found(pid: u32, exe: &str, file: FileState, open_folder: Option<&str>) -> Fact {
    let open_folder = open_folder.map(str::to_owned);
    of_provenance(pid, exe, Provenance { file, open_folder, ..Provenance::default() })
}

fn packaged(pid: u32, exe: &str, package: Package) -> Fact {
    of_provenance(pid, exe, Provenance { package, ..Provenance::default() })
}

fn of_provenance(pid: u32, exe: &str, provenance: Provenance) -> Fact {
    Fact::Process(Box::new(Process { provenance: Some(provenance), ..process(pid, exe) }))
}

fn owned(state: Shipped) -> Package {
    Package::Owned { name: "one".to_owned(), state, believed: true }
}

#[test]
fn what_research_finds_raises_a_flag_that_stands_and_takes_it_back_to_what_it_was() {
    let mut script = Script::new();
    script.listen(7, 10, "0.0.0.0:22");
    let deleted = script.fact(found(10, "/usr/bin/one", FileState::Deleted, None));
    assert_eq!(deleted, ["flag 7 seen suspicious deleted-executable unexplained-listener"]);
    assert_eq!(script.fact(found(10, "/usr/bin/one", FileState::Deleted, None)), [""; 0]);
    let present = script.fact(found(10, "/usr/bin/one", FileState::Present, None));
    assert_eq!(present, ["flag 7 seen research unexplained-listener"]);
}

#[test]
fn each_fault_of_a_program_has_its_rule() {
    let mut script = Script::new();
    script.fact(found(10, "/tmp/one", FileState::Replaced, Some("/tmp")));
    script.fact(found(20, "/memfd:two", FileState::Memory, None));
    let flagged = "flag 7 listen suspicious deleted-executable temp-executable unexplained-listener";
    assert_eq!(script.listen(7, 10, "0.0.0.0:22"), [flagged]);
    let flagged = "flag 8 connect suspicious memory-executable unexplained-session";
    assert_eq!(script.connect(8, 20, "9.1.1.1:40000", OUTSIDE), [flagged]);
}

#[test]
fn a_fault_of_a_program_makes_nothing_of_what_is_left_aside() {
    let mut script = Script::new();
    script.fact(found(10, "/tmp/one", FileState::Present, Some("/tmp")));
    assert_eq!(script.listen(7, 10, "127.0.0.1:80"), ["event 7 listen ok temp-executable loopback-only"]);
}

fn stdio(socket: u64, pid: u32, descriptors: &[u8]) -> Fact {
    let process = ProcessId { pid, started: 1 };
    Fact::Stdio(Stdio { socket: SocketId(socket), process, descriptors: descriptors.to_vec() })
}

#[test]
fn an_exec_is_told_where_all_events_are() {
    let mut script = Script::new();
    let life = |change| Fact::Life(Box::new(Life { process: process(10, "/usr/bin/one"), change }));
    assert_eq!(script.fact(life(LifeChange::Exec)), ["exec 10"]);
    assert_eq!(script.fact(life(LifeChange::Exit)), ["exit 10"]);
    script.engine.quiet = true;
    assert_eq!(script.fact(life(LifeChange::Exec)), [""; 0]);
}

#[test]
fn a_socket_in_the_place_of_a_keyboard_is_suspicious_as_long_as_it_is_there() {
    let mut script = Script::new();
    script.connect(7, 10, "127.0.0.1:40000", "127.0.0.1:4444");
    let shell = script.fact(stdio(7, 20, &[0, 1, 2]));
    assert_eq!(shell, ["flag 7 seen suspicious shell-on-socket loopback-only"]);
    assert_eq!(script.fact(stdio(7, 10, &[0])), [""; 0]);
    assert_eq!(script.fact(stdio(7, 20, &[])), [""; 0]);
    assert_eq!(script.fact(stdio(7, 10, &[])), ["clear 7 seen ok loopback-only"]);
}

#[test]
fn what_a_picture_shows_of_keyboards_is_told_with_the_socket_and_taken_back_by_the_next() {
    let mut script = Script::new();
    let on = |pid, descriptors: &[u8]| {
        let process = ProcessId { pid, started: 1 };
        Stdio { socket: SocketId(7), process, descriptors: descriptors.to_vec() }
    };
    let picture = |stdio: Option<Vec<Stdio>>| {
        let holders = vec![ProcessId { pid: 10, started: 1 }];
        let seen = SocketChange::Seen { holders, stdio };
        event(7, 0, seen, State::Established, "127.0.0.1:40000", Some("127.0.0.1:4444"))
    };
    let there = Some(vec![on(99, &[0]), on(10, &[0, 1])]);
    let flag = ["flag 7 seen suspicious shell-on-socket loopback-only"];
    assert_eq!(script.socket(picture(there.clone())), flag);
    assert_eq!(script.socket(picture(there.clone())), [""; 0]);
    assert_eq!(script.socket(picture(None)), [""; 0], "a picture that does not show it takes nothing back");
    assert_eq!(script.socket(picture(Some(Vec::new()))), ["clear 7 seen ok loopback-only"]);
    assert_eq!(script.socket(picture(there)), flag);
}

#[test]
fn a_picture_of_an_older_recording_shows_nothing_of_keyboards() {
    let seen: SocketChange = serde_json::from_str(r#"{"seen":{"holders":[]}}"#).unwrap();
    assert_eq!(seen, SocketChange::Seen { holders: Vec::new(), stdio: None });
}

#[test]
fn a_policy_expects_a_server_that_is_started_for_a_connection() {
    let mut script = Script::new();
    let text = "[[expect]]\nname = \"inetd\"\nkind = \"session\"\nexe = \"/usr/bin/one\"\n".to_owned();
    script.fact(Fact::Policy(PolicyFile { path: "p".to_owned(), text }));
    script.connect(7, 10, "9.1.1.1:40000", OUTSIDE);
    assert_eq!(script.fact(stdio(7, 20, &[0, 1])), [""; 0]);
}

#[test]
fn a_socket_or_a_process_that_is_not_known_makes_no_shell() {
    let mut script = Script::new();
    assert_eq!(script.fact(stdio(7, 20, &[0])), [""; 0]);
    script.connect(7, 10, "127.0.0.1:40000", "127.0.0.1:4444");
    assert_eq!(script.fact(stdio(7, 99, &[0])), [""; 0]);
}

#[test]
fn a_file_that_its_package_did_not_ship_raises_a_flag_that_stands() {
    let mut script = Script::new();
    script.listen(7, 10, "0.0.0.0:22");
    for state in [Shipped::Unverified, Shipped::Intact] {
        assert_eq!(script.fact(packaged(10, "/usr/bin/one", owned(state))), [""; 0]);
    }
    let modified = script.fact(packaged(10, "/usr/bin/one", owned(Shipped::Modified)));
    assert_eq!(modified, ["flag 7 seen suspicious modified-executable unexplained-listener"]);
    let upgraded = script.fact(packaged(10, "/usr/bin/one", owned(Shipped::Intact)));
    assert_eq!(upgraded, ["flag 7 seen research unexplained-listener"]);
}

#[test]
fn a_file_of_no_package_is_evidence_and_flags_nothing_by_itself() {
    let mut script = Script::new();
    script.listen(6, 10, "0.0.0.0:21");
    assert_eq!(script.fact(packaged(10, "/opt/one", Package::None)), [""; 0]);
    let flagged = "flag 7 listen research unexplained-listener unpackaged-executable";
    assert_eq!(script.listen(7, 10, "0.0.0.0:22"), [flagged]);
    let left_aside = "event 8 listen ok loopback-only";
    assert_eq!(script.listen(8, 10, "127.0.0.1:80"), [left_aside]);
}

#[test]
fn a_file_of_the_upper_layer_is_said_to_be_younger_than_the_image() {
    for (layer, is_younger) in [
        (Some(Layer::Upper), true),
        (Some(Layer::Lower), false),
        (Some(Layer::Unknown), false),
        (None, false),
    ] {
        let mut script = Script::new();
        let found = Provenance { package: Package::None, layer, ..Provenance::default() };
        script.fact(of_provenance(10, "/opt/one", found));
        let mut why = Vec::new();
        let listen = event(7, 10, SocketChange::Listen, State::Listen, "0.0.0.0:22", None);
        let event = Event { at: script.now + 1, fact: Fact::Socket(listen) };
        let mut say = |output: &Output<'_>| {
            if let Body::Flag(_, report) = &output.body {
                let spoken = report.rules.iter().filter(|spoken| spoken.rule == "unpackaged-executable");
                why.extend(spoken.map(|spoken| spoken.why.to_string()));
            }
        };
        script.engine.step(&event, &mut say).unwrap();
        let plain = "no installed package owns the executable /opt/one";
        assert!(why.len() == 1 && why[0].starts_with(plain), "{why:?}");
        assert_eq!(why[0] != plain, is_younger, "{why:?}");
        assert_eq!(why[0].contains("after the image"), is_younger, "{why:?}");
    }
}

fn accept(id: u64, pid: u32, local: &str, port: u16) -> SocketEvent {
    let remote = format!("9.1.1.2:{port}");
    event(id, pid, SocketChange::Accept, State::Established, local, Some(&remote))
}

fn closed(id: u64) -> SocketEvent {
    let change = SocketChange::Close { sent: None, received: None };
    SocketEvent { process: None, ..event(id, 0, change, State::Close, "0.0.0.0:0", None) }
}

#[test]
fn a_listener_that_is_left_to_another_is_that_ones_and_keeps_its_opener() {
    let mut script = Script::new();
    script.listen(1, 10, "0.0.0.0:443");
    assert_eq!(script.left_by(10), [1]);
    assert_eq!(script.left_by(20), [0; 0]);
    assert_eq!(script.held(1, &[20]), [""; 0], "it is the same to the rules");
    assert_eq!((script.left_by(10), script.left_by(20)), (vec![], vec![1]));
    assert_eq!(script.hands(accept(2, 20, "9.1.1.1:443", 5)), ["20 exact, opened by 10"]);
    let ended = script.hands(closed(1));
    assert_eq!(ended, ["20 holder, opened by 10"; 2], "the end and the flag's");
}

#[test]
fn what_nobody_acted_on_since_is_a_holders() {
    let mut script = Script::new();
    script.fact(Fact::Process(Box::new(process(30, "/usr/bin/three"))));
    script.listen(1, 10, "0.0.0.0:443");
    script.held(1, &[20, 30]);
    let expected = "20 holder, opened by 10, held by 20 30";
    assert_eq!(script.hands(closed(1)), [expected; 2]);
    assert_eq!(script.held(1, &[30]), [""; 0], "it is gone");
}

#[test]
fn a_holder_beside_an_owner_that_lives_changes_nothing_but_the_holders() {
    let mut script = Script::new();
    script.listen(1, 10, "0.0.0.0:443");
    script.held(1, &[10, 20]);
    assert_eq!(script.hands(closed(1)), ["10 exact, held by 10 20"; 2]);
}

#[test]
fn the_verdict_is_that_of_the_program_that_holds_it_now() {
    let mut script = Script::new();
    let text = "[[expect]]\nname = \"web\"\nkind = \"listener\"\nexe = \"/usr/bin/one\"\n".to_owned();
    script.fact(Fact::Policy(PolicyFile { path: "p.toml".to_owned(), text }));
    assert_eq!(script.listen(1, 10, "0.0.0.0:443"), ["event 1 listen explained"]);
    assert_eq!(script.held(1, &[20]), ["flag 1 seen research unexplained-listener"]);
    assert_eq!(script.held(1, &[10]), ["clear 1 seen explained"]);
}

#[test]
fn who_opened_the_listener_opened_the_connection_and_who_accepts_has_used_both() {
    let mut script = Script::new();
    script.listen(1, 10, "0.0.0.0:443");
    let arrives = event(2, 0, SocketChange::Incoming, State::Established, "9.1.1.1:443", Some(OUTSIDE));
    script.socket(SocketEvent { process: None, ..arrives });
    assert_eq!(script.hands(accept(2, 20, "9.1.1.1:443", 443)), ["20 exact, opened by 10"]);
    assert_eq!(script.hands(accept(3, 10, "9.1.1.1:443", 444)), ["10 exact"]);
    assert_eq!(script.hands(accept(4, 20, "9.1.1.1:443", 445)), ["20 exact, opened by 10"]);
    let socket = script.engine.known.host.get(SocketId(1)).unwrap();
    assert_eq!(socket.processes().map(|id| id.pid).collect::<Vec<_>>(), [10, 20]);
    assert_eq!(script.hands(closed(1)), ["20 exact, opened by 10, held by 10 20"; 2]);
}

#[test]
fn a_connection_whose_listener_is_not_known_was_opened_by_who_accepts_it() {
    let mut script = Script::new();
    assert_eq!(script.hands(accept(2, 20, "9.1.1.1:443", 443)), ["20 exact"]);
    script.held(2, &[10]);
    assert_eq!(script.hands(closed(2)), ["10 holder, opened by 20"; 2]);
}

#[test]
fn a_relay_stays_one_while_its_workers_take_turns() {
    let mut script = Script::new();
    script.listen(1, 10, "127.0.0.1:1080");
    script.connect(2, 10, "9.1.1.1:40000", OUTSIDE);
    let remote = Some("127.0.0.1:5");
    let accepted = event(3, 20, SocketChange::Accept, State::Established, "127.0.0.1:1080", remote);
    assert_eq!(script.socket(accepted), ["event 3 accept ok loopback-only"]);
    assert_eq!(script.close(2).last().unwrap(), "clear 1 close ok loopback-only");
}

#[test]
fn the_opener_of_what_was_there_before_is_the_holder_from_which_the_others_descend() {
    let mut script = Script::new();
    let parent = |pid| Ancestor { pid, comm: None, exe: None };
    for (pid, lineage) in [(5, vec![parent(20), parent(1)]), (30, vec![parent(1)])] {
        script.fact(Fact::Process(Box::new(Process { lineage, ..process(pid, "/usr/bin/worker") })));
    }
    let seen = |id, pids: &[u32]| {
        let holders = pids.iter().map(|pid| ProcessId { pid: *pid, started: 1 }).collect();
        let change = SocketChange::Seen { holders, stdio: None };
        event(id, 0, change, State::Listen, &format!("0.0.0.0:{id}"), None)
    };
    assert_eq!(script.hands(seen(1, &[5, 20])), ["5 holder, opened by 20, held by 5 20"]);
    assert_eq!(script.hands(seen(2, &[5, 30])), ["5 holder, held by 5 30"]);
    assert_eq!(script.hands(seen(3, &[30])), ["30 holder"]);
    script.held(3, &[20]);
    assert_eq!(script.hands(closed(3)), ["20 holder, opened by 30"; 2]);
    // A connection of that worker, found before any other sign of it.
    let found = SocketChange::Seen { holders: vec![ProcessId { pid: 5, started: 1 }], stdio: None };
    let session = event(9, 0, found, State::Established, "9.1.1.1:1", Some(OUTSIDE));
    assert_eq!(script.hands(session), ["5 holder, opened by 20"]);
}

#[test]
fn sessions_that_no_rule_looks_at_are_left_behind_too() {
    let mut script = Script::new();
    script.connect(1, 10, "127.0.0.1:40000", "127.0.0.1:80");
    script.connect(2, 10, "9.1.1.1:40000", OUTSIDE);
    script.connect(3, 20, "127.0.0.1:40001", "127.0.0.1:80");
    assert_eq!(script.left_by(10), [1, 2]);
    script.close(2);
    assert_eq!(script.left_by(10), [1]);
}

#[test]
fn an_identity_of_proc_is_taken_for_the_exact_one() {
    let mut script = Script::new();
    let (exact, rounded) =
        (ProcessId { pid: 40, started: 10_000_007 }, ProcessId { pid: 40, started: 10_000_000 });
    for id in [exact, rounded] {
        script.fact(Fact::Process(Box::new(Process { id, ..process(40, "/usr/bin/four") })));
    }
    let listen = event(1, 40, SocketChange::Listen, State::Listen, "0.0.0.0:443", None);
    script.socket(SocketEvent { process: Some((exact, Attribution::Exact)), ..listen });
    script.fact(Fact::Held { socket: SocketId(1), holders: vec![rounded] });
    assert_eq!(script.hands(closed(1)), ["40 exact"; 2]);
    let next = ProcessId { pid: 40, started: 10_000_009 };
    assert!(exact.is(rounded) && rounded.is(exact) && !exact.is(next));
}

#[test]
fn many_short_workers_of_a_listener_are_not_all_remembered() {
    let mut script = Script::new();
    script.listen(1, 10, "0.0.0.0:443");
    for pid in 100..300 {
        script.fact(Fact::Process(Box::new(process(pid, "/usr/bin/one"))));
        script.socket(accept(u64::from(pid), pid, "9.1.1.1:443", pid as u16));
    }
    assert_eq!(script.engine.known.host.get(SocketId(1)).unwrap().processes().count(), 64);
}

proptest! {
    /// Whoever acts and whoever is found to hold what: the index leads from each process to exactly the sockets that it
    /// is known to have, a socket's holders are in order, and its owner is among them.
    #[test]
    fn each_process_leads_to_its_sockets(
        steps in proptest::collection::vec((0..6u8, 1..5u64, 0..3usize, 1..8u8), 0..60)
    ) {
        const PIDS: [u32; 3] = [10, 20, 30];
        let mut script = Script::new();
        script.fact(Fact::Process(Box::new(process(30, "/usr/bin/three"))));
        for (what, id, by, found) in steps {
            let (pid, session) = (PIDS[by], id + 10);
            let found: Vec<u32> =
                PIDS.into_iter().enumerate().filter(|(n, _)| found >> n & 1 == 1).map(|(_, pid)| pid).collect();
            match what {
                0 => script.listen(id, pid, &format!("0.0.0.0:{}", 80 + id % 2)),
                1 => script.socket(accept(session, pid, &format!("9.1.1.1:{}", 80 + id % 2), id as u16)),
                2 => script.bind(id + 20, pid, "0.0.0.0:80"),
                3 => script.held([id, session, id + 20][by], &found),
                4 => script.close([id, session, id + 20][by]),
                _ => script.fact(Fact::Process(Box::new(process(pid, ["/usr/bin/a", "/usr/bin/b"][by % 2])))),
            };
            let host = &script.engine.known.host;
            let sockets: Vec<&Socket> = (1..30).filter_map(|id| host.get(SocketId(id))).collect();
            for pid in PIDS {
                let has = |socket: &&&Socket| socket.processes().any(|process| process.pid == pid);
                let expected: Vec<u64> = sockets.iter().filter(has).map(|socket| socket.id.0).collect();
                prop_assert_eq!(script.left_by(pid), expected);
            }
            for socket in sockets {
                prop_assert!(socket.holders.is_sorted_by(|a, b| a.id < b.id));
                let owner = socket.owner.as_ref().map(|owner| owner.id);
                prop_assert!(socket.holders.is_empty() || owner.is_some_and(|owner| socket.is_held_by(owner)));
            }
        }
    }
}

#[test]
fn a_script_is_judged_as_the_program_that_runs() {
    let mut script = Script::new();
    let found =
        Provenance { open_folder: Some("/tmp".to_owned()), package: Package::None, ..Provenance::default() };
    let file = provenance::Script::File { path: "/tmp/x.py".to_owned(), found };
    let interpreter =
        Provenance { package: owned(Shipped::Intact), script: Some(Box::new(file)), ..Provenance::default() };
    script.fact(of_provenance(10, "/usr/bin/python3.11", interpreter));
    let flagged = "flag 7 listen suspicious temp-executable unexplained-listener unpackaged-executable";
    assert_eq!(script.listen(7, 10, "0.0.0.0:22"), [flagged]);
}
