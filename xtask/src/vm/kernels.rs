//! The kernels that the matrix runs on: which, and where Debian has them. How they are fetched is in `kernel`.

use crate::architecture::Architecture;

/// A kernel of Debian's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// What `--kernel`, the table of cells and the golden files call it.
    pub(crate) name: &'static str,
    /// The suite that has it.
    pub(crate) suite: &'static str,
    /// The package that depends on the suite's newest kernel for virtual machines.
    pub(crate) package: &'static str,
    /// The processor that it runs on.
    pub(crate) architecture: Architecture,
}

/// All of them, oldest first.
pub(crate) const KERNELS: [Known; 5] = [
    x86_64("5.10", "bullseye"),
    x86_64("6.1", "bookworm"),
    x86_64(DEFAULT, "trixie"),
    x86_64("7.x", "trixie-backports"),
    Known {
        name: "6.12-arm64",
        suite: "trixie",
        package: "linux-image-cloud-arm64",
        architecture: Architecture::Aarch64,
    },
];

/// The kernel that is booted where none is named.
pub(crate) const DEFAULT: &str = "6.12";

/// The kernel called `name`.
pub(crate) fn known(name: &str) -> Option<&'static Known> {
    KERNELS.iter().find(|kernel| kernel.name == name)
}

const fn x86_64(name: &'static str, suite: &'static str) -> Known {
    Known { name, suite, package: "linux-image-cloud-amd64", architecture: Architecture::X86_64 }
}
