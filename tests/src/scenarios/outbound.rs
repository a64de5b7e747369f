//! Outbound sessions that come to stand, from their attempt to their close.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use rustix::io::Errno;

use super::{Bench, Scenario, at, scenario};
use crate::actor::{Actor, Kind, Order, SocketOption};
use crate::net::{A4, B4, B6, Network};
use crate::records::Record;
use crate::tracer::Stream;

pub(super) const ALL: &[Scenario] = &[
    scenario("outbound-session-is-flagged-at-its-attempt", established4),
    scenario("outbound-session-over-ipv6-is-flagged-at-its-attempt", established6),
    scenario("outbound-session-of-a-non-blocking-socket", non_blocking),
    scenario("close-counts-every-byte-of-both-sides", bytes),
    scenario("session-with-an-own-address-is-left-aside", own_address),
    scenario("session-over-loopback-is-left-aside", over_loopback),
];

const HELD_MS: u64 = 300;

fn told(tracer: &Stream, event: &str, remote: SocketAddr) -> Result<Record> {
    tracer.wait(&format!("{event} to {remote}"), |r| r.tells(event) && r.is_to("tcp", remote))
}

/// Claims what a flagged attempt and its success show.
fn check_session(tracer: &Stream, remote: SocketAddr, client: u32) -> Result<Record> {
    let connect = told(tracer, "connect", remote)?;
    connect.flagged("research", "unexplained-session")?.by(client)?;
    connect.says("/socket/remote/class", "internet")?.says("/socket/direction", "outbound")?;
    connect.says("/attribution", "exact")?;
    let established = told(tracer, "established", remote)?;
    established.says("/socket/id", connect.socket())?.says("/socket/state", "ESTABLISHED")?;
    established.says("/socket/direction", "outbound")?.by(client)?;
    established.claim("a session is flagged only once", established.kind() == "event")?;
    established.says("/verdict", "research")?;
    Ok(established)
}

fn established4(bench: &Bench) -> Result<()> {
    established(bench, at(B4, 8443))
}

fn established6(bench: &Bench) -> Result<()> {
    established(bench, at(B6, 8443))
}

fn established(bench: &Bench, remote: SocketAddr) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    server.listen(remote)?;
    let tracer = bench.watch(&network)?;
    let fd = client.connect(remote)?;
    let local = client.local(fd)?;
    let established = check_session(&tracer, remote, client.pid())?;
    established.claim("the local end is known", established.local() == Some(local))?;
    client.close(fd)?;
    let run = tracer.finish()?;
    for event in ["connect", "established"] {
        let count = run.events(event).filter(|r| r.is_to("tcp", remote)).count();
        ensure!(count == 1, "{count} {event} events for one session");
    }
    ensure!(run.events("failed").count() == 0, "a session that stood is said to have failed");
    Ok(())
}

fn non_blocking(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let remote = at(B4, 8443);
    server.listen(remote)?;
    let tracer = bench.watch(&network)?;
    let fd = client.socket(Kind::Tcp, remote)?;
    client.set(fd, SocketOption::NonBlocking)?;
    let begun = client.attempt(&Order::Connect { fd, to: remote })?;
    ensure!(begun == Err(Errno::INPROGRESS), "a non-blocking connect answered {begun:?}");
    client.perform(&Order::AwaitConnect { fd })?;
    check_session(&tracer, remote, client.pid())?;
    Ok(())
}

fn bytes(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let remote = at(B4, 8443);
    let listener = server.listen(remote)?;
    let tracer = bench.watch(&network)?;
    let fd = client.connect(remote)?;
    let local = client.local(fd)?;
    let accepted = server.accept(listener)?;
    client.perform(&Order::Send { fd, bytes: 70_001 })?;
    server.perform(&Order::Receive { fd: accepted, bytes: 70_001 })?;
    server.perform(&Order::Send { fd: accepted, bytes: 1_234 })?;
    client.perform(&Order::Receive { fd, bytes: 1_234 })?;
    std::thread::sleep(std::time::Duration::from_millis(HELD_MS));
    client.close(fd)?;
    server.close(accepted)?;
    for (end, sent, received) in [(local, 70_001, 1_234), (remote, 1_234, 70_001)] {
        let close = tracer.wait(&format!("the close at {end}"), |r| {
            r.tells("close") && r.is_at("tcp", end) && r.remote().is_some()
        })?;
        close.claim(format!("{sent} bytes sent"), close.number("/bytes_sent") == Some(sent))?;
        close
            .claim(format!("{received} bytes received"), close.number("/bytes_received") == Some(received))?;
        let plausible = close.number("/duration_ms").is_some_and(|ms| (HELD_MS..10_000).contains(&ms));
        close.claim(format!("it lasted {HELD_MS} ms and a little"), plausible)?;
    }
    let run = tracer.finish()?;
    ensure!(run.events("close").count() == 2, "each end closes once");
    Ok(())
}

fn own_address(bench: &Bench) -> Result<()> {
    left_aside(bench, at(A4, 8080), "own")
}

fn over_loopback(bench: &Bench) -> Result<()> {
    left_aside(bench, "127.0.0.1:8080".parse()?, "loopback")?;
    left_aside(bench, "[::1]:8080".parse()?, "loopback")
}

/// A session of A with A itself: neither end of it is flagged.
fn left_aside(bench: &Bench, remote: SocketAddr, class: &str) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.a)?);
    let listener = server.listen(remote)?;
    let tracer = bench.watch(&network)?;
    let fd = client.connect(remote)?;
    let local = client.local(fd)?;
    server.accept(listener)?;
    let connect = told(&tracer, "connect", remote)?;
    connect.left_aside("loopback-only")?.says("/socket/remote/class", class)?.by(client.pid())?;
    let accept = told(&tracer, "accept", local)?;
    accept.left_aside("loopback-only")?.says("/socket/remote/class", class)?;
    let run = tracer.finish()?;
    ensure!(run.flags("unexplained-session").count() == 0, "a session with oneself was flagged");
    Ok(())
}
