//! A reader that is stopped for a while at a rate that no buffer holds for so long: what it then delivers, and what
//! it says that it lost.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::rates::{delivered, generated};
use super::tools::Tool;
use super::{Goal, Row, Running, Setting, Streamer};
use crate::actor::{Actor, Order};
use crate::load::{Bounds, Made, Traffic};
use crate::tally::Tally;

const RATE: u64 = 6000;
/// Before it is stopped.
const BEFORE: Duration = Duration::from_secs(1);
/// The load goes on for so long after it was continued.
const AFTER: Duration = Duration::from_secs(6);
/// A line that is written so soon after its event is no backlog.
const FRESH: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(10);
const DAY: u64 = 24 * 60 * 60;

/// The tracer.
pub(super) fn tracer(setting: &Setting) -> Result<Vec<Row>> {
    let netns = setting.netns()?;
    let mut actor = Actor::start(&netns)?;
    let mut running = Streamer::EveryEvent.start(setting, &netns)?;
    let (made, whole) = stop_and_go(setting, &mut actor, &mut running)?;
    let tally = Tally::read(running.output()?, netns.inode())?;
    let (generated, delivered) = (generated(made.count), delivered(&tally));
    let unaccounted = generated.saturating_sub(delivered + tally.lost);
    let note = format!(
        "{} connections, {:.0} a second: {generated} events, {delivered} delivered, {}",
        made.count,
        made.rate(),
        tally.losses()
    );
    let who = Streamer::EveryEvent.name();
    Ok(vec![
        Row::new(who, "events neither delivered nor told as lost", "", &[unaccounted as f64])
            .to_reach(Goal::AtMost(0.0))
            .noted(&note),
        Row::new(who, "state whole after", "s", &[whole.as_secs_f64()]).to_reach(Goal::AtMost(2.0)),
        Row::new(who, "events delivered", "%", &[percent(delivered, generated)]),
    ])
}

/// Another program: its lines, as a part of those that it writes when nobody stops it.
pub(super) fn other(setting: &Setting, tool: &'static Tool) -> Result<Vec<Row>> {
    let netns = setting.netns()?;
    let mut actor = Actor::start(&netns)?;
    let streamer = Streamer::Other(tool);
    let mut running = streamer.start(setting, &netns)?;
    let free = actor
        .make(Traffic::Storm(Bounds::paced(RATE, setting.either(Duration::from_secs(2), BEFORE / 2))))?;
    running.settle()?;
    running.end()?;
    let expected = running.lines()? as f64 / free.count.max(1) as f64;
    let mut running = streamer.start(setting, &netns)?;
    let (made, _) = stop_and_go(setting, &mut actor, &mut running)?;
    let told = running.lines()? as f64 / (expected * made.count as f64) * 100.0;
    Ok(vec![
        Row::new(tool.name, "events delivered", "%", &[told])
            .noted(&format!("{expected:.2} lines a connection when it is not stopped")),
    ])
}

/// Stops a program under load, continues it, and ends it when it has worked off everything. Answers the load, and
/// how long after it was continued the state was whole: in the end when the program has nothing left to do.
fn stop_and_go(setting: &Setting, actor: &mut Actor, running: &mut Running) -> Result<(Made, Duration)> {
    let stopped = setting.either(Duration::from_secs(5), Duration::from_millis(500));
    let after = setting.either(AFTER, Duration::from_secs(1));
    actor.begin(&Order::Make(Traffic::Storm(Bounds::paced(RATE, BEFORE + stopped + after))))?;
    std::thread::sleep(BEFORE);
    running.signal(Signal::STOP)?;
    std::thread::sleep(stopped);
    running.signal(Signal::CONT)?;
    let continued = Instant::now();
    let whole = watch(running.output()?, after)?.at();
    let made = actor.made()?;
    let settled = running.settle()?;
    running.end()?;
    Ok((made, whole.unwrap_or(settled).duration_since(continued)))
}

