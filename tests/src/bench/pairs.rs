//! Paired runs: the load alone, then the load beside a program, again and again. What changes slowly on the
//! machine meets both halves of a pair.

use std::time::Duration;

use anyhow::Result;

use super::{Setting, Streamer};
use crate::actor::Actor;
use crate::load::{Bounds, Made, Traffic};

/// What a program is shown of a load before it is measured. What it looks up of a process once, its executable's package and
/// digest among it, is then no part of each connection's cost; it is told on its own.
const FIRST: u64 = 100;
/// The kernel takes the hooks of a program that has ended, and a namespace, away a little later.
const DETACHED: Duration = Duration::from_millis(100);

/// One pair.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    /// The load alone.
    pub(super) without: Made,
    /// The load beside the program.
    pub(super) with: Made,
    /// CPU time of the program's process for the first [`FIRST`] of a process not seen before.
    pub(super) first: Duration,
    /// The same for the load, from before it until the program had worked off everything.
    pub(super) cpu: Duration,
    /// The part of it that it used after the load had ended.
    pub(super) after: Duration,
    /// Connections or datagrams that the program was shown, these and the load's.
    pub(super) shown: u64,
    /// Lines that it wrote of them.
    pub(super) lines: u64,
}

impl Pair {
    /// The rate with the program as a part of the rate without; where the clock counts instructions, what the
    /// program had left to do is a part of the load.
    pub(super) fn ratio(&self, counted: bool) -> f64 {
        let left = if counted { self.after.as_secs_f64() } else { 0.0 };
        let rate = self.with.count as f64 / (self.with.seconds() + left);
        rate / self.without.rate()
    }

    /// What the program adds to the time of each connection or datagram, nanoseconds.
    pub(super) fn added(&self, counted: bool) -> f64 {
        1e9 / self.without.rate() * (1.0 / self.ratio(counted) - 1.0)
    }

    /// CPU time of the program for each connection or datagram, microseconds.
    pub(super) fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.with.count.max(1) as f64
    }

    /// Lines of the program for each connection or datagram.
    pub(super) fn lines_each(&self) -> f64 {
        self.lines as f64 / self.shown.max(1) as f64
    }
}

/// Runs all pairs of one load and one program, after one run that only warms up.
pub(super) fn run(
    setting: &Setting,
    streamer: Streamer,
    load: impl Fn(Bounds) -> Traffic,
    bounds: Bounds,
) -> Result<Vec<Pair>> {
    alone(setting, &load, bounds)?;
    (0..setting.load_pairs()).map(|_| pair(setting, streamer, &load, bounds)).collect()
}

/// Each run has a namespace of its own: what an earlier one left there, or a program needs there, is not in it.
fn alone(setting: &Setting, load: &impl Fn(Bounds) -> Traffic, bounds: Bounds) -> Result<Made> {
    let mut actor = Actor::start(&setting.netns()?)?;
    actor.make(load(Bounds::counting(FIRST)))?;
    actor.make(load(bounds))
}

fn pair(
    setting: &Setting,
    streamer: Streamer,
    load: &impl Fn(Bounds) -> Traffic,
    bounds: Bounds,
) -> Result<Pair> {
    let without = alone(setting, load, bounds)?;
    let netns = setting.netns()?;
    let mut actor = Actor::start(&netns)?;
    let mut running = streamer.start(setting, &netns)?;
    let gauge = running.gauge()?;
    let begun = gauge.cpu()?;
    let shown = actor.make(load(Bounds::counting(FIRST)))?;
    running.settle()?;
    let before = gauge.cpu()?;
    let with = actor.make(load(bounds))?;
    let at_end = gauge.cpu()?;
    running.settle()?;
    let cpu = gauge.cpu()? - before;
    running.end()?;
    let lines = running.lines()?;
    drop((actor, netns));
    std::thread::sleep(DETACHED);
    let after = cpu.saturating_sub(at_end - before);
    Ok(Pair { without, with, first: before - begun, cpu, after, shown: shown.count + with.count, lines })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_pair() {
        let made = |count, seconds: u64| Made { count, nanoseconds: seconds * 1_000_000_000 };
        let pair = Pair {
            without: made(1000, 1),
            with: made(800, 1),
            first: Duration::ZERO,
            cpu: Duration::from_millis(8),
            after: Duration::from_secs(1),
            shown: 1000,
            lines: 5000,
        };
        assert_eq!((pair.ratio(false), pair.ratio(true)), (0.8, 0.4));
        assert_eq!(pair.added(true), 1_500_000.0);
        assert_eq!((pair.cpu_each(), pair.lines_each()), (10.0, 5.0));
    }
}
