//! IPv4 over AF_INET6 sockets: every column shows the IPv4 address, whatever the socket's family.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Result, bail, ensure};

use super::{Bench, Scenario, at, scenario};
use crate::actor::{Actor, Kind, Order};
use crate::net::{A4, B4, Network};
use crate::tracer::Run;

pub(super) const ALL: &[Scenario] = &[
    scenario("v4-mapped-listener-and-its-sessions-are-written-as-ipv4", listener),
    scenario("v4-mapped-loopback-listener-is-left-aside", loopback),
    scenario("session-of-a-dual-stack-listener-is-written-as-ipv4", dual_stack),
    scenario("v4-mapped-udp-is-written-as-ipv4", udp),
];

/// The v4-mapped form of an IPv4 address (RFC 4291, 2.5.5.2).
fn mapped(ip: IpAddr, port: u16) -> Result<SocketAddr> {
    match ip {
        IpAddr::V4(ip) => Ok(at(IpAddr::V6(ip.to_ipv6_mapped()), port)),
        IpAddr::V6(_) => bail!("{ip} is not IPv4"),
    }
}

fn nowhere_mapped(run: &Run) -> Result<()> {
    let written = run.records.iter().find(|record| record.to_string().contains("::ffff:"));
    ensure!(
        written.is_none(),
        "a v4-mapped address is written: {}",
        written.map_or(String::new(), ToString::to_string)
    );
    Ok(())
}

fn listener(bench: &Bench) -> Result<()> {
    serve(bench, mapped(B4, 8443)?, at(B4, 8443))
}

fn dual_stack(bench: &Bench) -> Result<()> {
    serve(bench, "[::]:8443".parse()?, "[::]:8443".parse()?)
}

/// A server bound to `bound`, told as `shown`, and a client that connects by the v4-mapped address.
fn serve(bench: &Bench, bound: SocketAddr, shown: SocketAddr) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let tracer = bench.watch(&network)?;
    let listener = server.listen(bound)?;
    let listen = tracer.wait("the listener", |r| r.tells("listen") && r.is_at("tcp", shown))?;
    listen.flagged("research", "unexplained-listener")?.says("/socket/family", "ipv6")?;
    let fd = client.connect(mapped(B4, 8443)?)?;
    let peer = at(A4, client.local(fd)?.port());
    server.accept(listener)?;
    for event in ["connect", "established"] {
        let record = tracer.wait(event, |r| r.tells(event) && r.is_to("tcp", at(B4, 8443)))?;
        record.says("/socket/family", "ipv6")?.says("/socket/remote/class", "internet")?.by(client.pid())?;
    }
    let accept = tracer.wait("the accept", |r| r.tells("accept") && r.is_to("tcp", peer))?;
    accept.claim("the local end is IPv4", accept.local() == Some(at(B4, 8443)))?.by(server.pid())?;
    client.close(fd)?;
    tracer.wait("the client's close", |r| r.tells("close") && r.is_at("tcp", peer))?;
    nowhere_mapped(&tracer.finish()?)
}

fn loopback(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut server = Actor::start(&network.a)?;
    let tracer = bench.watch(&network)?;
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    server.listen(mapped(ip, 4444)?)?;
    let listen = tracer.wait("the listener", |r| r.tells("listen") && r.is_at("tcp", at(ip, 4444)))?;
    listen.left_aside("loopback-only")?.says("/socket/local/scope", "loopback").map(drop)
}

fn udp(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let tracer = bench.watch(&network)?;
    let served = server.bind_udp(mapped(B4, 5300)?)?;
    let bind = tracer.wait("the UDP server", |r| r.tells("bind") && r.is_at("udp", at(B4, 5300)))?;
    bind.flagged("research", "unexplained-udp")?.says("/socket/family", "ipv6")?;
    let fd = client.bind_udp(mapped(A4, 40_000)?)?;
    client.send_to(fd, mapped(B4, 5300)?)?;
    server.perform(&Order::ReceiveFrom { fd: served })?;
    tracer.wait("the datagram sent", |r| r.tells("udp") && r.is_to("udp", at(B4, 5300)))?.by(client.pid())?;
    tracer
        .wait("the datagram received", |r| r.tells("udp") && r.is_to("udp", at(A4, 40_000)))?
        .by(server.pid())?;
    let connected = client.socket(Kind::Udp, mapped(B4, 5300)?)?;
    client.perform(&Order::Connect { fd: connected, to: mapped(B4, 5300)? })?;
    client.perform(&Order::Send { fd: connected, bytes: 20 })?;
    let flow = tracer.wait("the connected flow", |r| {
        r.flags("unexplained-session") && r.is_to("udp", at(B4, 5300)) && r.pid() == Some(client.pid())
    })?;
    flow.says("/socket/family", "ipv6")?;
    nowhere_mapped(&tracer.finish()?)
}
