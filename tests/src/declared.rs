//! What is known not to hold, where, and why. A scenario that is declared here is run all the same: when
//! it holds after all, the declaration is wrong and the run fails, so that this table stays true.

use crate::tracer::Plan;

/// Where the harness runs when nothing else is said: a machine of which nothing is known.
pub const HOST: &str = "host/plain";

/// How a declared scenario ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The tracer does not do what the scenario asks.
    Fails,
    /// The kernel has not what the scenario works with. On a machine of which nothing is known it may.
    Lacks,
}

/// One declaration.
pub struct Declared {
    /// Cells, as `KERNEL/VARIANT`; `*` stands for any text, also an empty one.
    pub cell: &'static str,
    /// The plan; None is each of them.
    pub plan: Option<Plan>,
    /// Scenarios, with `*` as in `cell`.
    pub scenario: &'static str,
    /// How it ends.
    pub how: How,
    /// Why.
    pub reason: &'static str,
}

/// All declarations; the first that fits counts.
pub const DECLARED: &[Declared] = &[];

/// What is declared of a scenario under a plan in a cell.
#[must_use]
pub fn of(cell: &str, plan: Plan, scenario: &str) -> Option<&'static Declared> {
    DECLARED.iter().find(|declared| {
        matches(declared.cell, cell)
            && declared.plan.is_none_or(|only| only == plan)
            && matches(declared.scenario, scenario)
    })
}

/// Whether `text` is what `pattern` says, where each `*` of it stands for any text.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|left| {
            left.char_indices().any(|(at, _)| matches(rest, &left[at..])) || rest.is_empty()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::chosen;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in
            [("5.10/plain", "5.10/plain"), ("5.10/*", "5.10/"), ("*", ""), ("*/a*", "x/ab")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("5.10/*", "5.1/plain"), ("", "x"), ("a*b", "abc"), ("*/b", "a/bc")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        assert!(matches("a*b", "ab") && matches("a*c", "abc"));
    }

    #[test]
    fn every_declaration_names_a_scenario_and_a_reason() {
        for declared in DECLARED {
            let names = chosen("").any(|scenario| matches(declared.scenario, scenario.name));
            assert!(names && !declared.reason.is_empty(), "{}", declared.scenario);
        }
    }
}
