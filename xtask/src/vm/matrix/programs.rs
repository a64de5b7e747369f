//! What `tracer doctor --programs` prints: for each program of each plan whether the kernel takes it, and
//! what the verifier counted. Read only; what is expected is in `cells` and `golden`.

use anyhow::{Context, Result, bail};

/// What a program that the kernel took is said to be.
pub(crate) const LOADED: &str = "loaded";
/// What a plan that loads is said to do.
pub(crate) const LOADS: &str = "loads";
/// Begins the line of a plan.
const PLAN: &str = "plan";

/// Begins the line of the plan that the tracer would choose.
const USES: &str = "uses";

/// A program of a plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Program {
    /// The plan.
    pub(crate) plan: String,
    /// The program's name in the kernel object.
    pub(crate) name: String,
    /// [`LOADED`], or why not.
    pub(crate) outcome: String,
    /// Instructions that the verifier went through; None where the kernel does not tell.
    pub(crate) instructions: Option<u64>,
}

/// All that was printed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// The programs, in the order of the lines.
    pub(crate) programs: Vec<Program>,
    /// Each plan with [`LOADS`], or why not.
    pub(crate) plans: Vec<(String, String)>,
}

impl Listing {
    /// Reads the lines; those without a tab are others' (the console is shared with the kernel).
    pub(crate) fn read(lines: &[String]) -> Result<Self> {
        let mut listing = Self::default();
        for line in lines {
            match line.split('\t').collect::<Vec<_>>().as_slice() {
                [_] => {}
                [PLAN, name, outcome] => listing.plans.push(((*name).to_owned(), (*outcome).to_owned())),
                [USES, _plan] => {}
                [plan, name, _attach_point, outcome, instructions, _size] => listing.programs.push(Program {
                    plan: (*plan).to_owned(),
                    name: (*name).to_owned(),
                    outcome: (*outcome).to_owned(),
                    instructions: count(instructions)?,
                }),
                _ => bail!("a line that is no program and no plan: {line:?}"),
            }
        }
        if listing.plans.is_empty() {
            bail!("no plan is listed");
        }
        Ok(listing)
    }

    /// What is said of `plan`.
    pub(crate) fn plan(&self, plan: &str) -> Option<&str> {
        self.plans.iter().find(|(name, _)| name == plan).map(|(_, outcome)| outcome.as_str())
    }
}

fn count(word: &str) -> Result<Option<u64>> {
    match word {
        "-" => Ok(None),
        number => number.parse().map(Some).with_context(|| format!("{number:?} counts no instructions")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn programs_and_plans_are_read_among_other_lines() {
        let listing = Listing::read(&lines(&[
            "[    1.2] random: crng init done",
            "fentry\ttcp_connect\ttcp_connect\tloaded\t311\t2480",
            "kprobe\ttcp_connect\ttcp_connect\tno such function\t-\t-",
            "plan\tfentry\tloads",
            "plan\tkprobe\tno such function",
            "uses\tfentry",
            "",
        ]))
        .unwrap();
        assert_eq!(listing.programs.len(), 2);
        assert_eq!(listing.programs[0].instructions, Some(311));
        assert_eq!(listing.programs[1].outcome, "no such function");
        assert_eq!((listing.plan("fentry"), listing.plan("poll")), (Some(LOADS), None));
    }

    #[test]
    fn what_is_cut_off_or_garbled_is_an_error() {
        assert!(Listing::read(&lines(&["fentry\ta\tb\tloaded\t3\t8"])).is_err());
        assert!(Listing::read(&lines(&["fentry\ta\tb\tloaded", "plan\tfentry\tloads"])).is_err());
        assert!(Listing::read(&lines(&["fentry\ta\tb\tloaded\tmany\t8", "plan\tfentry\tloads"])).is_err());
    }
}
