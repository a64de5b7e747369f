//! `cargo xtask vm`: the live tests on other kernels, in one command. This file decides between the matrix and
//! one guest that the user describes; what is tested is in the `tests` package.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::tally::Tally;
use crate::workspace::{INIT, LIVE, TRACER, Workspace};
use guest::Guest;
use kernel::Kernel;
use qemu::{Clock, Ending};
pub(crate) use variant::Variant;

pub(crate) mod counted;
mod counter;
mod cpio;
mod guest;
mod initramfs;
mod kernel;
mod kernels;
mod matrix;
mod modules;
mod protocol;
mod qemu;
pub(crate) mod variant;

/// A command in the guest that the user describes may take so long, where nothing else is said.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// The plans that a kernel of the user's own is tested with.
const PLANS: [&str; 3] = ["fentry", "kprobe", "tracepoint"];

/// What is to be run in which kernel.
#[derive(Default)]
pub(crate) struct Request {
    /// A kernel of the table by name, or the path of an image or package; None is all of the table, and for
    /// `commands` the default one.
    pub(crate) kernel: Option<String>,
    /// Only this variant; None is all of the table, and for `commands` the plain one.
    pub(crate) variant: Option<Variant>,
    /// Hook plans to test; none means those of the table.
    pub(crate) plans: Vec<String>,
    /// Commands in place of the tests, words separated by blanks.
    pub(crate) commands: Vec<String>,
    /// Time for each command.
    pub(crate) limit: Option<Duration>,
    /// What the tests are given besides.
    pub(crate) live_args: Vec<String>,
    /// Make what the kernels take now the golden tables.
    pub(crate) bless: bool,
}

/// Runs it and prints the counts; anything but success is an error.
pub(crate) fn test(workspace: &Workspace, request: &Request) -> Result<()> {
    let tally = run(workspace, request)?;
    if tally.passed + tally.failed > 0 {
        println!("{tally}");
    }
    if tally.failed > 0 {
        bail!("not everything in the guests is as it must be");
    }
    Ok(())
}

/// Runs it. Errors are about getting that far, or about a guest that did not come to its end.
pub(crate) fn run(workspace: &Workspace, request: &Request) -> Result<Tally> {
    if !cfg!(target_arch = "x86_64") {
        bail!("guests are put together on x86_64 only");
    }
    let of_table = request.kernel.as_deref().is_none_or(|name| kernels::known(name).is_some());
    if of_table && request.commands.is_empty() {
        matrix::run(workspace, request)
    } else {
        one(workspace, request)
    }
}

/// One guest, its console on stdout.
fn one(workspace: &Workspace, request: &Request) -> Result<Tally> {
    let kernel = chosen(request.kernel.as_deref().unwrap_or(kernels::DEFAULT))?;
    let programs = workspace.build_for(kernel.architecture, &[INIT, TRACER, LIVE])?;
    let guest = Guest {
        programs: &programs,
        kernel: &kernel,
        variant: request.variant.unwrap_or_default(),
        commands: commands(request),
        limit: request.limit.unwrap_or(LIMIT),
        clock: Clock::Host,
    };
    let mut tally = Tally::default();
    eprintln!("booting {}", kernel.image.display());
    let story = guest.boot(&workspace.target().join("vm-initramfs.cpio"), |line| {
        println!("{line}");
        tally.read(line);
    })?;
    eprintln!("the guest ran for {:.1} s and ended {}", story.took.as_secs_f64(), story.ending);
    let are_all_closed = !request.commands.is_empty() || tally.runs == guest.commands.len() as u64;
    if tally.failed == 0 && !(story.ending == Ending::Exit(0) && are_all_closed) {
        bail!("the guest's commands failed");
    }
    Ok(tally)
}

fn chosen(kernel: &str) -> Result<Kernel> {
    match kernels::known(kernel) {
        Some(known) => kernel::of_debian(known),
        None => kernel::given(Path::new(kernel)).with_context(|| {
            let names: Vec<_> = kernels::KERNELS.iter().map(|known| known.name).collect();
            format!("the kernels of the table are {}", names.join(", "))
        }),
    }
}

fn commands(request: &Request) -> Vec<Vec<String>> {
    if !request.commands.is_empty() {
        let words = |line: &String| line.split_whitespace().map(str::to_owned).collect();
        return request.commands.iter().map(words).collect();
    }
    let default = PLANS.map(str::to_owned).to_vec();
    let plans = if request.plans.is_empty() { &default } else { &request.plans };
    let mut runs: Vec<_> = plans.iter().map(|plan| live("--plan", plan, request)).collect();
    if plans.len() > 1 {
        runs.push(live("--parity", &plans.join(","), request));
    }
    runs
}

/// An emulated machine is slow: the tests make smaller loads there.
fn live(mode: &str, plans: &str, request: &Request) -> Vec<String> {
    let fixed = ["/bin/live", "--tracer", "/bin/tracer", "--quick", mode, plans].map(str::to_owned);
    fixed.into_iter().chain(request.live_args.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(request: &Request) -> Vec<String> {
        commands(request).iter().map(|words| words.join(" ")).collect()
    }

    #[test]
    fn a_kernel_of_ones_own_gets_every_plan_and_their_parity() {
        assert_eq!(
            shown(&Request::default()),
            [
                "/bin/live --tracer /bin/tracer --quick --plan fentry",
                "/bin/live --tracer /bin/tracer --quick --plan kprobe",
                "/bin/live --tracer /bin/tracer --quick --plan tracepoint",
                "/bin/live --tracer /bin/tracer --quick --parity fentry,kprobe,tracepoint",
            ]
        );
    }

    #[test]
    fn one_plan_has_no_parity_and_arguments_are_passed_on() {
        let request = Request {
            plans: vec!["fentry".into()],
            live_args: vec!["--filter".into(), "udp".into()],
            ..Request::default()
        };
        assert_eq!(shown(&request), ["/bin/live --tracer /bin/tracer --quick --plan fentry --filter udp"]);
    }

    #[test]
    fn commands_stand_in_for_the_tests() {
        let request = Request { commands: vec!["/bin/tracer  --version".into()], ..Request::default() };
        assert_eq!(commands(&request), [["/bin/tracer", "--version"]]);
    }
}
