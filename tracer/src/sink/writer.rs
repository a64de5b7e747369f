//! The boundary to standard output: whole lines go in, `write(2)` comes out.
//!
//! [`Writer`] is for a live run: what would have to wait is written by a thread, behind a buffer with a bound, and
//! whoever hands a line over never waits. [`Direct`] and [`Ahead`] are for runs that lose nothing by waiting. What is done
//! about a refused line is decided in `stream`.

use std::{
    io::{self, IoSlice},
    mem,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use bytes::{Buf, BytesMut};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, ReadWriteFlags, pwritev2},
};
use tokio::sync::Notify;

mod ahead;
#[cfg(test)]
mod tests;

pub use ahead::Ahead;

/// Lines are put together up to this many bytes for one `write(2)`. Each wakes the thread that writes, which costs
/// more than the writing; a much longer one would give no room back until all of it was read.
const BATCH: usize = 256 * 1024;
/// The same where no thread is woken: what a cache keeps, and a pipe takes at once.
const NEAR_BATCH: usize = 64 * 1024;

/// The offset of a write at the descriptor's own position, pwritev2(2).
const WHERE_IT_IS: u64 = u64::MAX;

/// Buffers that are kept beside the one that is filled.
const SPARE: usize = 2;

/// Takes lines, each with its newline, and brings them to where they are read.
pub trait Out {
    /// Hands a line over.
    ///
    /// # Errors
    /// When it was not taken: there is no room for it, or nobody takes lines any more.
    fn try_send(&mut self, line: &[u8]) -> Result<(), Refused>;

    /// Hands over a line for which there must be room: the few that account for the others.
    fn send(&mut self, line: &[u8]);

    /// Lets the lines go that were put together; whoever hands lines over does it before resting.
    fn flush(&mut self) {}

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
///
/// Lines are put together until [`Out::flush`], or until they fill a write: to wake the thread for each would
/// cost more than everything else that is done for a line. Where the kernel can say that a write would wait, as it can
/// of a pipe since 6.4, the thread is woken for that alone.
#[derive(Debug)]
pub struct Writer {
    /// Whole lines that are still to be given to the thread.
    together: BytesMut,
    /// How many lines these are.
    lines: u64,
    fd: Arc<OwnedFd>,
    /// The kernel knows of `fd` whether a write would wait, as far as is known.
    can_tell: bool,
    chunks: mpsc::Sender<Chunk>,
    /// Memory of chunks that were written: it is warm, and there.
    spent: mpsc::Receiver<BytesMut>,
    taken: u64,
    bound: usize,
    shared: Arc<Shared>,
    done: mpsc::Receiver<()>,
    /// Closed when this is dropped, which ends the watching for a hang-up.
    _watched: OwnedFd,
}

/// Lines for one `write(2)`, and how many they are.
#[derive(Debug)]
struct Chunk {
    bytes: BytesMut,
    lines: u64,
}

impl Chunk {
    /// How many lines end in a part of it; counted only where it is not all of it.
    fn lines_in(&self, part: &[u8]) -> u64 {
        if part.len() == self.bytes.len() { self.lines } else { lines(part) }
    }
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

    fn wrote(&self, bytes: usize, lines: u64) {
        self.waiting.fetch_sub(bytes, Ordering::AcqRel);
        self.written.fetch_add(lines, Ordering::AcqRel);
    }
}

/// Counts newlines, in pieces whose count fits a byte: so the compiler compares many bytes at once.
fn lines(bytes: &[u8]) -> u64 {
    let ends = |piece: &[u8]| piece.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>();
    bytes.chunks(usize::from(u8::MAX)).map(|piece| u64::from(ends(piece))).sum()
}

impl Writer {
    /// Starts writing to `fd`, with a buffer of `bound` bytes.
    ///
    /// # Errors
    /// When the system gives no more threads or descriptors.
    pub fn new(fd: OwnedFd, bound: usize) -> io::Result<Self> {
        let (fd, shared) = (Arc::new(fd), Arc::new(Shared::default()));
        let (sender, receiver) = mpsc::channel();
        let (spent_sender, spent) = mpsc::sync_channel(SPARE);
        let (done_sender, done) = mpsc::channel();
        let (stop, watched) = rustix::pipe::pipe()?;
        let (writing_fd, writing) = (Arc::clone(&fd), Arc::clone(&shared));
        thread::Builder::new().name("writer".into()).spawn(move || {
            if let Err(why) = write_chunks(&receiver, &spent_sender, &writing_fd, &writing) {
                writing.end(why);
            }
            drop(done_sender);
        })?;
        let (watched_fd, watching) = (Arc::clone(&fd), Arc::clone(&shared));
        thread::Builder::new().name("hangup".into()).spawn(move || {
            if hangs_up(&watched_fd, &stop) {
                watching.end(Ended::Closed);
            }
        })?;
        Ok(Self {
            together: BytesMut::new(),
            lines: 0,
            fd,
            can_tell: true,
            chunks: sender,
            spent,
            taken: 0,
            bound,
            shared,
            done,
            _watched: watched,
        })
    }

