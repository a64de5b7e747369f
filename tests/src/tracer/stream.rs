//! A tracer's records as they come, and waiting for one of them.
//!
//! Of the machine's sockets only those in the namespaces of the test are kept; what else goes on there
//! is neither stored nor judged. Nothing here sleeps for a guessed time: waiting is for a fact, with a limit.

use std::io::BufRead;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::mark;
use crate::records::Record;

/// Within this time a record must have come after its cause.
const RECORD_LIMIT: Duration = Duration::from_secs(30);
/// So many of the last records are shown when an expected one does not come.
const SHOWN: usize = 30;

/// What a tracer told of the test.
pub struct Run {
    /// The records of the test's namespaces and those that name no socket.
    pub records: Vec<Record>,
    /// The lines that they were read from.
    pub stdout: Vec<u8>,
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

/// What has been read so far.
#[derive(Default)]
pub(super) struct Output {
    /// The records of the test.
    pub(super) records: Vec<Record>,
    /// Those of the harness's own sockets.
    pub(super) marks: Vec<Record>,
    /// Every line that was taken.
    pub(super) stdout: Vec<u8>,
    pub(super) broken: Option<String>,
    pub(super) ended: bool,
}

/// A stream of records that one thread reads and another waits on.
#[derive(Clone, Default)]
pub struct Stream {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    output: Mutex<Output>,
    grown: Condvar,
}

impl Stream {
    pub(super) fn lock(&self) -> MutexGuard<'_, Output> {
        self.shared.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads lines to the end record, keeping every byte, and the records of these namespaces.
    pub(super) fn follow(&self, mut lines: impl BufRead, netns: &[u32]) {
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            self.take(&line, netns);
            if is_end(&line) {
                break;
            }
            line.clear();
        }
        self.end();
    }

    /// Takes one line: its record, where it is of one of these namespaces or of none.
    pub(super) fn take(&self, line: &[u8], netns: &[u32]) {
        let text = String::from_utf8_lossy(line);
        let parsed = Record::parse(text.trim_end_matches('\n'));
        let mut output = self.lock();
        output.stdout.extend_from_slice(line);
        match parsed {
            Ok(record) if mark::is_of(&record) => output.marks.push(record),
            Ok(record) if record.netns().is_none_or(|inode| netns.contains(&inode)) => {
                output.records.push(record);
            }
            Ok(_) => {}
            Err(error) => output.broken = Some(format!("{error:#}")),
        }
        self.shared.grown.notify_all();
    }

    /// What has come; what has not is no longer waited for.
    pub(super) fn told(&self) -> Result<Run> {
        let mut output = self.lock();
        if let Some(broken) = &output.broken {
            bail!("a broken line: {broken}");
        }
        let (records, stdout) = (std::mem::take(&mut output.records), std::mem::take(&mut output.stdout));
        Ok(Run { records, stdout })
    }

    /// Nothing more will come.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.shared.grown.notify_all();
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
        self.wait_in(what, |output| reached(&output.records))
    }

    /// Waits until `reached` finds in all that was read what it looks for.
    pub(super) fn wait_in<T>(&self, what: &str, reached: impl Fn(&Output) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + RECORD_LIMIT;
        let mut output = self.lock();
        loop {
            if let Some(broken) = &output.broken {
                bail!("a broken line: {broken}");
            }
            if let Some(found) = reached(&output) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!output.ended, "the tracer ended before this came: {what}{}", shown(&output.records));
            ensure!(!left.is_zero(), "this did not come: {what}{}", shown(&output.records));
            output = self.shared.grown.wait_timeout(output, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Whether a line is the `end` record.
pub(super) fn is_end(line: &[u8]) -> bool {
    const END: &[u8] = b"\"record\":\"end\"";
    line.windows(END.len()).any(|window| window == END)
}

fn shown(records: &[Record]) -> String {
    let last = &records[records.len().saturating_sub(SHOWN)..];
    last.iter().map(|record| format!("\n    {record}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"schema":1,"record":"event","seq":SEQ,"time":"t","event":"seen","socket":
        {"netns":NS,"local":{"ip":"9.1.1.1","port":PORT}}}"#;

    fn line(seq: u32, netns: u32, port: u16) -> String {
        let line = EVENT.replace('\n', "").replace("SEQ", &seq.to_string());
        line.replace("NS", &netns.to_string()).replace("PORT", &port.to_string()) + "\n"
    }

    fn followed(text: &str) -> Stream {
        let stream = Stream::default();
        stream.follow(text.as_bytes(), &[7]);
        stream
    }

    #[test]
    fn only_the_records_of_the_test_are_kept_and_every_byte_is() {
        let text = line(1, 7, 80) + &line(2, 8, 80) + &line(3, 7, 80) + &line(4, 7, mark::PORTS.start);
        let stream = followed(&text);
        let output = stream.lock();
        assert_eq!(output.records.iter().map(Record::seq).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(output.marks.iter().map(Record::seq).collect::<Vec<_>>(), [4]);
        assert_eq!(output.stdout, text.as_bytes());
        assert!(output.ended && output.broken.is_none());
    }

    #[test]
    fn a_torn_line_is_noticed() {
        let text = line(1, 7, 80);
        assert!(followed(&text[..text.len() - 3]).lock().broken.is_some());
    }
}
