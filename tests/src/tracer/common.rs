//! One tracer for all scenarios that need none of their own: it writes to a file, which each of them
//! follows from where it stands when the scenario begins. [`Common`] is the runner's side, [`Follower`]
//! a scenario's.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::process::Signal;
use tempfile::TempDir;

use super::mark::Marks;
use super::{Plan, Process, Run, Stream, Subject};
use crate::net::Network;
use crate::records::Record;

/// No record is longer, bytes.
const LONGEST: u64 = 1 << 16;
/// The file is looked at again after this time even if nothing told that it grew.
const SLICE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// A running `live --json --all`; it is killed when dropped.
pub struct Common {
    process: Process,
    folder: TempDir,
}

impl Common {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it is not ready in time; the error has its stderr.
    pub fn start(subject: &Subject) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let stderr = folder.path().join("stderr");
        let mut command = subject.live(&["--all"]);
        command.stdout(File::create(folder.path().join("stdout"))?).stderr(File::create(&stderr)?);
        let mut process = Process::start(&mut command)?;
        if let Err(error) = process.wait_until_ready() {
            bail!("{error:#}; the tracer said: {}", std::fs::read_to_string(&stderr)?.trim());
        }
        Ok(Self { process, folder })
    }

    /// Where its records are.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("stdout")
    }

    /// Claims that it runs.
    ///
    /// # Errors
    /// When it has ended; the error has its stderr.
    pub fn check(&mut self) -> Result<()> {
        match self.process.child.try_wait()? {
            Some(status) => bail!("the common tracer ended with {status}: {}", self.stderr()?),
            None => Ok(()),
        }
    }

    /// Ends it with SIGINT; it must exit with 0 and its last record must be the end.
    ///
    /// # Errors
    /// When it does otherwise.
    pub fn finish(mut self) -> Result<()> {
        self.process.signal(Signal::INT)?;
        let status = self.process.wait_for_exit()?;
        let stderr = self.stderr()?;
        ensure!(status.success() && !stderr.contains("panicked"), "it ended with {status}: {stderr}");
        let mut last = BufReader::new(File::open(self.file())?);
        last.seek(SeekFrom::Start(start_of_last_line(&self.file())?))?;
        let mut line = String::new();
        last.read_line(&mut line)?;
        Record::parse(line.trim_end())?.claim("the last record is the end", is_end(&line)).map(drop)
    }

    fn stderr(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.folder.path().join("stderr"))?)
    }
}

/// A scenario's view of the common tracer: what it told of the scenario's namespaces since it began.
pub struct Follower {
    stream: Stream,
    marks: Marks,
    plan: Plan,
    stop: Arc<AtomicBool>,
}

impl Deref for Follower {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Follower {
    /// Follows the records in `file` from now on: what was caused before is left out, told or not.
    ///
    /// # Errors
    /// When the file cannot be read, or the tracer does not show that it has come as far as to now.
    pub fn start(file: &Path, network: &Network, plan: Plan) -> Result<Self> {
        let marks = Marks { a: network.a.try_clone()?, b: network.b.try_clone()? };
        let (stream, stop) = (Stream::default(), Arc::new(AtomicBool::new(false)));
        let tail = Tail::open(file)?;
        let (reader, stopped, inodes) = (stream.clone(), Arc::clone(&stop), network.inodes());
        thread::spawn(move || tail.follow(&reader, &inodes, &stopped));
        let follower = Self { stream, marks, plan, stop };
        follower.marks.listeners(&follower.stream)?;
        follower.stream.lock().records.clear();
        Ok(follower)
    }

