//! Where things are, and how cargo is called for the workspace. What is built and why is each command's own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::architecture::Architecture;
use crate::cross;

/// The flag of rustc for a program without dynamic libraries.
pub(crate) const STATIC: &str = "-Ctarget-feature=+crt-static";

/// The repository and the folders that belong to it.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The workspace whose `cargo xtask` this is. Cargo says where; outside of cargo that is an error.
    pub(crate) fn find() -> Result<Self> {
        let package = std::env::var_os("CARGO_MANIFEST_DIR").context("start this as `cargo xtask`")?;
        let root = Path::new(&package).parent().context("the xtask folder has no parent")?;
        Ok(Self { root: root.to_path_buf() })
    }

    /// The repository's top folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The kernel crate, a workspace of its own.
    pub(crate) fn kernel_crate(&self) -> PathBuf {
        self.root.join("tracer-ebpf")
    }

    /// Cargo's target folder for user space; what is built for the kernel goes into folders of its own inside
    /// it.
    pub(crate) fn target(&self) -> PathBuf {
        match std::env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => self.root.join(folder),
            None => self.root.join("target"),
        }
    }

    /// What is fetched once and kept outside of the repository: kernels and tools.
    pub(crate) fn cache() -> Result<PathBuf> {
        let cache = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
            Some(cache) => PathBuf::from(cache),
            None => Path::new(&std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
        };
        Ok(cache.join("tracer"))
    }

    /// Cargo, as the one that started this, in the top folder.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = Command::new(cargo_program());
        cargo.current_dir(&self.root);
        cargo
    }

    /// Builds `binaries` for release on this machine and says where each one is.
    pub(crate) fn build_release(&self, binaries: &[Binary]) -> Result<Executables> {
        self.build_for(Architecture::this()?, binaries)
    }

    /// As [`Self::build_release`], of `architecture`. They need no dynamic library: one build serves this machine, any other
    /// box, and guests that have none.
    pub(crate) fn build_for(&self, architecture: Architecture, binaries: &[Binary]) -> Result<Executables> {
        let mut cargo = self.cargo();
        cargo.args(["build", "--locked", "--release", "--target", architecture.static_target()]);
        if architecture == Architecture::this()? {
            cargo.env("CARGO_ENCODED_RUSTFLAGS", STATIC);
        } else {
            cross::apply(&mut cargo, architecture, self)?;
        }
        build(cargo, binaries)
    }
}

/// The cargo that started this program, or the one on PATH.
pub(crate) fn cargo_program() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// `cargo install` of a published tool into `folder`, the features and the environment not yet said. Without
/// optimisation: to compile it takes far longer than all that it ever does here.
pub(crate) fn install(tool: &str, version: &str, folder: &Path) -> Command {
    let mut cargo = Command::new(cargo_program());
    cargo.args(["install", tool, "--version", version, "--locked", "--debug", "--root"]).arg(folder);
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "none").env_remove("CARGO_TARGET_DIR");
    cargo
}

/// A program of the workspace.
#[derive(Clone, Copy)]
pub(crate) struct Binary {
    package: &'static str,
    name: &'static str,
}

/// The product.
pub(crate) const TRACER: Binary = Binary { package: "tracer", name: "tracer" };
/// The live tests.
pub(crate) const LIVE: Binary = Binary { package: "tests", name: "live" };
/// The benchmark.
pub(crate) const BENCH: Binary = Binary { package: "tests", name: "bench" };
/// The first process of the virtual machine.
pub(crate) const INIT: Binary = Binary { package: "xtask", name: "init" };

/// Where built programs are.
pub(crate) struct Executables(BTreeMap<String, PathBuf>);

impl Executables {
    /// The path of `binary`; an error when it was not among those built.
    pub(crate) fn path(&self, binary: Binary) -> Result<&Path> {
        self.0
            .get(binary.name)
            .map(PathBuf::as_path)
            .with_context(|| format!("cargo did not build {}", binary.name))
    }
}

/// Asks cargo itself where its results are: configuration can put them anywhere.
fn build(mut cargo: Command, binaries: &[Binary]) -> Result<Executables> {
    cargo.arg("--message-format=json-render-diagnostics");
    for binary in binaries {
        cargo.args(["--package", binary.package, "--bin", binary.name]);
    }
    let names: Vec<_> = binaries.iter().map(|binary| binary.name).collect();
    eprintln!("+ cargo build --release ({})", names.join(", "));
    let output =
        cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo build of {} failed: {}", names.join(", "), output.status);
    }
    Ok(Executables(executables(&String::from_utf8_lossy(&output.stdout))))
}

fn executables(messages: &str) -> BTreeMap<String, PathBuf> {
    let artifact = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let path = message["executable"].as_str()?;
        Some((message["target"]["name"].as_str()?.to_owned(), PathBuf::from(path)))
    };
    messages.lines().filter_map(artifact).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_read_from_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"serde"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"tracer"},"executable":"/t/release/tracer"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let found = Executables(executables(messages));
        assert_eq!(found.path(TRACER).unwrap(), Path::new("/t/release/tracer"));
        assert!(found.path(LIVE).is_err());
    }
}
