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
    /// Closing lines that were read.
    pub(crate) runs: u64,
}

impl Tally {
    /// Adds what `line` says, if it is a closing line: `N passed, N failed`, perhaps after other words.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(run) = closing_line(line) {
            *self += run;
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.runs += other.runs;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

fn closing_line(line: &str) -> Option<Tally> {
    let words: Vec<_> = line.split_whitespace().collect();
    words.windows(4).find_map(|window| match window {
        [passed, "passed,", failed, "failed" | "failed,"] => {
            Some(Tally { passed: passed.parse().ok()?, failed: failed.parse().ok()?, runs: 1 })
        }
        _ => None,
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
            "test result: ok. 5 passed; 0 failed; 0 ignored",
            "some passed, none failed",
        ] {
            tally.read(line);
        }
        assert_eq!(tally, Tally { passed: 15, failed: 1, runs: 2 });
        assert_eq!(tally.to_string(), "15 passed, 1 failed");
    }
}
