//! `cargo xtask run`: the tracer of this tree, with the privileges that it needs.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::debian;
use crate::workspace::{TRACER, Workspace};

/// What needs no privileges: it opens no socket table and loads nothing.
const UNPRIVILEGED: [&str; 9] =
    ["replay", "explain", "policy", "completions", "man", "help", "--help", "-h", "--version"];

/// Builds the tracer and becomes it: its exit code is ours.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<()> {
    let built = workspace.build_release(&[TRACER])?;
    let tracer = built.path(TRACER)?;
    let mut command = as_permitted(tracer, args)?;
    Err(command.args(args).exec()).with_context(|| format!("cannot start {}", tracer.display()))
}

fn as_permitted(tracer: &Path, args: &[String]) -> Result<Command> {
    if debian::is_root() || is_unprivileged(args) {
        return Ok(Command::new(tracer));
    }
    let Some(sudo) = command::which("sudo") else {
        bail!("the tracer needs root, and there is no sudo here: run this as root");
    };
    let mut command = Command::new(sudo);
    command.arg("--").arg(tracer);
    Ok(command)
}

fn is_unprivileged(args: &[String]) -> bool {
    args.first().is_some_and(|first| UNPRIVILEGED.contains(&first.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn only_what_reads_no_socket_runs_without_root() {
        assert!(is_unprivileged(&args("replay file")));
        assert!(is_unprivileged(&args("--help")));
        assert!(!is_unprivileged(&args("")));
        assert!(!is_unprivileged(&args("--json --all")));
        assert!(!is_unprivileged(&args("list")));
    }
}
