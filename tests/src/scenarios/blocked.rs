//! Many that wait in accept() at the same time, or did before the tracer came: each connection is told with
//! the process that took it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::inbound::{accepted, check_accept};
use super::{Bench, Scenario, at, scenario};
use crate::actor::{Actor, Kind, Order, SocketOption};
use crate::net::{B4, Network};

pub(super) const ALL: &[Scenario] = &[
    scenario("accepts-of-64-threads-that-wait-with-an-address-are-all-told", with_address),
    scenario("accepts-of-64-threads-that-wait-with-null-are-all-told", with_null),
    scenario("accepts-of-8-servers-that-waited-before-the-tracer-came-are-all-told", before),
    scenario("listeners-that-share-a-port-are-told-apart", same_port),
    scenario("session-that-nobody-accepts-is-told-with-its-listener", never),
];

const THREADS: usize = 64;
const CONNECTIONS: u64 = 200;
const SERVERS: u16 = 8;
/// Threads of an emulated machine take a while to get there.
const PATIENCE: Duration = Duration::from_secs(20);

fn with_address(bench: &Bench) -> Result<()> {
    in_threads(bench, true)
}

fn with_null(bench: &Bench) -> Result<()> {
    in_threads(bench, false)
}

fn in_threads(bench: &Bench, with_address: bool) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let service = at(B4, 8443);
    let fd = server.listen(service)?;
    let tracer = bench.watch(&network)?;
    server.begin(&Order::ServeInThreads { fd, threads: THREADS, with_address, total: CONNECTIONS })?;
    wait_for_accept_calls(server.pid(), THREADS)?;
    for _ in 0..CONNECTIONS {
        let fd = client.connect(service)?;
        client.perform(&Order::Receive { fd, bytes: 1 })?;
        client.close(fd)?;
    }
    let served = server.answer()??.count;
    ensure!(served == CONNECTIONS, "{served} connections were served");
    let run = tracer.finish()?;
    let accepts: Vec<_> = run.events("accept").filter(|r| r.is_at("tcp", service)).collect();
    ensure!(accepts.len() as u64 == CONNECTIONS, "{} accepts for {CONNECTIONS} connections", accepts.len());
    let sockets: BTreeSet<_> = accepts.iter().map(|r| r.socket()).collect();
    ensure!(sockets.len() == accepts.len(), "an accept was told twice");
    accepts.into_iter().try_for_each(|accept| accept.by(server.pid()).map(drop))
}

/// Two listeners with one address, each with a worker that tells its pid.
fn same_port(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut client = Actor::start(&network.a)?;
    let tracer = bench.watch(&network)?;
    let service = at(B4, 8443);
    let mut servers = Vec::new();
    for _ in 0..2 {
        let mut server = Actor::start(&network.b)?;
        let fd = server.socket(Kind::Tcp, service)?;
        server.set(fd, SocketOption::ReusePort)?;
        server.perform(&Order::Bind { fd, to: service })?;
        server.perform(&Order::Listen { fd })?;
        tracer.wait("the listener", |r| {
            r.tells("listen") && r.is_at("tcp", service) && r.pid() == Some(server.pid())
        })?;
        server.perform(&Order::ForkWorkers { fd, count: 1 })?;
        servers.push(server);
    }
    for _ in 0..SERVERS {
        let fd = client.connect(service)?;
        let pid = *client.perform(&Order::ReceivePid { fd })?.pids.first().context("no pid")?;
        let peer = client.local(fd)?;
        check_accept(&tracer, &accepted(&tracer, service, peer)?, pid)?;
        client.close(fd)?;
    }
    Ok(())
}

/// A connection that no process takes is told with the one that could.
fn never(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let service = at(B4, 8443);
    let tracer = bench.watch(&network)?;
    server.listen(service)?;
    client.connect(service)?;
    let inbound = tracer.wait("the session that waits", |r| {
        r.flags("unexplained-session") && r.is_at("tcp", service) && r.remote().is_some()
    })?;
    inbound.says("/event", "established")?.says("/attribution", "listener")?.by(server.pid())?;
    let run = tracer.finish()?;
    ensure!(run.events("accept").count() == 0, "an accept is told that was not made");
    Ok(())
}

/// Servers without room for the address, which nothing but their own waiting call shows.
fn before(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut client = Actor::start(&network.a)?;
    let mut servers = Vec::new();
    for number in 0..SERVERS {
        let (mut server, service) = (Actor::start(&network.b)?, at(B4, 8443 + number));
        let fd = server.listen(service)?;
        server.begin(&Order::Accept { fd, with_address: false })?;
        wait_for_accept_calls(server.pid(), 1)?;
        servers.push((server, service));
    }
    let tracer = bench.watch_alone(&network)?;
    for (server, service) in &mut servers {
        let fd = client.connect(*service)?;
        let peer = client.local(fd)?;
        let connection = server.answer()??.fd.context("an accept without a socket")?;
        server.perform(&Order::Send { fd: connection, bytes: 1 })?;
        check_accept(&tracer, &accepted(&tracer, *service, peer)?, server.pid())?;
    }
    Ok(())
}

/// Waits until so many threads of the process sleep inside accept(), as `/proc/PID/task/TID/syscall` shows.
pub(super) fn wait_for_accept_calls(pid: u32, threads: usize) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let waiting = accept_calls(pid)?;
        if waiting >= threads {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{waiting} threads of process {pid} wait in accept()");
        std::thread::yield_now();
    }
}

fn accept_calls(pid: u32) -> Result<usize> {
    let calls = [libc::SYS_accept, libc::SYS_accept4].map(|number| number.to_string());
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))?.filter_map(Result::ok);
    let waits = |task: &std::fs::DirEntry| {
        // A thread may end meanwhile.
        let text = std::fs::read_to_string(task.path().join("syscall")).unwrap_or_default();
        text.split_whitespace().next().is_some_and(|number| calls.iter().any(|call| call == number))
    };
    Ok(tasks.filter(waits).count())
}
