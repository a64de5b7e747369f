//! What a guest's story means against the table of cells: rows of the report, and what is wrong.

use super::super::guest::{Run, Story};
use super::super::qemu::Ending;
use super::cells::{Cell, Guest};
use super::programs::{LOADS, Listing};
use super::report::{Fault, Row};
use super::task::Task;
use crate::tally::Tally;

/// The last lines of a command that failed without saying what.
const TAIL: usize = 20;

/// What a guest came to.
#[derive(Default)]
pub(crate) struct Verdict {
    /// Its lines of the report.
    pub(crate) rows: Vec<Row>,
    /// What is wrong.
    pub(crate) faults: Vec<Fault>,
    /// Scenarios, and the table's expectations.
    pub(crate) tally: Tally,
    /// What it listed, if it could.
    pub(crate) listing: Option<Listing>,
}

/// Judges the `story` of a `guest` that was given `tasks`.
pub(crate) fn judge(guest: &Guest, tasks: &[Task], story: &Story) -> Verdict {
    let mut verdict = Verdict::default();
    for (index, task) in tasks.iter().enumerate() {
        match story.runs.get(index) {
            None => verdict.fail(guest, &task.title(), vec!["it was not run".to_owned()]),
            Some(run) => verdict.task(guest, task, run),
        }
    }
    verdict.order(guest);
    if !matches!(story.ending, Ending::Exit(_)) {
        let mut lines = vec![format!("the guest ended {}", story.ending)];
        lines.extend(story.runs.last().map(|run| tail(&run.lines)).unwrap_or_default());
        verdict.fail(guest, "guest", lines);
    }
    verdict.rows.push(Row { took: Some(story.took), ..row(guest, "all, with the boot") });
    verdict
}

impl Verdict {
    /// Notes that something is wrong at `place` of `guest`.
    pub(crate) fn fail(&mut self, guest: &Guest, place: &str, lines: Vec<String>) {
        self.tally.check(false);
        self.faults.push(Fault { place: format!("{} {place}", guest.name()), lines });
    }

    fn task(&mut self, guest: &Guest, task: &Task, run: &Run) {
        match task {
            Task::Programs => self.programs(guest, run),
            Task::Scenarios(_) | Task::OfPlan(_) | Task::Parity(_) => {
                self.scenarios(guest, &task.title(), run)
            }
        }
    }

    fn programs(&mut self, guest: &Guest, run: &Run) {
        let read = Listing::read(&run.lines);
        let listing = match (run.status, read) {
            (Some(0), Ok(listing)) => listing,
            (status, read) => {
                let why = read.err().map_or_else(|| "it failed".to_owned(), |error| format!("{error:#}"));
                let mut lines = vec![format!("{why} (exit status {status:?})")];
                lines.extend(tail(&run.lines));
                return self.fail(guest, "programs", lines);
            }
        };
        for cell in &guest.cells {
            self.loads(guest, cell, &listing);
        }
        self.rows.push(Row { took: Some(run.took), ..row(guest, "programs") });
        self.listing = Some(listing);
    }

    fn loads(&mut self, guest: &Guest, cell: &Cell, listing: &Listing) {
        let found = listing.plan(&cell.plan).unwrap_or("it is not listed");
        let (word, holds) = match &cell.refused {
            Some(reason) => ("refused", found != LOADS && found.contains(reason.as_str())),
            None => (LOADS, found == LOADS),
        };
        let is_said = cell.loads || cell.refused.is_some();
        if is_said && holds {
            self.tally.check(true);
        } else if is_said {
            let expected =
                cell.refused.as_ref().map_or(LOADS.to_owned(), |reason| format!("refused: {reason}"));
            self.fail(guest, &cell.plan, vec![format!("expected: {expected}; found: {found}")]);
        }
        let loads = match (is_said, holds) {
            (false, _) => "-",
            (true, true) => word,
            (true, false) => "FAILED",
        };
        self.rows.push(Row { loads: loads.to_owned(), ..row(guest, &cell.plan) });
    }

    fn scenarios(&mut self, guest: &Guest, title: &str, run: &Run) {
        let mut tally = Tally::default();
        run.lines.iter().for_each(|line| tally.read(line));
        let (scenarios, took) = (Some(tally), Some(run.took));
        match self.rows.iter_mut().find(|row| row.plan == title) {
            Some(row) => (row.scenarios, row.took) = (scenarios, took),
            None => self.rows.push(Row { scenarios, took, ..row(guest, title) }),
        }
        self.tally += tally;
        if tally.failed > 0 {
            self.faults
                .push(Fault { place: format!("{} {title}", guest.name()), lines: failing(&run.lines) });
        } else if run.status != Some(0) || tally.runs != 1 {
            let mut lines = vec![format!("exit status {:?}, {} closing lines", run.status, tally.runs)];
            lines.extend(tail(&run.lines));
            self.fail(guest, title, lines);
        }
    }

