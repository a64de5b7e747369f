//! What watches: the hook plan that was asked for, or the best that loads, or no hook at all.

use std::{io, time::Duration};

use tracer_common::Settings;

use super::{Failure, complain};
use crate::{
    bpf::{
        kernel::Kernel,
        loader::{self, Loaded},
        plan::{FENTRY, KPROBE, PLANS, Plan, Rejected, TRACEPOINT, choose},
    },
    cli::HooksArg,
    model::event::Coverage,
    privileges,
    refusal::Machine,
    source::{
        poll::{PERIOD, Poll},
        proofs::Proofs,
        selftest::SelfTest,
        sockdiag,
    },
};

/// Name of the rung without hooks.
pub(super) const POLL: &str = "poll";

/// What is asked of whatever watches.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    /// Only sockets of this network namespace.
    pub(super) only: Option<u32>,
    /// TCP sessions with a loopback remote are of no interest.
    pub(super) loopback_aside: bool,
    /// Time between two proofs of the hooks.
    pub(super) proofs: Duration,
}

/// What watches the sockets.
pub(super) enum Rung {
    /// A plan, and what proves its hooks where that can be had.
    Hooks(Box<Loaded>, Option<Proofs>),
    Poll(Box<Poll>),
}

impl Rung {
    /// Loads the plan that was asked for, or the best that can be had; what `auto` can always have is polling.
    pub(super) fn choose(hooks: HooksArg, strict: bool, asked: Asked) -> Result<Self, Failure> {
        let plans = match hooks {
            HooksArg::Auto => PLANS,
            HooksArg::Fentry => &[FENTRY],
            HooksArg::Kprobe => &[KPROBE],
            HooksArg::Tracepoint => &[TRACEPOINT],
            HooksArg::Poll => return Ok(poll(asked.only)),
        };
        match load(plans, asked) {
            Ok(rung) => Ok(rung),
            Err(why) if hooks != HooksArg::Auto || strict => Err(unsupported(&why)),
            Err(why) => {
                let ms = PERIOD.as_millis();
                complain(&format!(
                    "no hooks, short-lived sockets are missed: the sockets are only read again every {ms} ms, because \
                 {why}\ntracer: to see all, {}",
                    advice()
                ));
                Ok(poll(asked.only))
            }
        }
    }

    /// Its name in records.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Hooks(loaded, _) => loaded.plan,
            Self::Poll(_) => POLL,
        }
    }

    pub(super) fn coverage(&self) -> &[Coverage] {
        match self {
            Self::Hooks(loaded, _) => &loaded.coverage,
            Self::Poll(poll) => poll.coverage(),
        }
    }

    /// With `--strict` a hook of the plan that could not be had or does not deliver is an error, and so is to
    /// have none.
    pub(super) fn refuse_gaps(&mut self) -> Result<(), Failure> {
        let missing = match self {
            Self::Hooks(loaded, proofs) => {
                let quiet = proofs.as_mut().map(|proofs| proofs.prove_now(&loaded.hooks, &mut loaded.proof));
                let quiet = quiet.into_iter().flatten().map(|quiet| format!("{}: {}", quiet.hook, quiet.why));
                loaded.missing.iter().cloned().chain(quiet).collect()
            }
            Self::Poll(poll) => unseen(poll.coverage()),
        };
        if missing.is_empty() {
            return Ok(());
        }
        Err(Failure::Unsupported(format!("--strict: unseen would stay {}", missing.join("; "))))
    }
}

fn poll(only: Option<u32>) -> Rung {
    Rung::Poll(Box::new(Poll::begin(only)))
}

fn unseen(coverage: &[Coverage]) -> Vec<String> {
    let told = |row: &Coverage| row.why.as_ref().map(|why| format!("{} ({why})", row.event));
    coverage.iter().filter_map(told).collect()
}

fn load(plans: &[Plan], asked: Asked) -> Result<Rung, String> {
    // Its namespace is made while the kernel's types are read.
    let selftest = SelfTest::begin();
    let kernel = Kernel::read().map_err(|e| e.to_string())?;
    let selftest = selftest.and_then(|mut selftest| Ok((selftest.netns()?, selftest)));
    let proof = selftest.as_ref().ok().map(|(netns, _)| *netns);
    let settings =
        Settings { loopback_aside: asked.loopback_aside.into(), ..loader::settings(asked.only, proof) };
    let machine = Machine::read();
    let load = |plan: &Plan| {
        let loaded = loader::load(&kernel, plan, settings, sockdiag::name_all);
        loaded.map_err(|e| machine.explain(plan.name, &e.to_string()))
    };
    let (mut loaded, rejected) = choose(plans, load).map_err(|rejected| reasons(&rejected))?;
    tracing::info!("plan {}; not used: {}", loaded.plan, reasons(&rejected));
    kernel.release();
    let proofs = selftest.map(|(_, selftest)| Proofs::new(selftest, asked.proofs));
    if let Err(error) = &proofs {
        loaded.coverage.push(unproven(error));
    }
    Ok(Rung::Hooks(Box::new(loaded), proofs.ok()))
}

fn unproven(error: &io::Error) -> Coverage {
    let why = format!("hooks are not proven: the self-test has no network namespace of its own: {error}");
    Coverage { event: "a hook that stops delivering".to_owned(), by: None, why: Some(why) }
}

fn reasons(rejected: &[Rejected]) -> String {
    let lines: Vec<String> = rejected.iter().map(|r| format!("plan {}: {}", r.plan, r.why)).collect();
    lines.join("; ")
}

/// Why it cannot run here, and what to do: privileges first, since without them every plan fails.
pub(super) fn unsupported(why: &str) -> Failure {
    Failure::Unsupported(format!("cannot watch the sockets of this machine: {why}\ntracer: {}", advice()))
}

fn advice() -> String {
    privileges::advice().unwrap_or_else(|| {
        "`tracer doctor` tells what this kernel allows; `tracer list` and `--hooks poll` need less".to_owned()
    })
}
