//! `cargo xtask build-ebpf`: the kernel objects of the repository, reproducible byte for byte from any folder, but for
//! the order of a few types that the linker leaves to chance.
//! The toolchain is in `ebpf_toolchain`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::architecture::Architecture;
use crate::ebpf_toolchain::{TARGET, Toolchain};
use crate::rustc_wrapper;
use crate::source_hash;
use crate::workspace::Workspace;

/// What the objects were built from, and with.
const BUILD: &str = "tracer-ebpf/object/BUILD";
/// So often is an object linked, at most, until it is like the kept one or like the one before it. LLVM has a few types of the
/// BTF in an order that depends on the addresses at which it keeps them, which are others in each run: of five runs or more one
/// gives the other order. The input of the linker is the same each time. An object that came twice in a row is likely to have the
/// usual order, so that others come to it soon.
const LINKS: usize = 16;

/// The kernel object that `cargo build` puts into the tracer of `architecture`. Kprobes find a function's
/// arguments in the registers of one processor; everything else in the objects is the same.
fn object(architecture: Architecture) -> String {
    format!("tracer-ebpf/object/{}/tracer.bpf.o", architecture.name())
}

/// Builds the objects and keeps them in the repository.
pub(crate) fn store(workspace: &Workspace) -> Result<()> {
    let toolchain = Toolchain::ensure()?;
    let objects = built(workspace, &toolchain)?;
    for (architecture, bytes) in &objects {
        let (name, stored) = (object(*architecture), workspace.root().join(object(*architecture)));
        std::fs::create_dir_all(stored.parent().context("the object is in no folder")?)?;
        std::fs::write(&stored, bytes).with_context(|| format!("cannot write {name}"))?;
        println!("{name}: {} bytes, {}", bytes.len(), source_hash::of_bytes(bytes));
    }
    std::fs::write(workspace.root().join(BUILD), build_lines(workspace, &toolchain, &objects)?)
        .with_context(|| format!("cannot write {BUILD}"))
}

/// Builds the objects and compares them with the kept ones; changes nothing in the repository.
pub(crate) fn compare(workspace: &Workspace) -> Result<()> {
    let toolchain = Toolchain::ensure()?;
    let kept_lines = std::fs::read_to_string(workspace.root().join(BUILD))
        .with_context(|| format!("cannot read {BUILD}"))?;
    // Where sources or tools are others, so is more than an order.
    let links =
        if kept_lines.starts_with(&build_lines(workspace, &toolchain, &Vec::new())?) { LINKS } else { 1 };
    let (mut kept, mut objects) = (Vec::new(), Vec::new());
    for architecture in Architecture::ALL {
        let own = read(&workspace.root().join(object(architecture)))?;
        let is_like = |object: &[u8], _: &[u8]| object == own;
        objects.push((architecture, linked_until(is_like, links, workspace, &toolchain, architecture)?));
        kept.push(own);
    }
    let lines = build_lines(workspace, &toolchain, &objects)?;
    for ((architecture, bytes), kept) in objects.iter().zip(&kept) {
        let name = object(*architecture);
        if bytes != kept || lines != kept_lines {
            bail!(
                "{name} is not what its sources give here.\nkept:\n{kept_lines}built:\n{lines}\
                 Run `cargo xtask build-ebpf` and commit the objects with their BUILD file."
            );
        }
        println!("{name}: rebuilt, the same {} bytes", bytes.len());
    }
    Ok(())
}

/// Builds the object of `architecture`, and links it up to `links` times until `is_it`, of an object and the one before.
fn linked_until(
    is_it: impl Fn(&[u8], &[u8]) -> bool,
    links: usize,
    workspace: &Workspace,
    toolchain: &Toolchain,
    architecture: Architecture,
) -> Result<Vec<u8>> {
    let mut before = Vec::new();
    let mut object = build(workspace, toolchain, architecture)?;
    for _ in 1..links {
        if is_it(&object, &before) {
            break;
        }
        println!("the object of {} is linked once more", architecture.name());
        unlink(workspace, toolchain, architecture)?;
        before = std::mem::replace(&mut object, build(workspace, toolchain, architecture)?);
    }
    Ok(object)
}

/// Builds an object for this machine that logs. It is for development and never kept.
pub(crate) fn with_log(workspace: &Workspace) -> Result<()> {
    let toolchain = Toolchain::ensure()?;
    let object = compile(workspace, &toolchain, Architecture::this()?, Flavour::Logging)?;
    println!("Use it by: TRACER_BPF_OBJECT={} cargo run --features aya-log", object.display());
    Ok(())
}

