//! Runs scenarios, each in a process of its own: when its time is over the process is killed, and the
//! kernel takes its children and namespaces away with it.

use std::fmt;
use std::io::Read;
use std::ops::AddAssign;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, set_parent_process_death_signal};

use crate::declared::{self, Declared, HOST, How};
use crate::scenarios::{ALL, Bench, Lacks, Scenario};
use crate::tracer::{Common, Subject};

/// A guest without hardware acceleration is given so much more time.
const QUICK_PATIENCE: u64 = 3;

/// What a scenario came to.
pub enum Outcome {
    /// It holds; what it printed besides.
    Passed(String),
    /// It does not hold, and why.
    Failed(String),
    /// The kernel has not what it works with.
    Lacks(String),
}

/// The exit status of a scenario's process that says [`Outcome::Lacks`].
const LACKS: i32 = 77;

/// How many scenarios came to what.
#[derive(Default)]
pub struct Totals {
    /// Those that hold.
    pub passed: usize,
    /// Those that do not.
    pub failed: usize,
    /// Those that do not, as is declared.
    pub declared: usize,
    /// Those that are tried once more.
    again: Vec<&'static Scenario>,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} declared", self.passed, self.failed, self.declared)
    }
}

/// The scenarios whose name contains `filter`.
pub fn chosen(filter: &str) -> impl Iterator<Item = &'static Scenario> {
    ALL.iter().copied().flatten().filter(move |scenario| scenario.name.contains(filter))
}

/// Runs one scenario in this process; answers its exit status.
///
/// # Errors
/// When it does not hold, or there is none of that name.
pub fn run_here(name: &str, bench: &Bench) -> Result<u8> {
    let scenario = chosen(name).find(|scenario| scenario.name == name);
    match (scenario.with_context(|| format!("no scenario {name}"))?.run)(bench) {
        Err(error) if error.is::<Lacks>() => {
            println!("{error}");
            Ok(LACKS as u8)
        }
        done => done.map(|()| 0),
    }
}

/// What is to be run, and how.
pub struct Series {
    /// Only scenarios whose name contains this.
    pub filter: String,
    /// Only those whose outcome depends on the hook plan.
    pub of_plan: bool,
    /// The tracer under test, and its plan.
    pub subject: Subject,
    /// Where: `KERNEL/VARIANT`.
    pub cell: String,
    /// Longer limits, for an emulated machine.
    pub quick: bool,
    /// So many scenarios at the same time.
    pub jobs: usize,
}

/// Runs the chosen scenarios and prints a line for each. First those that share the machine and a tracer,
/// then those that run alone. On an emulated machine what failed is tried once more at the end, by itself: what
/// then holds had only no time. `this` makes the command line of one scenario, given its name and where the
/// records of the common tracer are.
///
/// # Errors
/// When none was chosen, or processes cannot be started.
pub fn run_all(series: &Series, this: impl Fn(&str, Option<&Path>) -> Command + Sync) -> Result<Totals> {
    let wanted = chosen(&series.filter).filter(|scenario| !(series.of_plan && scenario.whatever_plan));
    let (alone, shared): (Vec<_>, Vec<_>) = wanted.partition(|scenario| scenario.alone);
    if alone.is_empty() && shared.is_empty() {
        bail!("no scenario's name contains {:?}", series.filter);
    }
    let mut totals = run_shared(series, &shared, &this)?;
    for scenario in alone {
        totals.run(series, scenario, this(scenario.name, None), true)?;
    }
    for scenario in std::mem::take(&mut totals.again) {
        totals.run(series, scenario, this(scenario.name, None), false)?;
    }
    Ok(totals)
}

