//! The matrix: every guest of the table of cells, as many at a time as the machine has room for, and one
//! report. What a guest runs is in `task`, what its output means in `verdict`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::Write;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Request;
use super::guest::{self, Story};
use super::kernel::{self, Kernel};
use super::kernels;
use super::qemu::{self, Clock, EMULATION_FAULT, Ending};
use super::variant::Variant;
use crate::architecture::Architecture;
use crate::tally::Tally;
use crate::workspace::{Executables, INIT, LIVE, TRACER, Workspace};
use cells::Guest;
use report::Row;
use task::Task;
use verdict::Verdict;

mod cells;
mod golden;
mod programs;
mod report;
mod task;
mod verdict;

/// A command of the guest that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Runs the guests of the table that `request` asks for and prints the report. Errors are about getting that
/// far; what failed is in the counts.
pub(crate) fn run(workspace: &Workspace, request: &Request) -> Result<Tally> {
    let guests = wanted(cells::read(workspace.root())?, request)?;
    let prepared = Prepared::new(workspace, &guests)?;
    let folder = workspace.target().join("matrix");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let begun = Instant::now();
    let plan = Plan { prepared: &prepared, folder: &folder, request };
    let verdicts = plan.run_all(&guests)?;
    let (mut tally, mut rows, mut faults) = (Tally::default(), Vec::new(), Vec::new());
    for (guest, mut verdict) in guests.iter().zip(verdicts) {
        prepared.programs(workspace, guest, request.bless, &mut verdict)?;
        tally += verdict.tally;
        rows.append(&mut verdict.rows);
        faults.append(&mut verdict.faults);
    }
    println!("\n{}", report::table(&rows));
    print!("{}", report::faults(&faults));
    println!(
        "{} guests in {:.0} s, {} declared",
        guests.len(),
        begun.elapsed().as_secs_f64(),
        tally.declared
    );
    println!("logs of their consoles: {}", folder.display());
    Ok(tally)
}

fn wanted(guests: Vec<Guest>, request: &Request) -> Result<Vec<Guest>> {
    let is_wanted = |guest: &Guest| {
        request.kernel.as_ref().is_none_or(|kernel| *kernel == guest.kernel)
            && request.variant.is_none_or(|variant| variant == guest.variant)
    };
    let wanted: Vec<_> = guests.into_iter().filter(is_wanted).collect();
    if wanted.is_empty() {
        let names: Vec<_> = kernels::KERNELS.iter().map(|kernel| kernel.name).collect();
        bail!("the table of cells has no such guest; its kernels are {}", names.join(", "));
    }
    Ok(wanted)
}

/// Kernels and programs of the guests.
struct Prepared {
    kernels: BTreeMap<String, Kernel>,
    programs: BTreeMap<Architecture, Executables>,
}

impl Prepared {
    fn new(workspace: &Workspace, guests: &[Guest]) -> Result<Self> {
        let mut prepared = Self { kernels: BTreeMap::new(), programs: BTreeMap::new() };
        for guest in guests {
            let known = kernels::known(&guest.kernel).context("the kernel is not in the table")?;
            if !prepared.kernels.contains_key(known.name) {
                prepared.kernels.insert(known.name.to_owned(), kernel::of_debian(known)?);
            }
            if let Entry::Vacant(place) = prepared.programs.entry(known.architecture) {
                place.insert(workspace.build_for(known.architecture, &[INIT, TRACER, LIVE])?);
            }
        }
        Ok(prepared)
    }

    fn kernel(&self, guest: &Guest) -> Result<&Kernel> {
        self.kernels.get(&guest.kernel).context("a kernel was not fetched")
    }

    /// Compares what a plain kernel takes with its golden table, or makes that the golden table.
    fn programs(
        &self,
        workspace: &Workspace,
        guest: &Guest,
        bless: bool,
        verdict: &mut Verdict,
    ) -> Result<()> {
        let (Variant::Plain, Some(listing)) = (guest.variant, &verdict.listing) else { return Ok(()) };
        let path = golden::path(workspace.root(), &guest.kernel);
        let release = self.kernel(guest)?.release();
        if bless {
            return golden::bless(&path, release, listing);
        }
        let golden::Comparison { faults, note } = golden::compare(&path, release, listing);
        if let Some(note) = note {
            eprintln!("matrix: {}: {note}", guest.name());
        }
        let word = if faults.is_empty() { "as golden" } else { "FAILED" };
        if let Some(row) = verdict.rows.iter_mut().find(|row: &&mut Row| row.plan == Task::Programs.title()) {
            word.clone_into(&mut row.loads);
        }
        if faults.is_empty() {
            verdict.tally.check(true);
        } else {
            verdict.fail(guest, &Task::Programs.title(), faults);
        }
        Ok(())
    }
}

