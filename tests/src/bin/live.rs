//! Runs the live scenarios, or the parity of two hook plans, against a tracer. The text on stdout is the
//! result; the exit code is 0 when all of it holds.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Parser;
use tests::runner::Series;
use tests::scenarios::Bench;
use tests::tracer::{Plan, Subject};
use tests::{actor, parity, runner};

/// Live tests of the tracer in network namespaces of their own.
#[derive(Parser)]
struct Arguments {
    /// The tracer to test.
    #[arg(long, required_unless_present = "list")]
    tracer: Option<PathBuf>,
    /// The hook plan to force.
    #[arg(long, value_enum, default_value = "auto")]
    plan: Plan,
    /// Only scenarios whose name contains this.
    #[arg(long, default_value = "")]
    filter: String,
    /// Smaller loads and longer limits, for an emulated machine.
    #[arg(long)]
    quick: bool,
    /// Name the scenarios and end.
    #[arg(long)]
    list: bool,
    /// Compare two plans on the same traffic instead.
    #[arg(long, value_enum, value_delimiter = ',')]
    parity: Option<Vec<Plan>>,
    /// Run so many scenarios at the same time.
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// The records of a tracer that runs for all scenarios.
    #[arg(long, hide = true)]
    common: Option<PathBuf>,
    /// Run one scenario in this process.
    #[arg(long, hide = true)]
    one: Option<String>,
}

fn main() -> ExitCode {
    actor::run_if_asked();
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    if arguments.list {
        runner::chosen(&arguments.filter).for_each(|scenario| println!("{}", scenario.name));
        return Ok(true);
    }
    std::fs::create_dir_all(std::env::temp_dir()).context("no folder for temporary files")?;
    let given = arguments.tracer.as_ref().context("--tracer is missing")?;
    let path = given.canonicalize().with_context(|| format!("no tracer at {}", given.display()))?;
    if let Some(plans) = &arguments.parity {
        return compare(&path, plans);
    }
    let subject = Subject { path, plan: arguments.plan };
    match &arguments.one {
        Some(name) => {
            let bench = Bench { subject, quick: arguments.quick, common: arguments.common.clone() };
            runner::run_here(name, &bench).map(|()| true)
        }
        None => run_all(arguments, subject),
    }
}

fn compare(tracer: &std::path::Path, plans: &[Plan]) -> Result<bool> {
    let [one, two] = plans else { bail!("--parity takes two plans") };
    let name = format!("parity-of-{}-and-{}", one.word(), two.word());
    match parity::compare(tracer, [*one, *two]) {
        Ok(count) => println!("ok {name}: {count} verdicts are the same\n1 passed, 0 failed"),
        Err(error) => {
            println!("FAILED {name}: {error:#}\n0 passed, 1 failed");
            return Ok(false);
        }
    }
    Ok(true)
}

fn run_all(arguments: &Arguments, subject: Subject) -> Result<bool> {
    let this = std::env::current_exe()?;
    let Arguments { filter, quick, jobs, .. } = arguments;
    let series = Series { filter: filter.clone(), subject, quick: *quick, jobs: *jobs };
    let totals = runner::run_all(&series, |name, common| {
        let mut command = Command::new(&this);
        command.arg("--one").arg(name).arg("--tracer").arg(&series.subject.path);
        command.args(["--plan", arguments.plan.word()]);
        if arguments.quick {
            command.arg("--quick");
        }
        if let Some(file) = common {
            command.arg("--common").arg(file);
        }
        command
    })?;
    println!("{totals}");
    Ok(totals.failed == 0)
}
