//! `cargo xtask vm`: the live tests on another kernel, in one command. Puts together the kernel, the guest's
//! file system and QEMU; what is tested is in the `tests` package.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::debian::{self, Need};
use crate::tally::Tally;
use crate::workspace::{Executables, INIT, LIVE, TRACER, Workspace};
use initramfs::Contents;
use kernel::Kernel;
use qemu::Ending;

mod cpio;
mod initramfs;
mod kernel;
mod modules;
mod protocol;
mod qemu;

/// A command of the guest that takes longer hangs: in emulation one scenario takes 5 to 20 seconds, and there
/// are dozens.
pub(crate) const DEFAULT_LIMIT: Duration = Duration::from_secs(15 * 60);

/// What Debian's kernels have as modules and the tests need: virtual links, socket tables, packet filters.
const MODULES: [&str; 9] = [
    "veth",
    "dummy",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "nf_tables",
    "nft_reject_inet",
    "nft_ct",
    "nft_limit",
];
const EMULATOR: [Need; 1] = [Need::program("qemu-system-x86_64", "qemu-system-x86")];

/// What is to be run in which kernel.
pub(crate) struct Request {
    /// A kernel image or package; None is the default kernel.
    pub(crate) kernel: Option<PathBuf>,
    /// Hook plans to test; none means both plans and their parity.
    pub(crate) plans: Vec<String>,
    /// Commands in place of the tests, words separated by blanks.
    pub(crate) commands: Vec<String>,
    /// Time for each command; when that of all is up, the guest is ended.
    pub(crate) limit: Duration,
    /// What the tests are given besides.
    pub(crate) live_args: Vec<String>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            kernel: None,
            plans: Vec::new(),
            commands: Vec::new(),
            limit: DEFAULT_LIMIT,
            live_args: Vec::new(),
        }
    }
}

/// What came of it.
pub(crate) struct Outcome {
    /// Scenarios, over all runs of the tests.
    pub(crate) tally: Tally,
    /// Whether everything was run to its end and nothing failed.
    pub(crate) passed: bool,
}

/// Runs it; anything but success is an error.
pub(crate) fn test(workspace: &Workspace, request: &Request) -> Result<()> {
    let outcome = run(workspace, request)?;
    if outcome.tally.runs > 0 {
        println!("{}", outcome.tally);
    }
    if !outcome.passed {
        bail!("the guest's commands failed");
    }
    Ok(())
}

/// Boots the guest and runs what is asked for. Errors are about getting that far.
pub(crate) fn run(workspace: &Workspace, request: &Request) -> Result<Outcome> {
    if !cfg!(target_arch = "x86_64") {
        bail!("the guest is made of programs of this machine, and only x86_64 is known");
    }
    debian::ensure("the virtual machine", &EMULATOR)?;
    let kernel = match &request.kernel {
        Some(path) => kernel::given(path)?,
        None => kernel::newest()?,
    };
    let commands = commands(request);
    let initramfs = write_initramfs(workspace, &kernel, request, &commands)?;
    eprintln!("booting {}", kernel.image.display());
    let (mut tally, start) = (Tally::default(), Instant::now());
    let limit = request.limit * u32::try_from(commands.len())?;
    let ending = qemu::boot(&kernel.image, &initramfs, limit, |line| {
        println!("{line}");
        tally.read(line);
    })?;
    eprintln!("the guest ran for {:.1} s and ended: {}", start.elapsed().as_secs_f64(), describe(&ending));
    let runs = if request.commands.is_empty() { commands.len() as u64 } else { tally.runs };
    Ok(Outcome { tally, passed: ending == Ending::Exit(0) && tally.failed == 0 && tally.runs == runs })
}

fn describe(ending: &Ending) -> String {
    match ending {
        Ending::Exit(status) => format!("exit status {status}"),
        Ending::NoWord => "without a word from init (a panic, or the kernel did not boot)".to_owned(),
        Ending::TimedOut => "it was stopped, because its time was up".to_owned(),
    }
}

fn commands(request: &Request) -> Vec<Vec<String>> {
    if !request.commands.is_empty() {
        return request
            .commands
            .iter()
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect();
    }
    let default = ["fentry", "tracepoint"].map(str::to_owned).to_vec();
    let plans = if request.plans.is_empty() { &default } else { &request.plans };
    let mut runs: Vec<_> = plans.iter().map(|plan| live("--plan", plan, request)).collect();
    if let [one, two] = plans.as_slice() {
        runs.push(live("--parity", &format!("{one},{two}"), request));
    }
    runs
}

/// An emulated machine is slow: the tests make smaller loads there.
fn live(mode: &str, plans: &str, request: &Request) -> Vec<String> {
    let fixed = ["/bin/live", "--tracer", "/bin/tracer", "--quick", mode, plans].map(str::to_owned);
    fixed.into_iter().chain(request.live_args.iter().cloned()).collect()
}

/// Builds the guest's programs and packs them; returns the archive's path in the target folder.
fn write_initramfs(
    workspace: &Workspace,
    kernel: &Kernel,
    request: &Request,
    commands: &[Vec<String>],
) -> Result<PathBuf> {
    let tests = if request.commands.is_empty() { &[INIT, TRACER, LIVE][..] } else { &[INIT, TRACER][..] };
    let built = workspace.build_static(tests)?;
    let modules = match &kernel.modules {
        Some(folder) => modules::load(folder, &MODULES)?,
        None => Vec::new(),
    };
    let contents =
        Contents { init: built.path(INIT)?, programs: programs(&built), modules: &modules, commands };
    let path = workspace.target().join("vm-initramfs.cpio");
    std::fs::write(&path, initramfs::build(&contents)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn programs(built: &Executables) -> Vec<(&'static str, &std::path::Path)> {
    [("tracer", TRACER), ("live", LIVE)]
        .into_iter()
        .filter_map(|(name, binary)| Some((name, built.path(binary).ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(request: &Request) -> Vec<String> {
        commands(request).iter().map(|words| words.join(" ")).collect()
    }

    #[test]
    fn both_plans_and_their_parity_are_the_default() {
        assert_eq!(
            shown(&Request::default()),
            [
                "/bin/live --tracer /bin/tracer --quick --plan fentry",
                "/bin/live --tracer /bin/tracer --quick --plan tracepoint",
                "/bin/live --tracer /bin/tracer --quick --parity fentry,tracepoint",
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
