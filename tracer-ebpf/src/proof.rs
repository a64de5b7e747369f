//! By its network namespace: what a program does with a socket. In the self-test's it leaves a mark, the proof that
//! it runs.

use tracer_common::PROGRAMS;

use crate::{
    maps::{PROOF, setting},
    sock::{Reads, Sock},
};

/// True for the self-test's namespace.
#[inline(always)]
pub(crate) fn is_self_test(netns: u32) -> bool {
    netns != 0 && netns == setting!(proof_netns)
}

/// True for a socket of the self-test; the program of that slot has left its mark and is done.
#[inline(always)]
pub(crate) fn mark(slot: u32, netns: u32) -> bool {
    if !is_self_test(netns) {
        return false;
    }
    debug_assert!((slot as usize) < PROGRAMS.len());
    if let Some(place) = PROOF.get_ptr_mut(slot) {
        // SAFETY: a live entry of an array map; whoever writes writes 1.
        unsafe { place.write_volatile(1) };
    }
    true
}

/// What the named program has to do with the socket at an address: it leaves its mark for the self-test's and passes
/// over those of a namespace that was not asked for.
macro_rules! wanted {
    ($program:literal, $at:expr) => {
        $crate::proof::wanted!($program, $at, $crate::sock::Typed)
    };
    ($program:literal, $at:expr, $reads:expr) => {{
        const SLOT: u32 = tracer_common::slot($program);
        $crate::proof::of_interest(SLOT, $at, $reads)
    }};
}
pub(crate) use wanted;

/// The socket, when the program of that slot has something to tell of it.
#[inline(always)]
pub(crate) fn of_interest<R: Reads>(slot: u32, at: *const u8, reads: R) -> Option<Sock<R>> {
    let sk = Sock::at(at, reads);
    (!mark(slot, sk.netns) && is_asked_for(sk.netns)).then_some(sk)
}

/// False for another namespace than the user asked for.
#[inline(always)]
pub(crate) fn is_asked_for(netns: u32) -> bool {
    setting!(netns) == 0 || setting!(netns) == netns
}
