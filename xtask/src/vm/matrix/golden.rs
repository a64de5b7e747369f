//! The golden tables tests/matrix/programs/<kernel>.tsv: each program of each plan on that kernel, and what
//! the verifier counted. Growth is seen in review, because a table that differs turns the run red.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::programs::{LOADED, Listing, Program};

/// Begins the first line; the kernel's release follows.
const RELEASE: &str = "# release ";
/// On another release than the golden one a program may grow by so much, in per cent.
const GROWTH: u64 = 20;

/// What a comparison came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Differences that must not be.
    pub(crate) faults: Vec<String>,
    /// Why it was less strict than it could be.
    pub(crate) note: Option<String>,
}

/// The golden table of `kernel` under `root`.
pub(crate) fn path(root: &Path, kernel: &str) -> PathBuf {
    root.join("tests/matrix/programs").join(format!("{kernel}.tsv"))
}

/// Writes what `listing` says of a kernel of this `release` as the golden table.
pub(crate) fn bless(path: &Path, release: &str, listing: &Listing) -> Result<()> {
    let describe = || format!("cannot write {}", path.display());
    std::fs::create_dir_all(path.parent().with_context(describe)?).with_context(describe)?;
    std::fs::write(path, text(release, listing)).with_context(describe)
}

/// Compares `listing` with the golden table at `path`.
pub(crate) fn compare(path: &Path, release: &str, listing: &Listing) -> Comparison {
    match std::fs::read_to_string(path) {
        Ok(golden) => compared(&golden, release, listing),
        Err(error) => Comparison {
            faults: vec![format!("no golden table {} ({error}): `cargo xtask vm --bless`", path.display())],
            note: None,
        },
    }
}

fn text(release: &str, listing: &Listing) -> String {
    let rows = listing.programs.iter().map(row).collect::<Vec<_>>();
    format!("{RELEASE}{release}\n# plan\tprogram\toutcome\tverified instructions\n{}\n", rows.join("\n"))
}

fn row(program: &Program) -> String {
    let instructions = program.instructions.map_or("-".to_owned(), |count| count.to_string());
    format!("{}\t{}\t{}\t{instructions}", program.plan, program.name, program.outcome)
}

fn compared(golden: &str, release: &str, listing: &Listing) -> Comparison {
    let known = golden.lines().find_map(|line| line.strip_prefix(RELEASE)).unwrap_or_default();
    let golden: BTreeMap<_, _> = golden.lines().filter_map(parse).map(keyed).collect();
    let found: BTreeMap<_, _> = listing.programs.iter().cloned().map(keyed).collect();
    let is_same = known == release;
    let mut faults = Vec::new();
    for (key, expected) in &golden {
        match found.get(key) {
            None => faults.push(format!("gone: {}", row(expected))),
            Some(program) if is_same && program != expected => {
                faults.push(format!("golden: {}, found: {}", row(expected), row(program)));
            }
            Some(program) if !is_same => faults.extend(drift(expected, program)),
            Some(_) => {}
        }
    }
    let new = found.iter().filter(|(key, _)| !golden.contains_key(*key));
    faults.extend(new.map(|(_, program)| format!("not in the golden table: {}", row(program))));
    let note = (!is_same).then(|| format!("the golden table is of {known}, the kernel is {release}"));
    Comparison { faults, note }
}

/// What must not change from one release of a kernel to the next.
fn drift(expected: &Program, found: &Program) -> Option<String> {
    let (was, is) = (expected.outcome == LOADED, found.outcome == LOADED);
    if was != is {
        return Some(format!("golden: {}, found: {}", row(expected), row(found)));
    }
    let (before, now) = (expected.instructions?, found.instructions?);
    (now * 100 > before * (100 + GROWTH))
        .then(|| format!("{} {} grew from {before} to {now} instructions", found.plan, found.name))
}

fn keyed(program: Program) -> ((String, String), Program) {
    ((program.plan.clone(), program.name.clone()), program)
}

fn parse(line: &str) -> Option<Program> {
    let [plan, name, outcome, instructions] = line.split('\t').collect::<Vec<_>>()[..] else { return None };
    let is_program = !plan.starts_with('#');
    is_program.then(|| Program {
        plan: plan.to_owned(),
        name: name.to_owned(),
        outcome: outcome.to_owned(),
        instructions: instructions.parse().ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str, outcome: &str, instructions: Option<u64>) -> Program {
        Program { plan: "fentry".into(), name: name.into(), outcome: outcome.into(), instructions }
    }

    fn listing(programs: &[Program]) -> Listing {
        Listing { programs: programs.to_vec(), plans: Vec::new() }
    }

    fn base() -> Listing {
        listing(&[program("a", LOADED, Some(100)), program("b", "no function b", None)])
    }

    #[test]
    fn what_is_written_is_what_is_compared() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), "6.1");
        assert_eq!(compare(&path, "6.1", &base()).faults.len(), 1, "there is none yet");
        bless(&path, "6.1", &base()).unwrap();
        assert_eq!(compare(&path, "6.1", &base()), Comparison::default());
    }

    #[test]
    fn on_the_same_release_every_difference_is_a_fault() {
        let golden = text("6.1", &base());
        for other in [
            listing(&[program("a", LOADED, Some(101)), program("b", "no function b", None)]),
            listing(&[program("a", LOADED, Some(100)), program("b", "another reason", None)]),
            listing(&[program("a", LOADED, Some(100))]),
            listing(&[base().programs, vec![program("c", LOADED, Some(1))]].concat()),
        ] {
            let comparison = compared(&golden, "6.1", &other);
            assert_eq!((comparison.faults.len(), comparison.note), (1, None), "{other:?}");
        }
    }

    #[test]
    fn on_another_release_only_loading_and_great_growth_count() {
        let golden = text("6.1", &base());
        let faults = |a: Program, b: Program| compared(&golden, "6.2", &listing(&[a, b])).faults.len();
        let (same, refused) = (program("b", "another reason", None), program("a", "refused", None));
        assert_eq!(faults(program("a", LOADED, Some(120)), same.clone()), 0);
        assert_eq!(faults(program("a", LOADED, Some(121)), same.clone()), 1);
        assert_eq!(faults(refused, same), 1);
        assert_eq!(faults(program("a", LOADED, Some(90)), program("b", LOADED, Some(1))), 1);
        assert!(compared(&golden, "6.2", &base()).note.unwrap().contains("6.1"));
    }
}
