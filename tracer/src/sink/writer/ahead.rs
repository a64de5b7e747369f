//! Much at once, to a reader who takes it: written by a thread while more is made.

use std::{
    io, mem,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, OnceLock,
        mpsc::{self, Receiver, SyncSender},
    },
    thread::{self, JoinHandle},
};

use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};

use super::{BATCH, Ended, Out, Refused, write_all};

/// Bytes of a pipe to standard output: the most that anybody may ask for (`/proc/sys/fs/pipe-max-size`). It takes several
/// batches, so that its reader works meanwhile.
const PIPE: usize = 1024 * 1024;
/// Batches that wait to be written; after that whoever hands lines over waits as well.
const BATCHES: usize = 2;

/// Puts lines together and has them written by a thread. Whoever hands them over waits where the writing is behind.
#[derive(Debug)]
pub struct Ahead {
    together: Vec<u8>,
    batches: SyncSender<Vec<u8>>,
    /// Memory of batches that were written.
    spent: Receiver<Vec<u8>>,
    ended: Arc<OnceLock<Ended>>,
    thread: JoinHandle<()>,
}

impl Ahead {
    /// Begins to write to `fd`.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        if fcntl_getpipe_size(&fd).is_ok_and(|size| size < PIPE) {
            let _ = fcntl_setpipe_size(&fd, PIPE); // more than the user may have (pipe(7)): then it stays as it is
        }
        let (batches, to_write) = mpsc::sync_channel(BATCHES);
        let (written, spent) = mpsc::channel();
        let ended = Arc::new(OnceLock::new());
        let end = Arc::clone(&ended);
        let write = move || {
            if let Err(why) = write_batches(&to_write, &written, &fd) {
                let _ = end.set(why); // the only one who says it
            }
        };
        let thread = thread::Builder::new().name("writer".into()).spawn(write)?;
        Ok(Self { together: Vec::with_capacity(BATCH), batches, spent, ended, thread })
    }

    /// Begins to write to standard output.
    ///
    /// # Errors
    /// Those of [`Ahead::new`], and when the system gives no more descriptors.
    pub fn stdout() -> io::Result<Self> {
        Self::new(io::stdout().as_fd().try_clone_to_owned()?)
    }

    /// Waits until all is written; why not all could be.
    #[must_use]
    pub fn finish(mut self) -> Option<Ended> {
        self.flush();
        let Self { batches, thread, ended, .. } = self;
        drop(batches);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        ended.get().copied()
    }
}

impl Out for Ahead {
    fn try_send(&mut self, line: &[u8]) -> Result<(), Refused> {
        self.send(line);
        self.ended().map_or(Ok(()), |_| Err(Refused::Ended))
    }

    fn send(&mut self, line: &[u8]) {
        if self.together.len() + line.len() > BATCH {
            self.flush();
        }
        self.together.extend_from_slice(line);
    }

    fn flush(&mut self) {
        let empty = self.spent.try_recv().unwrap_or_else(|_| Vec::with_capacity(BATCH));
        // When the thread has ended, `ended` tells why.
        let _ = self.batches.send(mem::replace(&mut self.together, empty));
    }

    fn has_room(&self) -> bool {
        true
    }

    fn ended(&self) -> Option<Ended> {
        self.ended.get().copied()
    }
}

fn write_batches(
    batches: &Receiver<Vec<u8>>,
    written: &mpsc::Sender<Vec<u8>>,
    fd: &OwnedFd,
) -> Result<(), Ended> {
    batches.iter().try_for_each(|mut batch| {
        write_all(fd, &batch, |_| {})?;
        batch.clear();
        let _ = written.send(batch); // at the end nobody wants it any more
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{BufRead, BufReader},
    };

    use super::super::tests::{full, line};
    use super::*;

    #[test]
    fn lines_are_written_in_their_order() {
        let (reader, fd) = rustix::pipe::pipe().unwrap();
        let reading = thread::spawn(move || io::read_to_string(File::from(reader)).unwrap());
        let mut out = Ahead::new(fd).unwrap();
        (0..500_000).for_each(|number| out.try_send(&line(number)).unwrap());
        assert_eq!(out.finish(), None);
        let expected: String = (0..500_000).map(|number| format!("{number:07}\n")).collect();
        assert!(reading.join().unwrap() == expected);
    }

    #[test]
    fn a_reader_who_goes_and_a_full_disk_are_told() {
        let (reader, fd) = rustix::pipe::pipe().unwrap();
        let mut out = Ahead::new(fd).unwrap();
        let reading =
            thread::spawn(move || BufReader::new(File::from(reader)).lines().next().unwrap().unwrap());
        let sent = (0..1_000_000).find(|number| out.try_send(&line(*number)) == Err(Refused::Ended));
        assert!(sent.is_some());
        assert_eq!(reading.join().unwrap(), "0000000");
        assert_eq!(out.finish(), Some(Ended::Closed));
        let mut out = Ahead::new(full()).unwrap();
        out.send(&line(1));
        assert_eq!(out.finish(), Some(Ended::Failed(rustix::io::Errno::NOSPC)));
    }

    #[test]
    fn a_pipe_takes_several_batches_unless_it_takes_more_already() {
        let (reader, fd) = rustix::pipe::pipe().unwrap();
        let _out = Ahead::new(fd).unwrap();
        assert_eq!(fcntl_getpipe_size(&reader).unwrap(), PIPE);
        let (reader, fd) = rustix::pipe::pipe().unwrap();
        // Only root may have more than that.
        if fcntl_setpipe_size(&fd, 2 * PIPE).is_ok() {
            let _out = Ahead::new(fd).unwrap();
            assert_eq!(fcntl_getpipe_size(&reader).unwrap(), 2 * PIPE);
        }
    }
}
