//! The memory-mapped control page: asks the kernel side for a wake-up, and reads its counters
//! without a system call.

use std::{
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering, fence},
};

use aya::maps::{Map, MapData, MapError};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use tracer_common::{CONTROL_ENTRIES, CONTROL_READER_WAITS, CPU_SLOTS, CPUS};

const BYTES: usize = CONTROL_ENTRIES as usize * size_of::<u64>();

/// The mapped array; row 0 is the reader's, each further row one CPU's.
pub struct Control {
    slots: NonNull<AtomicU64>,
    #[expect(dead_code, reason = "keeps the map alive")]
    map: MapData,
}

impl TryFrom<Map> for Control {
    type Error = MapError;

    /// Maps the array.
    ///
    /// # Errors
    /// When it is another kind of map, or the kernel does not map it.
    fn try_from(map: Map) -> Result<Self, MapError> {
        let Map::Array(map) = map else {
            return Err(MapError::InvalidName { name: "CONTROL".to_owned() });
        };
        // SAFETY: a fresh shared mapping of the map's pages, which the map keeps alive.
        let address = unsafe {
            let flags = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
            mmap(std::ptr::null_mut(), BYTES, flags.0, flags.1, map.fd().as_fd(), 0)
        };
        let address = address.map_err(|e| MapError::IoError(e.into()))?;
        let slots = NonNull::new(address.cast()).ok_or(MapError::OutOfBounds { index: 0, max_entries: 0 })?;
        Ok(Self { slots, map })
    }
}

impl Control {
    /// Tells the kernel side whether the reader sleeps and wants to be woken.
    pub fn set_reader_waits(&self, waits: bool) {
        self.slot(CONTROL_READER_WAITS).store(waits.into(), Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Sum of a counter over all CPUs.
    #[must_use]
    pub fn counter(&self, counter: u32) -> u64 {
        let rows = 1..=CPUS;
        rows.map(|row| self.slot(row * CPU_SLOTS + counter).load(Ordering::Relaxed)).sum()
    }

    fn slot(&self, index: u32) -> &AtomicU64 {
        debug_assert!(index < CONTROL_ENTRIES);
        // SAFETY: inside the mapping, aligned, and only ever read and written in 8 bytes.
        unsafe { self.slots.add(index as usize).as_ref() }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // SAFETY: mapped with these bounds in `try_from`, and no reference outlives `self`.
        let _ = unsafe { munmap(self.slots.as_ptr().cast(), BYTES) };
    }
}