    /// Starts writing to standard output.
    ///
    /// # Errors
    /// Those of [`Writer::new`].
    pub fn stdout(bound: usize) -> io::Result<Self> {
        Self::new(io::stdout().as_fd().try_clone_to_owned()?, bound)
    }

    /// Writes what needs no waiting for, unless the thread still has lines that come before. Whatever else comes of it
    /// will come of the thread's write as well, which tells it.
    fn write_now(&mut self, chunk: &mut Chunk) {
        if !self.can_tell || self.shared.waiting.load(Ordering::Acquire) > chunk.bytes.len() {
            return;
        }
        let bytes = [IoSlice::new(&chunk.bytes)];
        match pwritev2(&*self.fd, &bytes, WHERE_IT_IS, ReadWriteFlags::NOWAIT) {
            Ok(count) => {
                let lines = chunk.lines_in(&chunk.bytes[..count]);
                self.shared.wrote(count, lines);
                chunk.lines -= lines;
                chunk.bytes.advance(count);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.can_tell = false,
        }
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
    pub fn finish(mut self, limit: Duration) -> Delivery {
        self.flush();
        let Self { chunks, taken, shared, done, .. } = self;
        drop(chunks);
        // Nothing is ever sent: it ends when the thread does, or when the time is up.
        let _ = done.recv_timeout(limit);
        let written = shared.written.load(Ordering::Acquire);
        Delivery { undelivered: taken.saturating_sub(written), ended: shared.ended.get().copied() }
    }
}

impl Out for Writer {
    fn try_send(&mut self, line: &[u8]) -> Result<(), Refused> {
        if self.ended().is_some() {
            return Err(Refused::Ended);
        }
        let waiting = self.shared.waiting.load(Ordering::Acquire);
        if waiting > 0 && waiting + line.len() > self.bound {
            self.flush();
            return Err(Refused::Full);
        }
        self.send(line);
        Ok(())
    }

    fn send(&mut self, line: &[u8]) {
        if self.together.len() + line.len() > if self.can_tell { NEAR_BATCH } else { BATCH } {
            self.flush();
        }
        self.shared.waiting.fetch_add(line.len(), Ordering::AcqRel);
        self.taken += 1;
        self.lines += 1;
        self.together.extend_from_slice(line);
    }

    fn flush(&mut self) {
        if self.together.is_empty() {
            return;
        }
        let empty = self.spent.try_recv().unwrap_or_default();
        let bytes = mem::replace(&mut self.together, empty);
        let mut chunk = Chunk { bytes, lines: mem::take(&mut self.lines) };
        self.write_now(&mut chunk);
        if chunk.bytes.is_empty() {
            self.together = chunk.bytes;
        } else {
            // When the thread has ended, `ended` tells why.
            let _ = self.chunks.send(chunk);
        }
    }

    fn has_room(&self) -> bool {
        self.shared.waiting.load(Ordering::Acquire) <= self.bound / 2
    }

    fn ended(&self) -> Option<Ended> {
        self.shared.ended.get().copied()
    }
}

/// Writes chunks as they come until there will be no more. Each ends where a line does: a write of whole lines
/// cannot mix with what another program writes to the same pipe or file.
fn write_chunks(
    chunks: &mpsc::Receiver<Chunk>,
    spent: &mpsc::SyncSender<BytesMut>,
    fd: &OwnedFd,
    shared: &Shared,
) -> Result<(), Ended> {
    chunks.iter().try_for_each(|mut chunk| {
        write_all(fd, &chunk.bytes, |part| shared.wrote(part.len(), chunk.lines_in(part)))?;
        chunk.bytes.clear();
        // What is more than is needed goes.
        let _ = spent.try_send(chunk.bytes);
        Ok(())
    })
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

/// Writes each line at once, and waits until it is written.
#[derive(Debug)]
pub struct Direct {
    fd: OwnedFd,
    ended: Option<Ended>,
}

impl Direct {
    /// Writes each line to `fd` at once.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, ended: None }
    }

    /// Writes each line to standard output at once.
    ///
    /// # Errors
    /// When the system gives no more descriptors.
    pub fn stdout() -> io::Result<Self> {
        Ok(Self::new(io::stdout().as_fd().try_clone_to_owned()?))
    }
}

impl Out for Direct {
    fn try_send(&mut self, line: &[u8]) -> Result<(), Refused> {
        self.send(line);
        self.ended.map_or(Ok(()), |_| Err(Refused::Ended))
    }

    fn send(&mut self, line: &[u8]) {
        if self.ended.is_none() {
            self.ended = write_all(&self.fd, line, |_| {}).err();
        }
    }

    fn has_room(&self) -> bool {
        true
    }

    fn ended(&self) -> Option<Ended> {
        self.ended
    }
}
