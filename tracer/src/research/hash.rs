//! The SHA-256 of files that processes run: of those that a rule finds suspicious, and of all where that is asked for. Each is read
//! once, as long as it does not change. What is read is bounded: in size ([`Unhashed::LARGEST`]), in a second ([`RATE`]), and a large
//! file waits until nothing else is to be looked up.

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    os::unix::fs::MetadataExt,
    thread,
    time::{Duration, Instant},
};

use foldhash::fast::FixedState;
use rustix::{
    fs::{CWD, MemfdFlags, Mode, OFlags, memfd_create, openat},
    io,
};

use super::{
    mounts::Mounts,
    packages::digest::sum,
    path::by_descriptor,
    stamp::{Stamp, stamp},
};
use crate::model::provenance::{Digest, Sha256, Unhashed};

/// Bytes that are read in a second, over some time.
const RATE: u64 = 64 << 20;
/// So long at that rate may be read at once.
const BURST: Duration = Duration::from_secs(1);
/// Largest file that is read while others wait, bytes: less than a tenth of a second.
const AT_ONCE: u64 = 8 << 20;
/// Digests that are kept; past that all are forgotten.
const REMEMBERED: usize = 1024;
/// File systems whose files another machine or a process has; FUSE has many names.
const REMOTE: [&str; 10] = ["9p", "afs", "ceph", "cifs", "coda", "gfs2", "nfs", "nfs4", "ocfs2", "smb3"];

/// What is done with a file that is not to be read at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Manner {
    /// Its time is waited for.
    #[default]
    Waits,
    /// It is left for later, and that is noted.
    PutsOff,
    /// It is left out.
    Refuses,
}

/// Makes digests, and remembers them.
#[derive(Default)]
pub(super) struct Hashes {
    known: HashMap<Stamp, Digest, FixedState>,
    /// When there was time at [`RATE`] for all that was read.
    paid: Option<Instant>,
    manner: Manner,
    was_put_off: bool,
}

impl Hashes {
    /// Has another way with files that are not to be read at once.
    pub(super) fn set_manner(&mut self, manner: Manner) {
        self.manner = manner;
    }

    /// True when a file was left for later since this was asked last.
    pub(super) fn take_put_off(&mut self) -> bool {
        std::mem::take(&mut self.was_put_off)
    }

    /// How long to rest before another file is read.
    pub(super) fn rest(&self) -> Duration {
        let behind = self.paid.map(|paid| paid.saturating_duration_since(Instant::now()));
        behind.unwrap_or_default().saturating_sub(BURST)
    }

    /// The digest of a file, which need not be open for reading; nothing where that is left for later.
    pub(super) fn of(&mut self, file: Option<&File>, mounts: &Mounts) -> Option<Box<Sha256>> {
        let found = file.ok_or(Unhashed::Unreadable).and_then(|file| self.find(file, mounts));
        Some(Box::new(match found {
            Ok(digest) => Sha256::Is(digest?),
            Err(why) => Sha256::Unknown(why),
        }))
    }

    fn find(&mut self, file: &File, mounts: &Mounts) -> Result<Option<Digest>, Unhashed> {
        let metadata = file.metadata().map_err(|_| Unhashed::Unreadable)?;
        if !metadata.is_file() {
            return Err(Unhashed::Unreadable);
        }
        if metadata.len() > Unhashed::LARGEST {
            return Err(Unhashed::TooLarge);
        }
        let stamp = stamp(&metadata);
        if let Some(digest) = self.known.get(&stamp) {
            return Ok(Some(*digest));
        }
        if !is_local(file, &metadata, mounts) {
            return Err(Unhashed::Remote);
        }
        if !self.may_read(metadata.len())? {
            return Ok(None);
        }
        let digest = read(file, stamp)?;
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(stamp, digest);
        Ok(Some(digest))
    }

    /// Whether so many bytes may be read now, which then count as read.
    fn may_read(&mut self, bytes: u64) -> Result<bool, Unhashed> {
        let is_due = bytes <= AT_ONCE && self.rest().is_zero();
        match self.manner {
            Manner::Waits => thread::sleep(self.rest()),
            Manner::PutsOff if !is_due => {
                self.was_put_off = true;
                return Ok(false);
            }
            Manner::Refuses if !is_due => return Err(Unhashed::Busy),
            Manner::PutsOff | Manner::Refuses => {}
        }
        let now = Instant::now();
        let begin = self.paid.filter(|paid| *paid > now).unwrap_or(now);
        self.paid = Some(begin + Duration::from_nanos(bytes * 1_000_000_000 / RATE));
        Ok(true)
    }
}

/// Opens the file for reading, and reads it.
fn read(file: &File, before: Stamp) -> Result<Digest, Unhashed> {
    // It is a regular file; what may still keep the opening waiting is a lease (fcntl(2)).
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = openat(CWD, by_descriptor(file), flags, Mode::empty());
    let opened = File::from(opened.map_err(|_| Unhashed::Unreadable)?);
    let sum = sum::<sha2::Sha256>(&opened).ok().and_then(|sum| sum.try_into().ok());
    let sum = sum.ok_or(Unhashed::Unreadable)?;
    let after = opened.metadata().map_err(|_| Unhashed::Unreadable)?;
    if stamp(&after) == before { Ok(Digest(sum)) } else { Err(Unhashed::Changed) }
}

