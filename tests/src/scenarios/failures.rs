//! Outbound sessions that never come to stand: each has one attempt, one outcome, and its errno.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::io::Errno;

use super::{Bench, Scenario, at, scenario};
use crate::actor::{Actor, Kind, Order, SocketOption};
use crate::net::{B4, B6, NO_ROUTE4, Network, SILENT4, SILENT6, UNREACHABLE4, UNREACHABLE6};
use crate::tracer::Watch;

pub(super) const ALL: &[Scenario] = &[
    scenario("refused-connect-fails-with-econnrefused", refused),
    scenario("unanswered-connect-fails-with-etimedout", timed_out),
    scenario("connect-without-a-route-fails-with-enetunreach", no_route),
    scenario("connect-that-a-router-calls-unreachable-fails-with-its-errno", router_says),
    scenario("refused-non-blocking-connect-fails-with-econnrefused", non_blocking_refused),
    scenario("connect-aborted-in-syn-sent-fails-with-econnaborted", aborted),
];

/// Tries to connect and claims the attempt, its one outcome, and nothing else.
fn fails(bench: &Bench, remote: SocketAddr, errno: Errno, name: &str) -> Result<()> {
    let network = Network::new()?;
    let mut client = Actor::start(&network.a)?;
    let tracer = bench.watch(&network)?;
    let got = client.connect_in_vain(remote)?;
    ensure!(got == errno, "the connect to {remote} failed with {got:?}");
    check_failure(tracer, remote, name, client.pid())
}

fn check_failure(tracer: Watch, remote: SocketAddr, name: &str, client: u32) -> Result<()> {
    let failed = tracer
        .wait(&format!("the failure to reach {remote}"), |r| r.tells("failed") && r.is_to("tcp", remote))?;
    failed.says("/error", name)?.by(client)?.says("/socket/direction", "outbound")?;
    failed.says("/socket/remote/class", "internet")?;
    let run = tracer.finish()?;
    let of = |event| run.events(event).filter(|r| r.is_to("tcp", remote)).count();
    ensure!(of("connect") == 1, "{} attempts were told for one", of("connect"));
    ensure!(of("failed") == 1, "{} outcomes were told for one", of("failed"));
    ensure!(of("established") == 0, "a failed attempt is said to be established");
    ensure!(of("accept") == 0, "a failed attempt is said to be accepted");
    let flags: Vec<_> = run.flags("unexplained-session").filter(|r| r.is_to("tcp", remote)).collect();
    ensure!(flags.len() == 1, "{} flags for one attempt", flags.len());
    flags[0].flagged("research", "unexplained-session")?.by(client)?.says("/event", "connect")?;
    failed.says("/socket/id", flags[0].socket())?;
    Ok(())
}

fn refused(bench: &Bench) -> Result<()> {
    fails(bench, at(B4, 4001), Errno::CONNREFUSED, "ECONNREFUSED")?;
    fails(bench, at(B6, 4001), Errno::CONNREFUSED, "ECONNREFUSED")
}

fn timed_out(bench: &Bench) -> Result<()> {
    fails(bench, at(SILENT4, 4002), Errno::TIMEDOUT, "ETIMEDOUT")?;
    fails(bench, at(SILENT6, 4002), Errno::TIMEDOUT, "ETIMEDOUT")
}

fn no_route(bench: &Bench) -> Result<()> {
    fails(bench, at(NO_ROUTE4, 4003), Errno::NETUNREACH, "ENETUNREACH")
}

fn router_says(bench: &Bench) -> Result<()> {
    fails(bench, at(UNREACHABLE4, 4004), Errno::HOSTUNREACH, "EHOSTUNREACH")?;
    fails(bench, at(UNREACHABLE6, 4004), Errno::NETUNREACH, "ENETUNREACH")
}

/// Begins a non-blocking connect; answers the socket.
fn begin(client: &mut Actor, remote: SocketAddr) -> Result<i32> {
    let fd = client.socket(Kind::Tcp, remote)?;
    client.set(fd, SocketOption::NonBlocking)?;
    let begun = client.attempt(&Order::Connect { fd, to: remote })?;
    ensure!(begun == Err(Errno::INPROGRESS), "a non-blocking connect answered {begun:?}");
    Ok(fd)
}

fn non_blocking_refused(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut client = Actor::start(&network.a)?;
    let tracer = bench.watch(&network)?;
    let remote = at(B4, 4001);
    let fd = begin(&mut client, remote)?;
    let outcome = client.attempt(&Order::AwaitConnect { fd })?;
    ensure!(outcome == Err(Errno::CONNREFUSED), "the connect came to {outcome:?}");
    client.close(fd)?;
    check_failure(tracer, remote, "ECONNREFUSED", client.pid())
}

fn aborted(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut client = Actor::start(&network.a)?;
    let tracer = bench.watch(&network)?;
    let remote = at(SILENT4, 4005);
    let begun = Instant::now();
    let fd = begin(&mut client, remote)?;
    tracer.wait("the attempt", |r| r.tells("connect") && r.is_to("tcp", remote))?;
    client.close(fd)?;
    ensure!(begun.elapsed() < Duration::from_secs(3), "the connect timed out before it was aborted");
    check_failure(tracer, remote, "ECONNABORTED", client.pid())
}
