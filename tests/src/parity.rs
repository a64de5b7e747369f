//! Hook plans watch the same traffic at the same time and must come to the same verdicts; what may
//! differ is declared in [`DECLARED`], with its reason.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::actor::{Actor, Kind, Order};
use crate::declared;
use crate::net::{A4, B4, B6, NO_ROUTE4, Netns, Network, SILENT4};
use crate::records::Record;
use crate::tracer::{Live, Plan, Subject};

/// Ports from here on are given by the kernel (`ip_local_port_range`) and left out of the comparison.
const FIRST_EPHEMERAL: u16 = 32_768;

/// A local end that not every plan sees, so that it is not compared.
pub struct UnseenLocal {
    /// The `event` of the record.
    pub event: &'static str,
    /// Its protocol.
    pub protocol: &'static str,
    /// Why a plan cannot see it; `tracer doctor` says the same.
    pub reason: &'static str,
}

/// All differences that are allowed.
pub const DECLARED: &[UnseenLocal] = &[
    UnseenLocal {
        event: "connect",
        protocol: "udp",
        reason: "the cgroup hook of the tracepoint plan runs before the kernel chooses the local end",
    },
    UnseenLocal { event: "connect", protocol: "udplite", reason: "as for UDP" },
];

/// A kind of exchange that a plan does not see on some kernels, so that it is not compared there.
pub struct UnseenExchange {
    /// Cells, as in [`declared::DECLARED`].
    pub cells: &'static str,
    /// The plan.
    pub plan: Plan,
    /// The UDP service of the exchange; it has this port to itself.
    pub service: u16,
    /// Why the plan cannot see it; `tracer doctor` says the same.
    pub reason: &'static str,
}

/// The UDP service that a connected socket talks to.
const CONNECTED_SERVICE: u16 = 5301;

/// All exchanges that need not be seen.
pub const UNSEEN: &[UnseenExchange] = &[UnseenExchange {
    cells: "5.10/*|6.1/*",
    plan: Plan::Tracepoint,
    service: CONNECTED_SERVICE,
    reason: "sock_send_length came with 6.3: without it a connected UDP socket's datagrams are not seen",
}];

/// What is compared of a record: no time, no number, no port that the kernel chose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Verdict {
    record: String,
    event: String,
    verdict: String,
    rules: Vec<String>,
    protocol: String,
    local: Option<(String, SocketAddr)>,
    remote: Option<(String, SocketAddr)>,
    direction: String,
    role: String,
    error: String,
    pid: Option<u32>,
}

