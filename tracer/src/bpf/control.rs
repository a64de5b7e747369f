//! The memory-mapped control page: asks the kernel side for a wake-up, and reads its counters
//! without a system call.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use aya::maps::{Map, MapError};
use tracer_common::{CONTROL_ENTRIES, CONTROL_READER_WAITS, CPU_SLOTS, CPUS};

use super::mapped::Mapped;

/// The mapped array; row 0 is the reader's, each further row one CPU's.
pub struct Control(Mapped);

impl TryFrom<Map> for Control {
    type Error = MapError;

    /// Maps the array.
    ///
    /// # Errors
    /// When it is another kind of map, or the kernel does not map it.
    fn try_from(map: Map) -> Result<Self, MapError> {
        Mapped::new(map, CONTROL_ENTRIES as usize).map(Self)
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
        self.0.word(index as usize)
    }
}
