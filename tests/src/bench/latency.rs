//! How long an event takes from connect() in a client to the tracer's line having been read: single connections,
//! told apart by their local ports.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{ChildStdout, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Goal, Row, Setting, Streamer};
use crate::actor::{Actor, Order};
use crate::distribution::Distribution;
use crate::load::{Bounds, PORT, Traffic};
use crate::net::Netns;
use crate::records::Record;
use crate::tracer::Process;

/// Between two connections.
const PAUSE: Duration = Duration::from_millis(5);
/// A line that has not come by then is missing.
const PATIENCE: Duration = Duration::from_secs(5);
const BUSY: u64 = 5000;

/// Nothing else is going on.
pub(super) fn idle(setting: &Setting) -> Result<Vec<Row>> {
    rows(setting, None, [Some(Goal::AtMost(0.4)), Some(Goal::AtMost(1.0))])
}

/// Another process makes connections meanwhile.
pub(super) fn busy(setting: &Setting) -> Result<Vec<Row>> {
    rows(setting, Some(BUSY), [None, Some(Goal::AtMost(10.0))])
}

/// The percentiles of each run.
fn rows(setting: &Setting, busy: Option<u64>, goals: [Option<Goal>; 2]) -> Result<Vec<Row>> {
    let runs = (0..setting.pairs).map(|_| measure(setting, busy)).collect::<Result<Vec<_>>>()?;
    let row = |(percent, goal): (usize, Option<Goal>)| {
        let values: Vec<_> = runs.iter().map(|took| took.percentile(percent).as_secs_f64() * 1e3).collect();
        Row::new(Streamer::EveryEvent.name(), &format!("connect() to a line, p{percent}"), "ms", &values)
            .to_reach(goal)
    };
    let mut rows: Vec<_> = [50, 99].into_iter().zip(goals).map(row).collect();
    if let (Some(first), Some(last)) = (rows.first_mut(), runs.last()) {
        *first = first.clone().noted(&format!("the last run: {last}"));
    }
    Ok(rows)
}

fn measure(setting: &Setting, busy: Option<u64>) -> Result<Distribution> {
    let (netns, elsewhere) = (setting.netns()?, setting.netns()?);
    let mut process = Process::start_ready(setting.subject.live(&["--all"]).stdout(Stdio::piped()))?;
    let stdout = process.child.stdout.take().context("a tracer without stdout")?;
    let (sender, lines) = mpsc::channel();
    let inode = netns.inode();
    let reader = std::thread::spawn(move || follow(stdout, inode, &sender));
    let count = setting.either(400, 60);
    let mut other = Actor::start(&elsewhere)?;
    if let Some(rate) = busy {
        let time = PAUSE * count * 3 / 2 + Duration::from_millis(500);
        other.begin(&Order::Make(Traffic::Storm(Bounds::paced(rate, time))))?;
        std::thread::sleep(Duration::from_millis(300));
    }
    let begun = connect(&netns, count)?;
    let took = meet(&begun, &lines)?;
    if busy.is_some() {
        other.made()?;
    }
    process.finish()?;
    ensure!(reader.join().is_ok(), "the reading thread panicked");
    Distribution::of(took).context("nothing was measured")
}

/// Connects so often; answers by the local port when connect() was about to be called.
fn connect(netns: &Netns, count: u32) -> Result<BTreeMap<u16, Instant>> {
    netns.enter(|| {
        let at = SocketAddr::from(([127, 0, 0, 1], PORT));
        let listener = TcpListener::bind(at)?;
        let mut begun = BTreeMap::new();
        for _ in 0..count {
            let before = Instant::now();
            let caller = TcpStream::connect(at)?;
            // A port that comes again could not be told from itself.
            begun.entry(caller.local_addr()?.port()).or_insert(before);
            drop(listener.accept()?);
            drop(caller);
            std::thread::sleep(PAUSE);
        }
        Ok(begun)
    })
}

/// Notes when each line of this namespace had been read.
fn follow(stdout: ChildStdout, netns: u32, lines: &Sender<(Instant, u16)>) {
    let mut stdout = BufReader::new(stdout);
    let (mut line, here) = (String::new(), format!("\"netns\":{netns},"));
    while stdout.read_line(&mut line).is_ok_and(|length| length > 0) {
        let read = Instant::now();
        // The lines of the other process need not be parsed.
        let port = Some(&line).filter(|line| line.contains(&here)).and_then(|line| attempted(line));
        if port.is_some_and(|port| lines.send((read, port)).is_err()) {
            break;
        }
        line.clear();
    }
}

/// The local port that a line of an attempt names.
fn attempted(line: &str) -> Option<u16> {
    let record = Record::parse(line.trim_end()).ok()?;
    record.tells("connect").then(|| record.local().map(|local| local.port()))?
}

/// Pairs each connect with its line.
fn meet(begun: &BTreeMap<u16, Instant>, lines: &Receiver<(Instant, u16)>) -> Result<Vec<Duration>> {
    let mut took = BTreeMap::new();
    while took.len() < begun.len() {
        let Ok((read, port)) = lines.recv_timeout(PATIENCE) else { break };
        if let Some(start) = begun.get(&port) {
            took.entry(port).or_insert_with(|| read.duration_since(*start));
        }
    }
    ensure!(took.len() == begun.len(), "{} of {} lines are missing", begun.len() - took.len(), begun.len());
    Ok(took.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_known_by_its_local_port() {
        let line = |event: &str| {
            format!(
                "{{\"schema\":1,\"record\":\"event\",\"seq\":1,\"time\":\"t\",\"event\":\"{event}\",\"socket\":\
                 {{\"local\":{{\"ip\":\"127.0.0.1\",\"port\":4711}}}}}}\n"
            )
        };
        assert_eq!(attempted(&line("connect")), Some(4711));
        assert_eq!(attempted(&line("accept")), None);
        assert_eq!(attempted("{"), None);
    }
}
