//! One guest: its file system, its boot, and what its console said, taken apart into the commands that ran.
//! What they are and what their output means is the callers'.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::initramfs::{self, Contents};
use super::kernel::Kernel;
use super::modules;
use super::protocol::{BEGIN, END};
use super::qemu::{self, Boot, Clock, Ending};
use super::variant::Variant;
use crate::workspace::{BENCH, Executables, INIT, LIVE, TRACER};

/// What Debian's kernels have as modules and the tests need: virtual links, socket tables, packet filters,
/// layered folders.
const MODULES: [&str; 10] = [
    "veth",
    "dummy",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "nf_tables",
    "nft_reject_inet",
    "nft_ct",
    "nft_limit",
    "overlay",
];
/// From the start of the emulator to the first command.
const BOOT: Duration = Duration::from_secs(120);

/// What is booted, and what runs in it.
pub(crate) struct Guest<'a> {
    /// Programs for the kernel's processor; `init` must be among them.
    pub(crate) programs: &'a Executables,
    /// The kernel.
    pub(crate) kernel: &'a Kernel,
    /// How it is run.
    pub(crate) variant: Variant,
    /// Commands, word by word.
    pub(crate) commands: Vec<Vec<String>>,
    /// Time for each command.
    pub(crate) limit: Duration,
    /// What its clock tells.
    pub(crate) clock: Clock,
}

/// A command of the guest, as its console told of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    /// None for one that did not end.
    pub(crate) status: Option<i32>,
    /// How long it took.
    pub(crate) took: Duration,
    /// Its output, kernel messages included.
    pub(crate) lines: Vec<String>,
}

/// What a guest did.
pub(crate) struct Story {
    /// The commands that were begun, in order.
    pub(crate) runs: Vec<Run>,
    /// How it ended.
    pub(crate) ending: Ending,
    /// From the start of the emulator to its end.
    pub(crate) took: Duration,
}

impl Guest<'_> {
    /// Boots it, with its file system in the file `initramfs` while it runs, and waits for its end. Every line
    /// of its console is given to `see`.
    pub(crate) fn boot(&self, initramfs: &Path, mut see: impl FnMut(&str)) -> Result<Story> {
        qemu::ensure(self.kernel.architecture)?;
        std::fs::write(initramfs, self.file_system()?)
            .with_context(|| format!("cannot write {}", initramfs.display()))?;
        let boot = Boot {
            kernel: &self.kernel.image,
            architecture: self.kernel.architecture,
            initramfs,
            parameters: self.variant.parameters(),
            clock: self.clock,
        };
        let limit = BOOT + self.limit * u32::try_from(self.commands.len())?;
        let (mut runs, begun) = (Vec::new(), Instant::now());
        let ending = qemu::boot(&boot, limit, |line| {
            see(line);
            read(&mut runs, line);
        })?;
        std::fs::remove_file(initramfs)?;
        Ok(Story { runs, ending, took: begun.elapsed() })
    }

    fn file_system(&self) -> Result<Vec<u8>> {
        let modules = match &self.kernel.modules {
            Some(folder) => modules::load(folder, &MODULES)?,
            None => Vec::new(),
        };
        let programs = [("tracer", TRACER), ("live", LIVE), ("bench", BENCH)];
        let programs =
            programs.into_iter().filter_map(|(name, binary)| Some((name, self.programs.path(binary).ok()?)));
        initramfs::build(&Contents {
            init: self.programs.path(INIT)?,
            programs: programs.collect(),
            modules: &modules,
            commands: &self.commands,
            environment: &self.variant.environment(),
            limit: self.limit,
        })
    }
}

fn read(runs: &mut Vec<Run>, line: &str) {
    if line.starts_with(BEGIN) {
        runs.push(Run::default());
        return;
    }
    let Some(run) = runs.last_mut().filter(|run| run.status.is_none()) else { return };
    match line.strip_prefix(END).and_then(ended) {
        Some((status, took)) => (run.status, run.took) = (Some(status), took),
        None => run.lines.push(line.to_owned()),
    }
}

fn ended(words: &str) -> Option<(i32, Duration)> {
    let (status, took) = words.trim().split_once(' ')?;
    Some((status.parse().ok()?, Duration::from_millis(took.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_is_taken_apart_into_commands() {
        let mut runs = Vec::new();
        for line in [
            "noise of the boot",
            "VM-RUN a b",
            "one",
            "two",
            "",
            "VM-END 3 1500",
            "noise",
            "VM-RUN c",
            "half",
        ] {
            read(&mut runs, line);
        }
        let first = Run {
            status: Some(3),
            took: Duration::from_millis(1500),
            lines: ["one", "two", ""].map(str::to_owned).to_vec(),
        };
        let second = Run { lines: vec!["half".to_owned()], ..Run::default() };
        assert_eq!(runs, [first, second]);
    }
}