/// Runs scenarios beside a common tracer, which must hold out to their end.
fn run_shared(
    series: &Series,
    scenarios: &[&'static Scenario],
    this: &(impl Fn(&str, Option<&Path>) -> Command + Sync),
) -> Result<Totals> {
    let begun = Instant::now();
    let common = (!scenarios.is_empty()).then(|| Common::start(&series.subject)).transpose();
    if let Err(error) = &common {
        println!("each scenario starts a tracer of its own: {error:#}");
    }
    let mut common = common.unwrap_or_default();
    let file = common.as_ref().map(Common::file);
    let mut totals = beside(series, scenarios, |name| this(name, file.as_deref()))?;
    if let Some(mut common) = common.take() {
        let outcome = match common.check().and_then(|()| common.finish()) {
            Ok(()) => Verdict::Passed(String::new()),
            Err(error) => Verdict::Failed(format!("{error:#}")),
        };
        totals.count("common-tracer-holds-out-to-the-end", outcome, begun.elapsed());
    }
    Ok(totals)
}

/// Runs scenarios, `series.jobs` at a time.
fn beside(
    series: &Series,
    scenarios: &[&'static Scenario],
    this: impl Fn(&str) -> Command + Sync,
) -> Result<Totals> {
    let queue = Mutex::new(scenarios.iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> Result<Totals> {
        let mut totals = Totals::default();
        while let Some(scenario) = next() {
            totals.run(series, scenario, this(scenario.name), true)?;
        }
        Ok(totals)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..series.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        let mut totals = Totals::default();
        for worker in workers {
            totals += worker.join().map_err(|_| anyhow!("a worker panicked"))??;
        }
        Ok(totals)
    })
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.declared += other.declared;
        self.again.extend(other.again);
    }
}

impl Totals {
    /// Runs a scenario and counts it; on an emulated machine one that fails at its first run is kept for a
    /// second.
    fn run(
        &mut self,
        series: &Series,
        scenario: &'static Scenario,
        command: Command,
        is_first: bool,
    ) -> Result<()> {
        let begun = Instant::now();
        let verdict = verdict(series, scenario, command)?;
        if let Verdict::Failed(why) = &verdict
            && is_first
            && series.quick
        {
            let ms = begun.elapsed().as_millis();
            println!("once more, later: {} ({ms} ms): {}", scenario.name, why.trim());
            self.again.push(scenario);
        } else {
            self.count(scenario.name, verdict, begun.elapsed());
        }
        Ok(())
    }

    /// Counts and tells, in one piece: others tell at the same time.
    fn count(&mut self, name: &str, verdict: Verdict, took: Duration) {
        let ms = took.as_millis();
        match verdict {
            Verdict::Passed(said) => {
                self.passed += 1;
                let said: String = said.lines().map(|line| format!("\n    {line}")).collect();
                println!("ok {name} ({ms} ms){said}");
            }
            Verdict::Failed(why) => {
                self.failed += 1;
                println!("FAILED {name} ({ms} ms): {}", why.trim());
            }
            Verdict::Declared(reason) => {
                self.declared += 1;
                println!("declared {name}: {reason}");
            }
        }
    }
}

/// Runs a scenario to its end and judges it.
fn verdict(series: &Series, scenario: &Scenario, command: Command) -> Result<Verdict> {
    let limit = Duration::from_secs(scenario.limit * if series.quick { QUICK_PATIENCE } else { 1 });
    let outcome = run_apart(command, limit)?;
    let declared = declared::of(&series.cell, series.subject.plan, scenario.name);
    Ok(judge(outcome, declared, series.cell == HOST))
}

/// What a scenario counts as.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passed(String),
    Failed(String),
    Declared(&'static str),
}

/// What an outcome counts as beside what was declared; `anywhere` is a machine of which nothing is known.
fn judge(outcome: Outcome, declared: Option<&'static Declared>, anywhere: bool) -> Verdict {
    let how = declared.map(|declared| (declared.how, declared.reason));
    match (outcome, how) {
        (Outcome::Passed(said), None) => Verdict::Passed(said),
        (Outcome::Passed(said), Some((How::Lacks, _))) if anywhere => Verdict::Passed(said),
        (Outcome::Passed(said), Some((How::Wavers, _))) => Verdict::Passed(said),
        (Outcome::Passed(_), Some((_, reason))) => {
            Verdict::Failed(format!("declared to fail, but holds; declared was: {reason}"))
        }
        (Outcome::Failed(_), Some((How::Fails | How::Wavers, reason)))
        | (Outcome::Lacks(_), Some((How::Lacks, reason))) => Verdict::Declared(reason),
        (Outcome::Failed(why), _) => Verdict::Failed(why),
        (Outcome::Lacks(what), _) => Verdict::Failed(format!("{}, which is not declared", what.trim())),
    }
}

/// Runs a command to its end, or until `limit` is over.
fn run_apart(mut command: Command, limit: Duration) -> Result<Outcome> {
    use std::os::unix::process::CommandExt;
    let prepare = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: between fork and exec only one system call is made; nothing is allocated.
    unsafe { command.pre_exec(prepare) };
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdout = reader(child.stdout.take());
    let stderr = reader(child.stderr.take());
    let in_time = ends_within(&child, limit)?;
    if !in_time {
        child.kill()?;
    }
    let status = child.wait()?;
    let said = |thread: thread::JoinHandle<String>| thread.join().unwrap_or_default();
    let (stdout, stderr) = (said(stdout), said(stderr));
    Ok(match (in_time, status.code()) {
        (true, Some(0)) => Outcome::Passed(stdout),
        (true, Some(LACKS)) => Outcome::Lacks(stdout),
        (true, _) => Outcome::Failed(format!("{stderr}{stdout}")),
        (false, _) => Outcome::Failed(format!("no end within {limit:?}; {stderr}{stdout}")),
    })
}

fn ends_within(child: &Child, limit: Duration) -> Result<bool> {
    let pid = Pid::from_raw(child.id().cast_signed()).context("a process without id")?;
    let exit = pidfd_open(pid, PidfdFlags::empty())?;
    let limit = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: 0 };
    Ok(poll(&mut [PollFd::new(&exit, PollFlags::IN)], Some(&limit))? > 0)
}