/// How guests are run.
struct Plan<'a> {
    prepared: &'a Prepared,
    folder: &'a Path,
    request: &'a Request,
}

impl Plan<'_> {
    /// Runs them, those with the most to do first, and gives their verdicts in the order of `guests`.
    fn run_all(&self, guests: &[Guest]) -> Result<Vec<Verdict>> {
        let mut queue: Vec<_> = guests.iter().enumerate().collect();
        queue.sort_by_key(|(_, guest)| self.weight(guest));
        let (queue, verdicts) = (Mutex::new(queue), Mutex::new(BTreeMap::new()));
        let at_once = at_once(thread::available_parallelism().map_or(1, NonZero::get));
        let work = || -> Result<()> {
            loop {
                let Some((index, guest)) = locked(&queue).pop() else { return Ok(()) };
                let verdict = self.run(guest).with_context(|| guest.name())?;
                locked(&verdicts).insert(index, verdict);
            }
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| match worker.join() {
                Ok(done) => done,
                Err(_) => bail!("a thread that runs guests panicked"),
            })
        })?;
        Ok(std::mem::take(&mut *locked(&verdicts)).into_values().collect())
    }

    /// Emulating another processor costs about half as much again.
    fn weight(&self, guest: &Guest) -> usize {
        let is_foreign = self.prepared.kernels.get(&guest.kernel).is_some_and(|kernel| {
            Architecture::this().is_ok_and(|architecture| architecture != kernel.architecture)
        });
        Task::all(guest, &self.request.plans).len() * if is_foreign { 3 } else { 2 }
    }

    fn run(&self, guest: &Guest) -> Result<Verdict> {
        let (name, kernel) = (guest.name(), self.prepared.kernel(guest)?);
        let tasks = Task::all(guest, &self.request.plans);
        let programs = self.prepared.programs.get(&kernel.architecture).context("programs were not built")?;
        let booted = guest::Guest {
            programs,
            kernel,
            variant: guest.variant,
            commands: tasks.iter().map(|task| task.command(&name, &self.request.live_args)).collect(),
            limit: self.request.limit.unwrap_or(LIMIT),
            clock: Clock::Host,
        };
        eprintln!("matrix: {name}: {}", kernel.release());
        let (mut story, is_emulations_fault) = self.boot(guest, &booted)?;
        if story.ending == Ending::NoWord && (story.runs.is_empty() || is_emulations_fault) {
            eprintln!("matrix: {name}: the emulated machine died, not what it ran; it is booted once more");
            (story, _) = self.boot(guest, &booted)?;
        }
        let verdict = verdict::judge(guest, &tasks, &story);
        tell(&name, &verdict, &story);
        Ok(verdict)
    }

    /// Boots it, with its console in the log; says as well whether the console told of a fault of the emulator.
    fn boot(&self, guest: &Guest, booted: &guest::Guest<'_>) -> Result<(Story, bool)> {
        let mut log = File::create(self.file(guest, "log")).context("cannot create the log")?;
        let mut is_emulations_fault = false;
        let story = booted.boot(&self.file(guest, "cpio"), |line| {
            is_emulations_fault |= line.contains(EMULATION_FAULT);
            // A log that cannot be written must not end the run.
            writeln!(log, "{line}").ok();
        })?;
        Ok((story, is_emulations_fault))
    }

    fn file(&self, guest: &Guest, extension: &str) -> PathBuf {
        self.folder.join(format!("{}-{}.{extension}", guest.kernel, guest.variant.name()))
    }
}

/// Guests that run at the same time on so many processors. One that waits for its other processor, which waits for the
/// host's, spins: on two processors two guests take 216 s for what they do one after the other in 155 s.
fn at_once(processors: usize) -> usize {
    (processors / qemu::PROCESSORS).max(1)
}

fn tell(name: &str, verdict: &Verdict, story: &Story) {
    eprintln!(
        "matrix: {name}: {}, {} declared, {:.0} s",
        verdict.tally,
        verdict.tally.declared,
        story.took.as_secs_f64()
    );
}

/// A panic elsewhere leaves the lists as usable as they were.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_never_share_a_processor_of_the_host() {
        assert_eq!([1, 2, 3, 4, 9].map(at_once), [1, 1, 1, 2, 4]);
    }
}