/// Compares the kept objects and their sources with the BUILD file, without building anything.
pub(crate) fn verify_recorded_hashes(workspace: &Workspace) -> Result<()> {
    let lines = std::fs::read_to_string(workspace.root().join(BUILD))
        .with_context(|| format!("cannot read {BUILD}"))?;
    let mut found = vec![("sources".to_owned(), source_hash::of_sources(workspace.root())?)];
    for architecture in Architecture::ALL {
        let kept = read(&workspace.root().join(object(architecture)))?;
        found.push((object_key(architecture), source_hash::of_bytes(&kept)));
    }
    for (key, found) in found {
        let recorded = recorded(&lines, &key).with_context(|| format!("{BUILD} has no line `{key}`"))?;
        if recorded != found {
            bail!("{BUILD} names {key} {recorded}, and they are {found}: run `cargo xtask build-ebpf`");
        }
    }
    Ok(())
}

/// The objects of all architectures, each with its architecture.
type Objects = Vec<(Architecture, Vec<u8>)>;

fn built(workspace: &Workspace, toolchain: &Toolchain) -> Result<Objects> {
    let is_usual = |object: &[u8], before: &[u8]| object == before;
    let build =
        |architecture| Ok((architecture, linked_until(is_usual, LINKS, workspace, toolchain, architecture)?));
    Architecture::ALL.into_iter().map(build).collect()
}

fn build(workspace: &Workspace, toolchain: &Toolchain, architecture: Architecture) -> Result<Vec<u8>> {
    read(&compile(workspace, toolchain, architecture, Flavour::Released)?)
}

/// Throws the programs away, not what they are made of, so that they are linked anew.
fn unlink(workspace: &Workspace, toolchain: &Toolchain, architecture: Architecture) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.current_dir(workspace.kernel_crate());
    cargo.args(["clean", "--locked", "--release", "--package", "tracer-ebpf", "--target", TARGET]);
    cargo.arg("--target-dir").arg(target(workspace, architecture, Flavour::Released));
    toolchain.apply(&mut cargo)?;
    crate::command::run(&mut cargo)
}

#[derive(Clone, Copy)]
enum Flavour {
    Released,
    Logging,
}

/// Each architecture has a target folder of its own: in a common one each build would throw the other's away.
fn target(workspace: &Workspace, architecture: Architecture, flavour: Flavour) -> PathBuf {
    let folder = match flavour {
        Flavour::Released => "ebpf",
        Flavour::Logging => "ebpf-log",
    };
    workspace.target().join(folder).join(architecture.name())
}

/// Compiles, links and strips; returns the stripped object.
fn compile(
    workspace: &Workspace,
    toolchain: &Toolchain,
    architecture: Architecture,
    flavour: Flavour,
) -> Result<PathBuf> {
    let target = target(workspace, architecture, flavour);
    let mut cargo = workspace.cargo();
    cargo.current_dir(workspace.kernel_crate());
    cargo.args(["build", "--locked", "--release", "--target", TARGET, "--target-dir"]).arg(&target);
    if matches!(flavour, Flavour::Logging) {
        cargo.args(["--features", "log"]);
    }
    toolchain.apply(&mut cargo)?;
    cargo.env("RUSTC_WRAPPER", std::env::current_exe()?).env(rustc_wrapper::MARK, "1");
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags(architecture, &remapped(workspace, &target)?));
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

/// The compiler's flags, in cargo's own separated form: paths may hold blanks. aya-ebpf takes the registers'
/// layout from the cfg, and that of the machine that builds where it is not given.
fn flags(architecture: Architecture, remapped: &[(PathBuf, &str)]) -> String {
    let mut flags: Vec<String> =
        ["-C", "linker=bpf-linker", "-C", "debuginfo=2", "-C", "link-arg=--btf"].map(str::to_owned).to_vec();
    flags.extend(["--cfg".to_owned(), format!("bpf_target_arch=\"{}\"", architecture.name())]);
    flags.extend(remapped.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())));
    flags.join("\u{1f}")
}

fn build_lines(workspace: &Workspace, toolchain: &Toolchain, objects: &Objects) -> Result<String> {
    let mut lines =
        format!("sources {}\n{}", source_hash::of_sources(workspace.root())?, toolchain.describe());
    for (architecture, bytes) in objects {
        lines += &format!("{} {}\n", object_key(*architecture), source_hash::of_bytes(bytes));
    }
    Ok(lines)
}

fn object_key(architecture: Architecture) -> String {
    format!("object {}", architecture.name())
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
        let lines = "sources sha256:1\nrustc 1.96.0 (x)\nobject x86_64 sha256:2\n";
        assert_eq!(recorded(lines, &object_key(Architecture::X86_64)), Some("sha256:2"));
        assert_eq!(recorded(lines, &object_key(Architecture::Aarch64)), None);
        assert_eq!(recorded(lines, "sources"), Some("sha256:1"));
        assert_eq!(recorded(lines, "source"), None);
    }

    #[test]
    fn a_folder_with_a_blank_stays_one_flag() {
        let flags = flags(Architecture::X86_64, &[(PathBuf::from("/a b"), "/c")]);
        assert_eq!(flags.split('\u{1f}').next_back(), Some("--remap-path-prefix=/a b=/c"));
    }
}
