//! What is done when a hook fires, the same for every plan.

pub(crate) mod peer;
pub(crate) mod seen;
pub(crate) mod tcp;
pub(crate) mod udp;

use tracer_common::SocketState;

use crate::maps::SOCKETS;

/// `BPF_NOEXIST` of `include/uapi/linux/bpf.h`.
const NOEXIST: u64 = 1;

/// What is remembered of a socket, if anything.
#[inline(always)]
fn state_of(key: u64) -> Option<&'static mut SocketState> {
    // SAFETY: null, or an entry of a map that lives as long as the programs; an entry whose socket goes
    // meanwhile is reused, and then holds another socket's counts, never anything else.
    unsafe { SOCKETS.get_ptr_mut(key)?.as_mut() }
}

/// As [`state_of`], made when there is none; nothing when there is no room.
#[inline(always)]
fn try_state_of(key: u64) -> Option<&'static mut SocketState> {
    if let Some(state) = state_of(key) {
        return Some(state);
    }
    let new = SocketState { port_chosen: 0, sent: 0, received: 0 };
    let _ = SOCKETS.insert(key, new, NOEXIST);
    state_of(key)
}

/// As [`try_state_of`], where something goes unseen without it: that is counted.
#[inline(always)]
fn make_state_of(key: u64) -> Option<&'static mut SocketState> {
    let state = try_state_of(key);
    if state.is_none() {
        crate::emit::add(tracer_common::COUNTER_NO_STATE, 1);
    }
    state
}

/// The socket is gone, and so is what was remembered of it.
#[inline(always)]
pub(crate) fn forget(key: u64) {
    let _ = SOCKETS.remove(key);
}
