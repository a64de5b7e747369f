//! The table of what must load where, tests/matrix/cells.toml: read and checked for sense. What came of it is
//! judged in `verdict`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::super::kernels;
use super::super::variant::Variant;

/// Where the table is, from the top folder.
const CELLS: &str = "tests/matrix/cells.toml";
/// The plan that stands for the first one that loads.
pub(crate) const AUTO: &str = "auto";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    guest: Vec<Guest>,
}

/// One boot: a kernel in a variant, and what is asked of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Guest {
    /// A kernel of `kernels`, by name.
    pub(crate) kernel: String,
    /// How it is run.
    pub(crate) variant: Variant,
    /// Plans whose verdicts on the same traffic are compared; none or at least two.
    #[serde(default)]
    pub(crate) parity: Vec<String>,
    /// The plans.
    pub(crate) cells: Vec<Cell>,
}

/// What is expected of a plan in a guest.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cell {
    /// Its name, or [`AUTO`].
    pub(crate) plan: String,
    /// Whether it must load.
    #[serde(default)]
    pub(crate) loads: bool,
    /// It must be refused, and the reason hold these words.
    pub(crate) refused: Option<String>,
    /// Whether the scenarios run under it.
    #[serde(default)]
    pub(crate) scenarios: bool,
}

impl Guest {
    /// As the tests and the files call it.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.kernel, self.variant.name())
    }

    fn check(&self) -> Result<()> {
        let name = self.name();
        if kernels::known(&self.kernel).is_none() {
            bail!("{name}: there is no such kernel");
        }
        if self.parity.len() == 1 {
            bail!("{name}: one plan cannot be compared with itself");
        }
        for cell in &self.cells {
            cell.check().with_context(|| format!("{name}, {}", cell.plan))?;
        }
        Ok(())
    }
}

impl Cell {
    fn check(&self) -> Result<()> {
        match (self.plan.as_str(), self.loads, &self.refused) {
            (AUTO, false, None) if self.scenarios => Ok(()),
            (AUTO, ..) => bail!("it only runs scenarios"),
            (_, true, None) => Ok(()),
            (_, false, Some(_)) if self.scenarios => bail!("scenarios need a plan that loads"),
            (_, false, Some(reason)) if !reason.is_empty() => Ok(()),
            _ => bail!("say either `loads = true` or `refused` with words of the reason"),
        }
    }
}

/// The table of the repository.
pub(crate) fn read(root: &Path) -> Result<Vec<Guest>> {
    let text = std::fs::read_to_string(root.join(CELLS)).with_context(|| format!("cannot read {CELLS}"))?;
    parse(&text).with_context(|| format!("{CELLS} is not right"))
}

fn parse(text: &str) -> Result<Vec<Guest>> {
    let table: Table = toml::from_str(text)?;
    for (index, guest) in table.guest.iter().enumerate() {
        guest.check()?;
        if table.guest[..index].iter().any(|other| other.name() == guest.name()) {
            bail!("{} stands in it twice", guest.name());
        }
    }
    Ok(table.guest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kept_table_has_every_kernel_with_every_kernel_plan() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let guests = read(root).unwrap();
        for kernel in &kernels::KERNELS {
            let is_plain = |guest: &&Guest| guest.kernel == kernel.name && guest.variant == Variant::Plain;
            let plain = guests.iter().find(is_plain).unwrap();
            for plan in ["fentry", "kprobe", "tracepoint"] {
                assert!(plain.cells.iter().any(|cell| cell.plan == plan), "{} {plan}", kernel.name);
            }
        }
    }

    #[test]
    fn a_table_that_says_nothing_or_two_things_is_refused() {
        let guest = |kernel: &str, cell: &str| {
            parse(&format!("[[guest]]\nkernel = '{kernel}'\nvariant = 'plain'\ncells = [{cell}]"))
        };
        assert!(guest("6.12", "{ plan = 'fentry', loads = true, scenarios = true }").is_ok());
        assert!(guest("6.12", "{ plan = 'kprobe', refused = 'no kprobes' }").is_ok());
        assert!(guest("6.12", "{ plan = 'auto', scenarios = true }").is_ok());
        for wrong in [
            "{ plan = 'fentry' }",
            "{ plan = 'fentry', loads = true, refused = 'x' }",
            "{ plan = 'fentry', refused = '' }",
            "{ plan = 'fentry', refused = 'x', scenarios = true }",
            "{ plan = 'fentry', loads = true, other = 1 }",
            "{ plan = 'auto', loads = true }",
        ] {
            assert!(guest("6.12", wrong).is_err(), "{wrong}");
        }
        assert!(guest("1.0", "{ plan = 'fentry', loads = true }").is_err());
    }
}
