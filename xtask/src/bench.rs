//! `cargo xtask bench`: the door to the latency benchmark of the `tests` package.

use std::process::Command;

use anyhow::{Result, bail};

use crate::command;
use crate::debian;
use crate::workspace::{LATENCY, TRACER, Workspace};

/// Builds the tracer and the benchmark for release and runs it over `args`.
pub(crate) fn bench(workspace: &Workspace, args: &[String]) -> Result<()> {
    if !debian::is_root() {
        bail!(
            "the benchmark traces real connections and needs root: `sudo env PATH=\"$PATH\" cargo xtask bench`"
        );
    }
    let built = workspace.build_release(&[TRACER, LATENCY])?;
    command::run(Command::new(built.path(LATENCY)?).arg("--tracer").arg(built.path(TRACER)?).args(args))
}
