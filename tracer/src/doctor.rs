//! `tracer doctor`: what this kernel and these privileges allow, by trying.

use std::fmt::Write as _;

use crate::{
    bpf::{
        kernel::Kernel,
        loader,
        plan::{PLANS, Plan},
    },
    model::event::Coverage,
    privileges,
    source::{live::kernel_release, sockdiag},
};

/// Tries every plan and says what came of it. Nothing stays behind: what is loaded goes at once.
#[must_use]
pub fn report() -> String {
    let mut text = String::new();
    let _ = writeln!(text, "kernel      {}", kernel_release());
    match privileges::missing().as_slice() {
        [] => text.push_str("privileges  all that are needed\n"),
        missing => {
            for need in missing {
                let _ = writeln!(text, "privileges  {} is missing: needed {}", need.name, need.purpose);
            }
        }
    }
    match Kernel::read() {
        Ok(kernel) => plans(&kernel, &mut text),
        Err(why) => {
            let _ = writeln!(text, "hooks       none: {why}");
        }
    }
    text
}

fn plans(kernel: &Kernel, text: &mut String) {
    let mut chosen = None;
    for plan in PLANS {
        match try_plan(kernel, plan) {
            Ok(coverage) => {
                let _ = writeln!(text, "{:<11} works", plan.name);
                if chosen.is_none() {
                    chosen = Some((plan.name, coverage));
                }
            }
            Err(why) => {
                let _ = writeln!(text, "{:<11} cannot be used: {why}", plan.name);
            }
        }
    }
    text.push_str("poll        not in this version\n");
    match chosen {
        Some((name, coverage)) => {
            let _ = writeln!(text, "\n`tracer live` would use the plan {name}:");
            text.push_str(&seen(&coverage));
        }
        None => {
            let advice =
                privileges::advice().unwrap_or_else(|| "this kernel allows none of the plans".to_owned());
            let _ = writeln!(text, "\n`tracer live` cannot run here: {advice}");
        }
    }
}

fn try_plan(kernel: &Kernel, plan: &Plan) -> Result<Vec<Coverage>, String> {
    let settings = loader::settings(None, None);
    loader::load(kernel, plan, settings, sockdiag::name_all)
        .map(|loaded| loaded.coverage)
        .map_err(|e| e.to_string())
}

/// The coverage as lines: what is seen and by which hooks, then what is not and why.
fn seen(coverage: &[Coverage]) -> String {
    let mut text = String::new();
    let mut events: Vec<&str> =
        coverage.iter().filter(|c| c.by.is_some()).map(|c| c.event.as_str()).collect();
    events.sort_unstable();
    events.dedup();
    for event in events {
        let hooks = coverage.iter().filter(|c| c.event == event).filter_map(|c| c.by.as_deref());
        let _ = writeln!(text, "  seen    {event:<14} by {}", hooks.collect::<Vec<_>>().join(", "));
    }
    for row in coverage {
        if let Some(why) = &row.why {
            let _ = writeln!(text, "  unseen  {}: {why}", row.event);
        }
    }
    text
}
