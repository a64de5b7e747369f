//! A running `tracer live --json` of one test: started, followed, ended.

use std::io::{BufReader, Read};
use std::ops::Deref;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::Signal;

use super::{Process, Run, Stream};

/// What a finished tracer left.
pub struct Ended {
    /// What it told.
    pub run: Run,
    /// How it ended.
    pub status: ExitStatus,
    /// All of its stdout.
    pub stdout: Vec<u8>,
    /// All of its stderr.
    pub stderr: String,
}

/// A running tracer; it is killed when dropped.
pub struct Live {
    process: Process,
    stream: Stream,
    stdout: Option<JoinHandle<()>>,
    stderr: Option<JoinHandle<String>>,
}

impl Deref for Live {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}

impl Live {
    /// Starts `command` (a `live --json`) and waits until it is ready. Records of other namespaces than
    /// `netns` are dropped.
    ///
    /// # Errors
    /// When it ends before it is ready, or is not ready in time; the error has its stderr.
    pub fn start(mut command: Command, netns: Vec<u32>) -> Result<Self> {
        let mut process = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let stdout = process.child.stdout.take().context("a tracer without stdout")?;
        let mut stderr = process.child.stderr.take().context("a tracer without stderr")?;
        let stream = Stream::default();
        let follower = stream.clone();
        let reader = thread::spawn(move || follower.follow(BufReader::new(stdout), &netns));
        let errors = thread::spawn(move || read_all(&mut stderr));
        let mut live = Self { process, stream, stdout: Some(reader), stderr: Some(errors) };
        live.wait_until_ready()?;
        Ok(live)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let waited = self.process.wait_until_ready();
        if waited.is_err() {
            // Its stderr ends with it, and says why.
            let _ = self.process.child.kill();
            let stderr = join(self.stderr.take()).unwrap_or_default();
            return waited.with_context(|| format!("the tracer said: {}", stderr.trim()));
        }
        Ok(())
    }

    /// The process id of the tracer.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Ends the tracer with SIGINT; it must exit with 0 and its last record must be the end.
    ///
    /// # Errors
    /// When it does otherwise.
    pub fn finish(self) -> Result<Ended> {
        let ended = self.finish_with(Signal::INT)?;
        ensure!(ended.status.code() == Some(0), "the tracer ended with {}: {}", ended.status, ended.stderr);
        ended.run.end()?;
        Ok(ended)
    }

    /// Sends a signal and collects what the tracer left.
    ///
    /// # Errors
    /// When it does not end in time, or wrote a broken line.
    pub fn finish_with(mut self, signal: Signal) -> Result<Ended> {
        self.process.signal(signal)?;
        self.collect()
    }

    /// Waits for a tracer that ends by itself.
    ///
    /// # Errors
    /// As [`Self::finish_with`].
    pub fn collect(&mut self) -> Result<Ended> {
        let status = self.process.wait_for_exit()?;
        join(self.stdout.take())?;
        let stderr = join(self.stderr.take())?;
        let mut output = self.stream.lock();
        if let Some(broken) = &output.broken {
            bail!("a broken line: {broken}");
        }
        ensure!(!stderr.contains("panicked"), "the tracer panicked: {stderr}");
        let run = Run { records: std::mem::take(&mut output.records) };
        Ok(Ended { run, status, stdout: std::mem::take(&mut output.stdout), stderr })
    }
}

fn read_all(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if let Err(error) = read {
        text.push_str(&format!("\n(stderr broke off: {error})"));
    }
    text
}

fn join<T>(thread: Option<JoinHandle<T>>) -> Result<T> {
    thread.context("collected twice")?.join().map_err(|_| anyhow!("a reading thread panicked"))
}
