//! Which kernel is booted, and its files: fetched from Debian's packages into the cache, with package lists
//! of our own, so that the machine's apt keeps its configuration and its state.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt_sources;
use crate::command;
use crate::debian::{self, Need};
use crate::workspace::Workspace;

/// Debian's release whose kernel (6.12) is tested by default.
const SUITE: &str = "trixie";
/// The package that depends on the newest kernel for virtual machines of the suite.
const NEWEST: &str = "linux-image-cloud-amd64";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

const TOOLS: [Need; 3] = [
    Need::program("dpkg-deb", "dpkg"),
    Need::program("xz", "xz-utils"),
    Need::path(KEYRING, "debian-archive-keyring"),
];

/// A bootable kernel.
pub(crate) struct Kernel {
    /// What the boot loader would load.
    pub(crate) image: PathBuf,
    /// The folder that holds `kernel/`, where the kernel has modules.
    pub(crate) modules: Option<PathBuf>,
}

/// The default kernel. Fetched once; after that no network is used.
pub(crate) fn newest() -> Result<Kernel> {
    let cache = Workspace::cache()?.join("kernels");
    let unpacked = cache.join(SUITE);
    if !unpacked.exists() {
        debian::ensure("fetching a kernel", &TOOLS)?;
        let package = fetch(&cache.join(format!("{SUITE}-apt")))?;
        unpack(&package, &unpacked)?;
    }
    in_folder(&unpacked)
}

/// A kernel that the user names: a Debian package, or an image without modules.
pub(crate) fn given(path: &Path) -> Result<Kernel> {
    if !path.is_file() {
        bail!("there is no kernel {}", path.display());
    }
    if path.extension().is_none_or(|extension| extension != "deb") {
        return Ok(Kernel { image: path.to_path_buf(), modules: None });
    }
    debian::ensure("unpacking a kernel", &TOOLS[..2])?;
    let name = path.file_stem().context("the package has no name")?;
    let unpacked = Workspace::cache()?.join("kernels").join(name);
    if !unpacked.exists() {
        unpack(path, &unpacked)?;
    }
    in_folder(&unpacked)
}

/// Downloads the newest kernel package of the suite into `state`, which holds apt's lists for that suite
/// only.
fn fetch(state: &Path) -> Result<PathBuf> {
    for folder in ["lists/partial", "cache/archives/partial", "packages"] {
        std::fs::create_dir_all(state.join(folder))
            .with_context(|| format!("cannot create {}", state.display()))?;
    }
    std::fs::write(state.join("sources.list"), source_line()?)?;
    command::run(apt("apt-get", state).arg("update"))?;
    let newest = command::text(apt("apt-cache", state).args(["show", "--no-all-versions", NEWEST]))?;
    let package = image_package(&newest).with_context(|| format!("{NEWEST} of {SUITE} names no kernel"))?;
    let packages = state.join("packages");
    command::run(apt("apt-get", state).args(["download", package]).current_dir(&packages))?;
    let prefix = format!("{package}_");
    let is_it =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
    let found = std::fs::read_dir(&packages)?.flatten().map(|entry| entry.path()).find(is_it);
    found.with_context(|| format!("apt-get download of {package} left no file"))
}

/// The machine's own mirror, with another suite.
fn source_line() -> Result<String> {
    let source = apt_sources::main_archive(Path::new("/etc/apt"))?;
    let keyring = source.keyring.filter(|keyring| keyring.exists()).unwrap_or_else(|| PathBuf::from(KEYRING));
    Ok(format!("deb [signed-by={}] {} {SUITE} main\n", keyring.display(), source.uri))
}

fn apt(program: &str, state: &Path) -> Command {
    let mut apt = Command::new(program);
    apt.env("LC_ALL", "C.UTF-8");
    for (option, value) in [
        ("Dir::Etc::SourceList", state.join("sources.list")),
        ("Dir::Etc::SourceParts", PathBuf::from("/dev/null")),
        ("Dir::State::Lists", state.join("lists")),
        ("Dir::Cache", state.join("cache")),
        // The cache may be in a home that apt's own user cannot enter.
        ("APT::Sandbox::User", PathBuf::from("root")),
        ("Acquire::Languages", PathBuf::from("none")),
    ] {
        apt.arg("-o").arg(format!("{option}={}", value.display()));
    }
    apt
}

/// The kernel package in the `Depends:` line of the package that stands for the newest one.
fn image_package(description: &str) -> Option<&str> {
    let depends = description.lines().find_map(|line| line.strip_prefix("Depends:"))?;
    depends
        .split(',')
        .filter_map(|item| item.split_whitespace().next())
        .find(|name| name.starts_with("linux-image-"))
}

/// Unpacks beside the goal and renames, so that a half-unpacked kernel is never taken for a whole one.
fn unpack(package: &Path, goal: &Path) -> Result<()> {
    let part = goal.with_extension("part");
    if part.exists() {
        std::fs::remove_dir_all(&part)?;
    }
    std::fs::create_dir_all(&part).with_context(|| format!("cannot create {}", part.display()))?;
    command::run(Command::new("dpkg-deb").arg("-x").arg(package).arg(&part))?;
    std::fs::rename(&part, goal).with_context(|| format!("cannot create {}", goal.display()))
}

fn in_folder(unpacked: &Path) -> Result<Kernel> {
    let image = child(&unpacked.join("boot"), "vmlinuz-")
        .with_context(|| format!("no kernel image in {}", unpacked.display()))?;
    let modules =
        ["usr/lib/modules", "lib/modules"].iter().find_map(|folder| child(&unpacked.join(folder), ""));
    Ok(Kernel { image, modules })
}

fn child(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_read_from_what_stands_for_it() {
        let text = "Package: linux-image-cloud-amd64\nDepends: foo, linux-image-6.12.9-cloud-amd64 (= 6.12.9-1), bar\n";
        assert_eq!(image_package(text), Some("linux-image-6.12.9-cloud-amd64"));
        assert_eq!(image_package("Package: x\n"), None);
    }

    #[test]
    fn an_unpacked_kernel_is_found_with_its_modules() {
        let folder = tempfile::tempdir().unwrap();
        assert!(in_folder(folder.path()).is_err());
        std::fs::create_dir_all(folder.path().join("boot")).unwrap();
        std::fs::create_dir_all(folder.path().join("lib/modules/6.1")).unwrap();
        std::fs::write(folder.path().join("boot/config-6.1"), "").unwrap();
        std::fs::write(folder.path().join("boot/vmlinuz-6.1"), "").unwrap();
        let kernel = in_folder(folder.path()).unwrap();
        assert!(kernel.image.ends_with("boot/vmlinuz-6.1"));
        assert!(kernel.modules.unwrap().ends_with("lib/modules/6.1"));
    }

    #[test]
    fn a_kernel_that_is_not_there_is_an_error() {
        assert!(given(Path::new("/no/such/kernel")).is_err());
    }
}
