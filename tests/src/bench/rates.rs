//! What a load loses of its rate while a program watches: TCP connections and UDP datagrams, and whether all of
//! it was told.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};

use super::pairs::{self, Pair};
use super::streamer::PATIENCE;
use super::{Gauge, Goal, Row, Setting, Streamer};
use crate::actor::Actor;
use crate::load::{Bounds, Sending, Traffic};
use crate::table::until_closed;
use crate::tally::{Counting, Tally};
use crate::tracer::{Plan, Process};

/// What each connection over loopback gives: how often which event.
pub(super) const PER_CONNECTION: [(&str, u64); 4] =
    [("connect", 1), ("established", 1), ("accept", 1), ("close", 2)];
/// Connections, and datagrams, of one run where instructions are counted.
const CONNECTIONS: u64 = 10_000;
const DATAGRAMS: u64 = 100_000;
const MANY_PEERS: u16 = 1000;

/// Every event as JSON, to a file.
pub(super) fn tcp_json(setting: &Setting) -> Result<Vec<Row>> {
    tracer(setting, Streamer::EveryEvent, Goals { rate: 0.80, counted: None, cpu: None })
}

/// The same to `/dev/null`: without the file system's part, which is not the tracer's.
pub(super) fn tcp_json_null(setting: &Setting) -> Result<Vec<Row>> {
    let counted = (setting.subject.plan == Plan::Fentry).then_some(0.88);
    tracer(setting, Streamer::EveryEventToNull, Goals { rate: 0.80, counted, cpu: Some(8.0) })
}

