//! What every command that streams has in common: an event is recorded, folded, and what comes of it
//! is offered to the output.

use std::{
    collections::BTreeSet,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use super::Failure;
use crate::{
    engine::Engine,
    model::{
        event::{Event, Fact, PolicyFile, ProcessId, Start},
        provenance::Script,
    },
    output::{Body, Output, Report, Verdict},
    sink::{recording::RecordingWriter, stream::Stream, writer::Out},
    source::live::{boot_now, clock_offset},
};

/// Engine, recording and output of one run.
pub(super) struct Pipeline<O> {
    pub(super) engine: Engine,
    pub(super) stream: Stream<O>,
    recording: Option<RecordingWriter>,
    /// Flags raised so far.
    pub(super) flagged: bool,
    /// Processes that became suspicious and whose files have no digest yet, since they were asked for.
    suspects: BTreeSet<ProcessId>,
    /// Until then the output is waited for where it has no room.
    pub(super) patience: Option<Instant>,
}

/// Suspicious processes whose files are hashed between two looks around; others are when they are flagged again.
const SUSPECTS: usize = 64;
/// Rest before the output is asked again whether it has room.
const REST: Duration = Duration::from_millis(3);

impl<O: Out> Pipeline<O> {
    pub(super) fn new(stream: Stream<O>, record: Option<&Path>) -> Result<Self, Failure> {
        let recording = record.map(RecordingWriter::create).transpose();
        let recording = recording.map_err(|e| Failure::Input(e.to_string()))?;
        let engine = if stream.wants_all() { Engine::default() } else { Engine::flags_only() };
        Ok(Self { engine, stream, recording, flagged: false, suspects: BTreeSet::new(), patience: None })
    }

    /// Tells what everything after depends on: who speaks, the clock, service names, policies.
    pub(super) fn begin(&mut self, start: Start, policies: Vec<PolicyFile>) -> Result<(), Failure> {
        let services = std::fs::read_to_string("/etc/services").ok();
        let facts = [Fact::Start(Box::new(start)), Fact::Clock(clock_offset())];
        let facts = facts.into_iter().chain(services.map(Fact::Services));
        for fact in facts.chain(policies.into_iter().map(Fact::Policy)) {
            self.take(&Event { at: boot_now(), fact })?;
        }
        Ok(())
    }

    pub(super) fn take(&mut self, event: &Event) -> Result<(), Failure> {
        if let Some(recording) = &mut self.recording {
            recording.write(event).map_err(|e| Failure::Input(e.to_string()))?;
        }
        let Self { engine, stream, flagged, suspects, patience, .. } = self;
        let clock_offset = engine.clock_offset();
        let mut say = |output: &Output<'_>| {
            if let Body::Flag(_, report) = &output.body {
                *flagged = true;
                suspects.extend(unhashed(report).filter(|_| suspects.len() < SUSPECTS));
            }
            stream.push(output, clock_offset);
            if let Some(until) = *patience {
                await_room(stream.out(), until);
            }
        };
        engine.step(event, &mut say).map_err(|errors| super::wrong_policy(&errors))
    }

    /// Processes that were flagged as suspicious without a digest of what they run, since this was asked last.
    pub(super) fn take_suspects(&mut self) -> BTreeSet<ProcessId> {
        std::mem::take(&mut self.suspects)
    }

    /// Brings the recording to its file as far as it is.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        match &mut self.recording {
            Some(recording) => recording.flush().map_err(|e| Failure::Input(e.to_string())),
            None => Ok(()),
        }
    }

    /// Ends the run; gives back the output, to have what is left written.
    pub(super) fn end(mut self) -> Result<O, Failure> {
        self.take(&Event { at: boot_now(), fact: Fact::End })?;
        if let Some(recording) = self.recording.take() {
            recording.finish().map_err(|e| Failure::Input(e.to_string()))?;
        }
        // What is known goes with the program; to take it down piece by piece takes longer than to print it.
        std::mem::forget(self.engine);
        Ok(self.stream.into_out())
    }
}

fn await_room(out: &impl Out, until: Instant) {
    while !out.has_room() && out.ended().is_none() && Instant::now() < until {
        sleep(REST);
    }
}

/// The process of a flag that says that it is suspicious, where something that it runs was not hashed.
fn unhashed(report: &Report<'_>) -> Option<ProcessId> {
    let process = report.process.filter(|_| report.verdict == Verdict::Suspicious)?;
    let found = process.provenance.as_ref();
    let is_hashed = found.is_some_and(|found| {
        let script = match found.script.as_deref() {
            Some(Script::File { found, .. }) => found.sha256.is_some(),
            Some(Script::Module(_)) | None => true,
        };
        found.sha256.is_some() && script
    });
    (!is_hashed).then_some(process.id)
}