    /// Rows in the order of the table of cells; the others keep theirs, behind.
    fn order(&mut self, guest: &Guest) {
        let place = |row: &Row| {
            guest.cells.iter().position(|cell| cell.plan == row.plan).unwrap_or(guest.cells.len())
        };
        self.rows.sort_by_key(place);
    }
}

fn row(guest: &Guest, plan: &str) -> Row {
    Row {
        kernel: guest.kernel.clone(),
        variant: guest.variant.name().to_owned(),
        plan: plan.to_owned(),
        loads: "-".to_owned(),
        ..Row::default()
    }
}

/// The lines of the scenarios that failed: from the one that says so to the next scenario or the closing line.
fn failing(lines: &[String]) -> Vec<String> {
    let mut is_in = false;
    let mut failing = Vec::new();
    for line in lines {
        let mut closing = Tally::default();
        closing.read(line);
        if closing.runs > 0 || ["ok ", "declared "].iter().any(|word| line.starts_with(word)) {
            is_in = false;
        }
        is_in |= line.starts_with("FAILED");
        if is_in {
            failing.push(line.clone());
        }
    }
    failing
}

fn tail(lines: &[String]) -> Vec<String> {
    let said: Vec<_> = lines.iter().filter(|line| !line.is_empty()).cloned().collect();
    said[said.len().saturating_sub(TAIL)..].to_vec()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::variant::Variant;
    use super::*;

    fn guest(cells: Vec<Cell>) -> Guest {
        Guest { kernel: "6.12".into(), variant: Variant::Plain, parity: Vec::new(), cells }
    }

    fn cell(plan: &str, refused: Option<&str>, scenarios: bool) -> Cell {
        Cell { plan: plan.into(), loads: refused.is_none(), refused: refused.map(str::to_owned), scenarios }
    }

    fn run(status: i32, lines: &[&str]) -> Run {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        Run { status: Some(status), took: Duration::from_secs(1), lines }
    }

    fn judged(cells: Vec<Cell>, runs: Vec<Run>) -> Verdict {
        let guest = guest(cells);
        let story = Story { runs, ending: Ending::Exit(0), took: Duration::from_secs(9) };
        judge(&guest, &Task::all(&guest, &[]), &story)
    }

    fn places(verdict: &Verdict) -> Vec<&str> {
        verdict.faults.iter().map(|fault| fault.place.as_str()).collect()
    }

    #[test]
    fn what_is_expected_and_found_is_no_fault() {
        let cells = vec![cell("fentry", None, true), cell("kprobe", Some("no kprobes"), false)];
        let listed = run(0, &["plan\tfentry\tloads", "plan\tkprobe\tthis kernel has no kprobes"]);
        let verdict = judged(cells, vec![listed, run(0, &["ok a (1 ms)", "1 passed, 0 failed, 2 declared"])]);
        assert_eq!(places(&verdict), [""; 0]);
        assert_eq!((verdict.tally.passed, verdict.tally.failed, verdict.tally.declared), (3, 0, 2));
        let plans: Vec<_> = verdict.rows.iter().map(|row| (row.plan.as_str(), row.loads.as_str())).collect();
        assert_eq!(plans[..2], [("fentry", "loads"), ("kprobe", "refused")]);
    }

    #[test]
    fn a_plan_that_stops_loading_or_begins_to_is_a_fault() {
        let listed = || run(0, &["plan\tfentry\tno BTF", "plan\tkprobe\tloads", "plan\tpoll\tother"]);
        let cells = vec![
            cell("fentry", None, false),
            cell("kprobe", Some("no kprobes"), false),
            cell("poll", Some("reason"), false),
            cell("tracepoint", None, false),
        ];
        let verdict = judged(cells, vec![listed()]);
        assert_eq!(
            places(&verdict),
            ["6.12/plain fentry", "6.12/plain kprobe", "6.12/plain poll", "6.12/plain tracepoint"]
        );
    }

    #[test]
    fn a_scenario_that_fails_or_a_run_that_does_not_close_is_a_fault() {
        let listed = || run(0, &["plan\tfentry\tloads"]);
        let judged = |scenarios| judged(vec![cell("fentry", None, true)], vec![listed(), scenarios]);
        let failed =
            judged(run(1, &["ok a", "FAILED b: why", "  more", "ok c", "FAILED d", "2 passed, 2 failed"]));
        assert_eq!(failed.faults[0].lines, ["FAILED b: why", "  more", "FAILED d"]);
        assert_eq!(judged(run(0, &["ok a"])).faults.len(), 1, "no closing line");
        assert_eq!(judged(run(137, &["1 passed, 0 failed"])).faults.len(), 1, "killed");
    }

    #[test]
    fn what_was_not_run_is_a_fault_each() {
        let verdict = judged(vec![cell("fentry", None, true)], Vec::new());
        assert_eq!(places(&verdict), ["6.12/plain programs", "6.12/plain fentry"]);
        assert_eq!(verdict.tally.failed, 2);
    }
}