/// When the two things came that make the state whole again.
#[derive(Clone, Copy, Debug, Default)]
struct Whole {
    /// The first line that was no backlog.
    fresh: Option<Instant>,
    /// The last `gap`: what it speaks of was read again before.
    gap: Option<Instant>,
}

impl Whole {
    fn at(self) -> Option<Instant> {
        self.fresh.map(|fresh| self.gap.map_or(fresh, |gap| gap.max(fresh)))
    }

    /// Takes notice of what was written up to now.
    fn see(&mut self, text: &str, now: Instant, time_of_day: Duration) {
        if text.lines().any(|line| line.contains("\"record\":\"gap\"")) {
            self.gap = Some(now);
        }
        let last = text.lines().rev().find(|line| line.contains("\"event\":\"connect\""));
        if self.fresh.is_none() && last.and_then(time_of).is_some_and(|time| is_fresh(time, time_of_day)) {
            self.fresh = Some(now);
        }
    }
}

/// Follows a file that grows, for this time. The lines are read as they come, but looked into only as far as it
/// needs: the program that writes them must not wait for a processor.
fn watch(mut file: File, time: Duration) -> Result<Whole> {
    let (begun, mut whole) = (Instant::now(), Whole::default());
    file.seek(SeekFrom::End(0))?;
    let mut rest = Vec::new();
    while begun.elapsed() < time {
        std::thread::sleep(LOOK);
        file.read_to_end(&mut rest)?;
        let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock")?;
        let time_of_day = Duration::new(now.as_secs() % DAY, now.subsec_nanos());
        whole.see(&String::from_utf8_lossy(&rest[..end]), Instant::now(), time_of_day);
        rest.drain(..end);
    }
    Ok(whole)
}

/// The time of day of a record, which is in UTC.
fn time_of(line: &str) -> Option<Duration> {
    let (_, rest) = line.split_once("\"time\":\"")?;
    let (clock, fraction) = rest.get(11..29)?.split_once('.')?;
    let mut parts = clock.split(':').map(str::parse::<u64>);
    let mut next = || parts.next()?.ok();
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    Some(Duration::new(hours * 3600 + minutes * 60 + seconds, fraction.parse().ok()?))
}

/// Across midnight nothing is fresh, which costs one run in a day of runs.
fn is_fresh(time: Duration, now: Duration) -> bool {
    now.checked_sub(time).is_none_or(|lag| lag < FRESH)
}

fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        r#"{"schema":1,"record":"event","seq":2,"time":"2026-11-25T17:28:51.658487218Z","event":"connect"}"#;
    const GAP: &str =
        r#"{"schema":1,"record":"gap","seq":3,"time":"2026-11-25T17:28:51.658487218Z","lost":1}"#;

    fn at(seconds: u64, millis: u64) -> Duration {
        Duration::from_secs(17 * 3600 + 28 * 60 + seconds) + Duration::from_millis(millis)
    }

    #[test]
    fn a_record_tells_its_time() {
        assert_eq!(time_of(LINE), Some(Duration::new(17 * 3600 + 28 * 60 + 51, 658_487_218)));
        assert_eq!(time_of("{}"), None);
        assert!(is_fresh(at(51, 658), at(51, 700)) && !is_fresh(at(51, 658), at(52, 0)));
    }

    #[test]
    fn the_state_is_whole_when_both_have_come() {
        let (mut whole, start) = (Whole::default(), Instant::now());
        whole.see(LINE, start, at(55, 0));
        assert_eq!(whole.at(), None);
        whole.see(&format!("{LINE}\n"), start + LOOK, at(51, 700));
        assert_eq!(whole.at(), Some(start + LOOK));
        whole.see(&format!("{GAP}\n"), start + 2 * LOOK, at(51, 720));
        assert_eq!(whole.at(), Some(start + 2 * LOOK));
    }
}
