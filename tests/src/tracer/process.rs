//! A running tracer as a process: started, ready, signalled, ended. Its output is the caller's.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tempfile::TempDir;

use super::Subject;

/// Within this time the tracer must be ready: an emulated guest loads its programs slowly.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Within this time the tracer must have ended after it was told to.
const END_LIMIT: Duration = Duration::from_secs(30);

/// A tracer that runs; it is killed when dropped.
pub struct Process {
    /// The process itself.
    pub child: Child,
    folder: TempDir,
}

impl Process {
    /// Starts a `live` that will create a ready file.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        command.arg("--ready-file").arg(folder.path().join("ready")).stdin(Stdio::null());
        let child = command.spawn().with_context(|| format!("starting {:?}", command.get_program()))?;
        Ok(Self { child, folder })
    }

    /// Starts a `live` and waits until it is ready.
    ///
    /// # Errors
    /// Those of [`Self::start`] and [`Self::wait_until_ready`].
    pub fn start_ready(command: &mut Command) -> Result<Self> {
        let mut process = Self::start(command)?;
        process.wait_until_ready()?;
        Ok(process)
    }

    /// Waits, by inotify, until the tracer has created its ready file.
    ///
    /// # Errors
    /// When it ends before it is ready, or is not ready within a minute.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        let notifier = inotify::init(inotify::CreateFlags::CLOEXEC)?;
        let created = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&notifier, self.folder.path(), created)?;
        let file: PathBuf = self.folder.path().join("ready");
        while !file.exists() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the tracer ended with {status} before it was ready");
            }
            ensure!(Instant::now() < deadline, "the tracer was not ready within {READY_LIMIT:?}");
            let slice = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            poll(&mut [PollFd::new(&notifier, PollFlags::IN)], Some(&slice))?;
        }
        Ok(())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid()?, signal).context("signalling the tracer")
    }

    /// Waits for the end, for half a minute at most.
    ///
    /// # Errors
    /// When it does not come, or came by a signal.
    pub fn wait_for_exit(&mut self) -> Result<ExitStatus> {
        let exit = pidfd_open(self.pid()?, PidfdFlags::empty())?;
        let limit = Timespec { tv_sec: END_LIMIT.as_secs().cast_signed(), tv_nsec: 0 };
        let ended = poll(&mut [PollFd::new(&exit, PollFlags::IN)], Some(&limit))?;
        ensure!(ended > 0, "the tracer did not end within {END_LIMIT:?}");
        let status = self.child.wait()?;
        ensure!(status.signal().is_none(), "the tracer was ended by {status}");
        Ok(status)
    }

    /// Ends it by SIGINT, which it must answer with success.
    ///
    /// # Errors
    /// When it is gone already, does not end in time, or ends with anything else than 0.
    pub fn finish(&mut self) -> Result<()> {
        self.signal(Signal::INT)?;
        let status = self.wait_for_exit()?;
        ensure!(status.success(), "the tracer ended with {status}");
        Ok(())
    }

    fn pid(&self) -> Result<Pid> {
        Pid::from_raw(self.child.id().cast_signed()).context("a process without id")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It fails only when the process is gone already, which is what is wanted. The kernel takes its time
        // to take many hooks off; who inherits the process waits for it.
        let _ = self.child.kill();
    }
}

/// Runs `live` in text mode around `work`; answers what `work` did and all of the text.
///
/// # Errors
/// Those of `work`, and when the tracer does not end with 0.
pub fn run_text<T>(subject: &Subject, work: impl FnOnce() -> Result<T>) -> Result<(T, Vec<u8>)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("stdout");
    let mut command = subject.command(["live", "--hooks", subject.plan.word()]);
    let mut process = Process::start_ready(command.stdout(File::create(&file)?))?;
    let done = work()?;
    process.finish()?;
    Ok((done, std::fs::read(&file)?))
}
