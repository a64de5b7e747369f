//! `tracer doctor`: what this kernel and these privileges allow, by trying.

mod programs;

use std::{fmt::Write as _, time::Duration};

pub use self::programs::programs;
use crate::{
    bpf::{
        kernel::Kernel,
        loader::{self, BASE},
        plan::{PLANS, Plan},
    },
    model::event::Coverage,
    privileges,
    refusal::Machine,
    source::{
        live::kernel_release,
        poll::{PERIOD, Poll},
        proofs::Proofs,
        selftest::SelfTest,
        sockdiag,
    },
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
    let chosen = plans(&mut text);
    let _ = writeln!(
        text,
        "poll        works everywhere: no hooks, the sockets are read again every {} ms",
        PERIOD.as_millis()
    );
    let (name, coverage) = chosen.unwrap_or_else(|| ("poll", Poll::begin(None).coverage().to_vec()));
    let _ = writeln!(text, "\n`tracer live` would use the plan {name}:");
    text.push_str(&seen(&coverage));
    if name == "poll"
        && let Some(advice) = privileges::advice()
    {
        let _ = writeln!(text, "\nTo see all, {advice}.");
    }
    text
}

/// Says of each plan with hooks whether it works; gives the first that does, with its coverage.
fn plans(text: &mut String) -> Option<(&'static str, Vec<Coverage>)> {
    let kernel = match Kernel::read() {
        Ok(kernel) => kernel,
        Err(why) => {
            let _ = writeln!(text, "hooks       none: {why}");
            return None;
        }
    };
    let machine = Machine::read();
    let mut chosen = None;
    for plan in PLANS {
        match try_plan(&kernel, plan) {
            Ok((coverage, proof)) => {
                let _ = writeln!(text, "{:<11} works; {proof}", plan.name);
                chosen.get_or_insert((plan.name, coverage));
            }
            Err(why) => {
                let why = machine.explain(plan.name, &why);
                let _ = writeln!(text, "{:<11} cannot be used: {why}", plan.name);
            }
        }
    }
    chosen
}

/// Loads a plan and has the self-test prove its hooks.
fn try_plan(kernel: &Kernel, plan: &Plan) -> Result<(Vec<Coverage>, String), String> {
    let selftest = SelfTest::begin().and_then(|mut selftest| Ok((selftest.netns()?, selftest)));
    let settings = loader::settings(None, selftest.as_ref().ok().map(|(netns, _)| *netns));
    let mut loaded = loader::load(kernel, plan, settings, sockdiag::name_all).map_err(|e| e.to_string())?;
    let proof = match selftest {
        Err(error) => format!("not proven: the self-test has no network namespace of its own: {error}"),
        Ok((_, selftest)) => {
            let mut proofs = Proofs::new(selftest, Duration::ZERO);
            let quiet = proofs.prove_now(&loaded.hooks, &mut loaded.proof);
            let quiet: Vec<_> = quiet.iter().map(|quiet| format!("{} ({})", quiet.hook, quiet.why)).collect();
            match quiet.as_slice() {
                [] => format!("proven: each of its {} hooks saw the self-test's traffic", loaded.hooks.len()),
                quiet => format!("not proven: {}", quiet.join("; ")),
            }
        }
    };
    Ok((loaded.coverage, proof))
}

/// The coverage as lines: what is seen and by which hooks, the base set first, then what is not and why.
fn seen(coverage: &[Coverage]) -> String {
    let mut text = String::new();
    let mut events: Vec<&str> =
        coverage.iter().filter(|c| c.by.is_some()).map(|c| c.event.as_str()).collect();
    events.sort_unstable_by_key(|event| {
        (BASE.iter().position(|base| base == event).unwrap_or(BASE.len()), *event)
    });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_stand_in_the_order_of_the_base_set_and_each_once() {
        let row = |event: &str, by: Option<&str>| Coverage {
            event: event.to_owned(),
            by: by.map(str::to_owned),
            why: by.is_none().then(|| "dark".to_owned()),
        };
        let rows = [
            row("seen", Some("iter")),
            row("udp", Some("a")),
            row("moon", None),
            row("listen", Some("c")),
            row("udp", Some("b")),
        ];
        let lines = [
            "  seen    listen         by c",
            "  seen    udp            by a, b",
            "  seen    seen           by iter",
            "  unseen  moon: dark",
        ];
        assert_eq!(seen(&rows).lines().collect::<Vec<_>>(), lines);
    }
}
