//! `cargo xtask test`: every test there is, in the order of what is soonest to fail. What the tests are is
//! theirs.

use std::process::Command;

use anyhow::{Result, bail};

use crate::command;
use crate::debian;
use crate::tally::Tally;
use crate::vm;
use crate::workspace::{LIVE, TRACER, Workspace};

/// Unit, property and golden tests: no root, no guest.
pub(crate) fn quick(workspace: &Workspace) -> Result<()> {
    command::run(workspace.cargo().args(["test", "--locked", "--workspace"]))
}

/// Everything. Closes with the live scenarios of this kernel and the guest's as `N passed, N failed`.
pub(crate) fn all(workspace: &Workspace) -> Result<()> {
    if !debian::is_root() {
        bail!(
            "the live tests need root: `sudo env PATH=\"$PATH\" cargo xtask test`; \
             `cargo xtask test --quick` runs what needs none"
        );
    }
    quick(workspace)?;
    let (mut tally, host) = on_this_kernel(workspace)?;
    let guest = vm::run(workspace, &vm::Request::default())?;
    tally += guest.tally;
    println!("unit tests passed; live on this kernel: {}; in the guest: {}", word(host), word(guest.passed));
    println!("{tally}");
    if !(host && guest.passed) {
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
