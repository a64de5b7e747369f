//! The one table that a run of the matrix prints, and what failed below it.

use std::fmt::Write;
use std::time::Duration;

use crate::tally::Tally;

const HEAD: [&str; 6] = ["kernel", "variant", "plan", "kernel takes it", "passed/failed/declared", "seconds"];

/// One line of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    /// The kernel's name.
    pub(crate) kernel: String,
    /// How it was run.
    pub(crate) variant: String,
    /// A plan, plans that were compared, or the whole guest.
    pub(crate) plan: String,
    /// Whether the kernel takes the programs, as the table of cells expects.
    pub(crate) loads: String,
    /// Scenarios, where they ran.
    pub(crate) scenarios: Option<Tally>,
    /// How long it took.
    pub(crate) took: Option<Duration>,
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Kernel, variant and plan.
    pub(crate) place: String,
    /// What is wrong, and the lines that tell of it.
    pub(crate) lines: Vec<String>,
}

/// The table as text, columns aligned.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for line in &lines {
        let padded: Vec<_> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        // Writing to a string cannot fail.
        writeln!(text, "{}", padded.join("  ").trim_end()).ok();
    }
    text
}

/// What failed, as text.
pub(crate) fn faults(faults: &[Fault]) -> String {
    let mut text = String::new();
    for fault in faults {
        for line in &fault.lines {
            writeln!(text, "{}: {line}", fault.place).ok();
        }
    }
    text
}

fn cells(row: &Row) -> [String; 6] {
    let scenarios = row
        .scenarios
        .map_or("-".to_owned(), |tally| format!("{}/{}/{}", tally.passed, tally.failed, tally.declared));
    let took = row.took.map_or("-".to_owned(), |took| format!("{:.1}", took.as_secs_f64()));
    [row.kernel.clone(), row.variant.clone(), row.plan.clone(), row.loads.clone(), scenarios, took]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other_and_what_was_not_run_is_a_dash() {
        let rows = [
            Row {
                kernel: "6.12".into(),
                variant: "plain".into(),
                plan: "fentry".into(),
                loads: "loads".into(),
                scenarios: Some(Tally { passed: 75, failed: 0, declared: 2, runs: 1 }),
                took: Some(Duration::from_millis(65_040)),
            },
            Row { kernel: "6.12".into(), variant: "plain".into(), ..Row::default() },
        ];
        let text = table(&rows);
        let lines: Vec<_> = text.lines().collect();
        let column = lines[0].find("passed/").unwrap();
        assert_eq!(lines[1][column..].split_whitespace().collect::<Vec<_>>(), ["75/0/2", "65.0"]);
        assert_eq!(lines[2][column..].split_whitespace().collect::<Vec<_>>(), ["-", "-"]);
    }
}
