//! A running `tracer live --json`: its records as they come, waiting for one of them, its end.
//!
//! Of the machine's sockets only those in the namespaces of the test are kept; what else goes on there
//! is neither stored nor judged. Nothing here sleeps for a guessed time: waiting is for a fact, with a limit.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::Signal;

use super::Process;
use crate::records::Record;

/// Within this time a record must have come after its cause.
const RECORD_LIMIT: Duration = Duration::from_secs(10);
/// So many of the last records are shown when an expected one does not come.
const SHOWN: usize = 30;

/// What a finished tracer left.
pub struct Run {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its stdout.
    pub stdout: Vec<u8>,
    /// All of its stderr.
    pub stderr: String,
    /// The records of the test's namespaces and those that name no socket.
    pub records: Vec<Record>,
}

impl Run {
    /// The records that tell of an event.
    pub fn events<'a>(&'a self, event: &'a str) -> impl Iterator<Item = &'a Record> {
        self.records.iter().filter(move |record| record.tells(event))
    }

    /// The flags in which a rule speaks.
    pub fn flags<'a>(&'a self, rule: &'a str) -> impl Iterator<Item = &'a Record> {
        self.records.iter().filter(move |record| record.flags(rule))
    }

    /// The `end` record, which must be the last.
    ///
    /// # Errors
    /// When another record is last.
    pub fn end(&self) -> Result<&Record> {
        let last = self.records.last().context("no record at all")?;
        last.claim("the last record is the end", last.kind() == "end")
    }
}

#[derive(Default)]
struct Output {
    records: Vec<Record>,
    stdout: Vec<u8>,
    broken: Option<String>,
    ended: bool,
}

#[derive(Default)]
struct Shared {
    output: Mutex<Output>,
    grown: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads lines to the end, keeping the records that `keeps` wants.
    fn follow(&self, stdout: impl Read, keeps: impl Fn(&Record) -> bool) {
        let mut lines = BufReader::new(stdout);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            self.take(&line, &keeps);
            line.clear();
        }
        self.lock().ended = true;
        self.grown.notify_all();
    }

    fn take(&self, line: &[u8], keeps: impl Fn(&Record) -> bool) {
        let text = String::from_utf8_lossy(line);
        let parsed = Record::parse(text.trim_end_matches('\n'));
        let mut output = self.lock();
        output.stdout.extend_from_slice(line);
        match parsed {
            Ok(record) if keeps(&record) => output.records.push(record),
            Ok(_) => {}
            Err(error) => output.broken = Some(format!("{error:#}")),
        }
        self.grown.notify_all();
    }
}

/// A running tracer; it is killed when dropped.
pub struct Live {
    process: Process,
    shared: Arc<Shared>,
    stdout: Option<JoinHandle<()>>,
    stderr: Option<JoinHandle<String>>,
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
        let shared = Arc::new(Shared::default());
        let follower = Arc::clone(&shared);
        let keeps = move |record: &Record| record.netns().is_none_or(|inode| netns.contains(&inode));
        let reader = thread::spawn(move || follower.follow(stdout, keeps));
        let errors = thread::spawn(move || read_all(&mut stderr));
        let mut live = Self { process, shared, stdout: Some(reader), stderr: Some(errors) };
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

    /// Waits for the first record that `is` true of; `what` names it in the error.
    ///
    /// # Errors
    /// When it does not come in time or the tracer ends; the error shows the last records.
    pub fn wait(&self, what: &str, is: impl Fn(&Record) -> bool) -> Result<Record> {
        self.wait_all(what, 1, is)?.pop().context("no record")
    }

    /// Waits until `count` records came that `is` true of.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn wait_all(&self, what: &str, count: usize, is: impl Fn(&Record) -> bool) -> Result<Vec<Record>> {
        self.wait_until(what, |records| {
            let found: Vec<&Record> = records.iter().filter(|record| is(record)).take(count).collect();
            (found.len() == count).then(|| found.into_iter().cloned().collect())
        })
    }

    /// Waits until `reached` finds in all the records so far what it looks for.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn wait_until<T>(&self, what: &str, reached: impl Fn(&[Record]) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + RECORD_LIMIT;
        let mut output = self.shared.lock();
        loop {
            if let Some(broken) = &output.broken {
                bail!("a broken line: {broken}");
            }
            if let Some(found) = reached(&output.records) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!output.ended, "the tracer ended before this came: {what}{}", shown(&output.records));
            ensure!(!left.is_zero(), "this did not come: {what}{}", shown(&output.records));
            output = self.shared.grown.wait_timeout(output, left).unwrap_or_else(PoisonError::into_inner).0;
        }
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
    pub fn finish(self) -> Result<Run> {
        let run = self.finish_with(Signal::INT)?;
        ensure!(run.status.code() == Some(0), "the tracer ended with {}: {}", run.status, run.stderr);
        run.end()?;
        Ok(run)
    }

    /// Sends a signal and collects what the tracer left.
    ///
    /// # Errors
    /// When it does not end in time, or wrote a broken line.
    pub fn finish_with(mut self, signal: Signal) -> Result<Run> {
        self.process.signal(signal)?;
        self.collect()
    }

    /// Waits for a tracer that ends by itself.
    ///
    /// # Errors
    /// As [`Self::finish_with`].
    pub fn collect(&mut self) -> Result<Run> {
        let status = self.process.wait_for_exit()?;
        join(self.stdout.take())?;
        let stderr = join(self.stderr.take())?;
        let mut output = self.shared.lock();
        if let Some(broken) = &output.broken {
            bail!("a broken line: {broken}");
        }
        ensure!(!stderr.contains("panicked"), "the tracer panicked: {stderr}");
        let records = std::mem::take(&mut output.records);
        Ok(Run { status, stdout: std::mem::take(&mut output.stdout), stderr, records })
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

fn shown(records: &[Record]) -> String {
    let last = &records[records.len().saturating_sub(SHOWN)..];
    last.iter().map(|record| format!("\n    {record}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str =
        r#"{"schema":1,"record":"event","seq":SEQ,"time":"t","event":"seen","socket":{"netns":NS}}"#;

    fn line(seq: u32, netns: u32) -> String {
        EVENT.replace("SEQ", &seq.to_string()).replace("NS", &netns.to_string()) + "\n"
    }

    fn followed(text: &str) -> Output {
        let shared = Shared::default();
        shared.follow(text.as_bytes(), |record| record.netns() == Some(7));
        shared.output.into_inner().unwrap()
    }

    #[test]
    fn only_the_records_of_the_test_are_kept_and_every_byte_is() {
        let text = line(1, 7) + &line(2, 8) + &line(3, 7);
        let output = followed(&text);
        assert_eq!(output.records.iter().map(Record::seq).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(output.stdout, text.as_bytes());
        assert!(output.ended && output.broken.is_none());
    }

    #[test]
    fn a_torn_line_is_noticed() {
        let text = line(1, 7);
        assert!(followed(&text[..text.len() - 3]).broken.is_some());
    }
}
