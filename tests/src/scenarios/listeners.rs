//! TCP listeners of every scope.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use super::{Bench, Scenario, at, scenario};
use crate::actor::{Actor, Kind, Order, SocketOption};
use crate::net::{A4, A6, BOTH4, Network};
use crate::records::Record;
use crate::tracer::Stream;

pub(super) const ALL: &[Scenario] = &[
    scenario("listener-on-any-ipv4-is-flagged", any4),
    scenario("listener-on-any-ipv6-is-flagged-and-says-that-it-takes-ipv4", any6),
    scenario("listener-on-any-ipv6-only-is-flagged", v6only),
    scenario("listener-on-a-specific-address-is-flagged", specific),
    scenario("listener-on-loopback-is-left-aside", loopback),
    scenario("listener-without-bind-is-flagged", without_bind),
    scenario("listener-that-was-a-loopback-session-before-is-flagged-without-all", disguised),
    scenario("listener-that-closes-is-told-once", closes),
    scenario("same-address-in-two-namespaces-are-two-sockets", two_namespaces),
];

fn listened(tracer: &Stream, local: SocketAddr) -> Result<Record> {
    tracer.wait(&format!("the listener on {local}"), |r| r.tells("listen") && r.is_at("tcp", local))
}

/// What every flagged listener shows.
fn check_flagged(record: &Record, pid: u32, scope: &str) -> Result<()> {
    record.flagged("research", "unexplained-listener")?.by(pid)?;
    record.says("/socket/state", "LISTEN")?.says("/socket/local/scope", scope)?;
    record.lacks("/socket/remote")?.lacks("/socket/direction")?.lacks("/socket/role")?;
    let port = record.local().context("a listener without local end")?.port().to_string();
    let why = record.why("unexplained-listener");
    record.claim("the evidence names the port", why.contains(&port))?;
    record.says("/attribution", "exact").map(drop)
}

/// Starts a listener under a tracer; answers its record and its process.
fn observed(bench: &Bench, at: &str) -> Result<(Record, u32)> {
    let network = Network::new()?;
    let mut server = Actor::start(&network.a)?;
    let tracer = bench.watch(&network)?;
    let local = at.parse()?;
    server.listen(local)?;
    let record = listened(&tracer, local)?;
    let run = tracer.finish()?;
    ensure!(run.events("listen").count() == 1, "more than one listen event for {at}");
    Ok((record, server.pid()))
}

fn any4(bench: &Bench) -> Result<()> {
    let (record, pid) = observed(bench, "0.0.0.0:4444")?;
    record.says("/socket/family", "ipv4")?;
    check_flagged(&record, pid, "any")
}

fn any6(bench: &Bench) -> Result<()> {
    let (record, pid) = observed(bench, "[::]:4444")?;
    record.says("/socket/family", "ipv6")?;
    let why = record.why("unexplained-listener");
    record.claim("the evidence says that it takes IPv4 as well", why.contains("IPv4"))?;
    check_flagged(&record, pid, "any")
}

fn v6only(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut server = Actor::start(&network.a)?;
    let tracer = bench.watch(&network)?;
    let local: SocketAddr = "[::]:4444".parse()?;
    let fd = server.socket(Kind::Tcp, local)?;
    server.set(fd, SocketOption::V6Only(true))?;
    server.perform(&Order::Bind { fd, to: local })?;
    server.perform(&Order::Listen { fd })?;
    let record = listened(&tracer, local)?;
    let why = record.why("unexplained-listener");
    record.claim("the evidence does not say that it takes IPv4", !why.contains("IPv4"))?;
    check_flagged(&record, server.pid(), "any")
}

fn specific(bench: &Bench) -> Result<()> {
    for address in [at(A4, 4444), at(A6, 4444)] {
        let (record, pid) = observed(bench, &address.to_string())?;
        check_flagged(&record, pid, "specific")?;
    }
    Ok(())
}

fn loopback(bench: &Bench) -> Result<()> {
    for address in ["127.0.0.1:4444", "127.1.2.3:4444", "[::1]:4444"] {
        let (record, pid) = observed(bench, address)?;
        record.left_aside("loopback-only")?.by(pid)?.says("/socket/local/scope", "loopback")?;
    }
    Ok(())
}

fn without_bind(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut server = Actor::start(&network.a)?;
    let tracer = bench.watch(&network)?;
    let fd = server.socket(Kind::Tcp, at(A4, 0))?;
    server.perform(&Order::Listen { fd })?;
    let local = server.local(fd)?;
    ensure!(local.port() != 0, "listen() did not choose a port");
    check_flagged(&listened(&tracer, local)?, server.pid(), "any")
}

/// A dissolved connection leaves the socket its remote address; sessions with a loopback remote are left aside in the
/// kernel where only flags are wanted.
fn disguised(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut inner, mut server) = (Actor::start(&network.a)?, Actor::start(&network.a)?);
    inner.listen("127.0.0.1:4445".parse()?)?;
    let tracer = bench.watch_with(&network, &[])?;
    let fd = server.connect("127.0.0.1:4445".parse()?)?;
    server.perform(&Order::Disconnect { fd })?;
    let local = "0.0.0.0:4444".parse()?;
    server.perform(&Order::Bind { fd, to: local })?;
    server.perform(&Order::Listen { fd })?;
    let record =
        tracer.wait("the listener's flag", |r| r.flags("unexplained-listener") && r.is_at("tcp", local))?;
    check_flagged(&record, server.pid(), "any")
}

fn closes(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut server = Actor::start(&network.a)?;
    let tracer = bench.watch(&network)?;
    let local = at(A4, 4444);
    let fd = server.listen(local)?;
    let listen = listened(&tracer, local)?;
    server.close(fd)?;
    let close = tracer.wait("the listener's close", |r| r.tells("close") && r.is_at("tcp", local))?;
    close.says("/socket/id", listen.socket())?;
    let run = tracer.finish()?;
    ensure!(run.events("close").count() == 1, "more than one close of a listener");
    Ok(())
}

fn two_namespaces(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut in_a, mut in_b) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let tracer = bench.watch(&network)?;
    let local = at(BOTH4, 4444);
    in_a.listen(local)?;
    in_b.listen(local)?;
    let both = tracer.wait_all("both listeners", 2, |r| r.tells("listen") && r.is_at("tcp", local))?;
    for (record, (netns, actor)) in both.iter().zip([(&network.a, &in_a), (&network.b, &in_b)]) {
        check_flagged(record, actor.pid(), "specific")?;
        record.claim("the namespace is the right one", record.netns() == Some(netns.inode()))?;
    }
    both[0].claim("the two sockets have different ids", both[0].socket() != both[1].socket())?;
    Ok(())
}
