//! Measures the tracer beside what people use, and prints one table. `cargo xtask bench` is the door to it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tests::actor;
use tests::bench::{ALL, Measurement, Report, Row, Setting, busy, markdown, text};
use tests::records::Record;
use tests::tracer::{Plan, Subject};

/// A median of fewer pairs would be moved by two that the machine disturbed.
const PAIRS: u16 = 7;

/// Measures the tracer beside what people use.
#[derive(Parser)]
struct Arguments {
    /// The tracer to measure.
    #[arg(long, required_unless_present = "list")]
    tracer: Option<PathBuf>,
    /// The hook plan to force.
    #[arg(long, value_enum, default_value = "auto")]
    plan: Plan,
    /// Pairs of runs: without, with, without, with, …; of loads at full rate, which are short, six times as many
    /// [default: 7; with --quick 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pairs: Option<u16>,
    /// Only measurements whose name contains this; more than once: any of them.
    #[arg(long)]
    filter: Vec<String>,
    /// Only prove that it runs: short loads, few sockets.
    #[arg(long)]
    quick: bool,
    /// The clock counts instructions, as QEMU's with -icount: only what can be counted is measured. The report
    /// names the emulator so.
    #[arg(long, value_name = "EMULATOR")]
    counted: Option<String>,
    /// Write the report as JSON to this file; `-` writes it to stdout, in one line, in place of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as a page of documentation to this file.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Take the figures of a run in a guest into the table, before those of this run; JSON that --json wrote.
    #[arg(long, value_name = "FILE")]
    with: Vec<PathBuf>,
    /// The command that the report says it is from.
    #[arg(long, hide = true, default_value = "bench")]
    command: String,
    /// Name the measurements and end.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    actor::run_if_asked();
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Answers whether every measurement could be made. Whether figures are reached is no matter of success.
fn run(arguments: &Arguments) -> Result<bool> {
    if arguments.list {
        ALL.iter().for_each(|measurement| println!("{:<16} {}", measurement.name, measurement.about));
        return Ok(true);
    }
    let setting = setting(arguments)?;
    let mut report = head(arguments, &setting)?;
    for file in &arguments.with {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        report.take(serde_json::from_str(&text).with_context(|| format!("in {}", file.display()))?);
    }
    measure(arguments, &setting, &mut report.rows)?;
    tell(arguments, &report)?;
    report.failed().for_each(|name| eprintln!("error: {name} could not be measured"));
    Ok(report.failed().next().is_none())
}

fn setting(arguments: &Arguments) -> Result<Setting> {
    let given = arguments.tracer.as_ref().context("--tracer is missing")?;
    let path = given.canonicalize().with_context(|| format!("no tracer at {}", given.display()))?;
    std::fs::create_dir_all(std::env::temp_dir()).context("no folder for temporary files")?;
    Ok(Setting {
        subject: Subject { path, plan: arguments.plan },
        pairs: usize::from(arguments.pairs.unwrap_or(if arguments.quick { 1 } else { PAIRS })),
        quick: arguments.quick,
        counted: arguments.counted.is_some(),
    })
}

/// Makes all measurements that are chosen.
fn measure(arguments: &Arguments, setting: &Setting, rows: &mut Vec<Row>) -> Result<()> {
    // A figure that was counted is of one plan, and another one than that of the same name on a real machine.
    let name = |measurement: &Measurement| match setting.counted {
        true => format!("{}/{}", arguments.plan.word(), measurement.name),
        false => measurement.name.to_owned(),
    };
    let is_chosen = |measurement: &&Measurement| {
        let (parts, name) = (&arguments.filter, name(measurement));
        let is_named = parts.is_empty() || parts.iter().any(|part| name.contains(part.as_str()));
        is_named && (measurement.counted || !setting.counted)
    };
    for measurement in ALL.iter().filter(is_chosen) {
        let begun = std::time::Instant::now();
        let name = name(measurement);
        let found = measurement.rows(setting);
        let found = found.unwrap_or_else(|error| vec![Row::failure(measurement.about, &error)]);
        rows.extend(found.into_iter().map(|row| Row { measurement: name.clone(), ..row }));
        writeln!(std::io::stderr(), "{name:<16} {:.1} s", begun.elapsed().as_secs_f64())?;
    }
    Ok(())
}

fn tell(arguments: &Arguments, report: &Report) -> Result<()> {
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    };
    if let Some(path) = &arguments.markdown {
        write(path, &markdown(report))?;
    }
    match &arguments.json {
        Some(path) if path.as_os_str() == "-" => println!("{}", serde_json::to_string(report)?),
        Some(path) => {
            write(path, &(serde_json::to_string_pretty(report)? + "\n"))?;
            print!("{}", text(report));
        }
        None => print!("{}", text(report)),
    }
    Ok(())
}

fn head(arguments: &Arguments, setting: &Setting) -> Result<Report> {
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy();
    let started = setting.subject.run([
        "live",
        "--json",
        "--duration",
        "0.01",
        "--hooks",
        setting.subject.plan.word(),
    ])?;
    let line = String::from_utf8_lossy(&started.stdout);
    let said = String::from_utf8_lossy(&started.stderr);
    ensure!(started.status.success(), "the tracer does not run here: {}", said.trim());
    let start = Record::parse(line.lines().next().context("a tracer without a start record")?)?;
    Ok(Report {
        command: arguments.command.clone(),
        kernel: format!("{release} {}", system.machine().to_string_lossy()),
        cores: std::thread::available_parallelism()?.get(),
        busy: busy()?,
        processor: processor(),
        tracer: start.text("/version").to_owned(),
        plan: start.text("/hooks").to_owned(),
        emulator: arguments.counted.clone().unwrap_or_default(),
        guests: Vec::new(),
        quick: arguments.quick,
        rows: Vec::new(),
    })
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| "unknown processor".to_owned(), |(_, name)| name.trim().to_owned())
}
