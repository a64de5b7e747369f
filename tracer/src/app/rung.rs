//! What watches: the hook plan that was asked for, or the best that loads, or no hook at all.

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
    source::{
        poll::{PERIOD, Poll},
        sockdiag,
    },
};

/// Name of the rung without hooks.
pub(super) const POLL: &str = "poll";

/// What watches the sockets.
pub(super) enum Rung {
    Hooks(Box<Loaded>),
    Poll(Box<Poll>),
}

impl Rung {
    /// Its name in records.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Hooks(loaded) => loaded.plan,
            Self::Poll(_) => POLL,
        }
    }

    pub(super) fn coverage(&self) -> &[Coverage] {
        match self {
            Self::Hooks(loaded) => &loaded.coverage,
            Self::Poll(poll) => poll.coverage(),
        }
    }

    /// With `--strict` a hook of the plan that could not be had is an error, and so is to have none.
    pub(super) fn refuse_gaps(&self) -> Result<(), Failure> {
        let missing = match self {
            Self::Hooks(loaded) => loaded.missing.clone(),
            Self::Poll(poll) => unseen(poll.coverage()),
        };
        if missing.is_empty() {
            return Ok(());
        }
        Err(Failure::Unsupported(format!("--strict: unseen would stay {}", missing.join("; "))))
    }
}

fn unseen(coverage: &[Coverage]) -> Vec<String> {
    let told = |row: &Coverage| row.why.as_ref().map(|why| format!("{} ({why})", row.event));
    coverage.iter().filter_map(told).collect()
}

/// Loads the plan that was asked for, or the best that can be had; what `auto` can always have is polling.
pub(super) fn choose_rung(hooks: HooksArg, only: Option<u32>, strict: bool) -> Result<Rung, Failure> {
    let plans = match hooks {
        HooksArg::Auto => PLANS,
        HooksArg::Fentry => &[FENTRY],
        HooksArg::Kprobe => &[KPROBE],
        HooksArg::Tracepoint => &[TRACEPOINT],
        HooksArg::Poll => return Ok(poll(only)),
    };
    match load(plans, only) {
        Ok(loaded) => Ok(Rung::Hooks(loaded)),
        Err(why) if hooks != HooksArg::Auto || strict => Err(unsupported(&why)),
        Err(why) => {
            let ms = PERIOD.as_millis();
            complain(&format!(
                "no hooks, short-lived sockets are missed: the sockets are only read again every {ms} ms, because \
                 {why}\ntracer: to see all, {}",
                advice()
            ));
            Ok(poll(only))
        }
    }
}

fn poll(only: Option<u32>) -> Rung {
    Rung::Poll(Box::new(Poll::begin(only)))
}

fn load(plans: &[Plan], only: Option<u32>) -> Result<Box<Loaded>, String> {
    let kernel = Kernel::read().map_err(|e| e.to_string())?;
    let settings = loader::settings(only, None);
    let load =
        |plan: &Plan| loader::load(&kernel, plan, settings, sockdiag::name_all).map_err(|e| e.to_string());
    let (loaded, rejected) = choose(plans, load).map_err(|rejected| reasons(&rejected))?;
    tracing::info!("plan {}; not used: {}", loaded.plan, reasons(&rejected));
    Ok(Box::new(loaded))
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
