//! The output stream: numbers the records, leaves out what was not asked for, and accounts for every
//! record that could not be delivered.
//!
//! Each record that is offered is delivered with a number of its own, or counted in exactly one `gap`.
//! Rendering is in `json` and `text`, writing in `writer`.

use std::{collections::HashMap, io, mem};

use super::{
    json::{Place, Renderer},
    text::{self, View},
    time::boot,
    writer::Out,
};
use crate::{
    model::event::{Lost, LostStage},
    output::{Body, FlagId, Output, Totals},
};

#[cfg(test)]
mod tests;

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON Lines.
    Json,
    /// For people.
    Text(View),
}

/// The stream of one run.
#[derive(Debug)]
pub struct Stream<O> {
    out: O,
    format: Format,
    all: bool,
    /// Number of the last record that was delivered.
    seq: u64,
    flags: HashMap<FlagId, u64>,
    /// What is still to be told about lost records, in the order of their first loss. While there is any,
    /// nothing else is delivered.
    gaps: Vec<Gap>,
    dropped: u64,
    json: Renderer,
    /// The line that was rendered last.
    line: Vec<u8>,
}

#[derive(Debug)]
struct Gap {
    time: i64,
    clock_offset: i64,
    lost: Lost,
}

impl<O: Out> Stream<O> {
    /// A stream that begins at number 1; `all` delivers events that are not flagged as well.
    pub fn new(out: O, format: Format, all: bool) -> Self {
        let (flags, gaps) = (HashMap::new(), Vec::new());
        let (json, line) = (Renderer::default(), Vec::new());
        Self { out, format, all, seq: 0, flags, gaps, dropped: 0, json, line }
    }

    /// Whether events that are not flagged are delivered as well.
    #[must_use]
    pub fn wants_all(&self) -> bool {
        self.all
    }

    /// Delivers a record, or counts it. `clock_offset` is wall clock minus boot clock, nanoseconds.
    pub fn push(&mut self, output: &Output<'_>, clock_offset: i64) {
        self.settle();
        match &output.body {
            Body::Start { start, .. } => {
                if let Format::Text(view) = &mut self.format {
                    view.home = view.home.or(start.netns);
                }
                self.deliver_surely(output, clock_offset);
            }
            Body::Event(_) | Body::Life(_) if !self.all => {}
            Body::Event(_) | Body::Life(_) | Body::Flag(..) | Body::Clear(..) => {
                self.offer(output, clock_offset)
            }
            Body::Degraded(_) => {
                self.tell_gaps();
                self.deliver_surely(output, clock_offset);
            }
            Body::Gap(lost) => self.tell_lost(output.time, lost, clock_offset),
            Body::End(totals) => self.end(output.time, totals, clock_offset),
        }
    }

    /// Tells of lost records as soon as there is room. Call it now and then: when records are rare, the
    /// next one may be long in coming.
    pub fn settle(&mut self) {
        if !self.gaps.is_empty() && self.out.has_room() {
            self.tell_gaps();
        }
    }

    /// Lets go what was delivered: call it before resting.
    pub fn flush(&mut self) {
        self.settle();
        self.out.flush();
    }

    /// Whether records were lost that are still to be told: then [`Stream::settle`] has work.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.gaps.is_empty()
    }

    /// Records that could not be delivered so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Where the lines go.
    pub fn out(&self) -> &O {
        &self.out
    }

    /// Gives back where the lines go, to have what is left written.
    pub fn into_out(self) -> O {
        self.out
    }

    fn offer(&mut self, output: &Output<'_>, clock_offset: i64) {
        let flag_seq = self.flag_seq(&output.body);
        if self.gaps.is_empty() && self.try_deliver(output, clock_offset, flag_seq) {
            if let Body::Flag(id, _) = output.body {
                self.flags.insert(id, self.seq);
            }
            return;
        }
        self.dropped += 1;
        let at = boot(output.time, clock_offset);
        let lost = Lost { stage: LostStage::Stdout, count: 1, from: at, to: at, resynced: true };
        self.keep_gap(output.time, lost, clock_offset);
    }

    /// The record that a `clear` takes back; nothing when that one was not delivered.
    fn flag_seq(&mut self, body: &Body<'_>) -> Option<u64> {
        match body {
            Body::Clear(id, _) => self.flags.remove(id),
            Body::Start { .. }
            | Body::Flag(..)
            | Body::Event(_)
            | Body::Life(_)
            | Body::Gap(_)
            | Body::Degraded(_)
            | Body::End(_) => None,
        }
    }

    fn tell_lost(&mut self, time: i64, lost: &Lost, clock_offset: i64) {
        let output = Output { time, body: Body::Gap(lost) };
        if !self.gaps.is_empty() || !self.try_deliver(&output, clock_offset, None) {
            self.keep_gap(time, lost.clone(), clock_offset);
        }
    }

    fn end(&mut self, time: i64, totals: &Totals, clock_offset: i64) {
        self.tell_gaps();
        let lost = totals.lost + self.dropped;
        let output = Output { time, body: Body::End(&Totals { lost, ..totals.clone() }) };
        self.deliver_surely(&output, clock_offset);
    }

    /// Keeps a gap until it can be told; those of one stage become one, so that they stay few.
    fn keep_gap(&mut self, time: i64, lost: Lost, clock_offset: i64) {
        match self.gaps.iter_mut().find(|gap| gap.lost.stage == lost.stage) {
            Some(gap) => gap.extend(time, &lost),
            None => self.gaps.push(Gap { time, clock_offset, lost }),
        }
    }

    fn tell_gaps(&mut self) {
        for Gap { time, clock_offset, lost } in mem::take(&mut self.gaps) {
            self.deliver_surely(&Output { time, body: Body::Gap(&lost) }, clock_offset);
        }
    }

    fn try_deliver(&mut self, output: &Output<'_>, clock_offset: i64, flag_seq: Option<u64>) -> bool {
        let rendered = self.render(output, clock_offset, flag_seq);
        let delivered = rendered.is_ok() && self.out.try_send(&self.line).is_ok();
        self.seq += u64::from(delivered);
        delivered
    }

    /// Delivers one of the few records that are never left out.
    fn deliver_surely(&mut self, output: &Output<'_>, clock_offset: i64) {
        if self.render(output, clock_offset, None).is_ok() {
            self.seq += 1;
            self.out.send(&self.line);
        }
    }

    /// Writes the record into `line`, as the next one of the stream.
    fn render(&mut self, output: &Output<'_>, clock_offset: i64, flag_seq: Option<u64>) -> io::Result<()> {
        let place = Place { seq: self.seq + 1, flag_seq, clock_offset };
        self.line.clear();
        match self.format {
            Format::Json => self.json.render(output, place, &mut self.line),
            Format::Text(view) => text::render(output, view, clock_offset, &mut self.line),
        }
    }
}

impl Gap {
    fn extend(&mut self, time: i64, later: &Lost) {
        self.time = time;
        self.lost.count += later.count;
        self.lost.from = self.lost.from.min(later.from);
        self.lost.to = self.lost.to.max(later.to);
        self.lost.resynced = later.resynced;
    }
}
