//! Marks that programs leave for the self-test's network namespace: the proof that they run.

use tracer_common::PROGRAMS;

use crate::maps::{PROOF, setting};

/// True for a socket of the self-test; the program of that slot has left its mark and is done.
#[inline(always)]
pub(crate) fn mark(slot: u32, netns: u32) -> bool {
    if netns == 0 || netns != setting!(proof_netns) {
        return false;
    }
    debug_assert!((slot as usize) < PROGRAMS.len());
    if let Some(place) = PROOF.get_ptr_mut(slot) {
        // SAFETY: a live entry of an array map; whoever writes writes 1.
        unsafe { place.write_volatile(1) };
    }
    true
}

/// Leaves the mark of the named program; true when that is all there is to do.
macro_rules! proven {
    ($program:literal, $sk:expr) => {{
        const SLOT: u32 = tracer_common::slot($program);
        $crate::proof::mark(SLOT, $sk.netns())
    }};
}
pub(crate) use proven;
