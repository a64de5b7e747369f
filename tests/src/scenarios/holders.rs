//! Sockets that are in other hands than those that opened them: who opened, who holds, who acts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::inbound::{accepted, check_accept};
use super::{Bench, Scenario, at, scenario};
use crate::actor::{Actor, Order};
use crate::net::{B4, Network};
use crate::records::Record;
use crate::tracer::Stream;

pub(super) const ALL: &[Scenario] = &[
    scenario("opener-of-a-listener-that-was-given-away-is-told-beside-who-accepts", given),
    scenario("opener-that-ended-leaves-its-listener-to-who-was-given-it", left),
    scenario("opener-that-ended-leaves-its-listener-to-its-child", inherited),
    scenario("opener-of-a-service-is-who-activated-it", activated),
    scenario("workers-that-were-forked-before-are-told-right-for-each-connection", workers),
];

const WORKERS: usize = 8;
const CONNECTIONS: usize = 800;
/// Fewer for an emulated machine.
const FEW: usize = 80;
/// Who holds a listener is found out within this time.
const PATIENCE: Duration = Duration::from_secs(40);

fn service() -> SocketAddr {
    at(B4, 8443)
}

/// Claims which process opened the socket, another one than acted.
fn opened_by(record: &Record, pid: u32) -> Result<&Record> {
    record.claim(format!("opened by process {pid}"), record.number("/opener/pid") == Some(pid.into()))?;
    record.claim("the opener is told with its program", !record.text("/opener/exe").is_empty())
}

/// The end of the listener.
fn listener_closed(tracer: &Stream) -> Result<Record> {
    tracer
        .wait("the listener's end", |r| r.tells("close") && r.is_at("tcp", service()) && r.remote().is_none())
}

/// Connects again and again, until a session that nobody accepts is told with this process behind the listener: who holds
/// that is looked for a moment after the opener's end.
fn until_held_by(tracer: &Stream, client: &mut Actor, pid: u32) -> Result<Record> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let fd = client.connect(service())?;
        let peer = client.local(fd)?;
        let waits = tracer.wait(&format!("the session of {peer} that waits"), |r| {
            r.tells("established") && r.is_at("tcp", service()) && r.is_to("tcp", peer)
        })?;
        client.close(fd)?;
        if waits.pid() == Some(pid) {
            return Ok(waits);
        }
        ensure!(Instant::now() < deadline, "the listener is not process {pid}'s: {waits}");
    }
}

/// The opener is gone when the first connection comes.
fn given(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut client = Actor::start(&network.a)?;
    let (mut giver, mut heir) = (Actor::start(&network.b)?, Actor::start(&network.b)?);
    let tracer = bench.watch(&network)?;
    let fd = giver.listen(service())?;
    let opener = giver.pid();
    let listen = tracer.wait("the listener", |r| r.tells("listen") && r.is_at("tcp", service()))?;
    listen.by(opener)?.lacks("/opener")?.lacks("/holders")?;
    let given = giver.give(fd, &mut heir)?;
    giver.end()?;
    let connection = client.connect(service())?;
    let peer = client.local(connection)?;
    heir.accept(given)?;
    let accept = accepted(&tracer, service(), peer)?;
    check_accept(&tracer, &accept, heir.pid())?;
    opened_by(&accept, opener)?;
    heir.close(given)?;
    opened_by(listener_closed(&tracer)?.by(heir.pid())?, opener).map(drop)
}

/// Nobody accepts: that another holds the listener is found by looking.
fn left(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut client = Actor::start(&network.a)?;
    let (mut giver, mut heir) = (Actor::start(&network.b)?, Actor::start(&network.b)?);
    let tracer = bench.watch(&network)?;
    let fd = giver.listen(service())?;
    let opener = giver.pid();
    let given = giver.give(fd, &mut heir)?;
    giver.end()?;
    let waits = until_held_by(&tracer, &mut client, heir.pid())?;
    opened_by(waits.says("/attribution", "listener")?, opener)?;
    heir.close(given)?;
    let end = listener_closed(&tracer)?;
    opened_by(end.by(heir.pid())?.says("/attribution", "holder")?, opener).map(drop)
}

fn inherited(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut parent) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let tracer = bench.watch(&network)?;
    parent.listen(service())?;
    let opener = parent.pid();
    let pids = parent.perform(&Order::ForkHeir)?.pids;
    let child = *pids.first().context("a child without pid")?;
    parent.end()?;
    let waits = until_held_by(&tracer, &mut client, child)?;
    opened_by(&waits, opener)?;
    let child_pid = Pid::from_raw(child.cast_signed()).context("a child without pid")?;
    kill_process(child_pid, Signal::KILL)?;
    let end = listener_closed(&tracer)?;
    opened_by(end.by(child)?.says("/attribution", "holder")?, opener).map(drop)
}

fn activated(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut activator) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let tracer = bench.watch(&network)?;
    let fd = activator.listen(service())?;
    let started = activator.perform(&Order::Activate { fd })?.pids;
    let connection = client.connect(service())?;
    let peer = client.local(connection)?;
    let serving = client.perform(&Order::ReceivePid { fd: connection })?.pids;
    ensure!(serving == started, "{serving:?} serves, not {started:?}");
    let worker = *started.first().context("a service without pid")?;
    let accept = accepted(&tracer, service(), peer)?;
    check_accept(&tracer, &accept, worker)?;
    opened_by(&accept, activator.pid())?;
    // Of the two that have the listener the service is the last, and it was the last to use it.
    activator.close(fd)?;
    client.close(connection)?;
    let end = listener_closed(&tracer)?;
    opened_by(end.by(worker)?.says("/attribution", "exact")?, activator.pid())?;
    let holders = end.at("/holders").and_then(|holders| holders.as_array()).cloned().unwrap_or_default();
    let pids: BTreeSet<_> = holders.iter().filter_map(|holder| holder["pid"].as_u64()).collect();
    let expected = BTreeSet::from([activator.pid().into(), worker.into()]);
    end.claim("both are known to have held it", pids == expected).map(drop)
}

/// All connections stay, so that those see them too who only look now and then.
fn workers(bench: &Bench) -> Result<()> {
    let count = if bench.quick { FEW } else { CONNECTIONS };
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let listener = server.listen(service())?;
    let pids: BTreeSet<u32> =
        server.perform(&Order::ForkKeepers { fd: listener, count: WORKERS })?.pids.into_iter().collect();
    let tracer = bench.watch(&network)?;
    let mut truth = Vec::new();
    for _ in 0..count {
        let fd = client.connect(service())?;
        let worker = client.perform(&Order::ReceivePid { fd })?.pids;
        truth.push((client.local(fd)?, *worker.first().context("a worker without pid")?));
    }
    let busy: BTreeSet<u32> = truth.iter().map(|(_, worker)| *worker).collect();
    ensure!(busy.len() > 1 && busy.is_subset(&pids), "these took connections: {busy:?}, of {pids:?}");
    let run = tracer.finish()?;
    let mut told: BTreeMap<SocketAddr, Vec<&Record>> = BTreeMap::new();
    for record in run.events("accept").chain(run.events("seen")).filter(|r| r.is_at("tcp", service())) {
        if let Some(peer) = record.remote().filter(|_| record.pid().is_some()) {
            told.entry(peer).or_default().push(record);
        }
    }
    for (peer, worker) in truth {
        let told = told.remove(&peer).with_context(|| format!("{peer} is not told with a process"))?;
        told.into_iter().try_for_each(|record| opened_by(record.by(worker)?, server.pid()).map(drop))?;
    }
    Ok(())
}
