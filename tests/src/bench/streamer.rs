//! A program that tells events as they happen, the tracer or another, running beside a load: started, ready,
//! ended, its output in a file.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::tools::{Tool, last_words};
use super::{Gauge, Setting};
use crate::net::Netns;
use crate::tracer::Process;

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Streamer {
    /// The tracer, every event as JSON.
    EveryEvent,
    /// The same, and nobody keeps it.
    EveryEventToNull,
    /// The tracer as it runs by default: flags, as text.
    Flags,
    /// Another program.
    Other(&'static Tool),
}

/// Why a program cannot be compared with on this machine. Not a failure of the benchmark.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unavailable(pub(super) String);

/// Within this time a program must have set itself up, and have worked off what it has.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Within this time another program must have ended after SIGINT.
const END: Duration = Duration::from_secs(10);
/// A program that cannot run here has said so by then.
const FIRST_WORDS: Duration = Duration::from_millis(500);

/// A running one; it is ended when dropped. What it wrote is in files without a name, which nothing can leave behind.
pub(super) struct Running {
    process: Kind,
    stdout: File,
    stderr: File,
}

enum Kind {
    Tracer(Process),
    Other(Child),
}

impl Streamer {
    /// As the report calls it.
    #[must_use]
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::EveryEvent => "tracer --json --all",
            Self::EveryEventToNull => "tracer --json --all > /dev/null",
            Self::Flags => "tracer",
            Self::Other(tool) => tool.name,
        }
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// [`Unavailable`] when another program is not installed or does not run here; else when the tracer does not
    /// get ready.
    pub(super) fn start(self, setting: &Setting, netns: &Netns) -> Result<Running> {
        let stdout = match self {
            Self::EveryEventToNull => File::options().read(true).write(true).open("/dev/null")?,
            Self::EveryEvent | Self::Flags | Self::Other(_) => tempfile::tempfile()?,
        };
        let stderr = tempfile::tempfile()?;
        let mut command = match self {
            Self::EveryEvent | Self::EveryEventToNull => setting.subject.live(&["--all"]),
            Self::Flags => setting.subject.command(["live", "--hooks", setting.subject.plan.word()]),
            Self::Other(tool) => tool.command(netns).map_err(Unavailable)?,
        };
        command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
        let process = match self {
            Self::EveryEvent | Self::EveryEventToNull | Self::Flags => {
                Kind::Tracer(Process::start_ready(&mut command)?)
            }
            Self::Other(_) => Kind::Other(command.spawn().context("starting a program")?),
        };
        let mut running = Running { process, stdout, stderr };
        running.await_first_words()?;
        running.gauge()?.settle(PATIENCE)?;
        Ok(running)
    }
}

impl Running {
    /// Its costs.
    ///
    /// # Errors
    /// When it has no process id.
    pub(super) fn gauge(&self) -> Result<Gauge> {
        Gauge::of(self.pid())
    }

    /// Its process id.
    #[must_use]
    pub(super) fn pid(&self) -> u32 {
        match &self.process {
            Kind::Tracer(process) => process.child.id(),
            Kind::Other(child) => child.id(),
        }
    }

    /// Waits until it has worked off what it has; answers when it had.
    ///
    /// # Errors
    /// When that takes longer than a minute.
    pub(super) fn settle(&self) -> Result<Instant> {
        self.gauge()?.settle(PATIENCE)
    }

    /// What it has written so far and will write, from the beginning.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub(super) fn output(&self) -> Result<File> {
        reopened(&self.stdout)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid().cast_signed()).context("no process id")?;
        kill_process(pid, signal).context("signalling a program")
    }

    /// Ends it by SIGINT; its output stays while this lives.
    ///
    /// # Errors
    /// When the tracer does not end as it should.
    pub(super) fn end(&mut self) -> Result<()> {
        self.signal(Signal::INT)?;
        match &mut self.process {
            Kind::Tracer(process) => {
                let status = process.wait_for_exit()?;
                ensure!(status.success(), "the tracer ended with {status}: {}", self.last_words());
            }
            Kind::Other(child) => end(child)?,
        }
        Ok(())
    }

    /// Lines of its output, after it has ended.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn lines(&self) -> Result<u64> {
        let mut count = 0;
        let mut reader = BufReader::with_capacity(1 << 20, self.output()?);
        loop {
            let bytes = reader.fill_buf()?;
            if bytes.is_empty() {
                return Ok(count);
            }
            count += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            let length = bytes.len();
            reader.consume(length);
        }
    }

    fn await_first_words(&mut self) -> Result<()> {
        let Kind::Other(child) = &mut self.process else { return Ok(()) };
        let begun = Instant::now();
        while begun.elapsed() < FIRST_WORDS {
            if child.try_wait()?.is_some() {
                bail!(Unavailable(format!("cannot run here: {}", self.last_words())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let mut bytes = Vec::new();
        // Without its words the message is poorer, and still true.
        let _ = reopened(&self.stderr).map(|mut file| file.read_to_end(&mut bytes));
        last_words(&bytes)
    }
}

/// The same file with a position of its own.
fn reopened(file: &File) -> Result<File> {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).context("opening a program's output")
}

/// A program that does not heed the signal is ended for good: its output is not needed that much.
fn end(child: &mut Child) -> Result<()> {
    let begun = Instant::now();
    while child.try_wait()?.is_none() {
        if begun.elapsed() > END {
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Kind::Other(child) = &mut self.process {
            // Both fail only when it is gone already, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
