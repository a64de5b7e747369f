//! Every program of every plan, loaded by itself without attaching it: what the kernel says to each and what
//! it costs the verifier. A program that is refused keeps no other from being tried.

use aya::{
    Ebpf,
    programs::{Program, ProgramInfo},
};
use tracer_common::Settings;

use super::{
    attach::{describe, load},
    iterators::Iterators,
    kernel::Kernel,
    loader::{chain, open, settings},
    plan::{Hook, PLANS, Plan},
};

/// Stands where a plan's name stands, for the programs that read the sockets that are there already.
pub const BASELINE: &str = "baseline";

/// Stands for the self-test's namespace: with none, the verifier would leave out what `live` runs.
const ANY_NETNS: u32 = 1;

/// One program on this kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surveyed {
    /// Name of the plan, or [`BASELINE`].
    pub plan: &'static str,
    /// Name of the program in the object.
    pub program: &'static str,
    /// Where it attaches, as people name it.
    pub place: String,
    /// What it costs, or why the kernel does not load it.
    pub outcome: Result<Cost, String>,
}

/// What the kernel tells of a program that it has loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Instructions that the verifier went through, paths counted each; since 5.16.
    pub verified: Option<u32>,
    /// Size of the program after the verifier has rewritten it, bytes; nothing where the kernel hides it.
    pub size: Option<u32>,
}

/// Tries the programs of all plans in their order, then the iterators. Nothing stays loaded.
#[must_use]
pub fn survey(kernel: &Kernel) -> Vec<Surveyed> {
    let plans = PLANS.iter().flat_map(|plan| survey_plan(kernel, plan));
    plans.chain(survey_iterators(kernel)).collect()
}

fn survey_plan(kernel: &Kernel, plan: &Plan) -> Vec<Surveyed> {
    let mut opened = open(kernel, of_plan(kernel, plan), &[]).map_err(|e| e.to_string());
    let programs = plan.hooks.iter().flat_map(|hook| {
        let loaded = match &mut opened {
            Ok(ebpf) => load(ebpf, kernel, hook),
            Err(why) => Err(why.clone()),
        };
        let outcome = |program| loaded.clone().and_then(|()| cost(opened.as_ref().ok(), program));
        names(hook)
            .map(|(program, place)| Surveyed { plan: plan.name, program, place, outcome: outcome(program) })
            .collect::<Vec<_>>()
    });
    programs.collect()
}

fn of_plan(kernel: &Kernel, plan: &Plan) -> Settings {
    let (accept_by_use, reads) = (plan.accept_by_use.into(), kernel.reads(Some(plan)));
    Settings { accept_by_use, reads, ..settings(None, Some(ANY_NETNS)) }
}

/// The programs of a hook: one, or a return's with its entry's.
fn names(hook: &Hook) -> impl Iterator<Item = (&'static str, String)> {
    let entry = hook.entry().map(|(program, function)| (program, format!("kprobe {function}")));
    [(hook.program, describe(hook))].into_iter().chain(entry)
}

fn survey_iterators(kernel: &Kernel) -> Vec<Surveyed> {
    let settings = Settings { reads: kernel.reads(None), ..settings(None, Some(ANY_NETNS)) };
    let mut opened = open(kernel, settings, &[]).map_err(|e| e.to_string());
    Iterators::NAMES
        .into_iter()
        .map(|(program, kind)| {
            let outcome = match &mut opened {
                Ok(ebpf) => {
                    Iterators::try_one(ebpf, &kernel.btf, program).and_then(|()| cost(Some(ebpf), program))
                }
                Err(why) => Err(why.clone()),
            };
            Surveyed { plan: BASELINE, program, place: format!("iter {kind}"), outcome }
        })
        .collect()
}

fn cost(ebpf: Option<&Ebpf>, program: &str) -> Result<Cost, String> {
    let program = ebpf.and_then(|ebpf| ebpf.program(program)).ok_or("not in the object")?;
    let info: ProgramInfo = Program::info(program).map_err(|e| chain(&e))?;
    Ok(Cost { verified: info.verified_instruction_count(), size: info.size_translated() })
}
