//! What a load loses of its rate while a program watches: TCP connections and UDP datagrams, and whether all of
//! it was told.

use std::fs::File;
use std::io::BufReader;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::pairs::{self, Pair};
use super::{Goal, Row, Setting, Streamer};
use crate::actor::Actor;
use crate::load::{Bounds, Sending, Traffic};
use crate::tally::Tally;

/// What each connection over loopback gives: how often which event.
pub(super) const PER_CONNECTION: [(&str, u64); 4] =
    [("connect", 1), ("established", 1), ("accept", 1), ("close", 2)];
/// Connections, and datagrams, of one run where instructions are counted.
const CONNECTIONS: u64 = 3000;
const DATAGRAMS: u64 = 20_000;
const MANY_PEERS: u16 = 1000;

const RATE: &str = "rate with / without";
const ALONE: &str = "rate without";
const CPU: &str = "CPU of its process a connection";
const LINES: &str = "lines a connection";

/// Every event as JSON.
pub(super) fn tcp_json(setting: &Setting) -> Result<Vec<Row>> {
    let goals = Goals { rate: if setting.counted { 0.88 } else { 0.80 }, cpu: 8.0 };
    tracer(setting, Streamer::EveryEvent, goals)
}

/// Flags only.
pub(super) fn tcp_flags(setting: &Setting) -> Result<Vec<Row>> {
    let counted = if setting.subject.plan.word() == "kprobe" { 0.93 } else { 0.95 };
    let goals = Goals { rate: if setting.counted { counted } else { 0.92 }, cpu: 3.0 };
    tracer(setting, Streamer::Flags, goals)
}

/// Another program.
pub(super) fn tcp(setting: &Setting, streamer: Streamer) -> Result<Vec<Row>> {
    Ok(rows(setting, streamer, &storms(setting, streamer)?))
}

/// A connected socket.
pub(super) fn udp_connected(setting: &Setting) -> Result<Vec<Row>> {
    flood(setting, Streamer::Flags, Sending::Connected, Some(0.88))
}

/// `sendto()`.
pub(super) fn udp_sendto(setting: &Setting) -> Result<Vec<Row>> {
    flood(setting, Streamer::Flags, Sending::Unconnected { peers: 1 }, Some(0.88))
}

/// `sendto()` to many.
pub(super) fn udp_peers(setting: &Setting) -> Result<Vec<Row>> {
    flood(setting, Streamer::Flags, Sending::Unconnected { peers: MANY_PEERS }, None)
}

/// Another program beside a connected socket.
pub(super) fn udp(setting: &Setting, streamer: Streamer) -> Result<Vec<Row>> {
    flood(setting, streamer, Sending::Connected, None)
}

/// Full rate for a minute: what was generated against what was told.
pub(super) fn lost(setting: &Setting) -> Result<Vec<Row>> {
    let netns = setting.netns()?;
    let mut actor = Actor::start(&netns)?;
    let mut running = Streamer::EveryEvent.start(setting, &netns)?;
    let time = setting.either(Duration::from_secs(60), Duration::from_secs(1));
    let made = actor.make(Traffic::Storm(Bounds::lasting(time)))?;
    running.settle()?;
    running.end()?;
    let tally = Tally::read(BufReader::with_capacity(1 << 20, File::open(running.output())?), netns.inode())?;
    let (generated, delivered) = (generated(made.count), delivered(&tally));
    let who = Streamer::EveryEvent.name();
    let note = format!(
        "{} connections in {:.0} s: {generated} events, {delivered} delivered, {} told as lost in {} gaps, end record {}",
        made.count,
        made.seconds(),
        tally.lost,
        tally.gaps,
        tally.total("lost")?
    );
    let missing = generated.abs_diff(delivered) as f64;
    let unaccounted = generated.abs_diff(delivered + tally.lost) as f64;
    Ok(vec![
        Row::new(who, "events lost", "", &[missing]).to_reach(Goal::AtMost(0.0)).noted(&note),
        Row::new(who, "events neither delivered nor told as lost", "", &[unaccounted]),
    ])
}

/// Events of a storm of so many connections; its listener closes in the end.
pub(super) fn generated(connections: u64) -> u64 {
    PER_CONNECTION.iter().map(|(_, times)| times * connections).sum::<u64>() + 1
}

/// Events of connections that were told.
pub(super) fn delivered(tally: &Tally) -> u64 {
    PER_CONNECTION.iter().map(|(event, _)| tally.of(event)).sum()
}

struct Goals {
    rate: f64,
    cpu: f64,
}

fn tracer(setting: &Setting, streamer: Streamer, goals: Goals) -> Result<Vec<Row>> {
    let pairs = storms(setting, streamer)?;
    let mut rows = rows(setting, streamer, &pairs);
    if let [rate, cpu, ..] = rows.as_mut_slice() {
        *rate = rate.clone().to_reach(Goal::AtLeast(goals.rate));
        if !setting.counted {
            *cpu = cpu.clone().to_reach(Goal::AtMost(goals.cpu));
        }
    }
    Ok(rows)
}

fn storms(setting: &Setting, streamer: Streamer) -> Result<Vec<Pair>> {
    pairs::run(setting, streamer, Traffic::Storm, setting.load(CONNECTIONS))
}

fn rows(setting: &Setting, streamer: Streamer, pairs: &[Pair]) -> Vec<Row> {
    let row = |what, unit, figure: &dyn Fn(&Pair) -> f64| {
        Row::new(streamer.name(), what, unit, &pairs.iter().map(figure).collect::<Vec<_>>())
    };
    let mut rows = vec![row(RATE, "", &|pair| pair.ratio(setting.counted)), row(CPU, "µs", &Pair::cpu_each)];
    if setting.counted {
        // The clock advances a nanosecond with each instruction.
        rows.push(row("instructions of a connection without", "", &|pair| 1e9 / pair.without.rate()));
    } else {
        rows.extend([row(LINES, "", &Pair::lines_each), row(ALONE, "/s", &|pair| pair.without.rate())]);
    }
    rows
}

fn flood(setting: &Setting, streamer: Streamer, sending: Sending, goal: Option<f64>) -> Result<Vec<Row>> {
    let load = |bounds| Traffic::Flood { sending, bounds };
    let pairs = pairs::run(setting, streamer, load, setting.load(DATAGRAMS))?;
    ensure!(pairs.iter().all(|pair| pair.with.count > 0), "no datagram was sent");
    let row = |what, unit, figure: &dyn Fn(&Pair) -> f64| {
        Row::new(streamer.name(), what, unit, &pairs.iter().map(figure).collect::<Vec<_>>())
    };
    let ratio = row(RATE, "", &|pair| pair.ratio(setting.counted));
    let ratio = match goal {
        Some(goal) => ratio.to_reach(Goal::AtLeast(goal)),
        None => ratio,
    };
    Ok(vec![
        ratio,
        row("CPU of its process a datagram", "µs", &Pair::cpu_each),
        row(ALONE, "/s", &|pair| pair.without.rate()),
    ])
}
