//! Debian packages of another release or another architecture, fetched and unpacked with package lists of our
//! own, so that the machine's apt keeps its configuration and its state. What is fetched and why is the
//! callers'.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt_sources::{self, Source};
use crate::architecture::Architecture;
use crate::command;
use crate::debian::{self, Need};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const TOOLS: [Need; 2] = [Need::program("dpkg-deb", "dpkg"), Need::path(KEYRING, "debian-archive-keyring")];
/// The machine's own description of its package sources.
const APT: &str = "/etc/apt";

/// Package lists of one suite or one release, for one architecture, in a folder of their own.
pub(crate) struct Lists {
    state: PathBuf,
    architecture: Architecture,
}

impl Lists {
    /// The lists of `suite` on the machine's own mirror.
    pub(crate) fn of_suite(state: &Path, suite: &str, architecture: Architecture) -> Result<Self> {
        debian::ensure("fetching packages", &TOOLS)?;
        let source = apt_sources::main_archive(Path::new(APT))?;
        Self::read(state, architecture, &line(&source, suite))
    }

    /// The lists of the machine's own release, with its updates and security fixes.
    pub(crate) fn of_this_release(state: &Path, architecture: Architecture) -> Result<Self> {
        debian::ensure("fetching packages", &TOOLS)?;
        let sources = apt_sources::release_archives(Path::new(APT))?;
        Self::read(state, architecture, &release_lines(&sources))
    }

    /// The lists of the machine's own release with those of its backports, whose name comes with them.
    pub(crate) fn with_backports(state: &Path) -> Result<(Self, String)> {
        let sources = apt_sources::release_archives(Path::new(APT))?;
        let main = apt_sources::main_archive(Path::new(APT))?;
        let backports = format!("{}-backports", main.release().unwrap_or_default());
        let mut lines = release_lines(&sources);
        lines.push_str(&line(&main, &backports));
        Ok((Self::read(state, Architecture::this()?, &lines)?, backports))
    }

    fn read(state: &Path, architecture: Architecture, lines: &str) -> Result<Self> {
        for folder in ["lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(state.join(folder))
                .with_context(|| format!("cannot create {}", state.display()))?;
        }
        std::fs::write(state.join("sources.list"), lines)?;
        let lists = Self { state: state.to_path_buf(), architecture };
        command::run(lists.apt("apt-get").arg("update"))?;
        Ok(lists)
    }

    /// The names in the `Depends:` field of `package`, first alternatives only.
    pub(crate) fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let shown = command::text(self.apt("apt-cache").args(["show", "--no-all-versions", package]))?;
        Ok(depends(&shown).map(str::to_owned).collect())
    }

    /// Downloads `packages` (`name` or `name=version`) and unpacks all of them into the new folder `goal`. It
    /// is unpacked beside the goal and renamed, so that a half is never taken for the whole.
    pub(crate) fn unpack(&self, packages: &[String], goal: &Path) -> Result<()> {
        let download = self.state.join("packages");
        std::fs::create_dir_all(&download)?;
        command::run(self.apt("apt-get").arg("download").args(packages).current_dir(&download))?;
        let files: Vec<_> = std::fs::read_dir(&download)?.flatten().map(|entry| entry.path()).collect();
        if files.len() < packages.len() {
            bail!("apt-get download of {} left {} files", packages.join(" "), files.len());
        }
        unpack(&files, goal)
    }

    /// Deletes the lists and what was downloaded.
    pub(crate) fn delete(self) -> Result<()> {
        std::fs::remove_dir_all(&self.state)
            .with_context(|| format!("cannot delete {}", self.state.display()))
    }

    /// An apt program that knows these lists only.
    pub(crate) fn apt(&self, program: &str) -> Command {
        let mut apt = Command::new(program);
        apt.env("LC_ALL", "C.UTF-8");
        for (option, value) in [
            ("Dir::Etc::SourceList", self.state.join("sources.list")),
            ("Dir::Etc::SourceParts", PathBuf::from("/dev/null")),
            ("Dir::State::Lists", self.state.join("lists")),
            ("Dir::Cache", self.state.join("cache")),
            // The folder may be in a home that apt's own user cannot enter.
            ("APT::Sandbox::User", PathBuf::from("root")),
            ("APT::Architecture", PathBuf::from(self.architecture.debian())),
            ("APT::Architectures::", PathBuf::from(self.architecture.debian())),
            ("Acquire::Languages", PathBuf::from("none")),
        ] {
            apt.arg("-o").arg(format!("{option}={}", value.display()));
        }
        apt
    }
}

/// Unpacks the files of packages into the new folder `goal`.
pub(crate) fn unpack(files: &[PathBuf], goal: &Path) -> Result<()> {
    debian::ensure("unpacking packages", &TOOLS[..1])?;
    let mut part = goal.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    if part.exists() {
        std::fs::remove_dir_all(&part)?;
    }
    std::fs::create_dir_all(&part).with_context(|| format!("cannot create {}", part.display()))?;
    for file in files {
        command::run(Command::new("dpkg-deb").arg("-x").arg(file).arg(&part))?;
    }
    std::fs::rename(&part, goal).with_context(|| format!("cannot create {}", goal.display()))
}

fn release_lines(sources: &[Source]) -> String {
    sources.iter().flat_map(|source| source.suites.iter().map(|suite| line(source, suite))).collect()
}

fn line(source: &Source, suite: &str) -> String {
    let keyring = source.keyring.as_ref().filter(|keyring| keyring.exists());
    let keyring = keyring.map_or(Path::new(KEYRING), PathBuf::as_path);
    format!("deb [signed-by={}] {} {suite} main\n", keyring.display(), source.uri)
}

fn depends(shown: &str) -> impl Iterator<Item = &str> {
    let field = shown.lines().find_map(|line| line.strip_prefix("Depends:")).unwrap_or_default();
    field.split(',').filter_map(|item| item.split_whitespace().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_the_first_alternatives_by_name() {
        let shown =
            "Package: x\nDepends: dracut | initramfs-tools (>= 0.1), linux-image-6.12.9-cloud (= 6.12.9-1)\n";
        assert_eq!(depends(shown).collect::<Vec<_>>(), ["dracut", "linux-image-6.12.9-cloud"]);
        assert_eq!(depends("Package: x\n").count(), 0);
    }

    #[test]
    fn a_package_that_is_none_leaves_no_goal() {
        let folder = tempfile::tempdir().unwrap();
        let (file, goal) = (folder.path().join("no.deb"), folder.path().join("6.12"));
        std::fs::write(&file, "text").unwrap();
        assert!(unpack(&[file], &goal).is_err());
        assert!(!goal.exists());
    }
}
