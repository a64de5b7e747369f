//! `cargo xtask build-ebpf`: the kernel object of the repository, reproducible byte for byte from any folder.
//! The toolchain is in `ebpf_toolchain`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::ebpf_toolchain::{TARGET, Toolchain};
use crate::rustc_wrapper;
use crate::source_hash;
use crate::workspace::Workspace;

/// The kernel object that `cargo build` puts into the tracer.
const OBJECT: &str = "tracer-ebpf/object/tracer.bpf.o";
/// What the object was built from, and with.
const BUILD: &str = "tracer-ebpf/object/BUILD";

/// Builds the object and keeps it in the repository.
pub(crate) fn store(workspace: &Workspace) -> Result<()> {
    let toolchain = Toolchain::ensure()?;
    let object = read(&compile(workspace, &toolchain, Flavour::Released)?)?;
    let stored = workspace.root().join(OBJECT);
    std::fs::create_dir_all(stored.parent().context("the object is in no folder")?)?;
    std::fs::write(&stored, &object).with_context(|| format!("cannot write {OBJECT}"))?;
    std::fs::write(workspace.root().join(BUILD), build_lines(workspace, &toolchain, &object)?)
        .with_context(|| format!("cannot write {BUILD}"))?;
    println!("{OBJECT}: {} bytes, {}", object.len(), source_hash::of_bytes(&object));
    Ok(())
}

/// Builds the object and compares it with the kept one; changes nothing in the repository.
pub(crate) fn compare(workspace: &Workspace) -> Result<()> {
    let toolchain = Toolchain::ensure()?;
    let built = read(&compile(workspace, &toolchain, Flavour::Released)?)?;
    let kept = read(&workspace.root().join(OBJECT))?;
    let lines = build_lines(workspace, &toolchain, &built)?;
    let kept_lines = std::fs::read_to_string(workspace.root().join(BUILD))
        .with_context(|| format!("cannot read {BUILD}"))?;
    if built != kept || lines != kept_lines {
        bail!(
            "{OBJECT} is not what its sources give here.\nkept:\n{kept_lines}built:\n{lines}\
             Run `cargo xtask build-ebpf` and commit the object with its BUILD file."
        );
    }
    println!("{OBJECT}: rebuilt, the same {} bytes", kept.len());
    Ok(())
}

/// Builds an object that logs. It is for development and never kept.
pub(crate) fn with_log(workspace: &Workspace) -> Result<()> {
    let object = compile(workspace, &Toolchain::ensure()?, Flavour::Logging)?;
    println!("Use it by: TRACER_BPF_OBJECT={} cargo run --features aya-log", object.display());
    Ok(())
}

/// Compares the kept object and its sources with the BUILD file, without building anything.
pub(crate) fn verify_recorded_hashes(workspace: &Workspace) -> Result<()> {
    let lines = std::fs::read_to_string(workspace.root().join(BUILD))
        .with_context(|| format!("cannot read {BUILD}"))?;
    let sources = source_hash::of_sources(workspace.root())?;
    let object = source_hash::of_bytes(&read(&workspace.root().join(OBJECT))?);
    for (key, found) in [("sources", sources), ("object", object)] {
        let recorded = recorded(&lines, key).with_context(|| format!("{BUILD} has no line `{key}`"))?;
        if recorded != found {
            bail!("{BUILD} names {key} {recorded}, and they are {found}: run `cargo xtask build-ebpf`");
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Flavour {
    Released,
    Logging,
}

/// Compiles, links and strips; returns the stripped object.
fn compile(workspace: &Workspace, toolchain: &Toolchain, flavour: Flavour) -> Result<PathBuf> {
    let target = workspace.target().join(match flavour {
        Flavour::Released => "ebpf",
        Flavour::Logging => "ebpf-log",
    });
    let mut cargo = workspace.cargo();
    cargo.current_dir(workspace.kernel_crate());
    cargo.args(["build", "--locked", "--release", "--target", TARGET, "--target-dir"]).arg(&target);
    if matches!(flavour, Flavour::Logging) {
        cargo.args(["--features", "log"]);
    }
    toolchain.apply(&mut cargo)?;
    cargo.env("RUSTC_WRAPPER", std::env::current_exe()?).env(rustc_wrapper::MARK, "1");
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags(&remapped(workspace, &target)?));
    crate::command::run(&mut cargo)?;
    let stripped = target.join("tracer.bpf.o");
    toolchain.strip(&target.join(TARGET).join("release/tracer"), &stripped)?;
    Ok(stripped)
}

/// Folders of this machine and what stands for them in the object. A prefix that names no real folder also
/// keeps the linker from copying source lines into the BTF. rustc uses the last prefix that fits, so a folder
/// inside another comes after it.
fn remapped(workspace: &Workspace, target: &Path) -> Result<Vec<(PathBuf, &'static str)>> {
    let cargo_home = cargo_home()?;
    // Each registry has a folder that is named after its host.
    let registries = std::fs::read_dir(cargo_home.join("registry/src")).into_iter().flatten().flatten();
    let mut remapped = vec![(cargo_home, "/cargo-home")];
    remapped.extend(registries.map(|registry| (registry.path(), "/crates")));
    remapped.push((workspace.root().to_path_buf(), "/tracer-source"));
    remapped.push((target.to_path_buf(), "/tracer-target"));
    Ok(remapped)
}

fn cargo_home() -> Result<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(home) => Ok(PathBuf::from(home)),
        None => Ok(PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo")),
    }
}

/// The compiler's flags, in cargo's own separated form: paths may hold blanks.
fn flags(remapped: &[(PathBuf, &str)]) -> String {
    let mut flags: Vec<String> =
        ["-C", "linker=bpf-linker", "-C", "debuginfo=2", "-C", "link-arg=--btf"].map(str::to_owned).to_vec();
    flags.extend(remapped.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())));
    flags.join("\u{1f}")
}

fn build_lines(workspace: &Workspace, toolchain: &Toolchain, object: &[u8]) -> Result<String> {
    let sources = source_hash::of_sources(workspace.root())?;
    Ok(format!("sources {sources}\n{}object {}\n", toolchain.describe(), source_hash::of_bytes(object)))
}

fn recorded<'a>(lines: &'a str, key: &str) -> Option<&'a str> {
    lines.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_by_its_whole_key() {
        let lines = "sources sha256:1\nrustc 1.96.0 (x)\nobject sha256:2\n";
        assert_eq!(recorded(lines, "object"), Some("sha256:2"));
        assert_eq!(recorded(lines, "sources"), Some("sha256:1"));
        assert_eq!(recorded(lines, "source"), None);
    }

    #[test]
    fn a_folder_with_a_blank_stays_one_flag() {
        let flags = flags(&[(PathBuf::from("/a b"), "/c")]);
        assert_eq!(flags.split('\u{1f}').next_back(), Some("--remap-path-prefix=/a b=/c"));
    }
}
