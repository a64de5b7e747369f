//! Ports that the provenance of their program explains, and flags that are taken back because research came.

use super::*;

const UNIT: &str = "ssh.service";

impl Script {
    /// One whose run lets provenance explain, or not.
    pub(super) fn with_provenance(provenance: bool) -> Self {
        let mut script = Self { engine: Engine::default(), now: 1_000_000_000 };
        let start = Start {
            version: "1".to_owned(),
            kernel: "6".to_owned(),
            hooks: "fentry".to_owned(),
            netns: None,
            provenance,
            coverage: Vec::new(),
        };
        script.fact(Fact::Start(Box::new(start)));
        script.fact(Fact::Process(Box::new(process(10, "/usr/sbin/sshd"))));
        script
    }

    /// What explains the socket of each record that an event gives.
    fn reasons(&mut self, event: SocketEvent) -> Vec<Option<String>> {
        self.now += 1_000_000;
        let (mut said, event) = (Vec::new(), Event { at: self.now, fact: Fact::Socket(event) });
        let mut say = |output: &Output<'_>| {
            if let Body::Flag(_, report) | Body::Clear(_, report) | Body::Event(report) = &output.body {
                said.push(report.explained_by.clone());
            }
        };
        self.engine.step(&event, &mut say).unwrap();
        said
    }
}

/// The service as far as research has come.
fn sshd(package: Option<Package>, unit: Option<&str>) -> Fact {
    let found = |package| Provenance { file: FileState::Present, package, ..Provenance::default() };
    let belongs = |unit: &str| Belongs { unit: Some(unit.to_owned()), ..Belongs::default() };
    Fact::Process(Box::new(Process {
        provenance: package.map(found),
        belongs: unit.map(|unit| belongs(unit).into()),
        ..process(10, "/usr/sbin/sshd")
    }))
}

fn intact() -> Option<Package> {
    Some(owned(Shipped::Intact))
}

fn listen(id: u64, local: &str) -> SocketEvent {
    event(id, 10, SocketChange::Listen, State::Listen, local, None)
}

#[test]
fn a_flag_is_taken_back_when_research_explains_the_program_whatever_it_finds_last() {
    let (no_unit, no_package) = (sshd(intact(), None), sshd(None, Some(UNIT)));
    for first in [None, Some(no_unit), Some(no_package)] {
        let mut script = Script::with_provenance(true);
        assert_eq!(script.listen(7, 10, "0.0.0.0:22"), ["flag 7 listen research unexplained-listener"]);
        assert_eq!(script.bind(8, 10, "0.0.0.0:5353"), ["flag 8 bind research unexplained-udp"]);
        if let Some(first) = first {
            assert_eq!(script.fact(first), [""; 0]);
        }
        let cleared = script.fact(sshd(intact(), Some(UNIT)));
        assert_eq!(cleared, ["clear 7 seen explained", "clear 8 seen explained"]);
    }
}

#[test]
fn the_package_and_the_unit_are_named_and_a_policy_entry_comes_first() {
    let mut script = Script::with_provenance(true);
    script.fact(sshd(intact(), Some(UNIT)));
    let by_provenance = Some("provenance: one, ssh.service".to_owned());
    assert_eq!(script.reasons(listen(7, "0.0.0.0:22")), [by_provenance]);
    let text = "[[expect]]\nname = \"the port\"\nkind = \"listener\"\nlocal_port = 23\n".to_owned();
    script.fact(Fact::Policy(PolicyFile { path: "p".to_owned(), text }));
    assert_eq!(script.reasons(listen(8, "0.0.0.0:23")), [Some("the port".to_owned())]);
}

#[test]
fn what_becomes_of_the_file_later_flags_it_again() {
    let mut script = Script::with_provenance(true);
    script.fact(sshd(intact(), Some(UNIT)));
    assert_eq!(script.listen(7, 10, "0.0.0.0:22"), ["event 7 listen explained"]);
    let modified = script.fact(sshd(Some(owned(Shipped::Modified)), Some(UNIT)));
    assert_eq!(modified, ["flag 7 seen suspicious modified-executable unexplained-listener"]);
    assert_eq!(script.fact(sshd(intact(), Some(UNIT))), ["clear 7 seen explained"]);
}

#[test]
fn sessions_are_never_explained_so() {
    let mut script = Script::with_provenance(true);
    script.fact(sshd(intact(), Some(UNIT)));
    let flagged = "flag 7 connect research unexplained-session";
    assert_eq!(script.connect(7, 10, "9.1.1.1:40000", OUTSIDE), [flagged]);
    let accepted = event(8, 10, SocketChange::Accept, State::Established, "9.1.1.1:22", Some(OUTSIDE));
    assert_eq!(script.socket(accepted), ["flag 8 accept research unexplained-session"]);
    assert_eq!(script.bind(9, 10, "0.0.0.0:5353"), ["event 9 bind explained"]);
    assert_eq!(script.datagrams(9, "0.0.0.0:5353", OUTSIDE, false, 1), ["event 9 udp explained"]);
    let repeated = script.datagrams(9, "0.0.0.0:5353", OUTSIDE, false, 1);
    assert_eq!(repeated, ["flag 9 udp research unexplained-session"]);
}

#[test]
fn switched_off_it_explains_nothing() {
    let mut script = Script::with_provenance(false);
    script.fact(sshd(intact(), Some(UNIT)));
    assert_eq!(script.listen(7, 10, "0.0.0.0:22"), ["flag 7 listen research unexplained-listener"]);
    assert_eq!(script.fact(sshd(None, Some(UNIT))), [""; 0]);
    assert_eq!(script.fact(sshd(intact(), Some(UNIT))), [""; 0]);
}

#[test]
fn a_shell_on_a_socket_is_not_explained_by_its_file() {
    let mut script = Script::with_provenance(true);
    script.fact(sshd(intact(), Some(UNIT)));
    script.bind(7, 10, "0.0.0.0:5353");
    script.listen(8, 10, "0.0.0.0:22");
    for socket in [7, 8] {
        let flagged = script.fact(stdio(socket, 10, &[0, 1, 2]));
        assert_eq!(flagged, [format!("flag {socket} seen suspicious shell-on-socket")]);
    }
}

#[test]
fn a_twin_is_explained_with_its_listener() {
    let mut script = Script::with_provenance(true);
    script.listen(7, 10, "0.0.0.0:53");
    assert_eq!(script.bind(8, 10, "0.0.0.0:53"), ["event 8 bind research udp-twin"]);
    assert_eq!(script.fact(sshd(intact(), Some(UNIT))), ["clear 7 seen explained"]);
    assert_eq!(script.bind(9, 10, "0.0.0.0:53"), ["event 9 bind explained udp-twin"]);
}
