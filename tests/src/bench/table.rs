//! A report as text for a terminal and as Markdown for the documentation.

use std::fmt::Write;

use super::report::{Goal, Report, Row};

const COLUMNS: [&str; 8] = ["MEASUREMENT", "WHO", "WHAT", "MEDIAN", "RANGE", "RUNS", "TO REACH", "NOTE"];

/// Aligned columns.
#[must_use]
pub fn text(report: &Report) -> String {
    let rows: Vec<_> = report.rows.iter().map(cells).collect();
    let width = |column: usize| {
        rows.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0).max(COLUMNS[column].len())
    };
    let widths: Vec<_> = (0..COLUMNS.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded: Vec<_> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = head(report).into_iter().fold(String::new(), |text, line| text + &line + "\n");
    text.push('\n');
    text.push_str(&line(&COLUMNS.map(str::to_owned)));
    rows.iter().for_each(|cells| text.push_str(&line(cells)));
    text.push('\n');
    text.push_str(&summary(report));
    text
}

/// A page of the documentation.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let mut page = String::from("# Performance\n\n");
    page.push_str("What the benchmark printed. Medians of paired runs, and their ranges.\n\n");
    head(report).iter().for_each(|line| {
        // Writing to a string does not fail.
        let _ = writeln!(page, "* {line}");
    });
    let columns = COLUMNS.map(str::to_lowercase).join(" | ");
    let _ = write!(page, "\n| {columns} |\n|{}\n", " --- |".repeat(COLUMNS.len()));
    for row in &report.rows {
        let cells = cells(row).map(|cell| cell.replace('|', "\\|")).join(" | ");
        let _ = writeln!(page, "| {cells} |");
    }
    let _ = write!(page, "\n{}", summary(report));
    page
}

fn head(report: &Report) -> Vec<String> {
    let mut lines = vec![
        format!("command: {}", report.command),
        format!("kernel: {}", report.kernel),
        format!(
            "cores: {} ({}), {:.0} % used by others before the run",
            report.cores, report.processor, report.busy
        ),
        format!("tracer: {}, hook plan {}", report.tracer, report.plan),
    ];
    lines.extend(report.guests.iter().cloned());
    if report.quick {
        lines.push(
            "a quick run, which only proves that the benchmark runs: the figures mean nothing".to_owned(),
        );
    }
    lines
}

fn summary(report: &Report) -> String {
    let (reached, asked) = report.reached();
    format!("{reached} of {asked} figures to reach are reached\n")
}

fn cells(row: &Row) -> [String; 8] {
    let (median, range, runs) = match row.value {
        Some(value) => (
            with_unit(value.median, &row.unit),
            format!("{} – {}", figure(value.least), figure(value.most)),
            value.runs.to_string(),
        ),
        None => ("–".to_owned(), String::new(), String::new()),
    };
    [
        row.measurement.clone(),
        row.who.clone(),
        row.what.clone(),
        median,
        range,
        runs,
        row.goal.map(|goal| judged(goal, row)).unwrap_or_default(),
        row.note.clone(),
    ]
}

fn judged(goal: Goal, row: &Row) -> String {
    let bound = match goal {
        Goal::AtLeast(least) => format!("≥ {}", with_unit(least, &row.unit)),
        Goal::AtMost(most) => format!("≤ {}", with_unit(most, &row.unit)),
    };
    let word = match row.reached {
        Some(true) => "reached",
        Some(false) => "NOT reached",
        None => "not measured",
    };
    format!("{bound}: {word}")
}

fn with_unit(value: f64, unit: &str) -> String {
    if unit.is_empty() { figure(value) } else { format!("{} {unit}", figure(value)) }
}

/// Three digits that mean something; whole numbers from 100 on.
fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        size if size < 1.0 => 3,
        size if size < 10.0 => 2,
        size if size < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut rate =
            Row::new("tracer", "rate with / without", "", &[0.81, 0.8, 0.85]).to_reach(Goal::AtLeast(0.8));
        rate.measurement = "tcp-json".to_owned();
        let cpu = Row::new("tracer", "CPU a connection", "µs", &[12.345]).to_reach(Goal::AtMost(8.0));
        let missing =
            Row::missing("ss -E", "rate with / without", "not installed: Debian package iproute2 | x");
        Report {
            command: "cargo xtask bench".to_owned(),
            cores: 2,
            rows: vec![rate, cpu, missing],
            ..Report::default()
        }
    }

    #[test]
    fn columns_are_aligned_and_goals_are_judged() {
        let text = text(&report());
        let lines: Vec<_> = text.lines().skip_while(|line| !line.starts_with("MEASUREMENT")).collect();
        let at = |line: &str, word: &str| line.find(word).map(|byte| line[..byte].chars().count());
        assert_eq!(at(lines[0], "TO REACH"), at(lines[1], "≥ 0.8: reached"), "{text}");
        assert_eq!(at(lines[0], "TO REACH"), at(lines[2], "≤ 8 µs: NOT reached"), "{text}");
        assert!(lines[1].contains("0.81  ") && lines[1].contains("0.8 – 0.85"), "{text}");
        assert!(lines[2].contains("12.3 µs"), "{text}");
        assert!(text.ends_with("1 of 2 figures to reach are reached\n"), "{text}");
    }

    #[test]
    fn a_cell_cannot_break_the_page() {
        let page = markdown(&report());
        assert!(page.contains("* command: cargo xtask bench\n"), "{page}");
        assert!(page.contains("iproute2 \\| x |"), "{page}");
        let bars = |line: &&str| line.replace("\\|", "").matches('|').count();
        assert!(page.lines().filter(|line| line.starts_with('|')).all(|line| bars(&line) == 9), "{page}");
    }

    #[test]
    fn figures_have_three_digits() {
        let shown = [0.0, 0.0123, 0.97, 1.5, 12.34, 733.4, 15_006.2, 1.0].map(figure);
        assert_eq!(shown, ["0", "0.012", "0.97", "1.5", "12.3", "733", "15006", "1"]);
    }
}
