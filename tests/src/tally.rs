//! Counting a long stream of records without keeping it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

/// Bytes that a stream is read by: few calls, where it has to keep up.
const READING: usize = 1 << 20;

/// The few fields that are counted, where they stand in the line; the rest is skipped. None of them is ever escaped.
#[derive(Deserialize)]
struct Line<'a> {
    record: &'a str,
    event: Option<&'a str>,
    lost: Option<u64>,
    stage: Option<&'a str>,
    socket: Option<Socket>,
}

#[derive(Deserialize)]
struct Socket {
    netns: Option<u32>,
}

/// How many records of each event came from one namespace, and what was said to be lost.
#[derive(Debug, Default)]
pub struct Tally {
    events: BTreeMap<String, u64>,
    /// The sum of all `gap.lost`.
    pub lost: u64,
    /// The number of `gap` records.
    pub gaps: u64,
    /// The same sum for each `gap.stage`.
    lost_at: BTreeMap<String, u64>,
    /// The `end` record.
    pub end: Option<Value>,
}

impl Tally {
    /// Reads records to the end of `stream`, counting the events of the namespace `netns`. It may have to keep up with
    /// the tracer on the same processors, so that nothing is put on the heap for a line.
    ///
    /// # Errors
    /// When a line is no record, or a record follows the end.
    pub fn read(stream: impl Read, netns: u32) -> Result<Self> {
        let mut stream = BufReader::with_capacity(READING, stream);
        let mut tally = Self::default();
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line)? > 0 {
            tally.count(&line, netns).with_context(|| format!("in {}", String::from_utf8_lossy(&line)))?;
            line.clear();
        }
        Ok(tally)
    }

    /// Records that told of `event`.
    #[must_use]
    pub fn of(&self, event: &str) -> u64 {
        self.events.get(event).copied().unwrap_or_default()
    }

    /// The total `name` of the `end` record.
    ///
    /// # Errors
    /// When the stream had no end record, or it lacks that number.
    pub fn total(&self, name: &str) -> Result<u64> {
        let end = self.end.as_ref().context("no end record")?;
        end[name].as_u64().with_context(|| format!("no {name} in {end}"))
    }

    /// What was said to be lost, in words: how much, in how many gaps, and where.
    #[must_use]
    pub fn losses(&self) -> String {
        let at: Vec<_> = self.lost_at.iter().map(|(stage, lost)| format!("{stage} {lost}")).collect();
        let at = if at.is_empty() { String::new() } else { format!(" ({})", at.join(", ")) };
        format!("{} told as lost in {} gaps{at}", self.lost, self.gaps)
    }

    fn count(&mut self, text: &[u8], netns: u32) -> Result<()> {
        ensure!(self.end.is_none(), "a record after the end");
        let line: Line = serde_json::from_slice(text).context("no record")?;
        match line.record {
            "flag" | "event" => self.count_event(&line, netns),
            "gap" => {
                let lost = line.lost.context("a gap without lost")?;
                self.gaps += 1;
                self.lost += lost;
                add(&mut self.lost_at, line.stage.context("a gap without stage")?, lost);
            }
            "end" => self.end = Some(serde_json::from_slice(text)?),
            "start" | "clear" | "degraded" => {}
            other => bail!("a record of unknown kind {other}"),
        }
        Ok(())
    }

    fn count_event(&mut self, line: &Line, netns: u32) {
        let here = line.socket.as_ref().and_then(|socket| socket.netns) == Some(netns);
        if let Some(event) = line.event.filter(|_| here) {
            add(&mut self.events, event, 1);
        }
    }
}

/// A stream that is counted as it comes, by a thread of its own.
pub struct Counting(JoinHandle<Result<Tally>>);

impl Counting {
    /// Begins to read `stream`, as [`Tally::read`] does.
    pub fn begin(stream: impl Read + Send + 'static, netns: u32) -> Self {
        Self(thread::spawn(move || Tally::read(stream, netns)))
    }

    /// Waits for the end of the stream.
    ///
    /// # Errors
    /// Those of [`Tally::read`].
    pub fn end(self) -> Result<Tally> {
        self.0.join().map_err(|_| anyhow!("the counting thread panicked"))?
    }
}

fn add(counts: &mut BTreeMap<String, u64>, name: &str, more: u64) {
    match counts.get_mut(name) {
        Some(count) => *count += more,
        None => drop(counts.insert(name.to_owned(), more)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = r#"{"record":"start"}
{"record":"flag","event":"connect","socket":{"netns":5}}
{"record":"event","event":"connect","socket":{"netns":5}}
{"record":"event","event":"connect","socket":{"netns":6}}
{"record":"gap","stage":"ring","lost":3}
{"record":"gap","stage":"stdout","lost":4}
{"record":"clear","event":"connect","socket":{"netns":5}}
{"record":"end","lost":7}"#;

    #[test]
    fn one_namespace_and_all_losses_are_counted() {
        let tally = Tally::read(STREAM.as_bytes(), 5).unwrap();
        assert_eq!((tally.of("connect"), tally.of("close")), (2, 0));
        assert_eq!((tally.lost, tally.gaps), (7, 2));
        assert_eq!(tally.losses(), "7 told as lost in 2 gaps (ring 3, stdout 4)");
        assert_eq!(Tally::default().losses(), "0 told as lost in 0 gaps");
        assert_eq!(tally.total("lost").unwrap(), 7);
        assert!(tally.total("events").is_err());
    }

    #[test]
    fn a_torn_stream_is_an_error() {
        assert!(Tally::read(&STREAM.as_bytes()[..40], 5).is_err());
        assert!(Tally::read(r#"{"record":"what"}"#.as_bytes(), 5).is_err());
        assert!(Tally::read("{\"record\":\"end\"}\n{\"record\":\"end\"}".as_bytes(), 5).is_err());
    }
}
