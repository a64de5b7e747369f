//! What the benchmark found, as values: one row a figure. How they are shown is in `table`.

use serde::{Deserialize, Serialize};

use super::Spread;

/// The figure to reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// The median must not be less.
    AtLeast(f64),
    /// The median must not be more.
    AtMost(f64),
}

impl Goal {
    /// Whether a value reaches it.
    #[must_use]
    pub fn is_reached_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The measurement by its name, as `--filter` knows it.
    pub measurement: String,
    /// Which program was measured.
    pub who: String,
    /// What the figure is.
    pub what: String,
    /// Its unit; empty for a ratio or a count.
    pub unit: String,
    /// What the runs gave; none where it could not be measured, and then the note says why.
    pub value: Option<Spread>,
    /// The figure to reach, where one is asked for.
    pub goal: Option<Goal>,
    /// Whether the median reaches it; none without a goal or a value.
    pub reached: Option<bool>,
    /// What a reader must know besides.
    pub note: String,
    /// Whether the measurement itself failed; the note says why.
    pub failed: bool,
}

impl Row {
    /// A figure from the values of all runs.
    #[must_use]
    pub fn new(who: &str, what: &str, unit: &str, values: &[f64]) -> Self {
        Self {
            measurement: String::new(),
            who: who.to_owned(),
            what: what.to_owned(),
            unit: unit.to_owned(),
            value: Spread::of(values),
            goal: None,
            reached: None,
            note: String::new(),
            failed: false,
        }
    }

    /// A figure that there is none of, and why.
    #[must_use]
    pub fn missing(who: &str, what: &str, why: &str) -> Self {
        Self::new(who, what, "", &[]).noted(why)
    }

    /// A measurement that failed.
    #[must_use]
    pub fn failure(what: &str, error: &anyhow::Error) -> Self {
        Self { failed: true, ..Self::missing("", what, &format!("FAILED: {error:#}")) }
    }

    /// With the figure to reach, where one is asked for.
    #[must_use]
    pub fn to_reach(mut self, goal: impl Into<Option<Goal>>) -> Self {
        self.goal = goal.into();
        self.reached = self.goal.zip(self.value).map(|(goal, value)| goal.is_reached_by(value.median));
        self
    }

    /// With a note, behind those that there are.
    #[must_use]
    pub fn noted(mut self, note: &str) -> Self {
        if !self.note.is_empty() && !note.is_empty() {
            self.note.push_str("; ");
        }
        self.note.push_str(note);
        self
    }
}

/// Everything that was found, and where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The command that gives it.
    pub command: String,
    /// The kernel's release and machine.
    pub kernel: String,
    /// How many cores the benchmark could use.
    pub cores: usize,
    /// The part of the cores' time that others used just before the run, percent.
    pub busy: f64,
    /// The processor by its own name.
    pub processor: String,
    /// The tracer's version.
    pub tracer: String,
    /// The hook plan that it took.
    pub plan: String,
    /// What counts the instructions by which this was measured, with its version; empty for the time of a real clock.
    pub emulator: String,
    /// The guests whose figures are among the rows, in words.
    pub guests: Vec<String>,
    /// Whether this only proves that the benchmark runs: the figures mean nothing.
    pub quick: bool,
    /// The figures.
    pub rows: Vec<Row>,
}

impl Report {
    /// Takes in the figures of a run in a guest.
    pub fn take(&mut self, guest: Self) {
        let Self { plan, cores, kernel, emulator, .. } = &guest;
        // How many instructions the same work takes depends on the processor that the emulator shows.
        self.guests
            .push(format!("{plan}/*: counted in instructions, {cores} core, kernel {kernel}, {emulator}"));
        self.rows.extend(guest.rows);
    }

    /// The measurements that failed.
    pub fn failed(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().filter(|row| row.failed).map(|row| row.measurement.as_str())
    }

    /// How many figures reach what is asked for, and how many there are that something is asked of.
    #[must_use]
    pub fn reached(&self) -> (usize, usize) {
        let asked = self.rows.iter().filter(|row| row.goal.is_some());
        (asked.clone().filter(|row| row.reached == Some(true)).count(), asked.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_held_against_the_goal() {
        let row = |values: &[f64], goal| Row::new("tracer", "rate", "", values).to_reach(goal).reached;
        assert_eq!(row(&[0.7, 0.8, 0.9], Goal::AtLeast(0.8)), Some(true));
        assert_eq!(row(&[0.7, 0.8, 0.9], Goal::AtLeast(0.81)), Some(false));
        assert_eq!(row(&[5.0], Goal::AtMost(5.0)), Some(true));
        assert_eq!(row(&[5.1], Goal::AtMost(5.0)), Some(false));
        assert_eq!(row(&[], Goal::AtMost(5.0)), None);
    }

    #[test]
    fn what_could_not_be_measured_is_not_reached() {
        let rows = vec![
            Row::missing("tracer", "rate", "why").to_reach(Goal::AtMost(1.0)),
            Row::new("tracer", "rate", "", &[1.0]).to_reach(Goal::AtMost(1.0)),
            Row::new("ss", "rate", "", &[1.0]),
        ];
        assert_eq!(Report { rows, ..Report::default() }.reached(), (1, 2));
    }

    #[test]
    fn a_guest_is_told_with_what_its_figures_depend_on() {
        let guest = Report {
            plan: "fentry".to_owned(),
            cores: 1,
            kernel: "6.12 x86_64".to_owned(),
            emulator: "QEMU 7.2".to_owned(),
            rows: vec![Row::new("tracer", "rate", "", &[1.0])],
            ..Report::default()
        };
        let mut report = Report::default();
        report.take(guest.clone());
        assert_eq!(
            report.guests,
            ["fentry/*: counted in instructions, 1 core, kernel 6.12 x86_64, QEMU 7.2"]
        );
        assert_eq!(report.rows, guest.rows);
    }

    #[test]
    fn a_report_survives_as_json() {
        let rows =
            vec![Row::new("ss", "rate", "", &[0.5]).to_reach(Goal::AtLeast(0.25)).noted("a").noted("b")];
        let report = Report { cores: 2, rows, ..Report::default() };
        let text = serde_json::to_string(&report).unwrap();
        assert!(
            text.contains(r#""goal":{"at_least":0.25},"reached":true,"note":"a; b","failed":false"#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }
}
