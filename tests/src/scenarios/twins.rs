//! UDP ports and their TCP twins: what the twin's coming and going does to the UDP port's flag.

use std::net::SocketAddr;

use anyhow::{Result, ensure};

use super::{Bench, Scenario, scenario};
use crate::actor::{Actor, Program};
use crate::net::Network;
use crate::records::Record;
use crate::tracer::Stream;

pub(super) const ALL: &[Scenario] = &[
    scenario("udp-flag-is-cleared-by-its-twin-and-comes-back", comes_and_goes),
    scenario("udp-server-beside-its-twin-is-not-flagged", twin_first),
    scenario("udp-twin-of-the-same-program-in-another-process", same_program),
    scenario("udp-twin-of-another-program-is-suspicious", other_owner),
];

const BOTH: &str = "0.0.0.0:5353";

fn udp_flag(tracer: &Stream, local: SocketAddr, after: u64) -> Result<Record> {
    tracer.wait(&format!("a flag of the UDP port after record {after}"), |r| {
        r.seq() > after && r.flags("unexplained-udp") && r.is_at("udp", local)
    })
}

fn comes_and_goes(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut server = Actor::start(&network.a)?;
    let tracer = bench.watch(&network)?;
    let local: SocketAddr = BOTH.parse()?;
    server.bind_udp(local)?;
    let flag = udp_flag(&tracer, local, 0)?;
    flag.flagged("research", "unexplained-udp")?.by(server.pid())?;
    let twin = server.listen(local)?;
    let clear = tracer.wait("the clear", |r| r.kind() == "clear" && r.is_at("udp", local))?;
    clear.claim("it names the flag", clear.number("/flag_seq") == Some(flag.seq()))?;
    clear.says("/socket/id", flag.socket())?;
    clear.claim("the ground is the twin", clear.names("udp-twin") && !clear.names("unexplained-udp"))?;
    let listen = tracer.wait("the twin's own flag", |r| r.tells("listen") && r.is_at("tcp", local))?;
    listen.flagged("research", "unexplained-listener")?;
    server.close(twin)?;
    let again = udp_flag(&tracer, local, clear.seq())?;
    again.flagged("research", "unexplained-udp")?.says("/socket/id", flag.socket())?;
    let run = tracer.finish()?;
    let flags = run.flags("unexplained-udp").count();
    ensure!(flags == 2, "the UDP port was flagged {flags} times, not twice");
    Ok(())
}

fn twin_first(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut server = Actor::start(&network.a)?;
    let tracer = bench.watch(&network)?;
    let local: SocketAddr = BOTH.parse()?;
    server.listen(local)?;
    server.bind_udp(local)?;
    let bind = tracer.wait("the UDP server", |r| r.tells("bind") && r.is_at("udp", local))?;
    bind.claim("not flagged beside its twin", bind.kind() == "event" && bind.names("udp-twin"))?;
    let run = tracer.finish()?;
    ensure!(!run.records.iter().any(|r| r.kind() == "flag" && r.is_at("udp", local)), "it was flagged later");
    Ok(())
}

fn same_program(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut one, mut two) = (Actor::start(&network.a)?, Actor::start(&network.a)?);
    let tracer = bench.watch(&network)?;
    let local: SocketAddr = BOTH.parse()?;
    one.bind_udp(local)?;
    let flag = udp_flag(&tracer, local, 0)?;
    two.listen(local)?;
    let clear = tracer.wait("the clear", |r| r.kind() == "clear" && r.is_at("udp", local))?;
    clear.claim("it names the flag", clear.number("/flag_seq") == Some(flag.seq()))?;
    Ok(())
}

fn other_owner(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let folder = tempfile::tempdir()?;
    let other = Program::copied_to(folder.path().join("other"))?;
    let (mut one, mut two) = (Actor::start(&network.a)?, Actor::start_as(&network.a, &other)?);
    let tracer = bench.watch(&network)?;
    let local: SocketAddr = BOTH.parse()?;
    one.bind_udp(local)?;
    let flag = udp_flag(&tracer, local, 0)?;
    flag.flagged("research", "unexplained-udp")?;
    let twin = two.listen(local)?;
    let worse =
        tracer.wait("the twin's foreign owner", |r| r.flags("twin-other-owner") && r.is_at("udp", local))?;
    worse.flagged("suspicious", "twin-other-owner")?.says("/socket/id", flag.socket())?;
    two.close(twin)?;
    let milder = udp_flag(&tracer, local, worse.seq())?;
    milder.flagged("research", "unexplained-udp").map(drop)
}
