//! Sockets that were there before the tracer: seen once, with their holder, and followed from then on.

use std::net::SocketAddr;

use anyhow::{Result, ensure};

use super::{Bench, Scenario, at, scenario};
use crate::actor::Actor;
use crate::net::{A4, B4, Network};
use crate::records::Record;
use crate::tracer::Stream;

pub(super) const ALL: &[Scenario] = &[
    scenario("sockets-opened-before-the-tracer-are-seen-with-their-holders", seen),
    scenario("sockets-opened-before-the-tracer-are-followed", followed),
    scenario("sockets-without-flag-are-seen-with-all", seen_unflagged),
];

/// Waits for the one `seen` flag of a socket.
fn seen_flag(
    tracer: &Stream,
    protocol: &str,
    local: SocketAddr,
    remote: Option<SocketAddr>,
) -> Result<Record> {
    tracer.wait(&format!("{protocol} {local} seen"), |r| {
        r.tells("seen") && r.is_at(protocol, local) && r.remote() == remote
    })
}

fn seen(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let service = at(B4, 8443);
    let listener = server.listen(service)?;
    let fd = client.connect(service)?;
    let peer = client.local(fd)?;
    server.accept(listener)?;
    server.bind_udp(at(B4, 5300))?;
    let tracer = bench.watch_alone(&network)?;
    let expected = [
        ("tcp", service, None, "unexplained-listener", server.pid()),
        ("tcp", service, Some(peer), "unexplained-session", server.pid()),
        ("tcp", peer, Some(service), "unexplained-session", client.pid()),
        ("udp", at(B4, 5300), None, "unexplained-udp", server.pid()),
    ];
    for (protocol, local, remote, rule, pid) in expected {
        let flag = seen_flag(&tracer, protocol, local, remote)?;
        flag.flagged("research", rule)?.by(pid)?.says("/attribution", "holder")?;
        let exe = std::fs::read_link(format!("/proc/{pid}/exe"))?;
        flag.says("/process/exe", &exe.to_string_lossy())?;
    }
    let run = tracer.finish()?;
    let count = run.events("seen").count();
    ensure!(count == expected.len(), "{count} sockets were seen where {} are", expected.len());
    Ok(())
}

fn followed(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let service = at(B4, 8443);
    let listener = server.listen(service)?;
    let fd = client.connect(service)?;
    let peer = client.local(fd)?;
    server.accept(listener)?;
    let tracer = bench.watch_alone(&network)?;
    let session = seen_flag(&tracer, "tcp", peer, Some(service))?;
    client.close(fd)?;
    let close = tracer.wait("the session's close", |r| r.tells("close") && r.is_at("tcp", peer))?;
    close.says("/socket/id", session.socket())?;
    let second = client.connect(service)?;
    let peer = client.local(second)?;
    server.accept(listener)?;
    let accept = tracer.wait("a session after it", |r| r.tells("accept") && r.is_to("tcp", peer))?;
    // On a slow machine the flag was raised before the accept.
    accept.says("/verdict", "research")?.by(server.pid())?;
    accept.claim("judged as a session", accept.names("unexplained-session")).map(drop)
}

fn seen_unflagged(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut server = Actor::start(&network.a)?;
    server.listen("127.0.0.1:4444".parse()?)?;
    server.listen(at(A4, 4444))?;
    let tracer = bench.watch_with(&network, &[])?;
    seen_flag(&tracer, "tcp", at(A4, 4444), None)?;
    let run = tracer.finish()?;
    ensure!(!run.records.iter().any(|r| r.kind() == "event"), "without --all an event was given");
    let tracer = bench.watch_alone(&network)?;
    let quiet = seen_flag(&tracer, "tcp", "127.0.0.1:4444".parse()?, None)?;
    quiet.left_aside("loopback-only")?.by(server.pid()).map(drop)
}
