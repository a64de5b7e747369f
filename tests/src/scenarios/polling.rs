//! The last rung: no BPF, the sockets are read again and again. It says so, and what lasts is flagged soon;
//! where others fill the machine it reads less often, so that this is measured alone.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Bench, Scenario, alone, at, scenario};
use crate::actor::Actor;
use crate::net::{A4, B4, Network};
use crate::records::Record;
use crate::tracer::{Live, Plan, Subject, without_capabilities};

pub(super) const ALL: &[Scenario] = &[
    alone("poll-flags-what-lasts-within-a-second-and-says-what-it-misses", asked_for).whatever_plan(),
    alone("live-without-capabilities-polls-and-says-so", live_without).whatever_plan(),
    scenario("list-without-capabilities-shows-what-can-be-read-and-says-so", list_without).whatever_plan(),
    scenario("strict-refuses-to-poll-with-3", strict).whatever_plan(),
];

/// What lasts is flagged within this time; an emulated machine is given more.
fn soon(bench: &Bench) -> Duration {
    Duration::from_secs(if bench.quick { 5 } else { 1 })
}

fn subject(bench: &Bench, plan: Plan) -> Subject {
    Subject { path: bench.subject.path.clone(), plan }
}

/// `command` in the namespace of A, without capabilities: it could not enter A by itself.
fn confined(mut command: Command, network: &Network) -> Result<Command> {
    let netns = network.a.try_clone()?;
    // SAFETY: between fork and exec only one system call is made; nothing is allocated.
    unsafe { command.pre_exec(move || Ok(netns.join()?)) };
    without_capabilities(&mut command);
    Ok(command)
}

fn asked_for(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let command = subject(bench, Plan::Poll).live(&[]);
    lasting(bench, &network, command, true)
}

fn live_without(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let command = confined(subject(bench, Plan::Auto).live(&[]), &network)?;
    lasting(bench, &network, command, false)
}

/// A listener and a session that last are flagged soon, and the tracer says that it polls: with a warning
/// where nobody asked it to, which is where it lacks capabilities and knows no holders.
fn lasting(bench: &Bench, network: &Network, command: Command, asked: bool) -> Result<()> {
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    server.listen(at(B4, 8443))?;
    let tracer = Live::start(command, network.inodes().to_vec())?;
    let begun = Instant::now();
    client.listen(at(A4, 4444))?;
    client.connect(at(B4, 8443))?;
    let listener =
        tracer.wait("the listener", |r| r.flags("unexplained-listener") && r.is_at("tcp", at(A4, 4444)))?;
    let session =
        tracer.wait("the session", |r| r.flags("unexplained-session") && r.is_to("tcp", at(B4, 8443)))?;
    let took = begun.elapsed();
    ensure!(took <= soon(bench), "what lasts was flagged after {took:?}");
    if asked {
        listener.by(client.pid())?;
        session.by(client.pid())?;
    }
    let ended = tracer.finish_with(rustix::process::Signal::INT)?;
    ensure!(ended.status.code() == Some(0), "it ended with {}: {}", ended.status, ended.stderr);
    let warned = ended.stderr.contains("short-lived");
    ensure!(asked || warned, "no warning on stderr: {}", ended.stderr);
    says_that_it_polls(ended.run.records.first())
}

fn says_that_it_polls(start: Option<&Record>) -> Result<()> {
    let Some(start) = start else { anyhow::bail!("no record") };
    start.claim("the first record is the start", start.kind() == "start")?.says("/hooks", "poll")?;
    let coverage = start.at("/coverage").map(ToString::to_string).unwrap_or_default();
    start.claim("it says what is missed", coverage.contains("short-lived")).map(drop)
}

fn list_without(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut server = Actor::start(&network.a)?;
    server.listen(at(A4, 4444))?;
    let mut command = confined(subject(bench, Plan::Auto).command(["list", "--json"]), &network)?;
    let output = command.output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(0), "it ended with {}: {stderr}", output.status);
    ensure!(!stderr.trim().is_empty(), "it does not say what is missing");
    let records = Record::parse_all(&output.stdout)?;
    let shown = records.iter().find(|r| r.is_at("tcp", at(A4, 4444)));
    let Some(listener) = shown else { anyhow::bail!("the listener is not shown") };
    listener.flagged("research", "unexplained-listener")?.says("/event", "seen").map(drop)
}

fn strict(bench: &Bench) -> Result<()> {
    let output = subject(bench, Plan::Poll).live(&["--strict", "--duration", "1"]).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(3), "it ended with {}: {stderr}", output.status);
    ensure!(output.stdout.is_empty(), "something was printed all the same");
    for unseen in ["connect", "accept"] {
        ensure!(stderr.contains(unseen), "it does not say that {unseen} stays unseen: {stderr}");
    }
    Ok(())
}
