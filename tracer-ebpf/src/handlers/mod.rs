//! What is done when a hook fires, the same for every plan.

pub(crate) mod seen;
pub(crate) mod tcp;
pub(crate) mod udp;

use aya_ebpf::{bindings::BPF_SK_STORAGE_GET_F_CREATE, helpers::generated::bpf_sk_storage_get};

use crate::maps::{SOCKETS, SocketState};

/// The state kept for a socket, if there is any.
#[inline(always)]
fn state_of(sk: *const u8) -> Option<&'static mut SocketState> {
    storage(sk, 0)
}

/// The state kept for a socket, made when there is none; nothing when the kernel has no memory.
#[inline(always)]
fn try_state_of(sk: *const u8) -> Option<&'static mut SocketState> {
    storage(sk, BPF_SK_STORAGE_GET_F_CREATE.into())
}

/// As [`try_state_of`], where something goes unseen without it: that is counted.
#[inline(always)]
fn make_state_of(sk: *const u8) -> Option<&'static mut SocketState> {
    let state = try_state_of(sk);
    if state.is_none() {
        crate::emit::add(tracer_common::COUNTER_NO_STATE, 1);
    }
    state
}

#[inline(always)]
fn storage(sk: *const u8, flags: u64) -> Option<&'static mut SocketState> {
    let map = (&raw const SOCKETS).cast_mut().cast();
    // SAFETY: the verifier checks that the pointer is a socket; what comes back is null or lives as
    // long as the socket, which the hook's caller holds.
    unsafe {
        bpf_sk_storage_get(map, sk as *mut _, core::ptr::null_mut(), flags).cast::<SocketState>().as_mut()
    }
}
