//! Many sockets with the same addresses one after the other: each is one socket to the tracer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};

use super::{Bench, Scenario, alone, at};
use crate::actor::{Actor, Order};
use crate::net::{B4, Network};
use crate::records::Record;
use crate::table::until_closed;
use crate::tracer::Process;

pub(super) const ALL: &[Scenario] =
    &[alone("short-connections-that-share-their-addresses-are-never-mixed-up", short)];

/// So few client ports that each is used again and again.
const PORTS: &str = "40000 40199";
const CLIENTS: u64 = 2;
/// What each end of a connection is told as, in this order.
const CLIENT: [&str; 3] = ["connect", "established", "close"];
const SERVER: [&str; 2] = ["accept", "close"];

fn short(bench: &Bench) -> Result<()> {
    let total = if bench.quick { 1_000 } else { 10_000 };
    let network = Network::new()?;
    network.a.sysctl("ipv4/ip_local_port_range", PORTS)?;
    let mut server = Actor::start(&network.b)?;
    let fd = server.listen(at(B4, 8443))?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("stdout");
    let mut command = bench.subject.live(&["--all"]);
    let mut process = Process::start_ready(command.stdout(File::create(&file)?))?;
    server.begin(&Order::Dismiss { fd, total })?;
    call(&network, total)?;
    server.answer()?.map_err(|errno| anyhow!("the server: {errno}"))?;
    until_closed(&network.a)?;
    until_closed(&network.b)?;
    process.finish()?;
    check(&lives(&file, &network)?, total)
}

fn call(network: &Network, total: u64) -> Result<()> {
    let mut clients = (0..CLIENTS).map(|_| Actor::start(&network.a)).collect::<Result<Vec<_>>>()?;
    for client in &mut clients {
        client.begin(&Order::Call { to: at(B4, 8443), count: total / CLIENTS })?;
    }
    for client in &mut clients {
        client.answer()?.map_err(|errno| anyhow!("a client: {errno}"))?;
    }
    Ok(())
}

/// What was told of each TCP session, by its id.
fn lives(file: &Path, network: &Network) -> Result<BTreeMap<u64, Vec<String>>> {
    let mut lives: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for line in BufReader::new(File::open(file)?).lines() {
        let record = Record::parse(&line?)?;
        ensure!(record.kind() != "gap", "something was lost: {record}");
        let ours = record.netns().is_some_and(|netns| network.inodes().contains(&netns));
        let event = record.text("/event");
        if ours && matches!(record.kind(), "flag" | "event") && record.remote().is_some() {
            lives.entry(record.socket().parse()?).or_default().push(event.to_owned());
        }
    }
    Ok(lives)
}

fn check(lives: &BTreeMap<u64, Vec<String>>, total: u64) -> Result<()> {
    let (mut clients, mut servers) = (0, 0);
    for (id, events) in lives {
        // One that was accepted late is told as `established` first.
        let inbound = events.iter().any(|event| event == "accept");
        let told: Vec<&str> =
            events.iter().map(String::as_str).filter(|e| !inbound || *e != "established").collect();
        match told.as_slice() {
            events if events == CLIENT => clients += 1,
            events if events == SERVER => servers += 1,
            other => {
                let after = lives.range(id..).count() - 1;
                return Err(anyhow!("socket {id} was told as {other:?}; {after} sockets came after it"));
            }
        }
    }
    println!("{clients} outbound and {servers} inbound sockets");
    ensure!((clients, servers) == (total, total), "{clients} and {servers} sockets for {total} connections");
    lives.first_key_value().context("no socket at all").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_of(sockets: &[&[&str]], total: u64) -> Result<()> {
        let own = |events: &&[&str]| events.iter().map(|event| (*event).to_owned()).collect();
        let lives = sockets.iter().enumerate().map(|(id, events)| (id as u64, own(events)));
        check(&lives.collect(), total)
    }

    #[test]
    fn merged_split_and_missing_sockets_are_found() {
        assert!(check_of(&[&CLIENT, &SERVER], 1).is_ok());
        assert!(check_of(&[&CLIENT, &["established", "accept", "close"]], 1).is_ok());
        assert!(check_of(&[&CLIENT, &SERVER], 2).is_err());
        assert!(check_of(&[&[&CLIENT[..], &CLIENT[..]].concat(), &SERVER], 1).is_err());
        assert!(check_of(&[&CLIENT[..2], &CLIENT[2..], &SERVER], 1).is_err());
        assert!(check_of(&[&[&SERVER[..], &SERVER[..]].concat(), &CLIENT], 1).is_err());
    }
}
