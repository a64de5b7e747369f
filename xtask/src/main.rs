//! `cargo xtask`: the one door besides cargo. This file holds the command line only; each command has a file
//! of its own.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

mod apt_sources;
mod architecture;
mod bench;
mod build_ebpf;
mod check;
mod command;
mod cross;
mod debian;
mod ebpf_toolchain;
mod packages;
mod purity;
mod run;
mod rust_text;
mod rustc_wrapper;
mod source_hash;
mod tally;
mod test;
mod vm;
mod workspace;

use test::Scope;
use vm::variant::Variant;
use workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Build, check, test and run the tracer")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the tracer and run it, as root where its command needs that
    Run {
        /// What the tracer is given; nothing means `live`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Run every test: unit tests, live tests on this kernel, the matrix of other kernels
    Test {
        /// Only what needs neither root nor a virtual machine
        #[arg(long, conflicts_with = "host")]
        quick: bool,
        /// Only what needs no virtual machine
        #[arg(long)]
        host: bool,
    },
    /// Build the kernel objects that the repository keeps
    BuildEbpf {
        /// Build them and compare them with the kept ones, byte for byte, changing nothing
        #[arg(long, conflicts_with = "log")]
        check: bool,
        /// Build an object that logs, for development, beside the kept ones
        #[arg(long)]
        log: bool,
    },
    /// Run the live tests on other kernels in QEMU: the whole matrix, or a part of it
    Vm(VmArgs),
    /// Formatting, lints, dependencies, the kernel object's source hash, purity of model and triage
    Check,
    /// Measure what the tracer costs beside what people use: paired runs, medians and ranges, one table
    Bench(bench::BenchArgs),
}

#[derive(Args)]
struct VmArgs {
    /// Only this kernel: one of the table by name (6.12, 6.12-arm64, …), a kernel image, or a Debian package
    #[arg(long, value_name = "NAME|PATH")]
    kernel: Option<String>,
    /// Only this way of running it
    #[arg(long, value_enum)]
    variant: Option<Variant>,
    /// Run the scenarios only under this hook plan, more than once if wanted
    #[arg(long = "plan", value_name = "PLAN")]
    plans: Vec<String>,
    /// Run this command in one guest instead of the tests (words separated by blanks; /bin/tracer is there)
    #[arg(long = "run", value_name = "COMMAND", conflicts_with_all = ["plans", "live_args", "bless"])]
    commands: Vec<String>,
    /// Seconds for each command in a guest; after that it is ended
    #[arg(long, value_name = "SECONDS")]
    limit: Option<u64>,
    /// Make what the kernels take now the golden tables of tests/matrix/programs
    #[arg(long)]
    bless: bool,
    /// What the live tests are given
    #[arg(last = true, value_name = "LIVE ARGS")]
    live_args: Vec<String>,
}

impl From<VmArgs> for vm::Request {
    fn from(args: VmArgs) -> Self {
        Self {
            kernel: args.kernel,
            variant: args.variant,
            plans: args.plans,
            commands: args.commands,
            limit: args.limit.map(std::time::Duration::from_secs),
            live_args: args.live_args,
            bless: args.bless,
        }
    }
}

fn main() -> ExitCode {
    let done = match std::env::var_os(rustc_wrapper::MARK) {
        Some(_) => rustc_wrapper::exec(std::env::args_os().skip(1)),
        None => perform(Cli::parse().task),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<()> {
    let workspace = Workspace::find()?;
    match task {
        Task::Run { args } => run::run(&workspace, &args),
        Task::Test { quick: true, .. } => test::test(&workspace, Scope::Quick),
        Task::Test { host: true, .. } => test::test(&workspace, Scope::Host),
        Task::Test { .. } => test::test(&workspace, Scope::All),
        Task::BuildEbpf { check: true, .. } => build_ebpf::compare(&workspace),
        Task::BuildEbpf { log: true, .. } => build_ebpf::with_log(&workspace),
        Task::BuildEbpf { .. } => build_ebpf::store(&workspace),
        Task::Vm(args) => vm::test(&workspace, &args.into()),
        Task::Check => check::check(&workspace),
        Task::Bench(args) => bench::bench(&workspace, &args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_passes_everything_on_with_and_without_the_dashes() {
        for line in
            [&["xtask", "run", "--", "--duration", "10"][..], &["xtask", "run", "--duration", "10"][..]]
        {
            let Task::Run { args } = Cli::parse_from(line).task else { panic!("not run") };
            assert_eq!(args, ["--duration", "10"]);
        }
    }
}
