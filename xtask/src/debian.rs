//! Programs that must be on the machine: installed from Debian's packages by root, named for everybody else.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command;

/// How it is seen that a package is there.
#[derive(Clone, Copy)]
pub(crate) enum Sign {
    /// A program on PATH or in a folder of system programs.
    Program(&'static str),
    /// A file or folder.
    Path(&'static str),
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

    fn is_met(&self) -> bool {
        match self.sign {
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

/// The package lists of a new machine are empty or old: after a failure they are fetched, and it is tried
/// once more.
fn install(packages: &[&str]) -> Result<()> {
    if command::run(&mut apt_install(packages)).is_ok() {
        return Ok(());
    }
    command::run(apt_get().arg("update"))?;
    command::run(&mut apt_install(packages))
}

fn apt_install(packages: &[&str]) -> Command {
    let mut apt = apt_get();
    // Nothing of the user's may go for what we want.
    apt.args(["install", "--yes", "--quiet", "--no-install-recommends", "--no-remove"]).args(packages);
    apt
}

fn apt_get() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
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
    fn nothing_is_done_when_nothing_is_missing() {
        ensure("this test", &[Need::program("sh", "dash"), Need::path("/", "base-files")]).unwrap();
    }
}
