//! What the benchmarks share: the records of a connection over loopback, and of a session that is flagged.

use tracer::{
    bpf::decode::decode,
    model::event::{Ancestor, Event, Fact, Process, ProcessId, Start},
    sink::writer::{Ended, Out, Refused},
};
use tracer_common::{
    HOW_CALL, HOW_NONE, KIND_ACCEPT, KIND_CLOSE, KIND_CONNECT, KIND_ESTABLISHED, KIND_INCOMING, KIND_LISTEN,
    Record,
};
use zerocopy::{FromZeros, IntoBytes};

/// Inode number of the namespace in which all happens.
const NETNS: u32 = 4_026_531_840;
const LOOPBACK: [u8; 4] = [127, 0, 0, 1];
/// Of an address on the Internet and one of our own.
const OUTSIDE: ([u8; 4], [u8; 4]) = ([9, 1, 1, 2], [9, 1, 1, 1]);
const CLIENT: u32 = 100;
const SERVER: u32 = 200;
/// Cookie of the listener; those of sessions are larger.
const LISTENER: u64 = 1;

/// Takes lines and forgets them.
pub(crate) struct Nowhere;

impl Out for Nowhere {
    fn try_send(&mut self, line: &[u8]) -> Result<(), Refused> {
        self.send(line);
        Ok(())
    }

    fn send(&mut self, line: &[u8]) {
        std::hint::black_box(line);
    }

    fn has_room(&self) -> bool {
        true
    }

    fn ended(&self) -> Option<Ended> {
        None
    }
}

/// What one record says.
struct Said {
    cookie: u64,
    kind: u8,
    state: u8,
    pid: Option<u32>,
    local: ([u8; 4], u16),
    remote: ([u8; 4], u16),
}

fn record(at: u64, said: Said) -> Record {
    let Said { cookie, kind, state, pid, local, remote } = said;
    let mapped = |ip: [u8; 4]| {
        if ip == [0; 4] { [0; 16] } else { std::net::Ipv4Addr::from(ip).to_ipv6_mapped().octets() }
    };
    Record {
        time: at,
        cookie,
        kind,
        state,
        family: 2,
        protocol: 6,
        netns: NETNS,
        how: if pid.is_some() { HOW_CALL } else { HOW_NONE },
        pid: pid.unwrap_or(0),
        tid: pid.unwrap_or(0),
        process_start: if pid.is_some() { 1_000 } else { 0 },
        local: mapped(local.0),
        local_port: local.1,
        remote: mapped(remote.0),
        remote_port: remote.1,
        bytes_sent: 100,
        bytes_received: 200,
        ..Record::new_zeroed()
    }
}

/// The six records of the `n`-th connection over loopback, which give five events.
pub(crate) fn loopback(n: u64) -> [Record; 6] {
    let (client, server) = (2 * n + 10, 2 * n + 11);
    let near = (LOOPBACK, 20_000 + (n % 40_000) as u16);
    let far = (LOOPBACK, 8080);
    let at = 1_000_000 + n * 1_000;
    let said = |cookie, kind, state, pid| {
        let (local, remote) = if cookie == client { (near, far) } else { (far, near) };
        Said { cookie, kind, state, pid, local, remote }
    };
    [
        record(at, said(client, KIND_CONNECT, 2, Some(CLIENT))),
        record(at + 1, said(server, KIND_INCOMING, 1, None)),
        record(at + 2, said(client, KIND_ESTABLISHED, 1, None)),
        record(at + 3, said(server, KIND_ACCEPT, 1, Some(SERVER))),
        record(at + 4, said(client, KIND_CLOSE, 7, None)),
        record(at + 5, said(server, KIND_CLOSE, 7, None)),
    ]
}

/// The three records of the `n`-th session with the Internet, which give a flag and its end.
pub(crate) fn internet(n: u64) -> [Record; 3] {
    let cookie = 2 * n + 10;
    let at = 1_000_000 + n * 1_000;
    let (local, remote) = ((OUTSIDE.1, 20_000 + (n % 40_000) as u16), (OUTSIDE.0, 443));
    let said = |kind, state, pid| Said { cookie, kind, state, pid, local, remote };
    [
        record(at, said(KIND_CONNECT, 2, Some(CLIENT))),
        record(at + 1, said(KIND_ESTABLISHED, 1, None)),
        record(at + 2, said(KIND_CLOSE, 7, None)),
    ]
}

/// A record as the event that it gives.
pub(crate) fn event(record: &Record) -> Event {
    match decode(record.as_bytes()) {
        Ok(decoded) => Event { at: decoded.at, fact: Fact::Socket(decoded.event) },
        Err(error) => panic!("{error}"),
    }
}

/// Everything that is told before the first session: the start, two processes, a listener on loopback.
pub(crate) fn preamble() -> Vec<Event> {
    let start = Start {
        version: "0".to_owned(),
        kernel: "6".to_owned(),
        hooks: "fentry".to_owned(),
        netns: Some(NETNS),
        provenance: true,
        coverage: Vec::new(),
    };
    let listener = Said {
        cookie: LISTENER,
        kind: KIND_LISTEN,
        state: 10,
        pid: Some(SERVER),
        local: (LOOPBACK, 8080),
        remote: ([0; 4], 0),
    };
    let own = vec![LOOPBACK.into(), OUTSIDE.1.into()];
    let facts = [
        Fact::Start(Box::new(start)),
        Fact::Clock(1_700_000_000_000_000_000),
        Fact::Services(std::fs::read_to_string("/etc/services").unwrap_or_default()),
        Fact::Addresses { netns: NETNS, own },
        Fact::Process(Box::new(process(CLIENT))),
        Fact::Process(Box::new(process(SERVER))),
    ];
    let events = facts.into_iter().map(|fact| Event { at: 1, fact });
    events.chain([event(&record(2, listener))]).collect()
}

/// A process as /proc tells of one.
pub(crate) fn process(pid: u32) -> Process {
    let shell = |pid| Ancestor { pid, comm: Some("bash".to_owned()), exe: Some("/usr/bin/bash".to_owned()) };
    Process {
        id: ProcessId { pid, started: 1_000 },
        ppid: Some(50),
        comm: Some("python3".to_owned()),
        exe: Some("/usr/bin/python3.11".to_owned()),
        exe_file: Some((2049, 77)),
        args: Some(["python3", "-m", "http.server", "--bind", "127.0.0.1"].map(str::to_owned).to_vec()),
        uid: Some(0),
        user: Some("root".to_owned()),
        lineage: vec![shell(50), shell(40), shell(1)],
        unknown: None,
        provenance: None,
        belongs: None,
    }
}
