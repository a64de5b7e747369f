//! What the tracer costs while nothing happens: its start, its memory, its wake-ups.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Gauge, Goal, Row, Setting, Streamer};
use crate::actor::Actor;
use crate::load::{Held, Traffic};
use crate::net::Netns;
use crate::tracer::Process;

const MEGABYTE: f64 = 1e6;
/// Sockets of one process: fewer than the limit of descriptors that machines commonly have.
const EACH: usize = 18_000;
/// The tracer sleeps so long before it is looked at.
const CALM: Duration = Duration::from_secs(2);

/// From the start of the process to its ready file.
pub(super) fn start(setting: &Setting) -> Result<Vec<Row>> {
    let mut took = Vec::new();
    for _ in 0..setting.pairs {
        let begun = Instant::now();
        let mut process = Process::start_ready(setting.subject.live(&[]).stdout(Stdio::null()))?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        process.finish()?;
    }
    Ok(vec![Row::new(Streamer::Flags.name(), "start to ready", "ms", &took).to_reach(Goal::AtMost(250.0))])
}

/// Memory without sockets.
pub(super) fn memory_idle(setting: &Setting) -> Result<Vec<Row>> {
    let netns = setting.netns()?;
    let memory = memory(setting, &netns)?;
    Ok(vec![Row::new(Streamer::Flags.name(), "memory (PSS)", "MB", &[memory]).to_reach(Goal::AtMost(20.0))])
}

/// Memory with many sockets.
pub(super) fn memory_sockets(setting: &Setting) -> Result<Vec<Row>> {
    let netns = setting.netns()?;
    let (wanted, mut held, mut actors) = (setting.either(200_000, 2_000), 0, Vec::new());
    for host in 1.. {
        let count = EACH.min(wanted - held);
        if count < 3 {
            break;
        }
        let mut actor = Actor::start(&netns)?;
        held += usize::try_from(actor.make(Traffic::Hold { held: Held::Sessions, count, host })?.count)?;
        actors.push(actor);
    }
    let memory = memory(setting, &netns)?;
    let row = Row::new(Streamer::Flags.name(), "memory (PSS)", "MB", &[memory]).to_reach(Goal::AtMost(120.0));
    Ok(vec![row.noted(&format!("{held} sockets of {} processes", actors.len()))])
}

fn memory(setting: &Setting, netns: &Netns) -> Result<f64> {
    let mut running = Streamer::Flags.start(setting, netns)?;
    std::thread::sleep(CALM);
    let memory = running.gauge()?.memory()?;
    running.end()?;
    Ok(memory as f64 / MEGABYTE)
}

/// CPU time and wake-ups while the machine does nothing.
pub(super) fn idle(setting: &Setting) -> Result<Vec<Row>> {
    let netns = setting.netns()?;
    let mut running = Streamer::Flags.start(setting, &netns)?;
    std::thread::sleep(CALM);
    let time = setting.either(Duration::from_secs(30), Duration::from_secs(1));
    let (cpu, wakeups) = over(running.gauge()?, time)?;
    running.end()?;
    let who = Streamer::Flags.name();
    Ok(vec![
        Row::new(who, "CPU, part of a core", "%", &[cpu * 100.0]).to_reach(Goal::AtMost(0.1)),
        Row::new(who, "wake-ups", "/s", &[wakeups]).to_reach(Goal::AtMost(2.0)),
    ])
}

/// The part of a core and the wake-ups a second that a process uses over `time`.
fn over(gauge: Gauge, time: Duration) -> Result<(f64, f64)> {
    let (begun, cpu, wakeups) = (Instant::now(), gauge.cpu()?, gauge.wakeups()?);
    std::thread::sleep(time);
    let seconds = begun.elapsed().as_secs_f64();
    let (cpu, wakeups) = (gauge.cpu()? - cpu, gauge.wakeups()? - wakeups);
    Ok((cpu.as_secs_f64() / seconds, wakeups as f64 / seconds))
}
