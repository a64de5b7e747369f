//! How long an event takes from connect() in a client to the tracer's line having been read: single
//! connections in an idle namespace, each to a port of its own so that its line can be told apart.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{ChildStdout, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use rustix::process::Signal;
use tests::actor::{self, Actor};
use tests::distribution::Distribution;
use tests::net::{B4, Network};
use tests::records::Record;
use tests::tracer::{Plan, Process, Subject};

const FIRST_PORT: u16 = 10_000;
/// A line that has not come by then is missing.
const PATIENCE: Duration = Duration::from_secs(5);
/// What 99 of 100 events must stay below.
const GOAL: Duration = Duration::from_millis(10);

/// Measures the time from connect() to the line on stdout.
#[derive(Parser)]
struct Arguments {
    /// The tracer to measure.
    #[arg(long)]
    tracer: PathBuf,
    /// The hook plan to force.
    #[arg(long, value_enum, default_value = "auto")]
    plan: Plan,
    /// Single connections to make.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    connections: u16,
    /// Milliseconds between two connections.
    #[arg(long, default_value_t = 5)]
    pause: u64,
}

fn main() -> ExitCode {
    actor::run_if_asked();
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let path = arguments.tracer.canonicalize().context("no tracer there")?;
    let subject = Subject { path, plan: arguments.plan };
    let distribution = measure(&subject, arguments.connections, Duration::from_millis(arguments.pause))?;
    println!("{distribution}");
    let judged = if distribution.percentile(99) < GOAL { "below" } else { "NOT below" };
    println!("p99 is {judged} {GOAL:?}");
    Ok(())
}

fn measure(subject: &Subject, connections: u16, pause: Duration) -> Result<Distribution> {
    let network = Network::new()?;
    let mut server = Actor::start(&network.b)?;
    let ports = FIRST_PORT..FIRST_PORT + connections;
    for port in ports.clone() {
        server.listen(SocketAddr::new(B4, port))?;
    }
    let mut process = Process::start_ready(subject.live(&["--all"]).stdout(Stdio::piped()))?;
    let stdout = process.child.stdout.take().context("a tracer without stdout")?;
    let (sender, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || follow(stdout, &sender));
    let begun = network.a.enter(|| connect_to_each(ports, pause))?;
    let took = meet(&begun, &lines)?;
    process.signal(Signal::INT)?;
    process.wait_for_exit()?;
    ensure!(reader.join().is_ok(), "the reading thread panicked");
    Distribution::of(took).context("nothing was measured")
}

/// Connects once to each port; answers when each connect() was about to be called.
fn connect_to_each(ports: std::ops::Range<u16>, pause: Duration) -> Result<BTreeMap<u16, Instant>> {
    let mut begun = BTreeMap::new();
    for port in ports {
        begun.insert(port, Instant::now());
        drop(TcpStream::connect(SocketAddr::new(B4, port))?);
        std::thread::sleep(pause);
    }
    Ok(begun)
}

/// Notes when each line had been read; the line is looked into afterwards.
fn follow(stdout: ChildStdout, lines: &Sender<(Instant, u16)>) {
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    while stdout.read_line(&mut line).is_ok_and(|length| length > 0) {
        let read = Instant::now();
        if let Some(port) = attempted(&line).filter(|port| *port >= FIRST_PORT)
            && lines.send((read, port)).is_err()
        {
            break;
        }
        line.clear();
    }
}

/// The port that a line of an attempt in the test's addresses names.
fn attempted(line: &str) -> Option<u16> {
    let record = Record::parse(line.trim_end()).ok()?;
    let remote = record.remote().filter(|remote| remote.ip() == B4)?;
    record.tells("connect").then_some(remote.port())
}

/// Pairs each connect with its line.
fn meet(begun: &BTreeMap<u16, Instant>, lines: &Receiver<(Instant, u16)>) -> Result<Vec<Duration>> {
    let mut took = BTreeMap::new();
    while took.len() < begun.len() {
        let Ok((read, port)) = lines.recv_timeout(PATIENCE) else { break };
        if let Some(start) = begun.get(&port) {
            took.entry(port).or_insert_with(|| read.duration_since(*start));
        }
    }
    ensure!(took.len() == begun.len(), "{} of {} lines are missing", begun.len() - took.len(), begun.len());
    Ok(took.into_values().collect())
}
