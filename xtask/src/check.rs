//! `cargo xtask check`: everything that can be judged without running the tracer. All checks run, then those
//! that failed are named.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::build_ebpf;
use crate::command;
use crate::ebpf_toolchain;
use crate::purity;
use crate::workspace::{self, Workspace};

const DENY_VERSION: &str = "0.20.2";

type Check = (&'static str, fn(&Workspace) -> Result<()>);

const CHECKS: [Check; 7] = [
    ("format", format),
    ("lints", lints),
    ("lints of the kernel crate", kernel_lints),
    ("dependencies", dependencies),
    ("dependencies of the kernel crate", kernel_dependencies),
    ("hashes of the kernel object", build_ebpf::verify_recorded_hashes),
    ("purity of model and triage", |workspace| purity::check(workspace.root())),
];

/// Runs every check; an error names those that failed.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        eprintln!("check: {name}");
        if let Err(error) = check(workspace) {
            eprintln!("check: {name}: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    println!("all {} checks passed", CHECKS.len());
    Ok(())
}

fn format(workspace: &Workspace) -> Result<()> {
    let whole = command::run(workspace.cargo().args(["fmt", "--all", "--check"]));
    let kernel =
        command::run(workspace.cargo().args(["fmt", "--check", "--manifest-path", "tracer-ebpf/Cargo.toml"]));
    whole.and(kernel)
}

fn lints(workspace: &Workspace) -> Result<()> {
    let mut clippy = workspace.cargo();
    clippy.args(["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    command::run(&mut clippy)
}

fn kernel_lints(workspace: &Workspace) -> Result<()> {
    let mut clippy = ebpf_toolchain::clippy()?;
    clippy.current_dir(workspace.kernel_crate());
    clippy.args(["--locked", "--release", "--target", ebpf_toolchain::TARGET, "--target-dir"]);
    clippy.arg(workspace.target().join("ebpf-lints")).args(["--", "-D", "warnings"]);
    command::run(&mut clippy)
}

fn dependencies(workspace: &Workspace) -> Result<()> {
    deny(workspace, "Cargo.toml")
}

fn kernel_dependencies(workspace: &Workspace) -> Result<()> {
    deny(workspace, "tracer-ebpf/Cargo.toml")
}

fn deny(workspace: &Workspace, manifest: &str) -> Result<()> {
    let mut deny = Command::new(cargo_deny()?);
    deny.current_dir(workspace.root()).args([
        "--locked",
        "--config",
        "deny.toml",
        "--manifest-path",
        manifest,
    ]);
    deny.args(["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
    command::run(&mut deny)
}

/// The one that is installed, or one of our own, built once and kept.
fn cargo_deny() -> Result<PathBuf> {
    let own = Workspace::cache()?.join(format!("cargo-deny-{DENY_VERSION}"));
    let candidates = [command::which("cargo-deny"), Some(own.join("bin/cargo-deny"))];
    let is_wanted = |candidate: &PathBuf| {
        let version = command::text(Command::new(candidate).arg("--version"));
        version.is_ok_and(|version| version.trim() == format!("cargo-deny {DENY_VERSION}"))
    };
    if let Some(found) = candidates.into_iter().flatten().find(is_wanted) {
        return Ok(found);
    }
    command::run(&mut workspace::install("cargo-deny", DENY_VERSION, &own))?;
    Ok(own.join("bin/cargo-deny"))
}
