//! The compiler, linker and strip that make the kernel object: found, installed or named. How they are called
//! is in `build_ebpf`.
//!
//! Debian's rustc-web comes with a ready `core` for the BPF target, so no nightly and no build-std are
//! needed, and everyone who builds with the same packages gets the same bytes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::debian::{self, Need};
use crate::workspace::{self, Workspace};

/// The target of kernel programs on little-endian machines.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

const RUSTC: &str = "/usr/bin/rustc";
const LLVM: &str = "/usr/lib/llvm-22";
const LLVM_STRIP: &str = "/usr/lib/llvm-22/bin/llvm-strip";
const LINKER_VERSION: &str = "0.13.0";

const COMPILER: [Need; 3] = [
    Need::rustc(RUSTC, "rustc-web"),
    Need::path("/usr/lib/rustlib/bpfel-unknown-none/lib", "libstd-rust-web-dev-bpf"),
    Need::path(LLVM_STRIP, "llvm-22"),
];
/// Only to build the linker: headers and libraries of the LLVM that the compiler uses.
const LINKER_LIBRARIES: [Need; 3] = [
    Need::path("/usr/lib/llvm-22/include/llvm-c/Core.h", "llvm-22-dev"),
    Need::program("g++", "g++"),
    Need::path("/usr/include/zlib.h", "zlib1g-dev"),
];
const LINTS: [Need; 1] = [Need::path("/usr/bin/cargo-clippy", "rust-web-clippy")];

/// A complete toolchain.
pub(crate) struct Toolchain {
    linker_folder: PathBuf,
    rustc_version: String,
}

impl Toolchain {
    /// Finds it, and installs what is missing where that is possible.
    pub(crate) fn ensure() -> Result<Self> {
        ensure_compiler()?;
        let linker = match find_linker()? {
            Some(linker) => linker,
            None => install_linker()?,
        };
        let linker_folder = linker.parent().context("bpf-linker is in no folder")?.to_path_buf();
        let rustc_version = command::text(Command::new(RUSTC).arg("--version"))?.trim().to_owned();
        refuse_library_sources(&rustc_version)?;
        Ok(Self { linker_folder, rustc_version })
    }

    /// The toolchain as lines of the BUILD file.
    pub(crate) fn describe(&self) -> String {
        format!("{}\nbpf-linker {LINKER_VERSION}\n", self.rustc_version)
    }

    /// Sets the compiler and puts the linker on the PATH. The linker is named without its folder in the
    /// flags, because flags enter the hashes in symbol names.
    pub(crate) fn apply(&self, cargo: &mut Command) -> Result<()> {
        set_compiler(cargo);
        cargo.env("PATH", command::path_with(&self.linker_folder)?);
        Ok(())
    }

    /// Writes `object` without debug sections to `stripped`; BTF stays.
    pub(crate) fn strip(&self, object: &Path, stripped: &Path) -> Result<()> {
        command::run(Command::new(LLVM_STRIP).arg("-g").arg("-o").arg(stripped).arg(object))
    }
}

/// `cargo clippy` of the compiler that knows the BPF target: the stable toolchain has no `core` for it, and
/// lints of a host build would see other code.
pub(crate) fn clippy() -> Result<Command> {
    ensure_compiler()?;
    debian::ensure("linting the kernel crate", &LINTS)?;
    let mut clippy = Command::new("/usr/bin/cargo-clippy");
    clippy.arg("clippy").env("CARGO", workspace::cargo_program());
    set_compiler(&mut clippy);
    Ok(clippy)
}

/// The linker copies source lines of `core` into the BTF when it finds them where Debian's `core` says that
/// they are, and rustc remaps no path of a library that is already compiled.
fn refuse_library_sources(rustc_version: &str) -> Result<()> {
    let version = rustc_version.split(' ').nth(1).context("rustc has no version")?;
    let sources = PathBuf::from(format!("/usr/src/rustc-{version}"));
    if sources.exists() {
        bail!(
            "{} is there, and lines of it would stand in the kernel object: `apt-get remove rust-web-src` first",
            sources.display()
        );
    }
    Ok(())
}

fn ensure_compiler() -> Result<()> {
    debian::ensure("building the kernel object", &COMPILER)?;
    let version = command::text(Command::new(RUSTC).arg("-vV"))?;
    if !version.contains("LLVM version: 22.") {
        bail!(
            "{RUSTC} is not Debian's rustc-web with LLVM 22, which bpf-linker {LINKER_VERSION} needs:\n{version}"
        );
    }
    Ok(())
}

/// The kernel object has a compiler of its own; what the caller's cargo was told about compilers is taken
/// away.
fn set_compiler(command: &mut Command) {
    for variable in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTUP_TOOLCHAIN",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
    ] {
        command.env_remove(variable);
    }
    // aya-ebpf uses unstable features; the stable compiler is told to accept them.
    command.env("RUSTC", RUSTC).env("RUSTC_BOOTSTRAP", "1");
}

fn find_linker() -> Result<Option<PathBuf>> {
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let candidates = [
        command::which("bpf-linker"),
        cargo_home.map(|home| home.join("bin/bpf-linker")),
        Some(own_folder()?.join("bin/bpf-linker")),
    ];
    Ok(candidates.into_iter().flatten().find(|candidate| is_wanted_linker(candidate)))
}

fn is_wanted_linker(linker: &Path) -> bool {
    let version = command::text(Command::new(linker).arg("--version"));
    version.is_ok_and(|version| version.trim() == format!("bpf-linker {LINKER_VERSION}"))
}

fn own_folder() -> Result<PathBuf> {
    Ok(Workspace::cache()?.join(format!("bpf-linker-{LINKER_VERSION}")))
}

fn install_linker() -> Result<PathBuf> {
    debian::ensure("building bpf-linker", &LINKER_LIBRARIES)?;
    let folder = own_folder()?;
    let mut cargo = workspace::install("bpf-linker", LINKER_VERSION, &folder);
    cargo.args(["--no-default-features", "--features", "llvm-22"]).env("LLVM_PREFIX", LLVM);
    command::run(&mut cargo)?;
    Ok(folder.join("bin/bpf-linker"))
}
