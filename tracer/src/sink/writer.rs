//! The boundary to standard output: whole lines go in, `write(2)` comes out.
//!
//! [`Writer`] is for a live run: a thread owns the descriptor behind a buffer with a bound, and whoever
//! hands a line over never waits. [`Direct`] is for runs that lose nothing by waiting. What is done
//! about a refused line is decided in `stream`.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use tokio::sync::Notify;

#[cfg(test)]
mod tests;

/// Lines are put together up to this many bytes for one `write(2)`: what a pipe holds (pipe(7)). A longer
/// write would give no room back until all of it was read.
const BATCH: usize = 64 * 1024;

/// When lines come faster than this, the thread rests as long and writes them together: being woken for each
/// would cost whoever hands them over more than everything else.
const REST: Duration = Duration::from_micros(500);

/// Takes lines, each with its newline, and brings them to where they are read.
pub trait Out {
    /// Hands a line over.
    ///
    /// # Errors
    /// When it was not taken: there is no room for it, or nobody takes lines any more.
    fn try_send(&mut self, line: Bytes) -> Result<(), Refused>;

    /// Hands over a line for which there must be room: the few that account for the others.
    fn send(&mut self, line: Bytes);

    /// Whether there is room again for more than a few lines.
    fn has_room(&self) -> bool;

    /// Why no more lines are taken; nothing as long as they are.
    fn ended(&self) -> Option<Ended>;
}

/// Why a line was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The buffer is full: lines come faster than they are read.
    Full,
    /// No more lines can be written.
    Ended,
}

/// Why no more lines can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nobody reads any more: a quiet end.
    Closed,
    /// Writing failed, as on a full disk.
    Failed(Errno),
}

impl From<Errno> for Ended {
    fn from(errno: Errno) -> Self {
        if errno == Errno::PIPE { Self::Closed } else { Self::Failed(errno) }
    }
}

/// What became of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Lines that were taken and not written; the last write may have brought some of them there all the same.
    pub undelivered: u64,
    /// Why the writing ended early, if it did.
    pub ended: Option<Ended>,
}

/// A thread that writes lines, and the buffer before it.
#[derive(Debug)]
pub struct Writer {
    lines: mpsc::Sender<Bytes>,
    taken: u64,
    bound: usize,
    shared: Arc<Shared>,
    done: mpsc::Receiver<()>,
    /// Closed when this is dropped, which ends the watching for a hang-up.
    _watched: OwnedFd,
}

#[derive(Debug, Default)]
struct Shared {
    /// Bytes taken and not yet written.
    waiting: AtomicUsize,
    /// Lines written.
    written: AtomicU64,
    ended: OnceLock<Ended>,
    changed: Notify,
}

impl Shared {
    fn end(&self, why: Ended) {
        // The first reason is the one that counts.
        let _ = self.ended.set(why);
        self.changed.notify_one();
    }

    fn wrote(&self, part: &[u8]) {
        self.waiting.fetch_sub(part.len(), Ordering::AcqRel);
        let lines = part.iter().filter(|&&byte| byte == b'\n').count();
        self.written.fetch_add(lines as u64, Ordering::AcqRel);
    }
}

impl Writer {
    /// Starts writing to `fd`, with a buffer of `bound` bytes.
    ///
    /// # Errors
    /// When the system gives no more threads or descriptors.
    pub fn new(fd: OwnedFd, bound: usize) -> io::Result<Self> {
        let (fd, shared) = (Arc::new(fd), Arc::new(Shared::default()));
        let (sender, receiver) = mpsc::channel();
        let (done_sender, done) = mpsc::channel();
        let (stop, watched) = rustix::pipe::pipe()?;
        let (writing_fd, writing) = (Arc::clone(&fd), Arc::clone(&shared));
        thread::Builder::new().name("writer".into()).spawn(move || {
            if let Err(why) = write_lines(&receiver, &writing_fd, &writing) {
                writing.end(why);
            }
            drop(done_sender);
        })?;
        let watching = Arc::clone(&shared);
        thread::Builder::new().name("hangup".into()).spawn(move || {
            if hangs_up(&fd, &stop) {
                watching.end(Ended::Closed);
            }
        })?;
        Ok(Self { lines: sender, taken: 0, bound, shared, done, _watched: watched })
    }

    /// Starts writing to standard output.
    ///
    /// # Errors
    /// Those of [`Writer::new`].
    pub fn stdout(bound: usize) -> io::Result<Self> {
        Self::new(io::stdout().as_fd().try_clone_to_owned()?, bound)
    }

    /// Waits until no more lines can be written; forever as long as all goes well. It can be dropped and
    /// called again.
    pub async fn wait_ended(&self) -> Ended {
        loop {
            if let Some(why) = self.ended() {
                return why;
            }
            self.shared.changed.notified().await;
        }
    }

