//! How many tests passed and failed, read from the closing lines that test programs print.

use std::fmt;
use std::ops::AddAssign;

/// Counts of scenarios.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Scenarios that did what was asked of them.
    pub(crate) passed: u64,
    /// Scenarios that did not.
    pub(crate) failed: u64,
    /// Scenarios that did not, as a table of the tests declares with its reason.
    pub(crate) declared: u64,
    /// Closing lines that were read.
    pub(crate) runs: u64,
}

impl Tally {
    /// Adds what `line` says, if it is a closing line: `N passed, N failed`, perhaps after other words and
    /// with `, N declared` behind.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(run) = closing_line(line) {
            *self += run;
        }
    }

    /// Counts one check that is no scenario.
    pub(crate) fn check(&mut self, holds: bool) {
        if holds {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.declared += other.declared;
        self.runs += other.runs;
    }
}

/// What is declared is left out: readers of closing lines know these two counts only.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

fn closing_line(line: &str) -> Option<Tally> {
    let words: Vec<_> = line.split_whitespace().collect();
    let start = words.windows(4).position(|window| {
        matches!(window, [_, "passed,", _, "failed" | "failed,"]) && window[0].parse::<u64>().is_ok()
    })?;
    let declared = match words.get(start + 4..start + 6) {
        Some([declared, "declared"]) => declared.parse().ok()?,
        _ => 0,
    };
    Some(Tally {
        passed: words[start].parse().ok()?,
        failed: words[start + 2].parse().ok()?,
        declared,
        runs: 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_add_up_and_other_lines_do_not_count() {
        let mut tally = Tally::default();
        for line in [
            "listener on any address ... ok",
            "12 passed, 1 failed",
            "live: 3 passed, 0 failed\r",
            "5 passed, 0 failed, 4 declared",
            "2 passed, 0 failed, 7 skipped",
            "test result: ok. 5 passed; 0 failed; 0 ignored",
            "some passed, none failed",
        ] {
            tally.read(line);
        }
        assert_eq!(tally, Tally { passed: 22, failed: 1, declared: 4, runs: 4 });
        assert_eq!(tally.to_string(), "22 passed, 1 failed");
    }
}
