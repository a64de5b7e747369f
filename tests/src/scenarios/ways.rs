//! Every way of talking that `crate::coverage` lists: what is told of it under this plan is what the table says.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;

use anyhow::{Context, Result, anyhow, ensure};
use clap::ValueEnum;
use rustix::io::Errno;

use super::{Bench, Lacks, Scenario, at, scenario};
use crate::actor::{Actor, Order, Outcome, Way};
use crate::coverage::{Act, CASES, Case, Told};
use crate::net::{A4, B4, Network};
use crate::records::Record;
use crate::tracer::Plan;

/// One scenario a case.
pub(super) const ALL: &[Scenario] = &scenarios();

const fn scenarios() -> [Scenario; 28] {
    macro_rules! each { ($($number:literal)*) => { [$(scenario(CASES[$number].name, run::<$number>)),*] } }
    each!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27)
}

/// The kernel has not what a way needs.
const LACKING: [Errno; 6] = [
    Errno::NOSYS,
    Errno::PROTONOSUPPORT,
    Errno::NOPROTOOPT,
    Errno::OPNOTSUPP,
    Errno::AFNOSUPPORT,
    Errno::SOCKTNOSUPPORT,
];
/// Fast open for both sides, and for listeners that did not ask for it (`ip-sysctl.rst`).
const FAST_OPEN: &str = "1027";

/// What was done.
struct Done {
    outcome: Outcome,
    /// The actor's process.
    pid: u32,
    /// The remote end, as the acting side has it; none where it accepted.
    remote: Option<SocketAddr>,
}

fn run<const NUMBER: usize>(bench: &Bench) -> Result<()> {
    let case = &CASES[NUMBER];
    let network = Network::new()?;
    for netns in [&network.a, &network.b] {
        netns.sysctl("ipv4/tcp_fastopen", FAST_OPEN)?;
    }
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let listener = server.listen(at(B4, 8443))?;
    // Who moves to the server's namespace reaches back to where it came from.
    let mut back = Actor::start(&network.a)?;
    back.listen(at(A4, 8443))?;
    server.bind_udp(at(B4, 5300))?;
    let tracer = bench.watch(&network)?;
    let done = match case.act {
        Act::Session(Way::ToItself) => reach(case, &mut client, Way::ToItself, at(A4, 7777))?,
        Act::Session(way) => reach(case, &mut client, way, at(B4, 8443))?,
        Act::SessionNear(way) => {
            let way = way(server.pid());
            let to = if matches!(way, Way::Moved(_)) { A4 } else { B4 };
            reach(case, &mut client, way, at(to, 8443))?
        }
        Act::Datagram(way) => reach(case, &mut client, way, at(B4, 5300))?,
        Act::Accept(mode) => {
            client.begin(&Order::Call { to: at(B4, 8443), count: 1 })?;
            let outcome = perform(case, &mut server, &Order::Take { fd: listener, mode })?;
            Done { outcome, pid: server.pid(), remote: None }
        }
    };
    let run = tracer.finish()?;
    let plan = plan_in_use(bench, &run.records)?;
    case.told.iter().try_for_each(|told| check(case, told, &done, plan, &run.records))
}

/// The plan that is asked for, or that `auto` took, as the tracer's first record says.
fn plan_in_use(bench: &Bench, records: &[Record]) -> Result<Plan> {
    if bench.subject.plan != Plan::Auto {
        return Ok(bench.subject.plan);
    }
    let start = match &bench.common {
        Some(file) => {
            let mut line = String::new();
            BufReader::new(File::open(file)?).read_line(&mut line)?;
            Record::parse(&line)?
        }
        None => records.first().context("no record at all")?.clone(),
    };
    let hooks = start.text("/hooks");
    Plan::from_str(hooks, false).map_err(|_| anyhow!("no start record with a plan: {start}"))
}

fn reach(case: &Case, client: &mut Actor, way: Way, to: SocketAddr) -> Result<Done> {
    let outcome = perform(case, client, &Order::Reach { way, to })?;
    Ok(Done { outcome, pid: client.pid(), remote: Some(to) })
}

fn perform(case: &Case, actor: &mut Actor, order: &Order) -> Result<Outcome> {
    actor.attempt(order)?.map_err(|errno| {
        if LACKING.contains(&errno) {
            return Lacks(format!("way of this kind: {} ({errno})", case.what)).into();
        }
        anyhow!("{order:?}: {errno}")
    })
}

/// Claims that the event is told with the process that acted as often as the table says.
fn check(case: &Case, told: &Told, done: &Done, plan: Plan, records: &[Record]) -> Result<()> {
    let pid = done.outcome.pids.first().copied().unwrap_or(done.pid);
    let is_it = |record: &&Record| {
        record.tells(told.event)
            && record.text("/socket/protocol") == case.protocol
            && (done.remote.is_none() || record.remote() == done.remote)
    };
    let all: Vec<&Record> = records.iter().filter(is_it).collect();
    let by_it: u64 =
        all.iter().filter(|r| r.pid() == Some(pid)).map(|r| r.number("/count").unwrap_or(1)).sum();
    let shown = || all.iter().map(|record| format!("\n    {record}")).collect::<String>();
    let expected = told.under(plan);
    ensure!(
        by_it == expected,
        "{} is told {by_it} times by process {pid}, where the table says {expected}; in all:{}",
        told.event,
        shown()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_a_scenario() {
        assert_eq!(ALL.len(), CASES.len());
    }
}
