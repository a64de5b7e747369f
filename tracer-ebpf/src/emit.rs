//! The only file that touches the ring: reserve, fill, submit, and count what found no room.

use core::{arch::asm, mem::MaybeUninit};

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns};
use tracer_common::{CONTROL_READER_WAITS, COUNTER_FAULTS, COUNTER_RING_FULL, CPU_SLOTS, CPUS, Record};

use crate::maps::{CONTROL, EVENTS};

/// `BPF_RB_NO_WAKEUP` of `include/uapi/linux/bpf.h`.
const NO_WAKEUP: u64 = 1;
/// `BPF_RB_FORCE_WAKEUP` of `include/uapi/linux/bpf.h`.
const FORCE_WAKEUP: u64 = 2;

/// `BPF_RB_AVAIL_DATA` of `include/uapi/linux/bpf.h`.
const AVAILABLE: u64 = 0;
/// So many bytes that are not read yet are much: an eighth of the ring.
const MUCH: u64 = 1 << 20;

/// When a record wakes a reader that sleeps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// At once.
    Always,
    /// When the ring fills up: it is of use only to records that come after it.
    WhenMuch,
}

/// Puts one record of a socket on the ring: zeroed, stamped with its time and kind, filled by `fill`.
#[inline(always)]
pub(crate) fn emit(kind: u8, fill: impl FnOnce(&mut Record)) {
    put(Wake::Always, |place: &mut MaybeUninit<Record>| {
        let record = zeroed(place);
        record.time = now();
        record.kind = kind;
        fill(record);
        if record.faults != 0 {
            add(COUNTER_FAULTS, 1);
        }
    });
}

/// Puts one record on the ring, which `fill` writes.
#[inline(always)]
pub(crate) fn put<T: 'static>(wake: Wake, fill: impl FnOnce(&mut MaybeUninit<T>)) {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        add(COUNTER_RING_FULL, 1);
        return;
    };
    fill(&mut entry);
    entry.submit(NO_WAKEUP);
    if wake == Wake::Always || EVENTS.query(AVAILABLE) > MUCH {
        wake_sleeper();
    }
}

/// Nanoseconds since boot, suspend included.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// A record of zeros in place: a copy from the stack would be a loop of byte loads.
#[inline(always)]
pub(crate) fn zeroed(place: &mut MaybeUninit<Record>) -> &mut Record {
    let words = place.as_mut_ptr().cast::<u64>();
    let mut i = 0;
    while i < size_of::<Record>() / 8 {
        // SAFETY: inside the record, which is a multiple of 8 bytes and aligned to 8.
        unsafe { words.add(i).write_volatile(0) };
        i += 1;
    }
    // SAFETY: all bytes are set, and any bytes are a Record.
    unsafe { place.assume_init_mut() }
}

/// Adds to a counter of this CPU's row.
#[inline(always)]
pub(crate) fn add(counter: u32, n: u64) {
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32 % CPUS;
    if let Some(slot) = CONTROL.get_ptr_mut((cpu + 1) * CPU_SLOTS + counter) {
        // In one instruction: an interrupt on this CPU adds to the same row, and what it counted would be lost. The
        // target has no atomic types.
        // SAFETY: a live entry of an array map.
        unsafe { asm!("lock *(u64 *)({slot} + 0) += {n}", slot = in(reg) slot, n = in(reg) n) };
    }
}

/// Wakes the reader only when it said that it sleeps: the wake-up costs more than the record.
///
/// The flag is read after the record is committed, and the reader looks at the ring once more after it
/// has set the flag: one of the two sees the other, so no record lies unread beside a sleeping reader.
/// The wake-up itself rides on an empty record that is discarded.
#[inline(always)]
fn wake_sleeper() {
    let Some(slot) = CONTROL.get_ptr_mut(CONTROL_READER_WAITS) else { return };
    // SAFETY: a live entry of an array map; two programs that both see 1 only wake twice.
    unsafe {
        if slot.read_volatile() == 0 {
            return;
        }
        slot.write_volatile(0);
    }
    if let Some(empty) = EVENTS.reserve::<u64>(0) {
        empty.discard(FORCE_WAKEUP);
    }
}
