//! Much traffic: nothing is missing that is not accounted for, even when nobody reads.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::picture::agrees;
use super::{Bench, Scenario, alone};
use crate::actor::{Actor, Load, Order, Outcome};
use crate::net::Network;
use crate::table::until_closed;
use crate::tally::{Counting, Tally};
use crate::tracer::Process;

pub(super) const ALL: &[Scenario] =
    &[alone("load-stays-whole", stays_whole), alone("blocked-stdout-is-accounted-for", blocked)];

/// What each connection over loopback gives: how often which event.
const PER_CONNECTION: [(&str, u64); 4] = [("connect", 1), ("established", 1), ("accept", 1), ("close", 2)];
/// So long nobody reads.
const BLOCKED: Duration = Duration::from_secs(5);
const PORT: u16 = 8080;
/// Several addresses of one listener, so that the client's ports are enough.
const ADDRESSES: u8 = 8;

fn load_of(bench: &Bench) -> Load {
    if bench.quick { Load { rate: 300, seconds: 2 } } else { Load { rate: 5000, seconds: 10 } }
}

/// A generator and the server that it calls, over the loopback device of A.
struct Traffic {
    network: Network,
    client: Actor,
    server: Actor,
    listener: i32,
    load: Load,
    quick: bool,
}

impl Traffic {
    fn prepare(bench: &Bench) -> Result<Self> {
        let network = Network::new()?;
        network.a.sysctl("ipv4/ip_local_port_range", "1024 65000")?;
        let (client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.a)?);
        let listener = server.listen(format!("0.0.0.0:{PORT}").parse()?)?;
        Ok(Self { network, client, server, listener, load: load_of(bench), quick: bench.quick })
    }

    fn begin(&mut self) -> Result<()> {
        self.server.begin(&Order::Serve { fd: self.listener, total: self.load.total() })?;
        let targets = (1..=ADDRESSES).map(|last| ([127, 0, 0, last], PORT).into()).collect();
        self.client.begin(&Order::Generate { targets, load: self.load })
    }

    /// Waits for the end; both sides must have counted the whole load, at about the pace asked for.
    fn end(&mut self) -> Result<()> {
        let generated = self.client.answer()?.map_err(|errno| anyhow!("the generator: {errno}"))?;
        let served = self.server.answer()?.map_err(|errno| anyhow!("the server: {errno}"))?;
        let total = self.load.total();
        let counts = (generated.count, served.count);
        ensure!(counts == (total, total), "{counts:?} connections generated and served, not {total}");
        self.check_pace(&generated)?;
        until_closed(&self.network.a)
    }

    fn check_pace(&self, generated: &Outcome) -> Result<()> {
        let rate = generated.count * 1_000_000_000 / generated.took_ns.max(1);
        println!("{} connections at {rate} a second", generated.count);
        // How fast an emulated machine is says nothing of the tracer.
        let least = if self.quick { 0 } else { self.load.rate * 8 / 10 };
        ensure!(rate >= least, "this machine came to {rate} connections a second only");
        Ok(())
    }
}

fn stays_whole(bench: &Bench) -> Result<()> {
    let mut traffic = Traffic::prepare(bench)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("stdout");
    let mut command = bench.subject.live(&["--all"]);
    let mut process = Process::start_ready(command.stdout(File::create(&file)?))?;
    traffic.begin()?;
    traffic.end()?;
    process.finish()?;
    let tally = Tally::read(File::open(&file)?, traffic.network.a.inode())?;
    for (event, times) in PER_CONNECTION {
        let (found, expected) = (tally.of(event), times * traffic.load.total());
        ensure!(found == expected, "{found} {event} events, not {expected}: {tally:?}");
    }
    ensure!(tally.gaps == 0 && tally.total("lost")? == 0, "events were lost: {tally:?}");
    Ok(())
}

fn blocked(bench: &Bench) -> Result<()> {
    let mut traffic = Traffic::prepare(bench)?;
    let inode = traffic.network.a.inode();
    let mut command = bench.subject.live(&["--all", "--netns", &inode.to_string()]);
    let mut process = Process::start_ready(command.stdout(Stdio::piped()))?;
    let stdout = process.child.stdout.take().context("a tracer without stdout")?;
    traffic.begin()?;
    std::thread::sleep(BLOCKED);
    let counting = Counting::begin(stdout, inode);
    traffic.end()?;
    process.finish()?;
    let tally = counting.end()?;
    let received: u64 = PER_CONNECTION.iter().map(|(event, _)| tally.of(event)).sum();
    let generated: u64 = PER_CONNECTION.iter().map(|(_, times)| times * traffic.load.total()).sum();
    println!("{generated} events generated, {received} received, {} told as lost", tally.lost);
    ensure!(
        generated == received + tally.lost,
        "{received} received and {} lost of {generated}: {tally:?}",
        tally.lost
    );
    ensure!(tally.total("lost")? == tally.lost, "the end tells of other losses than the gaps: {tally:?}");
    let sockets = agrees(&bench.subject, &traffic.network.a)?;
    println!("list agrees on {sockets} sockets");
    Ok(())
}