fn reader<R: Read + Send + 'static>(stream: Option<R>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let broken = stream.and_then(|mut stream| stream.read_to_end(&mut bytes).err());
        let text = String::from_utf8_lossy(&bytes);
        broken.map_or_else(|| text.to_string(), |error| format!("{text}({error})"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = chosen("").map(|scenario| scenario.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_declaration_must_be_true() {
        const fn declared(how: How) -> Declared {
            Declared { cell: "*", plan: None, scenario: "*", how, reason: "known" }
        }
        static FAILS: Declared = declared(How::Fails);
        static LACKING: Declared = declared(How::Lacks);
        let text = String::new;
        let failed = |verdict| matches!(verdict, Verdict::Failed(_));
        assert_eq!(judge(Outcome::Failed(text()), Some(&FAILS), false), Verdict::Declared("known"));
        assert_eq!(judge(Outcome::Lacks(text()), Some(&LACKING), false), Verdict::Declared("known"));
        assert_eq!(judge(Outcome::Passed(text()), Some(&LACKING), true), Verdict::Passed(text()));
        assert!(failed(judge(Outcome::Passed(text()), Some(&LACKING), false)));
        assert!(failed(judge(Outcome::Passed(text()), Some(&FAILS), true)));
        assert!(failed(judge(Outcome::Lacks(text()), Some(&FAILS), true)));
        assert!(failed(judge(Outcome::Lacks(text()), None, true)));
        assert!(failed(judge(Outcome::Failed(text()), Some(&LACKING), true)));
    }

    #[test]
    fn a_failure_and_a_time_out_are_failures() {
        let limit = Duration::from_secs(20);
        let outcome = |command: &str, limit| {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", command]);
            run_apart(shell, limit).unwrap()
        };
        assert!(matches!(outcome("echo note", limit), Outcome::Passed(said) if said == "note\n"));
        assert!(matches!(outcome("echo why >&2; exit 1", limit), Outcome::Failed(why) if why == "why\n"));
        assert!(matches!(outcome("exit 77", limit), Outcome::Lacks(_)));
        assert!(
            matches!(outcome("exec sleep 30", Duration::from_secs(1)), Outcome::Failed(why) if why.contains("no end"))
        );
    }
}