    /// Writes what is left, for at most `limit`: a reader who does not read must not keep the program from
    /// ending.
    pub fn finish(self, limit: Duration) -> Delivery {
        let Self { lines, taken, shared, done, .. } = self;
        drop(lines);
        // Nothing is ever sent: it ends when the thread does, or when the time is up.
        let _ = done.recv_timeout(limit);
        let written = shared.written.load(Ordering::Acquire);
        Delivery { undelivered: taken.saturating_sub(written), ended: shared.ended.get().copied() }
    }

    fn hand_over(&mut self, line: Bytes) -> Result<(), Refused> {
        let length = line.len();
        self.shared.waiting.fetch_add(length, Ordering::AcqRel);
        self.taken += 1;
        self.lines.send(line).map_err(|_| Refused::Ended)
    }
}

impl Out for Writer {
    fn try_send(&mut self, line: Bytes) -> Result<(), Refused> {
        if self.ended().is_some() {
            return Err(Refused::Ended);
        }
        let waiting = self.shared.waiting.load(Ordering::Acquire);
        if waiting > 0 && waiting + line.len() > self.bound {
            return Err(Refused::Full);
        }
        self.hand_over(line)
    }

    fn send(&mut self, line: Bytes) {
        // When the thread has ended, `ended` tells why.
        let _ = self.hand_over(line);
    }

    fn has_room(&self) -> bool {
        self.shared.waiting.load(Ordering::Acquire) <= self.bound / 2
    }

    fn ended(&self) -> Option<Ended> {
        self.shared.ended.get().copied()
    }
}

/// Writes lines as they come until there will be no more.
fn write_lines(lines: &mpsc::Receiver<Bytes>, fd: &OwnedFd, shared: &Shared) -> Result<(), Ended> {
    let mut batch = BytesMut::with_capacity(BATCH);
    let (mut held_back, mut written) = (None, None::<Instant>);
    while let Some(first) = held_back.take().or_else(|| lines.recv().ok()) {
        if written.is_some_and(|at| at.elapsed() < REST) && shared.waiting.load(Ordering::Acquire) < BATCH {
            thread::sleep(REST);
        }
        batch.clear();
        batch.extend_from_slice(&first);
        held_back = fill(&mut batch, lines);
        write_all(fd, &batch, |part| shared.wrote(part))?;
        written = Some(Instant::now());
    }
    Ok(())
}

/// Adds the lines that are there already, as far as they fit; returns one that did not. A write that ends
/// where a line does cannot mix with what another program writes to the same pipe or file.
fn fill(batch: &mut BytesMut, lines: &mpsc::Receiver<Bytes>) -> Option<Bytes> {
    for line in lines.try_iter() {
        if batch.len() + line.len() > BATCH {
            return Some(line);
        }
        batch.extend_from_slice(&line);
    }
    None
}

/// Writes all of `rest` and tells of each part written.
fn write_all(fd: &impl AsFd, mut rest: &[u8], mut wrote: impl FnMut(&[u8])) -> Result<(), Ended> {
    while !rest.is_empty() {
        match rustix::io::write(fd, rest) {
            Ok(0) => return Err(Ended::Failed(Errno::IO)),
            Ok(count) => {
                let (part, left) = rest.split_at(count);
                wrote(part);
                rest = left;
            }
            Err(Errno::INTR) => {}
            // Whoever shares the descriptor has made it non-blocking.
            Err(Errno::AGAIN) => wait_writable(fd)?,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn wait_writable(fd: &impl AsFd) -> Result<(), Ended> {
    match poll(&mut [PollFd::new(fd, PollFlags::OUT)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits until nobody reads `fd` any more, so that a run without events ends as well; false when `stop`
/// was closed before.
fn hangs_up(fd: &OwnedFd, stop: &OwnedFd) -> bool {
    // An error and a hang-up are told without being asked for, poll(2).
    let mut watched = [PollFd::new(fd, PollFlags::empty()), PollFd::new(stop, PollFlags::empty())];
    loop {
        match poll(&mut watched, None) {
            Ok(_) => return watched[1].revents().is_empty(),
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Writes each line at once and waits until it is written.
#[derive(Debug)]
pub struct Direct {
    fd: OwnedFd,
    ended: Option<Ended>,
}

impl Direct {
    /// Writes to `fd`.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, ended: None }
    }

    /// Writes to standard output.
    ///
    /// # Errors
    /// When the system gives no more descriptors.
    pub fn stdout() -> io::Result<Self> {
        Ok(Self::new(io::stdout().as_fd().try_clone_to_owned()?))
    }
}

impl Out for Direct {
    fn try_send(&mut self, line: Bytes) -> Result<(), Refused> {
        if self.ended.is_none() {
            self.ended = write_all(&self.fd, &line, |_| {}).err();
        }
        self.ended.map_or(Ok(()), |_| Err(Refused::Ended))
    }

    fn send(&mut self, line: Bytes) {
        // `ended` tells why it failed, if it did.
        let _ = self.try_send(line);
    }

    fn has_room(&self) -> bool {
        true
    }

    fn ended(&self) -> Option<Ended> {
        self.ended
    }
}
