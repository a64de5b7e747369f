//! `cargo xtask bench`: the door to the benchmark of the `tests` package, on this machine and, with `--vm`, in guests
//! whose clock counts instructions. What is measured is not known here.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::command;
use crate::debian;
use crate::vm;
use crate::workspace::{BENCH, TRACER, Workspace};

/// What is measured, and where the results go.
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArgs {
    /// Only prove that it runs: one pair of short loads, few sockets; the figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Count instructions in guests as well: kernel 6.12, plans fentry, kprobe and tracepoint
    #[arg(long)]
    vm: bool,
    /// Pairs of runs: without, with, without, with, …; of loads at full rate, which are short, six times as many
    /// [default: 7; in guests 3; with --quick 1]
    #[arg(long, value_name = "N")]
    pairs: Option<u16>,
    /// Only measurements whose name contains this; more than once: any of them (`--list` names them; those of the
    /// guests begin with the plan, as in `fentry/tcp-json`)
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// The hook plan on this machine
    #[arg(long, value_name = "PLAN", default_value = "auto")]
    plan: String,
    /// Write the report as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as a page to this file: docs/performance.md is made so
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Name the measurements and end
    #[arg(long)]
    list: bool,
}

/// Builds the tracer and the benchmark for release and runs it, in guests first.
pub(crate) fn bench(workspace: &Workspace, args: &BenchArgs) -> Result<()> {
    if !args.list && !debian::is_root() {
        bail!(
            "the benchmark traces real connections and needs root: `sudo env PATH=\"$PATH\" cargo xtask bench`"
        );
    }
    let counted = if args.vm && !args.list { counted(workspace, args)? } else { Vec::new() };
    let built = workspace.build_release(&[TRACER, BENCH])?;
    let mut bench = Command::new(built.path(BENCH)?);
    bench.arg("--tracer").arg(built.path(TRACER)?).args(host(args));
    for file in &counted {
        bench.arg("--with").arg(file);
    }
    command::run(&mut bench)
}

/// Runs the guests; answers the files of their reports.
fn counted(workspace: &Workspace, args: &BenchArgs) -> Result<Vec<PathBuf>> {
    let request = vm::counted::Request { quick: args.quick, pairs: args.pairs, filter: &args.filter };
    let mut files = Vec::new();
    for (plan, report) in vm::counted::run(workspace, &request)? {
        let file = workspace.target().join(format!("bench-{plan}.json"));
        std::fs::write(&file, report).with_context(|| format!("cannot write {}", file.display()))?;
        files.push(file);
    }
    Ok(files)
}

/// What the benchmark is given on this machine.
fn host(args: &BenchArgs) -> Vec<String> {
    let mut words = vec!["--plan".to_owned(), args.plan.clone(), "--command".to_owned(), typed()];
    let flags = [(args.quick, "--quick"), (args.list, "--list")];
    words.extend(flags.iter().filter(|(is_on, _)| *is_on).map(|(_, flag)| (*flag).to_owned()));
    let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
    if let Some(pairs) = args.pairs {
        option("--pairs", pairs.to_string());
    }
    args.filter.iter().for_each(|filter| option("--filter", filter.clone()));
    let files = [("--json", &args.json), ("--markdown", &args.markdown)];
    for (name, file) in files {
        if let Some(file) = file {
            option(name, file.display().to_string());
        }
    }
    words
}

/// The command line, for the head of the report.
fn typed() -> String {
    let words: Vec<_> = std::env::args().skip(1).collect();
    format!("cargo xtask {}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_passed_on() {
        let args = BenchArgs {
            quick: true,
            vm: true,
            pairs: Some(9),
            filter: vec!["tcp".to_owned(), "udp".to_owned()],
            plan: "fentry".to_owned(),
            json: Some("a.json".into()),
            markdown: None,
            list: false,
        };
        let words = host(&args).join(" ");
        assert!(words.starts_with("--plan fentry --command cargo xtask"), "{words}");
        assert!(words.ends_with("--quick --pairs 9 --filter tcp --filter udp --json a.json"), "{words}");
    }
}
