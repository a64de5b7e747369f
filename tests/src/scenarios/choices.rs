//! What was typed, and by whom: hook plans that cannot load, missing privileges, one namespace only.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use anyhow::{Context, Result, ensure};

use super::{Bench, Scenario, at, scenario};
use crate::actor::Actor;
use crate::net::{A4, B4, Network};
use crate::records::Record;
use crate::tracer::{Subject, without_capabilities};

pub(super) const ALL: &[Scenario] = &[
    scenario("forced-plan-that-cannot-load-is-no-fallback", forced_plan).whatever_plan(),
    scenario("plan-in-use-is-the-one-asked-for", plan_in_use),
    scenario("without-root-a-forced-plan-ends-with-3-and-advice", without_root).whatever_plan(),
    scenario("without-root-auto-polls-and-says-so", without_root_auto).whatever_plan(),
    scenario("unknown-option-ends-with-2", unknown_option).whatever_plan(),
    scenario("netns-restricts-to-one-namespace", one_namespace),
];

/// `nobody`, by the number that it has everywhere.
const NOBODY: u32 = 65_534;

fn forced_plan(bench: &Bench) -> Result<()> {
    for plan in ["fentry", "kprobe", "tracepoint"] {
        let mut command = bench.subject.command(["live", "--json", "--hooks", plan, "--duration", "1"]);
        without_capabilities(&mut command);
        let output = command.output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(3), "it ended with {}: {stderr}", output.status);
        ensure!(stderr.contains(plan), "the plan is not named: {stderr}");
        ensure!(output.stdout.is_empty(), "something was printed all the same");
    }
    Ok(())
}

fn plan_in_use(bench: &Bench) -> Result<()> {
    let records = match &bench.common {
        Some(file) => whole_lines(&std::fs::read_to_string(file)?)?,
        None => bench.watch_alone(&Network::new()?)?.finish()?.records,
    };
    let start = records.first().context("no record")?;
    start.claim("the first record is the start", start.kind() == "start")?;
    let hooks = start.text("/hooks");
    let asked = bench.subject.plan.word();
    start.claim(format!("the plan is {asked}"), asked == "auto" || hooks == asked)?;
    start.claim("it tells its coverage", start.at("/coverage").is_some())?;
    start.claim("it tells the kernel", !start.text("/kernel").is_empty())?;
    let sequence: Vec<u64> = records.iter().map(Record::seq).collect();
    ensure!(sequence.is_sorted_by(|one, two| one < two), "seq does not rise");
    Ok(())
}

/// The records of a file that is being written.
fn whole_lines(text: &str) -> Result<Vec<Record>> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    Record::parse_all(whole.as_bytes())
}

/// The tracer where `nobody` may read and start it, and the folder that goes with it.
fn copied(bench: &Bench) -> Result<(Subject, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("tracer");
    std::fs::copy(&bench.subject.path, &copy)?;
    for path in [folder.path(), &copy] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok((Subject { path: copy, plan: bench.subject.plan }, folder))
}

fn without_root(bench: &Bench) -> Result<()> {
    let (subject, _folder) = copied(bench)?;
    let mut command = subject.command(["live", "--json", "--hooks", "tracepoint", "--duration", "1"]);
    let output = command.current_dir("/").uid(NOBODY).gid(NOBODY).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(3), "it ended with {}: {stderr}", output.status);
    let advice = stderr.contains("root") || stderr.contains("sudo") || stderr.contains("CAP_");
    ensure!(advice, "no advice: {stderr}");
    ensure!(output.stdout.is_empty(), "something was printed all the same");
    Ok(())
}

fn without_root_auto(bench: &Bench) -> Result<()> {
    let (subject, _folder) = copied(bench)?;
    let mut command = subject.command(["live", "--json", "--duration", "1"]);
    let output = command.current_dir("/").uid(NOBODY).gid(NOBODY).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "it ended with {}: {stderr}", output.status);
    ensure!(stderr.contains("short-lived sockets are missed"), "no warning: {stderr}");
    ensure!(stderr.contains("CAP_BPF"), "no advice: {stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let start = stdout.lines().next().unwrap_or_default();
    ensure!(start.contains(r#""hooks":"poll""#), "it does not poll: {start}");
    ensure!(start.contains(r#"{"event":"short-lived sockets","#), "it does not say what it misses: {start}");
    Ok(())
}

fn unknown_option(bench: &Bench) -> Result<()> {
    let output = bench.subject.run(["live", "--no-such-option"])?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2), "it ended with {}: {stderr}", output.status);
    ensure!(stderr.contains("--no-such-option"), "the option is not named: {stderr}");
    Ok(())
}

fn one_namespace(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut in_a, mut in_b) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    in_b.listen(at(B4, 4443))?;
    let inode = network.b.inode();
    let path = format!("/proc/{}/ns/net", in_b.pid());
    let listed = bench.subject.run(["list", "--json", "--netns", &path])?;
    let listed = whole_lines(std::str::from_utf8(&listed.stdout)?)?;
    ensure!(listed.iter().any(|r| r.tells("seen") && r.is_at("tcp", at(B4, 4443))), "list shows no listener");
    let tracer = bench.watch_with(&network, &["--all", "--netns", &inode.to_string()])?;
    in_a.listen(at(A4, 4444))?;
    in_b.listen(at(B4, 4444))?;
    tracer.wait("the listener inside", |r| r.tells("listen") && r.is_at("tcp", at(B4, 4444)))?;
    let run = tracer.finish()?;
    ensure!(run.events("seen").count() == 1, "the listener that was there is not seen");
    let other = run.records.iter().chain(&listed).find(|r| r.netns().is_some_and(|netns| netns != inode));
    ensure!(other.is_none(), "--netns shows another namespace");
    Ok(())
}
