//! Programs that must be on the machine: installed from Debian's packages by root, named for everybody else.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};

use crate::command;
use crate::packages::Lists;
use crate::workspace::Workspace;

/// How it is seen that a package is there.
#[derive(Clone, Copy)]
pub(crate) enum Sign {
    /// A program on PATH or in a folder of system programs.
    Program(&'static str),
    /// A file or folder.
    Path(&'static str),
    /// A compiler at this path, not older than this workspace needs.
    Rustc(&'static str),
}

/// Something that is needed, and the Debian package that has it.
#[derive(Clone, Copy)]
pub(crate) struct Need {
    sign: Sign,
    package: &'static str,
}

impl Need {
    /// `program` of `package`.
    pub(crate) const fn program(program: &'static str, package: &'static str) -> Self {
        Self { sign: Sign::Program(program), package }
    }

    /// `path`, which `package` brings.
    pub(crate) const fn path(path: &'static str, package: &'static str) -> Self {
        Self { sign: Sign::Path(path), package }
    }

    /// The compiler `path` of `package`, new enough for this workspace.
    pub(crate) const fn rustc(path: &'static str, package: &'static str) -> Self {
        Self { sign: Sign::Rustc(path), package }
    }

    fn is_met(&self) -> bool {
        match self.sign {
            Sign::Rustc(path) => {
                let version = command::text(Command::new(path).arg("--version"));
                version.is_ok_and(|version| is_new_enough(&version, env!("CARGO_PKG_RUST_VERSION")))
            }
            Sign::Program(program) => command::which(program).is_some(),
            Sign::Path(path) => PathBuf::from(path).exists(),
        }
    }
}

/// Whether this process may do anything.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Sees to it that every need is met. Errors name the packages, when they cannot be installed from here.
pub(crate) fn ensure(purpose: &str, needs: &[Need]) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if command::which("apt-get").is_none() {
        bail!("{purpose} needs what Debian's packages {list} hold: install the same from your distribution");
    }
    if !is_root() {
        bail!("{purpose} needs more packages: run `sudo apt-get install {list}`");
    }
    install(&missing)?;
    match self::missing(needs).as_slice() {
        [] => Ok(()),
        still => bail!(
            "the packages {} are installed and what {purpose} needs of them is not there",
            still.join(" ")
        ),
    }
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    let mut packages: Vec<_> = needs.iter().filter(|need| !need.is_met()).map(|need| need.package).collect();
    packages.dedup();
    packages
}

/// Whether what `rustc --version` says is `least` (`1.95`) or newer.
fn is_new_enough(version: &str, least: &str) -> bool {
    let number = |text: &str| -> Option<(u32, u32)> {
        let mut parts = text.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    version.split(' ').nth(1).and_then(number) >= number(least)
}

/// The package lists of a new machine are empty, or so old that they give a compiler that is too old: they are
/// fetched first, once for all that is installed. Where something from the release's backports is on the machine
/// already, what belongs to it is to be had only from there.
fn install(packages: &[&str]) -> Result<()> {
    // dpkg has one lock for all who install.
    static UPDATED: Mutex<bool> = Mutex::new(false);
    let mut updated = UPDATED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*updated && let Err(error) = command::run(apt_get().arg("update")) {
        eprintln!("{error:#}; going on with the lists that are there");
    }
    *updated = true;
    let Err(error) = command::run(apt_install(&mut apt_get(), packages)) else { return Ok(()) };
    eprintln!("{error:#}; once more, from the release's backports");
    let (lists, suite) = Lists::with_backports(&Workspace::cache()?.join("backports-apt"))?;
    command::run(apt_install(lists.apt("apt-get").args(["-t", &suite]), packages))?;
    lists.delete()
}

fn apt_install<'a>(apt: &'a mut Command, packages: &[&str]) -> &'a mut Command {
    // Nothing of the user's may go for what we want.
    apt.args(["install", "--yes", "--quiet", "--no-install-recommends", "--no-remove"]).args(packages);
    apt.env("DEBIAN_FRONTEND", "noninteractive")
}

fn apt_get() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("LC_ALL", "C.UTF-8");
    apt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_is_met_by_its_sign_and_a_package_is_named_once() {
        let needs = [
            Need::program("sh", "dash"),
            Need::path("/no/such/path", "absent"),
            Need::program("no-such-program-anywhere", "absent"),
        ];
        assert_eq!(missing(&needs), ["absent"]);
    }

    #[test]
    fn a_compiler_is_compared_by_its_version_not_by_its_text() {
        let is_enough = |version| is_new_enough(version, "1.95");
        assert!(is_enough("rustc 1.96.0 (abc 2026-05-25) (built from a source tarball)"));
        assert!(is_enough("rustc 1.95.0"));
        assert!(is_enough("rustc 1.100.0"));
        assert!(!is_enough("rustc 1.85.0 (4d91de4e4 2025-02-17)"));
        assert!(!is_enough("no compiler"));
    }

    #[test]
    fn nothing_is_done_when_nothing_is_missing() {
        ensure("this test", &[Need::program("sh", "dash"), Need::path("/", "base-files")]).unwrap();
    }
}
