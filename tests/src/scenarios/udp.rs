//! UDP clients and servers: what is flagged, and that datagrams are counted instead of listed.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::{Bench, Scenario, at, scenario};
use crate::actor::{Actor, Kind, Order};
use crate::net::{A4, B4, B6, Network};
use crate::records::Record;

pub(super) const ALL: &[Scenario] = &[
    scenario("udp-server-without-twin-is-flagged", server),
    scenario("udp-server-on-loopback-is-left-aside", server_on_loopback),
    scenario("udp-client-with-connect-is-flagged", connected_client),
    scenario("udp-client-with-one-datagram-is-told-and-not-flagged", single_datagram),
    scenario("udp-client-that-repeats-is-flagged", repeated_datagrams),
    scenario("udp-datagrams-are-counted-and-not-listed", counted),
    scenario("udp-server-tells-of-the-first-datagram-of-a-peer", received),
    scenario("udp-datagrams-of-the-last-moment-are-told-at-the-end", last_moment),
];

const DATAGRAMS: u64 = 1000;

fn server(bench: &Bench) -> Result<()> {
    for local in ["0.0.0.0:5300", "[::]:5300", "9.1.1.1:5300"] {
        let network = Network::new()?;
        let mut server = Actor::start(&network.a)?;
        let tracer = bench.watch(&network)?;
        let local: SocketAddr = local.parse()?;
        server.bind_udp(local)?;
        let flag = tracer.wait("the UDP server", |r| r.tells("bind") && r.is_at("udp", local))?;
        flag.flagged("research", "unexplained-udp")?.by(server.pid())?.says("/socket/role", "server")?;
        flag.lacks("/socket/remote")?.says("/attribution", "exact")?;
        let run = tracer.finish()?;
        ensure!(run.flags("unexplained-udp").count() == 1, "a UDP server was flagged more than once");
    }
    Ok(())
}

fn server_on_loopback(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut server = Actor::start(&network.a)?;
    let tracer = bench.watch(&network)?;
    let local = "127.0.0.1:5300".parse()?;
    server.bind_udp(local)?;
    let bind = tracer.wait("the UDP server", |r| r.tells("bind") && r.is_at("udp", local))?;
    bind.left_aside("loopback-only")?.by(server.pid())?.says("/socket/local/scope", "loopback").map(drop)
}

fn is_udp_flow(record: &Record, remote: SocketAddr) -> bool {
    (record.tells("connect") || record.tells("udp")) && record.is_to("udp", remote)
}

fn connected_client(bench: &Bench) -> Result<()> {
    for remote in [at(B4, 5301), at(B6, 5301)] {
        let network = Network::new()?;
        let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
        server.bind_udp(remote)?;
        let tracer = bench.watch(&network)?;
        let fd = client.socket(Kind::Udp, remote)?;
        client.perform(&Order::Connect { fd, to: remote })?;
        client.perform(&Order::Send { fd, bytes: 20 })?;
        let flag =
            tracer.wait("the client's flag", |r| r.flags("unexplained-session") && is_udp_flow(r, remote))?;
        flag.flagged("research", "unexplained-session")?.by(client.pid())?;
        flag.says("/socket/role", "client")?.says("/socket/remote/class", "internet")?;
        let run = tracer.finish()?;
        let flags = run.flags("unexplained-session").filter(|r| r.is_to("udp", remote)).count();
        ensure!(flags == 1, "one UDP flow was flagged {flags} times");
    }
    Ok(())
}

fn single_datagram(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let remote = at(B4, 5302);
    server.bind_udp(remote)?;
    let tracer = bench.watch(&network)?;
    let fd = client.socket(Kind::Udp, remote)?;
    client.send_to(fd, remote)?;
    let udp = tracer.wait("the datagram", |r| r.tells("udp") && r.is_to("udp", remote))?;
    udp.by(client.pid())?.says("/socket/role", "client")?;
    udp.claim("one datagram is no session", udp.kind() == "event")?;
    client.close(fd)?;
    let run = tracer.finish()?;
    let sent: u64 =
        run.events("udp").filter(|r| r.is_to("udp", remote)).filter_map(|r| r.number("/count")).sum();
    ensure!(sent == 1, "{sent} datagrams were told for one");
    let flags = run.records.iter().filter(|r| r.kind() == "flag" && r.pid() == Some(client.pid())).count();
    ensure!(flags == 0, "a single datagram was flagged");
    Ok(())
}

fn repeated_datagrams(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let remote = at(B4, 5303);
    server.bind_udp(remote)?;
    let tracer = bench.watch(&network)?;
    let fd = client.socket(Kind::Udp, remote)?;
    client.perform(&Order::SendTo { fd, to: remote, bytes: 20, count: 15, spacing_us: 200_000 })?;
    let flag = tracer
        .wait("the repeated flow's flag", |r| r.flags("unexplained-session") && r.is_to("udp", remote))?;
    flag.flagged("research", "unexplained-session")?.by(client.pid())?.says("/event", "udp").map(drop)
}

fn counted(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let remote = at(B4, 5304);
    server.bind_udp(remote)?;
    let tracer = bench.watch(&network)?;
    let fd = client.socket(Kind::Udp, remote)?;
    let begun = Instant::now();
    client.perform(&Order::SendTo { fd, to: remote, bytes: 20, count: DATAGRAMS, spacing_us: 900 })?;
    let periods = begun.elapsed().as_secs() as usize + 1;
    client.close(fd)?;
    let sum = |records: &[Record]| -> u64 {
        let sent = records.iter().filter(|r| r.tells("udp") && r.is_to("udp", remote));
        sent.filter_map(|r| r.number("/count")).sum()
    };
    tracer.wait_until("all datagrams in the counts", |records| (sum(records) == DATAGRAMS).then_some(()))?;
    let run = tracer.finish()?;
    let (records, sum) = (run.events("udp").filter(|r| r.is_to("udp", remote)).count(), sum(&run.records));
    ensure!(sum == DATAGRAMS, "the counts come to {sum}");
    ensure!(records <= periods + 1, "{records} records in {periods} periods for {DATAGRAMS} datagrams");
    Ok(())
}

fn received(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let service = at(B4, 5305);
    let served = server.bind_udp(service)?;
    let tracer = bench.watch(&network)?;
    let fd = client.bind_udp(at(A4, 40_000))?;
    client.send_to(fd, service)?;
    let peer = server.perform(&Order::ReceiveFrom { fd: served })?.address;
    ensure!(peer == Some(at(A4, 40_000)), "the datagram came from {peer:?}");
    let udp = tracer.wait("the received datagram", |r| {
        r.tells("udp") && r.is_to("udp", at(A4, 40_000)) && r.netns() == Some(network.b.inode())
    })?;
    udp.by(server.pid())?.says("/socket/role", "server")?;
    udp.claim("one datagram", udp.number("/count") == Some(1))?;
    let port = udp.number("/socket/local/port");
    udp.claim("at the server's port", port == Some(5305)).map(drop)
}

fn last_moment(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let remote = at(B4, 5306);
    server.bind_udp(remote)?;
    let tracer = bench.watch_alone(&network)?;
    let fd = client.socket(Kind::Udp, remote)?;
    client.perform(&Order::SendTo { fd, to: remote, bytes: 20, count: 5, spacing_us: 0 })?;
    // The first is told at once, and the others when a second is over: before it is, the tracer ends.
    let run = tracer.finish()?;
    let told = run.events("udp").filter(|r| r.is_to("udp", remote)).filter_map(|r| r.number("/count"));
    let told: u64 = told.sum();
    ensure!(told == 5, "{told} of 5 datagrams were told");
    Ok(())
}
