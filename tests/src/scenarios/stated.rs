//! What the tracer says of its own sight: for each kind of event the hook that sees it, or why none does.

use std::io::BufRead;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Bench, Scenario, scenario};
use crate::records::Record;

pub(super) const ALL: &[Scenario] = &[
    scenario("coverage-names-a-hook-or-a-reason-for-every-kind-of-event", stated),
    scenario("masked-fields-are-named-in-the-coverage", masked),
];

const EVENTS: [&str; 8] = ["listen", "bind", "connect", "established", "failed", "accept", "udp", "close"];

fn stated(bench: &Bench) -> Result<()> {
    let start = match &bench.common {
        Some(file) => {
            let mut line = String::new();
            std::io::BufReader::new(std::fs::File::open(file)?).read_line(&mut line)?;
            Record::parse(line.trim_end())?
        }
        None => start_of(bench, &[])?,
    };
    for event in EVENTS {
        let seen = is_seen(&start, event);
        let unseen = says(&start, "/coverage/unseen", "why", event);
        start.claim(format!("{event} is seen by a hook, or not with a reason"), seen || unseen)?;
    }
    Ok(())
}

/// Whether the coverage names a hook that sees the event.
pub(super) fn is_seen(start: &Record, event: &str) -> bool {
    says(start, "/coverage/seen", "by", event)
}

/// Whether a list of the coverage has an entry for the event, with words in `field`.
fn says(start: &Record, list: &str, field: &str, event: &str) -> bool {
    let entries = start.at(list).and_then(Value::as_array);
    let mut of_event = entries.into_iter().flatten().filter(|entry| entry["event"] == event);
    of_event.any(|entry| entry[field].as_str().is_some_and(|text| !text.is_empty()))
}

/// Without the counts of a socket's bytes, closes are told without them, and the coverage says so.
fn masked(bench: &Bench) -> Result<()> {
    let whole = start_of(bench, &[])?;
    let masked = start_of(bench, &[("TRACER_MASK_BTF", "tcp_sock.bytes_sent,tcp_sock.bytes_received")])?;
    let coverage = |start: &Record| start.at("/coverage").map(ToString::to_string).unwrap_or_default();
    ensure!(coverage(&whole) != coverage(&masked), "the coverage is the same without these fields");
    masked.claim("the field is named", coverage(&masked).contains("bytes")).map(drop)
}

fn start_of(bench: &Bench, environment: &[(&str, &str)]) -> Result<Record> {
    let mut command = bench.subject.live(&["--duration", "0.1"]);
    let output = command.envs(environment.iter().copied()).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(0), "it ended with {}: {stderr}", output.status);
    let line = output.stdout.lines().next().context("no record")??;
    Record::parse(&line)
}
