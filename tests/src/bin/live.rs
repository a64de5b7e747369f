//! Runs the live scenarios, or the parity of hook plans, against a tracer. The text on stdout is the
//! result; the exit code is 0 when all of it holds.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tests::declared::HOST;
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
    /// Where this runs, as KERNEL/VARIANT: which failures are declared depends on it.
    #[arg(long, default_value = HOST)]
    cell: String,
    /// Only scenarios whose name contains this.
    #[arg(long, default_value = "")]
    filter: String,
    /// Only scenarios whose outcome depends on the hook plan.
    #[arg(long)]
    of_plan: bool,
    /// Smaller loads and longer limits, for an emulated machine.
    #[arg(long)]
    quick: bool,
    /// Name the scenarios and end.
    #[arg(long)]
    list: bool,
    /// Compare plans on the same traffic instead.
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
        Ok(status) => status.into(),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Answers the exit status.
fn run(arguments: &Arguments) -> Result<u8> {
    if arguments.list {
        runner::chosen(&arguments.filter).for_each(|scenario| println!("{}", scenario.name));
        return Ok(0);
    }
    std::fs::create_dir_all(std::env::temp_dir()).context("no folder for temporary files")?;
    let given = arguments.tracer.as_ref().context("--tracer is missing")?;
    let path = given.canonicalize().with_context(|| format!("no tracer at {}", given.display()))?;
    if let Some(plans) = &arguments.parity {
        return compare(&path, plans, &arguments.cell);
    }
    let subject = Subject { path, plan: arguments.plan };
    match &arguments.one {
        Some(name) => {
            let bench = Bench {
                subject,
                quick: arguments.quick,
                cell: arguments.cell.clone(),
                common: arguments.common.clone(),
            };
            runner::run_here(name, &bench)
        }
        None => run_all(arguments, subject),
    }
}

fn compare(tracer: &std::path::Path, plans: &[Plan], cell: &str) -> Result<u8> {
    ensure!(plans.len() > 1, "--parity takes two plans or more");
    let words: Vec<&str> = plans.iter().map(|plan| plan.word()).collect();
    let name = format!("parity-of-{}", words.join("-and-"));
    match parity::compare(tracer, plans, cell) {
        Ok(count) => println!("ok {name}: {count} verdicts are the same\n1 passed, 0 failed, 0 declared"),
        Err(error) => {
            println!("FAILED {name}: {error:#}\n0 passed, 1 failed, 0 declared");
            return Ok(1);
        }
    }
    Ok(0)
}

fn run_all(arguments: &Arguments, subject: Subject) -> Result<u8> {
    let this = std::env::current_exe()?;
    let series = Series {
        filter: arguments.filter.clone(),
        of_plan: arguments.of_plan,
        subject,
        cell: arguments.cell.clone(),
        quick: arguments.quick,
        jobs: arguments.jobs,
    };
    let totals = runner::run_all(&series, |name, common| {
        let mut command = Command::new(&this);
        command.arg("--one").arg(name).arg("--tracer").arg(&series.subject.path);
        command.args(["--plan", arguments.plan.word(), "--cell", &series.cell]);
        if arguments.quick {
            command.arg("--quick");
        }
        if let Some(file) = common {
            command.arg("--common").arg(file);
        }
        command
    })?;
    println!("{totals}");
    Ok(u8::from(totals.failed > 0))
}
