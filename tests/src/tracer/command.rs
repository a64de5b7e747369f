//! Which tracer is tested under which hook plan, and its command lines.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result};
use clap::ValueEnum;
use rustix::process::{Signal, set_parent_process_death_signal};

/// A hook plan, or the tracer's own choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Plan {
    /// What the tracer chooses.
    Auto,
    /// fentry and fexit programs.
    Fentry,
    /// kprobes and kretprobes.
    Kprobe,
    /// Tracepoints, cgroup programs and iterators.
    Tracepoint,
    /// No BPF: the sockets are read again and again.
    Poll,
}

impl Plan {
    /// The word for `--hooks`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
            Self::Poll => "poll",
        }
    }
}

/// The program under test.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Where the tracer lies.
    pub path: PathBuf,
    /// The plan it is forced to.
    pub plan: Plan,
}

impl Subject {
    /// A command line of the tracer which dies with the test: one left behind would watch the next test.
    pub fn command<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Command {
        dying_with_us(&self.path, arguments)
    }

    /// `live --json` under the plan, with further arguments.
    #[must_use]
    pub fn live(&self, arguments: &[&str]) -> Command {
        self.command(["live", "--json", "--hooks", self.plan.word()].iter().chain(arguments))
    }

    /// Runs a command line to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Result<Output> {
        self.command(arguments).output().with_context(|| format!("starting {:?}", self.path))
    }
}

/// A command that is killed when the calling thread ends.
fn dying_with_us<I: IntoIterator<Item: AsRef<OsStr>>>(path: &Path, arguments: I) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(path);
    command.args(arguments);
    let prepare = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: between fork and exec only one system call is made; nothing is allocated.
    unsafe { command.pre_exec(prepare) };
    command
}
