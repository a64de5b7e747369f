//! A process with a door on loopback and a line to the Internet: a tunnel or a pivot.

use anyhow::{Result, bail, ensure};

use super::{Bench, Scenario, at, scenario};
use crate::actor::Actor;
use crate::net::{B4, Network};
use crate::records::Record;
use crate::tracer::Stream;

pub(super) const ALL: &[Scenario] = &[
    scenario("loopback-listener-with-a-later-session-is-a-relay", listener_first),
    scenario("loopback-listener-after-a-session-is-a-relay", session_first),
    scenario("loopback-listener-and-session-that-are-there-are-a-relay-told-once", both_before),
    scenario("loopback-listener-and-session-of-two-processes-are-no-relay", two_processes),
];

const DOOR: &str = "127.0.0.1:1080";

/// Claims the relay's flag and that it goes with the session.
fn check_relay(tracer: &Stream, relay: &mut Actor, session: i32) -> Result<()> {
    let door = DOOR.parse()?;
    let flag = tracer.wait("the relay's flag", |r| r.flags("loopback-relay") && r.is_at("tcp", door))?;
    flag.flagged("suspicious", "loopback-relay")?.by(relay.pid())?;
    relay.close(session)?;
    let clear = tracer.wait("the relay's clear", |r| r.kind() == "clear" && r.is_at("tcp", door))?;
    clear.claim("it names the flag", clear.number("/flag_seq") == Some(flag.seq())).map(drop)
}

fn listener_first(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut relay, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    server.listen(at(B4, 8443))?;
    let tracer = bench.watch(&network)?;
    relay.listen(DOOR.parse()?)?;
    let session = relay.connect(at(B4, 8443))?;
    check_relay(&tracer, &mut relay, session)
}

fn session_first(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut relay, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    server.listen(at(B4, 8443))?;
    let tracer = bench.watch(&network)?;
    let session = relay.connect(at(B4, 8443))?;
    relay.listen(DOOR.parse()?)?;
    check_relay(&tracer, &mut relay, session)
}

/// A picture tells a socket once, also where another one that it tells later bears on it.
fn both_before(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut relay, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    server.listen(at(B4, 8443))?;
    relay.listen(DOOR.parse()?)?;
    let session = relay.connect(at(B4, 8443))?;
    let output = bench.subject.run(["list", "--json", "--netns", &network.a.inode().to_string()])?;
    let records = Record::parse_all(&output.stdout)?;
    let door = DOOR.parse()?;
    let told: Vec<&Record> = records.iter().filter(|r| r.is_at("tcp", door)).collect();
    let [flag] = told.as_slice() else { bail!("list told the door not once: {told:?}") };
    flag.flagged("suspicious", "loopback-relay")?.says("/event", "seen")?.by(relay.pid())?;
    let tracer = bench.watch_alone(&network)?;
    check_relay(&tracer, &mut relay, session)
}

fn two_processes(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut door, mut client) = (Actor::start(&network.a)?, Actor::start(&network.a)?);
    let mut server = Actor::start(&network.b)?;
    server.listen(at(B4, 8443))?;
    let tracer = bench.watch(&network)?;
    door.listen(DOOR.parse()?)?;
    client.connect(at(B4, 8443))?;
    tracer.wait("the session", |r| r.tells("established") && r.is_to("tcp", at(B4, 8443)))?;
    let run = tracer.finish()?;
    ensure!(run.flags("loopback-relay").count() == 0, "two processes were taken for one relay");
    Ok(())
}
