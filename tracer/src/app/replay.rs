//! `tracer replay`: the same triage over a recording.

use super::{Failure, ended, format, pipeline::Pipeline, read_policies};
use crate::{
    cli::ReplayArgs,
    model::event::{BootNanos, Event, Fact, PolicyFile},
    sink::{
        stream::Stream,
        writer::{Direct, Out},
    },
    source::{live::boot_now, replay::Replay},
};

pub(super) fn run(args: &ReplayArgs) -> Result<u8, Failure> {
    let policies = read_policies(&args.policy)?;
    let replay = Replay::open(&args.file).map_err(|e| Failure::Input(e.to_string()))?;
    let out = Direct::stdout().map_err(|e| Failure::Input(format!("standard output: {e}")))?;
    let mut pipeline = Pipeline::new(Stream::new(out, format(args.print), args.all), None)?;
    let mut at = 0;
    let played = play(args, replay, policies, &mut pipeline, &mut at);
    // A recording may be cut before all sockets that were there are known.
    pipeline.take(&Event { at, fact: Fact::Ready })?;
    let left = played?;
    Ok(u8::from(pipeline.flagged && args.exit_code && !left))
}

/// Gives whether nobody reads the output any more; `at` is the time of the last event.
fn play(
    args: &ReplayArgs,
    replay: Replay,
    policies: Vec<PolicyFile>,
    pipeline: &mut Pipeline<Direct>,
    at: &mut BootNanos,
) -> Result<bool, Failure> {
    let own_policy = !policies.is_empty();
    let mut policies = Some(policies);
    for event in replay {
        let mut event = event.map_err(|e| Failure::Input(e.to_string()))?;
        *at = event.at;
        if let Fact::Start(start) = &mut event.fact {
            start.provenance &= !args.no_provenance;
        }
        let recorded = matches!(event.fact, Fact::Policy(_));
        if !(recorded && own_policy) {
            pipeline.take(&event)?;
        }
        if matches!(event.fact, Fact::Start(_)) {
            for policy in policies.take().into_iter().flatten() {
                pipeline.take(&Event { at: boot_now(), fact: Fact::Policy(policy) })?;
            }
        }
        if ended(pipeline.stream.out().ended())? {
            return Ok(true);
        }
    }
    Ok(false)
}
