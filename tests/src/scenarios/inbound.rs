//! Inbound sessions, and which process it was that took each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{Bench, Scenario, at, scenario};
use crate::actor::{Actor, Order};
use crate::net::{B4, B6, Network};
use crate::records::Record;
use crate::tracer::Stream;

pub(super) const ALL: &[Scenario] = &[
    scenario("accept-names-the-worker-of-each-connection", workers),
    scenario("accept-with-an-address-is-told-before-any-byte", with_address),
    scenario("accept-with-null-is-told-by-the-first-bytes", with_null),
    scenario("accept-by-a-server-that-waited-before-the-tracer-came", waited_before),
];

const WORKERS: usize = 4;
const ROUNDS: usize = 10;

/// Waits for the accept of the connection between these ends.
fn accepted(tracer: &Stream, local: SocketAddr, remote: SocketAddr) -> Result<Record> {
    tracer.wait(&format!("the accept of {remote} at {local}"), |r| {
        r.tells("accept") && r.is_at("tcp", local) && r.is_to("tcp", remote)
    })
}

fn check_accept(record: &Record, pid: u32) -> Result<()> {
    record.flagged("research", "unexplained-session")?.by(pid)?;
    record.says("/socket/direction", "inbound")?.says("/socket/remote/class", "internet")?;
    let how = record.text("/attribution");
    record.claim("the process is known itself, not guessed", how == "exact" || how == "holder").map(drop)
}

/// Four workers on one listener, each with a connection in hand before the next round begins, so that
/// all of them get some; each tells its pid on the connection.
fn workers(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let service = at(B4, 8443);
    let listener = server.listen(service)?;
    let pids = server.perform(&Order::ForkWorkers { fd: listener, count: WORKERS })?.pids;
    let tracer = bench.watch(&network)?;
    let truth = connect_in_rounds(&mut client, service)?;
    let busy: BTreeSet<u32> = truth.values().copied().collect();
    ensure!(busy == pids.iter().copied().collect(), "not every worker had a connection: {busy:?}");
    for (peer, pid) in &truth {
        check_accept(&accepted(&tracer, service, *peer)?, *pid)?;
    }
    let run = tracer.finish()?;
    ensure!(run.events("accept").count() == truth.len(), "an accept was told twice");
    Ok(())
}

/// The client's end of each connection, and the worker that said it has it.
fn connect_in_rounds(client: &mut Actor, service: SocketAddr) -> Result<BTreeMap<SocketAddr, u32>> {
    let mut truth = BTreeMap::new();
    for _ in 0..ROUNDS {
        let mut round = Vec::new();
        for _ in 0..WORKERS {
            let fd = client.connect(service)?;
            let worker = client.perform(&Order::ReceivePid { fd })?.pids;
            truth.insert(client.local(fd)?, *worker.first().context("a worker without pid")?);
            round.push(fd);
        }
        for fd in round {
            client.close(fd)?;
        }
    }
    ensure!(truth.len() == WORKERS * ROUNDS, "a client port was used twice");
    Ok(truth)
}

fn with_address(bench: &Bench) -> Result<()> {
    for service in [at(B4, 8443), at(B6, 8443)] {
        let network = Network::new()?;
        let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
        let listener = server.listen(service)?;
        let tracer = bench.watch(&network)?;
        let fd = client.connect(service)?;
        let peer = client.local(fd)?;
        server.accept(listener)?;
        check_accept(&accepted(&tracer, service, peer)?, server.pid())?;
    }
    Ok(())
}

fn with_null(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let service = at(B4, 8443);
    let listener = server.listen(service)?;
    let tracer = bench.watch(&network)?;
    let fd = client.connect(service)?;
    let peer = client.local(fd)?;
    let accept = Order::Accept { fd: listener, with_address: false };
    let connection = server.perform(&accept)?.fd.context("an accept without a socket")?;
    client.perform(&Order::Send { fd, bytes: 10 })?;
    server.perform(&Order::Receive { fd: connection, bytes: 10 })?;
    check_accept(&accepted(&tracer, service, peer)?, server.pid())?;
    let run = tracer.finish()?;
    ensure!(run.events("accept").count() == 1, "the accept was told twice");
    Ok(())
}

fn waited_before(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let service = at(B4, 8443);
    let listener = server.listen(service)?;
    server.begin(&Order::Accept { fd: listener, with_address: false })?;
    wait_for_accept_call(server.pid())?;
    let tracer = bench.watch_alone(&network)?;
    let fd = client.connect(service)?;
    let peer = client.local(fd)?;
    let connection = server.answer()??.fd.context("an accept without a socket")?;
    server.perform(&Order::Send { fd: connection, bytes: 1 })?;
    check_accept(&accepted(&tracer, service, peer)?, server.pid())
}

/// Waits until the process sleeps inside accept4(), as /proc/PID/syscall shows.
fn wait_for_accept_call(pid: u32) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let call = [libc::SYS_accept, libc::SYS_accept4].map(|number| number.to_string());
    while Instant::now() < deadline {
        let text = std::fs::read_to_string(format!("/proc/{pid}/syscall"))?;
        if text.split_whitespace().next().is_some_and(|number| call.iter().any(|known| known == number)) {
            return Ok(());
        }
        std::thread::yield_now();
    }
    bail!("process {pid} does not wait in accept()")
}
