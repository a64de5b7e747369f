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
            let matrix = in_guests(workspace)?;
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

/// What every kernel of the matrix must load, and the scenarios under every plan of the default kernel. The
/// scenarios of all kernels are `cargo xtask vm`: most of an hour.
fn in_guests(workspace: &Workspace) -> Result<Tally> {
    let loads = vm::Request { plans: vec!["none".to_owned()], ..vm::Request::default() };
    let mut tally = vm::run(workspace, &loads)?;
    let plain = Some(vm::Variant::Plain);
    let scenarios = vm::Request { kernel: Some("6.12".to_owned()), variant: plain, ..vm::Request::default() };
    tally += vm::run(workspace, &scenarios)?;
    Ok(tally)
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