    /// Waits until everything that was caused so far has been told, and answers it.
    ///
    /// # Errors
    /// When the tracer does not come that far, or wrote a broken line.
    pub fn finish(self) -> Result<Run> {
        self.marks.listeners(&self.stream)?;
        match self.plan {
            // What one picture of the sockets shows is whole when the next one is told.
            Plan::Poll => self.marks.listeners(&self.stream)?,
            Plan::Auto | Plan::Fentry | Plan::Kprobe | Plan::Tracepoint => {
                self.marks.session(&self.stream)?;
                if self.stream.lock().records.iter().any(|record| record.tells("udp")) {
                    self.marks.flow(&self.stream)?;
                }
            }
        }
        let mut output = self.stream.lock();
        if let Some(broken) = &output.broken {
            bail!("a broken line: {broken}");
        }
        Ok(Run { records: std::mem::take(&mut output.records) })
    }
}

/// The end of a file that grows.
struct Tail {
    lines: BufReader<File>,
    notifier: OwnedFd,
}

impl Tail {
    /// Stands at the last whole line.
    fn open(path: &Path) -> Result<Self> {
        let notifier = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        inotify::add_watch(&notifier, path, inotify::WatchFlags::MODIFY)?;
        let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        file.seek(SeekFrom::Start(start_of_last_line(path)?))?;
        Ok(Self { lines: BufReader::new(file), notifier })
    }

    /// Gives each whole line that may be of these namespaces to `stream`, until the end record or `stop`.
    fn follow(mut self, stream: &Stream, netns: &[u32], stop: &AtomicBool) {
        let mut line = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            if self.lines.read_until(b'\n', &mut line).is_err() {
                break;
            }
            if line.ends_with(b"\n") {
                let text = String::from_utf8_lossy(&line);
                if may_be_of(&text, netns) {
                    stream.take(&line, netns);
                }
                if is_end(&text) {
                    break;
                }
                line.clear();
            } else {
                self.await_growth();
            }
        }
        stream.end();
    }

    fn await_growth(&self) {
        // A wake-up too many or a missed one costs a look; neither can lose a line.
        let _ = poll(&mut [PollFd::new(&self.notifier, PollFlags::IN)], Some(&SLICE));
        let _ = rustix::io::read(&self.notifier, &mut [0_u8; 4096]);
    }
}

/// Tells the lines of other scenarios' sockets at a glance, so that they need not be parsed.
fn may_be_of(line: &str, netns: &[u32]) -> bool {
    const FIELD: &str = "\"netns\":";
    !line.contains(FIELD) || netns.iter().any(|inode| line.contains(&format!("{FIELD}{inode},")))
}

fn is_end(line: &str) -> bool {
    line.contains("\"record\":\"end\"")
}

/// Where the last line that has its end begins; the file may be in the middle of another.
fn start_of_last_line(path: &Path) -> Result<u64> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(LONGEST);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(length - start).read_to_end(&mut bytes)?;
    let mut ends = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    let before = ends.next().and_then(|_| ends.next());
    Ok(start + before.map_or(0, |at| at as u64 + 1))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    const OTHER: &str = "{\"schema\":1,\"record\":\"event\",\"seq\":1,\"time\":\"t\",\"socket\":{\"netns\":8,\"id\":\"1\"}}\n";
    const OWN: &str = "{\"schema\":1,\"record\":\"event\",\"seq\":2,\"time\":\"t\",\"socket\":{\"netns\":7,\"id\":\"1\"}}\n";

    #[test]
    fn a_file_is_followed_from_its_last_line_through_torn_writes_to_the_end() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all([OTHER, OWN, OWN, &OWN[..9]].concat().as_bytes()).unwrap();
        let tail = Tail::open(file.path()).unwrap();
        let stream = Stream::default();
        let reader = stream.clone();
        let thread = thread::spawn(move || tail.follow(&reader, &[7], &AtomicBool::new(false)));
        let end = OWN.replace("event", "end");
        for part in [&OWN[9..], OTHER, &OWN[..30], &OWN[30..], &end] {
            file.write_all(part.as_bytes()).unwrap();
            thread::sleep(Duration::from_millis(5));
        }
        thread.join().unwrap();
        let output = stream.lock();
        assert_eq!(output.records.len(), 4);
        assert!(output.ended && output.broken.is_none());
    }

    #[test]
    fn lines_of_others_are_told_at_a_glance() {
        assert!(may_be_of(OWN, &[6, 7]) && !may_be_of(OTHER, &[6, 7]) && !may_be_of(OTHER, &[88, 0]));
        assert!(may_be_of("{\"record\":\"gap\"}", &[7]));
    }

    #[test]
    fn an_empty_file_begins_at_its_start() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(start_of_last_line(file.path()).unwrap(), 0);
    }
}
