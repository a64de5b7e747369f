//! Records as JSON Lines, with the names and the order that the interface fixes.
//!
//! Pure: a record and its number in, one line out. A field that could not be read is null; a field
//! that an event does not have is absent.

mod process;
#[cfg(test)]
mod reference;
mod report;

use std::{collections::BTreeMap, io};

use serde::{Serialize, Serializer};

use self::process::{ProcessFields, Processes};
use super::time::{Moment, Moments, wall};
use crate::{
    model::event::{Degraded, Life, Lost, Start},
    output::{Body, Output, Totals, Verdict},
};

/// Version of the records.
const SCHEMA: u32 = 1;

/// What the stream adds to an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the record in the stream.
    pub seq: u64,
    /// For a `clear`: number of the record that raised the flag; nothing when that was not delivered.
    pub flag_seq: Option<u64>,
    /// Wall clock minus boot clock, nanoseconds.
    pub clock_offset: i64,
}

/// Writes records; what it wrote of a process or a second it writes again without another look.
#[derive(Debug, Default)]
pub struct Renderer {
    processes: Processes,
    moments: Moments,
}

impl Renderer {
    /// Writes one record and a newline.
    ///
    /// # Errors
    /// None that memory alone does not have.
    pub fn render(&mut self, output: &Output<'_>, place: Place, out: &mut Vec<u8>) -> io::Result<()> {
        let head = Head { record: record_name(&output.body), place, time: output.time };
        match &output.body {
            Body::Flag(_, report) | Body::Clear(_, report) | Body::Event(report) => {
                let takes_back = matches!(output.body, Body::Clear(..));
                report::write(&head, report, takes_back, self, out)?;
            }
            Body::Start { start, policy } => head.write(StartFields::new(start, policy), out)?,
            Body::Life(life) => head.write(LifeFields::new(life, place.clock_offset), out)?,
            Body::Gap(lost) => head.write(GapFields::new(lost, place.clock_offset), out)?,
            Body::Degraded(degraded) => head.write(DegradedFields::new(degraded), out)?,
            Body::End(totals) => head.write(EndFields::new(totals), out)?,
        }
        out.push(b'\n');
        Ok(())
    }
}

/// What every record begins with.
struct Head {
    record: &'static str,
    place: Place,
    time: i64,
}

impl Head {
    fn write(&self, content: impl Serialize, out: &mut Vec<u8>) -> io::Result<()> {
        let moment = Moment::new(self.time);
        let (record, seq, time) = (self.record, self.place.seq, moment.as_str());
        Ok(serde_json::to_writer(out, &Record { schema: SCHEMA, record, seq, time, content })?)
    }
}

fn record_name(body: &Body<'_>) -> &'static str {
    match body {
        Body::Start { .. } => "start",
        Body::Flag(..) => "flag",
        Body::Clear(..) => "clear",
        Body::Event(_) | Body::Life(_) => "event",
        Body::Gap(_) => "gap",
        Body::Degraded(_) => "degraded",
        Body::End(_) => "end",
    }
}

#[derive(Serialize)]
struct Record<'a, Content> {
    schema: u32,
    record: &'static str,
    seq: u64,
    time: &'a str,
    #[serde(flatten)]
    content: Content,
}

#[derive(Serialize)]
struct StartFields<'a> {
    version: &'a str,
    kernel: &'a str,
    hooks: &'a str,
    coverage: CoverageFields<'a>,
    policy: &'a [String],
    provenance: bool,
}

#[derive(Serialize)]
struct CoverageFields<'a> {
    seen: Vec<Seen<'a>>,
    unseen: Vec<Unseen<'a>>,
}

#[derive(Serialize)]
struct Seen<'a> {
    event: &'a str,
    by: &'a str,
}

#[derive(Serialize)]
struct Unseen<'a> {
    event: &'a str,
    why: Option<&'a str>,
}

impl<'a> StartFields<'a> {
    fn new(start: &'a Start, policy: &'a [String]) -> Self {
        let (mut seen, mut unseen) = (Vec::new(), Vec::new());
        for part in &start.coverage {
            let event = part.event.as_str();
            match part.by.as_deref() {
                Some(by) => seen.push(Seen { event, by }),
                None => unseen.push(Unseen { event, why: part.why.as_deref() }),
            }
        }
        let coverage = CoverageFields { seen, unseen };
        let Start { version, kernel, hooks, netns: _, provenance, coverage: _ } = start;
        Self { version, kernel, hooks, coverage, policy, provenance: *provenance }
    }
}

/// As a socket's event has them, without a socket.
#[derive(Serialize)]
struct LifeFields<'a> {
    event: &'static str,
    verdict: &'static str,
    rules: [(); 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    process_unknown: Option<&'a str>,
    socket: Option<()>,
    process: ProcessFields<'a>,
}

impl<'a> LifeFields<'a> {
    fn new(life: &'a Life, clock_offset: i64) -> Self {
        Self {
            event: life.change.as_str(),
            verdict: Verdict::Ok.as_str(),
            rules: [],
            process_unknown: life.process.unknown.as_deref(),
            socket: None,
            process: ProcessFields::new(&life.process, clock_offset),
        }
    }
}

#[derive(Serialize)]
struct GapFields {
    lost: u64,
    stage: &'static str,
    #[serde(serialize_with = "moment")]
    from: i64,
    #[serde(serialize_with = "moment")]
    to: i64,
    resynced: bool,
}

impl GapFields {
    fn new(lost: &Lost, clock_offset: i64) -> Self {
        Self {
            lost: lost.count,
            stage: lost.stage.as_str(),
            from: wall(lost.from, clock_offset),
            to: wall(lost.to, clock_offset),
            resynced: lost.resynced,
        }
    }
}

#[derive(Serialize)]
struct DegradedFields<'a> {
    hook: &'a str,
    unseen: &'a [String],
    why: &'a str,
    delivers: bool,
}

impl<'a> DegradedFields<'a> {
    fn new(degraded: &'a Degraded) -> Self {
        let Degraded { ref hook, ref unseen, ref why, delivers } = *degraded;
        Self { hook, unseen, why, delivers }
    }
}

#[derive(Serialize)]
struct EndFields<'a> {
    events: u64,
    flags: u64,
    clears: u64,
    lost: u64,
    rules: &'a BTreeMap<&'static str, u64>,
}

impl<'a> EndFields<'a> {
    fn new(totals: &'a Totals) -> Self {
        let Totals { events, flags, clears, lost, ref rules } = *totals;
        Self { events, flags, clears, lost, rules }
    }
}

fn moment<S: Serializer>(nanos: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(Moment::new(*nanos).as_str())
}

#[cfg(test)]
mod tests;
