//! Array maps in this process's own memory: read and written without system calls.

use std::{
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::{Map, MapData, MapError};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A mapped array of words.
pub(super) struct Mapped {
    words: NonNull<AtomicU64>,
    count: usize,
    #[expect(dead_code, reason = "keeps the map alive")]
    map: MapData,
}

// SAFETY: the mapping is shared memory of atomic words, the same from every thread.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Maps an array of `count` words.
    ///
    /// # Errors
    /// When it is another kind of map, or the kernel does not map it.
    pub(super) fn new(map: Map, count: usize) -> Result<Self, MapError> {
        let Map::Array(map) = map else {
            return Err(MapError::InvalidName { name: "a mapped array".to_owned() });
        };
        // SAFETY: a fresh shared mapping of the map's pages, which the map keeps alive.
        let address = unsafe {
            let flags = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
            mmap(std::ptr::null_mut(), count * size_of::<u64>(), flags.0, flags.1, map.fd().as_fd(), 0)
        };
        let address = address.map_err(|e| MapError::IoError(e.into()))?;
        let words = NonNull::new(address.cast()).ok_or(MapError::OutOfBounds { index: 0, max_entries: 0 })?;
        Ok(Self { words, count, map })
    }

    /// One word.
    pub(super) fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.count);
        // SAFETY: inside the mapping, aligned, and only ever read and written in 8 bytes.
        unsafe { self.words.add(index).as_ref() }
    }

    /// Its value; what the kernel side writes beside it may be newer or older.
    pub(super) fn get(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Relaxed)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: mapped with these bounds in `new`, and no reference outlives `self`.
        let _ = unsafe { munmap(self.words.as_ptr().cast(), self.count * size_of::<u64>()) };
    }
}