impl Verdict {
    fn of(record: &Record) -> Option<Self> {
        record.at("/socket")?;
        let mut rules: Vec<String> = record.rules().into_iter().map(str::to_owned).collect();
        // What research finds out is told when it is found, and this rule speaks of the actors themselves.
        rules.retain(|rule| rule != "unpackaged-executable");
        rules.sort_unstable();
        let own = |pointer: &str| record.text(pointer).to_owned();
        // On a slow machine a session may be flagged before anybody is seen to accept it.
        let inbound =
            own("/socket/direction") == "inbound" && ["accept", "established"].contains(&&*own("/event"));
        Some(Self {
            record: if inbound { String::new() } else { own("/record") },
            event: if inbound { "accept".to_owned() } else { own("/event") },
            verdict: own("/verdict"),
            rules,
            protocol: own("/socket/protocol"),
            local: record
                .local()
                .filter(|_| !is_unseen(&own("/event"), &own("/socket/protocol")))
                .map(|end| (own("/socket/local/scope"), without_ephemeral(end))),
            remote: record.remote().map(|end| (own("/socket/remote/class"), without_ephemeral(end))),
            direction: own("/socket/direction"),
            role: own("/socket/role"),
            error: own("/error"),
            pid: record.pid(),
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

fn without_ephemeral(end: SocketAddr) -> SocketAddr {
    let port = if end.port() < FIRST_EPHEMERAL { end.port() } else { 0 };
    SocketAddr::new(end.ip(), port)
}

/// Runs of the traffic at most, until no plan tells of a gap where one may: what is read again for it is told as seen.
const RUNS: usize = 4;

/// Runs the traffic under all plans at once and compares, with what is declared of `cell`.
///
/// # Errors
/// When one of the plans cannot load or tells of a gap, or they differ where they must not; the error lists how.
pub fn compare(tracer: &Path, plans: &[Plan], cell: &str) -> Result<usize> {
    let mut runs = if declared::is_cell(declared::LEAVES_OUT, cell) { RUNS } else { 1 };
    loop {
        let told = run(tracer, plans)?;
        runs -= 1;
        let gaps: Vec<String> = told.iter().flat_map(|(plan, records)| gaps(*plan, records)).collect();
        if gaps.is_empty() {
            return same(&told, cell);
        }
        let gaps = gaps.join("\n");
        ensure!(runs > 0, "not to be compared, for what was lost:\n{gaps}");
        eprintln!("once more, for what was lost:\n{gaps}");
    }
}

/// What each plan tells of one run of the traffic. Each leaves its own sockets aside, but not those of the others: one that
/// asks for a route, of a connect whose packet was late, is left out here.
fn run(tracer: &Path, plans: &[Plan]) -> Result<Vec<(Plan, Vec<Record>)>> {
    let network = Network::new()?;
    let watched: Vec<Live> =
        plans.iter().map(|plan| watch(tracer, *plan, &network)).collect::<Result<_>>()?;
    let last = traffic(&network)?;
    let tracers: Vec<u32> = watched.iter().map(Live::pid).collect();
    let mut told = Vec::new();
    for (live, plan) in watched.into_iter().zip(plans) {
        live.wait("the last close", |r| r.tells("close") && r.is_at("tcp", last))
            .with_context(|| format!("plan {}", plan.word()))?;
        let mut records = live.finish()?.records;
        records.retain(|record| record.pid().is_none_or(|pid| !tracers.contains(&pid)));
        told.push((*plan, records));
    }
    Ok(told)
}

fn gaps(plan: Plan, records: &[Record]) -> Vec<String> {
    let gaps = records.iter().filter(|record| record.kind() == "gap");
    let count = |gap: &Record| gap.number("/lost").unwrap_or_default();
    gaps.map(|gap| format!("  {}: {} of stage {}", plan.word(), count(gap), gap.text("/stage"))).collect()
}

/// How many verdicts all plans came to.
fn same(told: &[(Plan, Vec<Record>)], cell: &str) -> Result<usize> {
    let plans: Vec<Plan> = told.iter().map(|(plan, _)| *plan).collect();
    let seen_by_all = |verdict: &Verdict| !is_unseen_exchange(cell, &plans, verdict);
    let verdicts = |records: &[Record]| records.iter().filter_map(Verdict::of).filter(seen_by_all).collect();
    let lists: Vec<(Plan, BTreeSet<Verdict>)> =
        told.iter().map(|(plan, records)| (*plan, verdicts(records))).collect();
    let different = different(&lists);
    ensure!(different.is_empty(), "{} verdicts differ:\n{}", different.len(), different.join("\n"));
    Ok(lists.first().map_or(0, |(_, verdicts)| verdicts.len()))
}

/// Where the others differ from the first.
fn different(lists: &[(Plan, BTreeSet<Verdict>)]) -> Vec<String> {
    let Some(((plan, verdicts), others)) = lists.split_first() else { return Vec::new() };
    let both = others.iter().flat_map(|(other, theirs)| {
        let mut all = differences(*plan, *other, verdicts, theirs);
        all.extend(differences(*other, *plan, theirs, verdicts));
        all
    });
    both.collect()
}

fn watch(tracer: &Path, plan: Plan, network: &Network) -> Result<Live> {
    let subject = Subject { path: tracer.to_owned(), plan };
    Live::start(subject.live(&["--all"]), network.inodes().to_vec())
        .with_context(|| format!("plan {}", plan.word()))
}

/// What `mine` has that `theirs` lacks.
fn differences(plan: Plan, other: Plan, mine: &BTreeSet<Verdict>, theirs: &BTreeSet<Verdict>) -> Vec<String> {
    let only = |verdict| format!("  {}, not {}: {verdict}", plan.word(), other.word());
    mine.difference(theirs).map(only).collect()
}

fn is_unseen(event: &str, protocol: &str) -> bool {
    DECLARED.iter().any(|unseen| unseen.event == event && unseen.protocol == protocol)
}

/// Whether `verdict` is of the client in an exchange that one of `plans` does not see in `cell`.
fn is_unseen_exchange(cell: &str, plans: &[Plan], verdict: &Verdict) -> bool {
    let is_of = |unseen: &UnseenExchange| {
        verdict.protocol == "udp"
            && verdict.remote.as_ref().is_some_and(|(_, end)| end.port() == unseen.service)
    };
    UNSEEN
        .iter()
        .any(|unseen| plans.contains(&unseen.plan) && declared::is_cell(unseen.cells, cell) && is_of(unseen))
}

/// Traffic of every kind; answers the address of the listener whose close is its last event.
fn traffic(network: &Network) -> Result<SocketAddr> {
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    sessions(&mut client, &mut server)?;
    failures(&mut client)?;
    datagrams(&mut client, &mut server)?;
    twins(&mut client)?;
    relay(&mut client, &mut server)?;
    last_listener(&network.a)
}

fn sessions(client: &mut Actor, server: &mut Actor) -> Result<()> {
    let listeners = [SocketAddr::new(B4, 8443), SocketAddr::new(B6, 8444), "[::]:8445".parse()?];
    let targets = [listeners[0], listeners[1], SocketAddr::new(B4, 8445)];
    for (listener, target) in listeners.into_iter().zip(targets) {
        let listener = server.listen(listener)?;
        let fd = client.connect(target)?;
        let accepted = server.accept(listener)?;
        client.perform(&Order::Send { fd, bytes: 100 })?;
        server.perform(&Order::Receive { fd: accepted, bytes: 100 })?;
        client.close(fd)?;
        server.close(accepted)?;
    }
    Ok(())
}

fn failures(client: &mut Actor) -> Result<()> {
    for remote in [(B4, 4001), (SILENT4, 4002), (NO_ROUTE4, 4003)] {
        client.connect_in_vain(remote.into())?;
    }
    Ok(())
}

fn datagrams(client: &mut Actor, server: &mut Actor) -> Result<()> {
    let service = SocketAddr::new(B4, 5300);
    let served = server.bind_udp(service)?;
    let fd = client.socket(Kind::Udp, service)?;
    client.send_to(fd, service)?;
    server.perform(&Order::ReceiveFrom { fd: served })?;
    client.close(fd)?;
    let service = SocketAddr::new(B4, CONNECTED_SERVICE);
    let served = server.bind_udp(service)?;
    let connected = client.socket(Kind::Udp, service)?;
    client.perform(&Order::Connect { fd: connected, to: service })?;
    client.perform(&Order::Send { fd: connected, bytes: 20 })?;
    server.perform(&Order::ReceiveFrom { fd: served })?;
    client.close(connected)
}

fn twins(client: &mut Actor) -> Result<()> {
    let port = SocketAddr::new(A4, 5353);
    let udp = client.bind_udp(port)?;
    let tcp = client.listen(port)?;
    client.close(tcp)?;
    client.close(udp)
}

fn relay(client: &mut Actor, server: &mut Actor) -> Result<()> {
    let listener = server.listen(SocketAddr::new(B4, 8446))?;
    let door = client.listen("127.0.0.1:1080".parse()?)?;
    let line = client.connect(SocketAddr::new(B4, 8446))?;
    // One that nobody accepts is told when it has waited for a while: on a slow machine by some plans only.
    let accepted = server.accept(listener)?;
    client.close(line)?;
    server.close(accepted)?;
    client.close(door)
}

fn last_listener(netns: &Netns) -> Result<SocketAddr> {
    let address = SocketAddr::new(A4, 9999);
    let mut actor = Actor::start(netns)?;
    let fd = actor.listen(address)?;
    actor.close(fd)?;
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(port: u16, pid: u32) -> Verdict {
        let line = format!(
            r#"{{"schema":1,"record":"flag","seq":{pid},"time":"t{pid}","event":"connect","verdict":"research",
            "rules":[{{"id":"unexplained-session","why":"w"}}],"socket":{{"id":"1","netns":5,"protocol":"tcp",
            "local":{{"ip":"9.1.1.1","port":{port},"scope":"specific"}},"remote":null}},"process":{{"pid":7}}}}"#
        );
        Verdict::of(&Record::parse(&line).unwrap()).unwrap()
    }

    #[test]
    fn time_number_and_ephemeral_port_do_not_count() {
        assert_eq!(verdict(40_000, 1), verdict(50_000, 2));
        assert_ne!(verdict(4000, 1), verdict(4001, 1));
    }

    #[test]
    fn what_was_lost_is_named() {
        let record = |kind: &str| {
            let line = format!(
                r#"{{"schema":1,"record":"{kind}","seq":1,"time":"t","stage":"hook","lost":2,"resynced":true}}"#
            );
            Record::parse(&line).unwrap()
        };
        assert_eq!(gaps(Plan::Kprobe, &[record("event"), record("gap")]), ["  kprobe: 2 of stage hook"]);
    }

    #[test]
    fn what_one_plan_alone_says_is_a_difference() {
        let (one, two) = (BTreeSet::from([verdict(80, 1), verdict(81, 1)]), BTreeSet::from([verdict(80, 1)]));
        let list = [(Plan::Fentry, one), (Plan::Tracepoint, two.clone()), (Plan::Kprobe, two)];
        assert_eq!(different(&list).len(), 2);
        assert!(different(&list[1..]).is_empty());
    }

    #[test]
    fn every_declared_difference_has_a_reason() {
        assert!(DECLARED.iter().all(|unseen| !unseen.reason.is_empty()));
        assert!(is_unseen("connect", "udp") && !is_unseen("connect", "tcp"));
    }
}
