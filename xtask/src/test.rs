//! `cargo xtask test`: every test there is, in the order of what is soonest to fail. What the tests are is
//! theirs.

use std::process::Command;

use anyhow::{Result, bail};

use crate::command;
use crate::debian;
use crate::tally::Tally;
use crate::vm;
use crate::workspace::{LIVE, TRACER, Workspace};

/// How much is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Unit, property and golden tests: no root, no guest.
    Quick,
    /// The live tests on this kernel as well.
    Host,
    /// Other kernels as well.
    All,
}

/// Runs the tests of `scope`. The live tests and the matrix close with `N passed, N failed`.
pub(crate) fn test(workspace: &Workspace, scope: Scope) -> Result<()> {
    if scope != Scope::Quick && !debian::is_root() {
        bail!(
            "the live tests need root: `sudo env PATH=\"$PATH\" cargo xtask test`; \
             `cargo xtask test --quick` runs what needs none"
        );
    }
    command::run(workspace.cargo().args(["test", "--locked", "--workspace"]))?;
    if scope == Scope::Quick {
        return Ok(());
    }
    let (mut tally, host) = on_this_kernel(workspace)?;
    let matrix = match scope {
        Scope::Quick | Scope::Host => "not run".to_owned(),
        Scope::All => {
            let matrix = vm::run(workspace, &vm::Request::default())?;
            tally += matrix;
            matrix.to_string()
        }
    };
    println!("unit tests passed; live on this kernel: {}; matrix: {matrix}", word(host));
    println!("{tally}");
    if !host || tally.failed > 0 {
        bail!("live tests failed");
    }
    Ok(())
}

/// The live tests on the running kernel, under the plan that it allows.
fn on_this_kernel(workspace: &Workspace) -> Result<(Tally, bool)> {
    let built = workspace.build_release(&[TRACER, LIVE])?;
    let mut tally = Tally::default();
    let mut live = Command::new(built.path(LIVE)?);
    live.arg("--tracer").arg(built.path(TRACER)?).args(["--plan", "auto"]);
    let status = command::stream(&mut live, |line| tally.read(line))?;
    Ok((tally, status.success() && tally.runs == 1 && tally.failed == 0))
}

fn word(passed: bool) -> &'static str {
    if passed { "passed" } else { "FAILED" }
}
