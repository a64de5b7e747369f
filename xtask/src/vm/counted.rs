//! The benchmark in a guest whose clock counts instructions: the same work takes the same time there, however busy
//! this machine is. Every plan in one guest, one after the other.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::guest::{Guest, Run};
use super::qemu::{self, Clock, Ending};
use super::variant::Variant;
use super::{PLANS, chosen, kernels};
use crate::workspace::{BENCH, INIT, TRACER, Workspace};

/// One processor is emulated, at some 50 million instructions a second.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// The figures repeat, but for the moments in which interrupts come: few pairs are enough.
const PAIRS: u16 = 3;

/// What is counted.
pub(crate) struct Request<'a> {
    /// Only prove that it runs.
    pub(crate) quick: bool,
    /// Pairs of runs, where a number was asked for.
    pub(crate) pairs: Option<u16>,
    /// Parts of names; none means everything.
    pub(crate) filter: &'a [String],
}

/// Runs it; answers the report of each plan, as the benchmark wrote it.
pub(crate) fn run(workspace: &Workspace, request: &Request<'_>) -> Result<Vec<(&'static str, String)>> {
    let kernel = chosen(kernels::DEFAULT)?;
    let emulator = qemu::version(kernel.architecture)?;
    let programs = workspace.build_for(kernel.architecture, &[INIT, TRACER, BENCH])?;
    let guest = Guest {
        programs: &programs,
        kernel: &kernel,
        variant: Variant::Plain,
        commands: PLANS.iter().map(|plan| command(plan, &emulator, request)).collect(),
        limit: LIMIT,
        clock: Clock::Instructions,
    };
    eprintln!("booting {}, whose clock counts instructions", kernel.image.display());
    let story = guest.boot(&workspace.target().join("bench-initramfs.cpio"), |line| {
        if !is_report(line) {
            eprintln!("{line}");
        }
    })?;
    eprintln!("the guest ran for {:.1} s and ended {}", story.took.as_secs_f64(), story.ending);
    // A report says itself what in it failed.
    if !matches!(story.ending, Ending::Exit(_)) || story.runs.len() != PLANS.len() {
        bail!("the guest did not come to its end");
    }
    PLANS.into_iter().zip(&story.runs).map(|(plan, run)| Ok((plan, report(plan, run)?))).collect()
}

fn command(plan: &str, emulator: &str, request: &Request<'_>) -> Vec<String> {
    let pairs = request.pairs.unwrap_or(if request.quick { 1 } else { PAIRS }).to_string();
    let fixed = [
        "/bin/bench",
        "--tracer",
        "/bin/tracer",
        "--counted",
        emulator,
        "--json",
        "-",
        "--plan",
        plan,
        "--pairs",
        &pairs,
    ];
    let mut words = fixed.map(str::to_owned).to_vec();
    if request.quick {
        words.push("--quick".to_owned());
    }
    words.extend(request.filter.iter().flat_map(|part| ["--filter".to_owned(), part.clone()]));
    words
}

/// The report is one line among those of the console.
fn report(plan: &str, run: &Run) -> Result<String> {
    let line = run.lines.iter().find(|line| is_report(line));
    line.cloned().with_context(|| format!("no report of plan {plan} on the guest's console"))
}

fn is_report(line: &str) -> bool {
    line.starts_with("{\"command\":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_counted_as_it_was_asked_for() {
        let filter = ["tcp".to_owned()];
        let request = Request { quick: true, pairs: None, filter: &filter };
        assert_eq!(
            command("kprobe", "QEMU", &request).join(" "),
            "/bin/bench --tracer /bin/tracer --counted QEMU --json - --plan kprobe --pairs 1 --quick --filter tcp"
        );
    }

    #[test]
    fn the_report_is_found_among_other_lines() {
        let lines = ["tcp-json 1.0 s", "{\"command\":\"bench\"}", ""].map(str::to_owned).to_vec();
        let run = Run { lines, ..Run::default() };
        assert_eq!(report("fentry", &run).unwrap(), "{\"command\":\"bench\"}");
        assert!(report("fentry", &Run::default()).is_err());
    }
}