/// True for a file of a file system that answers by itself. One whose mount cannot be seen may be of any, but for memfds.
fn is_local(file: &File, metadata: &Metadata, mounts: &Mounts) -> bool {
    match mounts.find(file) {
        Some(mount) => {
            !mount.kind.starts_with(b"fuse") && REMOTE.iter().all(|kind| kind.as_bytes() != mount.kind)
        }
        None => memory_device().is_ok_and(|device| device == metadata.dev()),
    }
}

/// The device of all memfds: `stat` of one is told by the kernel itself, and nobody can mount it.
fn memory_device() -> io::Result<u64> {
    let file = File::from(memfd_create("tracer", MemfdFlags::CLOEXEC)?);
    Ok(rustix::fs::fstat(&file)?.st_dev)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, path::PathBuf};

    use rustix::fs::FileType;

    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    struct Made {
        folder: tempfile::TempDir,
        hashes: Hashes,
    }

    impl Made {
        fn new(manner: Manner) -> Self {
            Self { folder: tempfile::tempdir().unwrap(), hashes: Hashes { manner, ..Hashes::default() } }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// A file of so many zeroes.
        fn file(&self, name: &str, length: u64) -> File {
            let file = File::create(self.path(name)).unwrap();
            file.set_len(length).unwrap();
            file
        }

        /// The digest of a file, or why not; empty where it is put off.
        fn of(&mut self, name: &str) -> String {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let file = openat(CWD, self.path(name), flags, Mode::empty()).ok().map(File::from);
            self.told(file.as_ref())
        }

        fn told(&mut self, file: Option<&File>) -> String {
            let told = self.hashes.of(file, &Mounts::own());
            told.map_or_else(String::new, |told| match *told {
                Sha256::Is(digest) => digest.to_string(),
                Sha256::Unknown(why) => format!("{why:?}"),
            })
        }
    }

    #[test]
    fn a_file_has_the_digest_of_the_standard_and_another_when_it_changes() {
        let mut made = Made::new(Manner::PutsOff);
        fs::write(made.path("file"), "abc").unwrap();
        assert_eq!(made.of("file"), ABC);
        fs::write(made.path("file"), "abcd").unwrap();
        assert!(made.of("file").starts_with("88d4266f"), "that of abcd");
    }

    #[test]
    fn a_file_in_memory_has_one_too() {
        let mut made = Made::new(Manner::Waits);
        let mut file = File::from(memfd_create("x", MemfdFlags::CLOEXEC).unwrap());
        file.write_all(b"abc").unwrap();
        assert_eq!(made.told(Some(&file)), ABC);
    }

    #[test]
    fn a_file_over_the_limit_says_so() {
        let mut made = Made::new(Manner::Waits);
        made.file("large", Unhashed::LARGEST + 1);
        assert_eq!(made.of("large"), "TooLarge");
    }

    #[test]
    fn what_is_no_file_or_not_there_is_not_read() {
        let mut made = Made::new(Manner::Waits);
        // Opening a pipe to read it would wait for a writer.
        rustix::fs::mknodat(CWD, made.path("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        for name in ["pipe", "", "nothing"] {
            assert_eq!(made.of(name), "Unreadable", "{name}");
        }
    }

    #[test]
    fn a_large_file_is_left_for_later_or_out() {
        let mut made = Made::new(Manner::PutsOff);
        made.file("large", AT_ONCE + 1);
        assert_eq!(made.of("large"), "");
        assert!(made.hashes.take_put_off() && !made.hashes.take_put_off());
        made.hashes.set_manner(Manner::Refuses);
        assert_eq!(made.of("large"), "Busy");
        made.hashes.set_manner(Manner::Waits);
        let digest = made.of("large");
        assert_eq!(digest.len(), 64);
        made.hashes.set_manner(Manner::PutsOff);
        assert_eq!(made.of("large"), digest, "what was read is known");
    }

    #[test]
    fn more_than_the_rate_is_left_for_later_until_there_was_time() {
        let mut made = Made::new(Manner::PutsOff);
        made.file("small", 1);
        made.hashes.paid = Some(Instant::now() + BURST + Duration::from_millis(300));
        assert_eq!(made.of("small"), "");
        let rest = made.hashes.rest();
        assert!(!rest.is_zero() && rest <= Duration::from_millis(300));
        made.hashes.set_manner(Manner::Waits);
        let begun = Instant::now();
        assert_eq!(made.of("small").len(), 64);
        assert!(begun.elapsed() + Duration::from_millis(1) >= rest);
    }

    #[test]
    fn what_was_read_counts_by_its_size() {
        let mut hashes = Hashes::default();
        assert!(hashes.may_read(RATE).unwrap() && hashes.rest().is_zero());
        assert!(hashes.may_read(RATE / 2).unwrap());
        let rest = hashes.rest();
        assert!(rest > Duration::from_millis(300) && rest <= Duration::from_millis(500), "{rest:?}");
    }
}
