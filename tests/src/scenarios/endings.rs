//! How a run ends: signals, a duration, a closed or full stdout, and the exit codes.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::{Bench, Scenario, at, scenario};
use crate::actor::{Actor, Kind, Order};
use crate::net::{A4, Network};
use crate::records::Record;
use crate::tracer::{Live, Process};

pub(super) const ALL: &[Scenario] = &[
    scenario("sigterm-ends-with-an-end-record", terminated).whatever_plan(),
    scenario("duration-ends-by-itself", duration).whatever_plan(),
    scenario("closed-stdout-ends-quietly", closed_stdout).whatever_plan(),
    scenario("full-stdout-is-an-error", full_stdout).whatever_plan(),
    scenario("exit-code-tells-of-flags", exit_code).whatever_plan(),
    scenario("sockets-that-stay-open-are-not-told-as-closed-at-the-end", still_open).whatever_plan(),
];

/// Whether an end record has its totals.
fn check_totals(end: &Record) -> Result<()> {
    for total in ["/events", "/flags"] {
        end.claim("it counts", end.number(total).is_some_and(|count| count > 0))?;
    }
    end.claim("nothing was lost", end.number("/lost") == Some(0)).map(drop)
}

/// SIGINT is how every other scenario ends its tracer.
fn terminated(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut server = Actor::start(&network.a)?;
    let tracer = bench.watch_alone(&network)?;
    server.listen(at(A4, 4444))?;
    tracer.wait("the listener", |r| r.tells("listen") && r.is_at("tcp", at(A4, 4444)))?;
    let ended = tracer.finish_with(Signal::TERM)?;
    ensure!(ended.status.code() == Some(0), "SIGTERM ended it with {}", ended.status);
    check_totals(ended.run.end()?)
}

fn duration(bench: &Bench) -> Result<()> {
    let begun = Instant::now();
    let mut tracer = Live::start(bench.subject.live(&["--duration", "2"]), Vec::new())?;
    let ended = tracer.collect()?;
    ensure!(ended.status.code() == Some(0), "it ended with {}", ended.status);
    ensure!(begun.elapsed() >= Duration::from_secs(2), "it ended too early");
    ended.run.end().map(drop)
}

fn closed_stdout(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut server = Actor::start(&network.a)?;
    let mut command = bench.subject.live(&["--all"]);
    let mut process = Process::start_ready(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let mut stdout = BufReader::new(process.child.stdout.take().context("no stdout")?);
    stdout.read_line(&mut String::new())?;
    drop(stdout);
    server.listen(at(A4, 4444))?;
    let status = process.wait_for_exit()?;
    let mut stderr = String::new();
    process.child.stderr.take().context("no stderr")?.read_to_string(&mut stderr)?;
    ensure!(status.code() == Some(0), "it ended with {status}: {stderr}");
    ensure!(!stderr.contains("roken pipe") && !stderr.contains("panicked"), "not quiet: {stderr}");
    Ok(())
}

fn full_stdout(bench: &Bench) -> Result<()> {
    let full = OpenOptions::new().write(true).open("/dev/full")?;
    let mut command = bench.subject.live(&["--all", "--duration", "5"]);
    let output = command.stdout(full).stderr(Stdio::piped()).spawn()?.wait_with_output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2), "it ended with {}: {stderr}", output.status);
    ensure!(!stderr.trim().is_empty() && !stderr.contains("panicked"), "not reported: {stderr}");
    Ok(())
}

fn exit_code(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut server = Actor::start(&network.a)?;
    let inode = network.a.inode().to_string();
    let list = ["list", "--json", "--exit-code", "--netns", inode.as_str()];
    server.listen("127.0.0.1:4444".parse()?)?;
    let quiet = bench.subject.run(list)?;
    let stderr = String::from_utf8_lossy(&quiet.stderr);
    ensure!(quiet.status.code() == Some(0), "nothing to flag ended with {}: {stderr}", quiet.status);
    server.listen(at(A4, 4444))?;
    let flagged = bench.subject.run(list)?;
    ensure!(flagged.status.code() == Some(1), "a flagged listener ended with {}", flagged.status);
    let without = bench.subject.run(["list", "--json", "--netns", inode.as_str()])?;
    ensure!(without.status.code() == Some(0), "without --exit-code it ended with {}", without.status);
    Ok(())
}

/// In the end the tracer looks for sockets that are gone without a hook's word. These are not, whoever holds them.
fn still_open(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut server, mut client) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("door");
    server.perform(&Order::OpenDoor { path: path.clone() })?;
    let tracer = bench.watch_alone(&network)?;
    let (door, last) = (at(A4, 4444), at(A4, 5300));
    let listener = server.listen(door)?;
    client.connect(door)?;
    server.accept(listener)?;
    client.connect(door)?; // waits to be accepted
    let fd = client.connect(door)?;
    client.perform(&Order::Give { fd, path })?; // lies at the door, in no process's hands
    client.close(fd)?;
    let fd = server.socket(Kind::Tcp, door)?;
    server.perform(&Order::Bind { fd, to: at(A4, 4445) })?;
    server.bind_udp(last)?;
    tracer.wait("the last of them", |r| r.is_at("udp", last))?;
    let run = tracer.finish()?;
    let closed: Vec<_> = run.events("close").map(|r| (r.local(), r.remote())).collect();
    ensure!(closed.is_empty(), "told as closed: {closed:?}");
    Ok(())
}
