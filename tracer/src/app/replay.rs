//! `tracer replay`: the same triage over a recording.

use super::{Failure, ended, format, pipeline::Pipeline, read_policies};
use crate::{
    cli::ReplayArgs,
    model::event::{Event, Fact},
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
    let own_policy = !policies.is_empty();
    let mut policies = Some(policies);
    let mut at = 0;
    for event in replay {
        let mut event = match event {
            Ok(event) => event,
            Err(error) => {
                // It may be cut before all sockets that were there are known; none of them was told then.
                pipeline.take(&Event { at, fact: Fact::Ready })?;
                return Err(Failure::Input(error.to_string()));
            }
        };
        at = event.at;
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
            return Ok(0);
        }
    }
    Ok(u8::from(pipeline.flagged && args.exit_code))
}
