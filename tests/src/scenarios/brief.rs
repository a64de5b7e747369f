//! Processes that are gone before anybody could look: what they ran is known all the same.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Result, anyhow, ensure};

use super::stated::is_seen;
use super::{Bench, Scenario, alone, at, scenario};
use crate::actor::brief::word;
use crate::actor::{Actor, Brief, Order, Pids, Program};
use crate::net::{A4, B4, Network};
use crate::records::Record;
use crate::table::until_closed;
use crate::tracer::Process;

pub(super) const ALL: &[Scenario] = &[
    alone("processes-of-a-millisecond-are-told-with-program-argument-and-ancestors", brief),
    alone("processes-with-reused-pids-are-never-mixed-up", reused),
    alone("processes-with-reused-pids-of-a-namespace-are-never-mixed-up", nested),
    scenario("processes-are-told-when-they-run-a-program-and-when-they-end", lives),
];

/// The first process's port; the others have those behind it.
const FIRST: u16 = 20_000;
/// Where one connects from that the harness follows: its own marks have the ports above.
const CALLER: u16 = 19_000;
const PORT: u16 = 8443;
/// So many processes where each takes long.
const QUICK: u64 = 100;
/// So few pids have the processes of the scenarios where they are used again.
const PIDS: u32 = 20;
/// Ancestors that each must be told with: the actor, the scenario, and the one that runs all scenarios.
const ANCESTORS: usize = 3;

fn brief(bench: &Bench) -> Result<()> {
    check(bench, if bench.quick { QUICK } else { 10_000 }, Pids::Fresh)
}

fn reused(bench: &Bench) -> Result<()> {
    check(bench, if bench.quick { QUICK } else { 20_000 }, Pids::Few(PIDS))
}

fn nested(bench: &Bench) -> Result<()> {
    check(bench, if bench.quick { QUICK } else { 20_000 }, Pids::FewNested(PIDS))
}

fn check(bench: &Bench, count: u64, pids: Pids) -> Result<()> {
    let network = Network::new()?;
    let (mut server, mut client) = (Actor::start(&network.b)?, Actor::start(&network.a)?);
    let fd = server.listen(at(B4, PORT))?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("stdout");
    let mut command = bench.subject.live(&["--all"]);
    let mut process = Process::start_ready(command.stdout(File::create(&file)?))?;
    server.begin(&Order::Serve { fd, total: count })?;
    let program = Program::own()?.path().to_owned();
    let brief = Brief { count, from: at(A4, FIRST), to: at(B4, PORT), pids };
    let started = client.perform(&Order::StartBrief { program: program.clone(), brief })?;
    let parent = started.pids.first().copied().unwrap_or_else(|| client.pid());
    server.answer()?.map_err(|errno| anyhow!("the server: {errno}"))?;
    until_closed(&network.a)?;
    process.finish()?;
    let expected = Expected { program: &program, parent, count };
    let found = expected.find(&file, network.a.inode())?;
    println!("{} records whole, {} say what they lack", found.whole, found.excused);
    found.suffices(&expected)
}

fn lives(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut server, mut client) = (Actor::start(&network.b)?, Actor::start(&network.a)?);
    let fd = server.listen(at(B4, PORT))?;
    let tracer = bench.watch(&network)?;
    server.begin(&Order::Serve { fd, total: 1 })?;
    let program = Program::own()?.path().to_owned();
    let brief = Brief { count: 1, from: at(A4, CALLER), to: at(B4, PORT), pids: Pids::Fresh };
    client.perform(&Order::StartBrief { program: program.clone(), brief })?;
    server.answer()?.map_err(|errno| anyhow!("the server: {errno}"))?;
    let run = tracer.finish()?;
    let is_its = |r: &&Record| r.number("/process/ppid") == Some(client.pid().into());
    let told: Vec<&Record> = run.records.iter().filter(is_its).collect();
    let events: Vec<&str> = told.iter().map(|r| r.text("/event")).collect();
    ensure!(events.first() == Some(&"exec") && events.contains(&"connect"), "told in this order: {events:?}");
    ensure!(events.iter().filter(|event| **event == "exec").count() == 1, "told: {events:?}");
    ensure!(events.iter().filter(|event| **event == "exit").count() == 1, "told: {events:?}");
    for record in told {
        record.says("/process/exe", &program.display().to_string())?;
        let arguments = record.at("/process/args").and_then(|args| args.as_array());
        let last = arguments.and_then(|arguments| arguments.last()).and_then(|word| word.as_str());
        record.claim("its own argument", last == Some(word(0).as_str()))?;
    }
    Ok(())
}

/// What the records must say.
struct Expected<'a> {
    program: &'a Path,
    parent: u32,
    count: u64,
}

/// What they say.
#[derive(Debug, Default)]
struct Found {
    /// Processes of which each event was told.
    connects: BTreeSet<u64>,
    established: BTreeSet<u64>,
    /// Records with program, argument and ancestors.
    whole: u64,
    /// Those without, which say why.
    excused: u64,
    /// Whether a hook sees programs when they begin. Without it processes are read from /proc, which for these is in
    /// time or not.
    sees_exec: bool,
}

impl Expected<'_> {
    fn find(&self, file: &Path, netns: u32) -> Result<Found> {
        let mut found = Found::default();
        for line in BufReader::new(File::open(file)?).lines() {
            let record = Record::parse(&line?)?;
            ensure!(record.kind() != "gap", "something was lost: {record}");
            if record.kind() == "start" {
                found.sees_exec = is_seen(&record, "exec");
            }
            let port = record.local().map_or(0, |local| local.port());
            let to_server = record.remote() == Some(at(B4, PORT)) && port >= FIRST;
            if record.netns() != Some(netns) || !to_server {
                continue;
            }
            let n = u64::from(port - FIRST);
            let is_new = match record.text("/event") {
                "connect" => found.connects.insert(n),
                "established" => found.established.insert(n),
                _ => continue,
            };
            ensure!(is_new, "told twice: {record}");
            self.take(&record, n, &mut found)?;
        }
        Ok(found)
    }

    fn take(&self, record: &Record, n: u64, found: &mut Found) -> Result<()> {
        let arguments =
            record.at("/process/args").and_then(|args| args.as_array()).cloned().unwrap_or_default();
        let last = arguments.last().and_then(|argument| argument.as_str());
        record.claim("no other's argument", last.is_none_or(|last| last == word(n)))?;
        let exe = record.text("/process/exe");
        record.claim("no other's program", exe.is_empty() || Path::new(exe) == self.program)?;
        let lineage =
            record.at("/process/lineage").and_then(|lineage| lineage.as_array()).map_or(0, Vec::len);
        let parent = record.number("/process/lineage/0/pid");
        record.claim("no other's parent", parent.is_none_or(|pid| pid == u64::from(self.parent)))?;
        if last.is_some() && !exe.is_empty() && lineage >= ANCESTORS {
            found.whole += 1;
        } else {
            record.claim("it says why something is missing", !record.text("/process_unknown").is_empty())?;
            found.excused += 1;
        }
        Ok(())
    }
}

impl Found {
    /// All must be told, and 99.9 % be whole where programs are seen when they begin.
    fn suffices(&self, expected: &Expected<'_>) -> Result<()> {
        let counts = (self.connects.len() as u64, self.established.len() as u64);
        ensure!(
            counts == (expected.count, expected.count),
            "{counts:?} connects and sessions of {}",
            expected.count
        );
        ensure!(
            !self.sees_exec || self.excused * 1000 <= self.whole,
            "{} of {} records are not whole",
            self.excused,
            self.whole
        );
        Ok(())
    }
}
