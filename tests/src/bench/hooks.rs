//! Kernel time of the tracer's programs, by the kernel's own run statistics.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};

use super::{Goal, Row, Setting, Streamer};
use crate::actor::Actor;
use crate::load::Traffic;

/// A program that runs less often than this for a connection is not one that a connection passes.
const PASSES: f64 = 0.5;
const CONNECTIONS: u64 = 3000;

/// What a program of the kernel has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ran {
    name: String,
    time: Duration,
    times: u64,
}

/// The mean over all runs of the programs that a connection passes, flags only.
pub(super) fn time(setting: &Setting) -> Result<Vec<Row>> {
    // The kernel counts as long as this is open.
    let _counting = enable_stats(Stats::RunTime).context("no run statistics of BPF programs")?;
    let netns = setting.netns()?;
    let mut actor = Actor::start(&netns)?;
    let mut running = Streamer::Flags.start(setting, &netns)?;
    let ids = programs_of(running.pid())?;
    ensure!(!ids.is_empty(), "the tracer holds no program");
    let (mut means, mut detail) = (Vec::new(), String::new());
    for _ in 0..setting.pairs {
        let before = ran(&ids)?;
        let made = actor.make(Traffic::Storm(setting.load(CONNECTIONS)))?;
        let passed = passed(&before, &ran(&ids)?, made.count);
        let (time, times) = passed
            .iter()
            .fold((Duration::ZERO, 0), |(time, times), ran| (time + ran.time, times + ran.times));
        means.push(nanoseconds(time, times));
        detail = in_words(&passed, made.count);
    }
    running.end()?;
    let row = Row::new(Streamer::Flags.name(), "kernel time of a hook run, mean", "ns", &means);
    Ok(vec![row.to_reach(Goal::AtMost(300.0)).noted(&detail)])
}

/// The ids of the programs to which a process has a descriptor, of a program or of its link.
fn programs_of(pid: u32) -> Result<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    for file in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be closed meanwhile.
        let Ok(text) = std::fs::read_to_string(file?.path()) else { continue };
        ids.extend(text.lines().filter_map(|line| line.strip_prefix("prog_id:")?.trim().parse::<u32>().ok()));
    }
    Ok(ids)
}

fn ran(ids: &BTreeSet<u32>) -> Result<BTreeMap<u32, Ran>> {
    let mut programs = BTreeMap::new();
    // A program of somebody else may go meanwhile, which is an error here.
    for program in loaded_programs().filter_map(Result::ok) {
        if ids.contains(&program.id()) {
            let name = program.name_as_str().unwrap_or_default().to_owned();
            programs.insert(program.id(), Ran { name, time: program.run_time(), times: program.run_count() });
        }
    }
    ensure!(!programs.is_empty(), "the kernel does not tell of the tracer's programs");
    Ok(programs)
}

/// What the programs that each connection passes did between two looks.
fn passed(before: &BTreeMap<u32, Ran>, after: &BTreeMap<u32, Ran>, connections: u64) -> Vec<Ran> {
    let did = after.iter().map(|(id, after)| {
        let before = before.get(id).cloned().unwrap_or_default();
        Ran { name: after.name.clone(), time: after.time - before.time, times: after.times - before.times }
    });
    let mut passed: Vec<_> = did.filter(|ran| ran.times as f64 >= PASSES * connections as f64).collect();
    passed.sort_by_key(|ran| std::cmp::Reverse(ran.time));
    passed
}

/// The names that the kernel keeps are cut off after 15 bytes.
fn in_words(passed: &[Ran], connections: u64) -> String {
    let each = |ran: &Ran| {
        let runs = ran.times as f64 / connections.max(1) as f64;
        format!("{} {:.0} ns × {runs:.1}", ran.name, nanoseconds(ran.time, ran.times))
    };
    passed.iter().map(each).collect::<Vec<_>>().join(", ")
}

fn nanoseconds(time: Duration, times: u64) -> f64 {
    time.as_nanos() as f64 / times as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_connections_do_not_pass_are_left_out() {
        let ran =
            |name: &str, micros, times| Ran { name: name.into(), time: Duration::from_micros(micros), times };
        let before = [(1, ran("a", 1, 10))].into();
        let after = [(1, ran("a", 21, 110)), (2, ran("b", 90, 300)), (3, ran("c", 50, 9))].into();
        let passed = passed(&before, &after, 100);
        assert_eq!(passed, [ran("b", 90, 300), ran("a", 20, 100)]);
        assert_eq!(in_words(&passed, 100), "b 300 ns × 3.0, a 200 ns × 1.0");
    }
}
