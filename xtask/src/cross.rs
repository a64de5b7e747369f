//! The toolchain for static programs of another processor: Debian's rustc-web with its standard library for
//! that processor, and Debian's cross linker. The machine gets no foreign architecture for it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::architecture::Architecture;
use crate::command;
use crate::debian::{self, Need};
use crate::packages::Lists;
use crate::workspace::{STATIC, Workspace};

const RUSTC: &str = "/usr/bin/rustc";
const LIBRARY: &str = "libstd-rust-web-dev";
const LINKER: &str = "aarch64-linux-gnu-gcc";

const TOOLS: [Need; 4] = [
    Need::rustc(RUSTC, "rustc-web"),
    Need::path("/usr/lib/rustlib/x86_64-unknown-linux-gnu/lib", LIBRARY),
    Need::program(LINKER, "gcc-aarch64-linux-gnu"),
    Need::path("/usr/aarch64-linux-gnu/lib/libc.a", "libc6-dev-arm64-cross"),
];

/// Sets compiler, linker and standard library of `cargo` for static programs of `architecture`, and a target
/// folder of their own: another compiler in a common one would rebuild everything each time.
pub(crate) fn apply(cargo: &mut Command, architecture: Architecture, workspace: &Workspace) -> Result<()> {
    debian::ensure("building for arm64", &TOOLS)?;
    let sysroot = standard_library(architecture)?;
    let flags = [STATIC.to_owned(), format!("-Clinker={LINKER}"), format!("--sysroot={}", sysroot.display())];
    cargo.env("RUSTC", RUSTC).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    // They run in emulation alone, where nothing is measured: to compile the whole in one piece takes minutes.
    cargo.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    cargo.arg("--target-dir").arg(workspace.target().join(architecture.name()));
    Ok(())
}

/// The standard library of the very compiler that is installed: another version's is refused by it. Fetched
/// once.
fn standard_library(architecture: Architecture) -> Result<PathBuf> {
    let version = command::text(Command::new("dpkg-query").args(["-W", "-f=${Version}", LIBRARY]))?;
    let name = format!("rust-{}-{}", architecture.debian(), version.trim());
    let folder = Workspace::cache()?.join(&name);
    if !folder.exists() {
        let state = Workspace::cache()?.join(format!("{name}-apt"));
        let lists = Lists::of_this_release(&state, architecture)?;
        let package = format!("{LIBRARY}={}", version.trim());
        lists.unpack(&[package], &folder).with_context(|| {
            format!(
                "{LIBRARY} {version} for arm64 cannot be fetched: is rustc-web the newest of this release?"
            )
        })?;
        lists.delete()?;
    }
    let sysroot = folder.join("usr");
    if !sysroot.join("lib/rustlib").join(architecture.static_target()).exists() {
        bail!("{} holds no standard library of {}", folder.display(), architecture.static_target());
    }
    Ok(sysroot)
}