/// Flags only.
pub(super) fn tcp_flags(setting: &Setting) -> Result<Vec<Row>> {
    let counted = match setting.subject.plan {
        Plan::Fentry => Some(0.95),
        Plan::Kprobe => Some(0.93),
        Plan::Auto | Plan::Tracepoint | Plan::Poll => None,
    };
    tracer(setting, Streamer::Flags, Goals { rate: 0.92, counted, cpu: Some(3.0) })
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

/// Full rate for a minute: what was generated against what was told. Who reads it counts while it comes: a file of 200 MB
/// a second would measure how fast this machine gives memory.
pub(super) fn lost(setting: &Setting) -> Result<Vec<Row>> {
    let netns = setting.netns()?;
    let mut actor = Actor::start(&netns)?;
    let mut process = Process::start_ready(setting.subject.live(&["--all"]).stdout(Stdio::piped()))?;
    let stdout = process.child.stdout.take().context("a tracer without stdout")?;
    let counting = Counting::begin(stdout, netns.inode());
    let time = setting.either(Duration::from_secs(60), Duration::from_secs(1));
    let made = actor.make(Traffic::Storm(Bounds::lasting(time)))?;
    until_closed(&netns)?;
    Gauge::of(process.child.id())?.settle(PATIENCE)?;
    process.finish()?;
    let tally = counting.end()?;
    let (generated, delivered) = (generated(made.count), delivered(&tally));
    let who = "tracer --json --all, read through a pipe";
    let note = format!(
        "{} connections in {:.0} s, {:.0} a second: {generated} events, {delivered} delivered{}, {}, end record {}",
        made.count,
        made.seconds(),
        made.rate(),
        by_event(&tally, made.count),
        tally.losses(),
        tally.total("lost")?
    );
    let missing = generated.abs_diff(delivered) as f64;
    // What is lost is counted in records, of which an event can take more than one.
    let unaccounted = generated.saturating_sub(delivered + tally.lost) as f64;
    Ok(vec![
        Row::new(who, "events lost", "", &[missing]).to_reach(Goal::AtMost(0.0)).noted(&note),
        Row::new(who, "events neither delivered nor told as lost", "", &[unaccounted]),
    ])
}

/// Events of a storm of so many connections; its listener closes in the end.
pub(super) fn generated(connections: u64) -> u64 {
    PER_CONNECTION.iter().map(|&(event, times)| happened(event, times, connections)).sum()
}

/// Events of connections that were told.
pub(super) fn delivered(tally: &Tally) -> u64 {
    PER_CONNECTION.iter().map(|(event, _)| tally.of(event)).sum()
}

/// How often an event happened in a storm.
fn happened(event: &str, times: u64, connections: u64) -> u64 {
    times * connections + u64::from(event == "close") // the listener's
}

/// Which events were told more or less often than they happened, in words.
fn by_event(tally: &Tally, connections: u64) -> String {
    let happened = |&(event, times)| (event, tally.of(event), happened(event, times, connections));
    let differ = PER_CONNECTION.iter().map(happened).filter(|(_, told, happened)| told != happened);
    differ.map(|(event, told, happened)| format!(", {event} {told} of {happened}")).collect()
}

/// What is asked of a storm.
struct Goals {
    /// Of the rate, on a real machine.
    rate: f64,
    /// Of the rate, where instructions are counted.
    counted: Option<f64>,
    /// CPU time of a connection on a real machine, microseconds.
    cpu: Option<f64>,
}

fn tracer(setting: &Setting, streamer: Streamer, goals: Goals) -> Result<Vec<Row>> {
    let pairs = storms(setting, streamer)?;
    let mut rows = rows(setting, streamer, &pairs);
    let (rate, cpu) = if setting.counted { (goals.counted, None) } else { (Some(goals.rate), goals.cpu) };
    if let [first, second, ..] = rows.as_mut_slice() {
        *first = first.clone().to_reach(rate.map(Goal::AtLeast));
        *second = second.clone().to_reach(cpu.map(Goal::AtMost));
    }
    rows.push(first(setting, streamer, &pairs));
    Ok(rows)
}

/// What the tracer does once for a process that it has not seen before, in the unit that fits the clock.
fn first(setting: &Setting, streamer: Streamer, pairs: &[Pair]) -> Row {
    let (what, unit, seconds) =
        if setting.counted { ("instructions", "", 1e9) } else { ("CPU of its process", "ms", 1e3) };
    row(streamer, &format!("{what} for a new process, once"), unit, pairs, |pair| {
        pair.first.as_secs_f64() * seconds
    })
}

fn storms(setting: &Setting, streamer: Streamer) -> Result<Vec<Pair>> {
    pairs::run(setting, streamer, Traffic::Storm, setting.load(CONNECTIONS))
}

fn rows(setting: &Setting, streamer: Streamer, pairs: &[Pair]) -> Vec<Row> {
    let mut rows = costs(setting, streamer, pairs, "connection");
    if !setting.counted && streamer != Streamer::EveryEventToNull {
        rows.insert(2, row(streamer, "lines a connection", "", pairs, Pair::lines_each));
    }
    rows
}

fn flood(setting: &Setting, streamer: Streamer, sending: Sending, goal: Option<f64>) -> Result<Vec<Row>> {
    let load = |bounds| Traffic::Flood { sending, bounds };
    let pairs = pairs::run(setting, streamer, load, setting.load(DATAGRAMS))?;
    let mut rows = costs(setting, streamer, &pairs, "datagram");
    let goal = goal.filter(|_| !setting.counted).map(Goal::AtLeast);
    if let Some(first) = rows.first_mut() {
        *first = first.clone().to_reach(goal);
    }
    Ok(rows)
}

/// The rate and what the program uses for each `thing`. Where the clock counts instructions, it advances a
/// nanosecond with each.
fn costs(setting: &Setting, streamer: Streamer, pairs: &[Pair], thing: &str) -> Vec<Row> {
    let counted = setting.counted;
    let rate = row(streamer, "rate with / without", "", pairs, |pair| pair.ratio(counted));
    if counted {
        let own = |pair: &Pair| pair.cpu_each() * 1e3;
        return vec![
            rate,
            row(streamer, &format!("instructions of its process a {thing}"), "", pairs, own),
            row(streamer, &format!("instructions added to a {thing}"), "", pairs, |pair| pair.added(true)),
            row(streamer, &format!("instructions of a {thing} without"), "", pairs, |pair| {
                1e9 / pair.without.rate()
            }),
        ];
    }
    vec![
        rate,
        row(streamer, &format!("CPU of its process a {thing}"), "µs", pairs, Pair::cpu_each),
        row(streamer, "rate without", "/s", pairs, |pair| pair.without.rate()),
    ]
}

fn row(streamer: Streamer, what: &str, unit: &str, pairs: &[Pair], figure: impl Fn(&Pair) -> f64) -> Row {
    Row::new(streamer.name(), what, unit, &pairs.iter().map(figure).collect::<Vec<_>>())
}
