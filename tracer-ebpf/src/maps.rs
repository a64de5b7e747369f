//! The maps, and what user space sets before the programs load.

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray, RingBuf},
};
use tracer_common::{
    AWAITING_ENTRIES, CONTROL_ENTRIES, FLOW_SETS, FLOW_WAYS, Flow, Offsets, PROGRAMS, SOCKET_SETS, Settings,
    SocketSet,
};

/// `BPF_F_MMAPABLE` of `include/uapi/linux/bpf.h`.
const MMAPABLE: u32 = 1 << 10;

/// The one ring; its size is set at load.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Reader's flag and per-CPU counters; user space maps it and reads it without system calls.
#[map]
pub(crate) static CONTROL: Array<u64> = Array::with_max_entries(CONTROL_ENTRIES, MMAPABLE);

/// What UDP sockets exchanged with one peer in one direction, in sets by [`flow_set`](tracer_common::flow_set). User space
/// maps it.
#[map]
pub(crate) static FLOWS: Array<[Flow; FLOW_WAYS]> = Array::with_max_entries(FLOW_SETS, MMAPABLE);

/// Cookies of connections that wait to be accepted, each in its place by [`AWAITING_ENTRIES`]; 0 where there is none. An
/// array, because a look-up in a large hash costs more than all else that a hook does.
#[map]
pub(crate) static AWAITING: Array<u64> = Array::with_max_entries(AWAITING_ENTRIES, 0);

/// What is remembered of UDP sockets, in sets by [`socket_set`](tracer_common::socket_set). Filled at birth, emptied at the
/// end.
#[map]
pub(crate) static SOCKETS: Array<SocketSet> = Array::with_max_entries(SOCKET_SETS, 0);

/// Arguments of calls whose return is hooked too, by thread and function. An array, for the reason of [`AWAITING`].
#[map]
pub(crate) static CALLS: Array<Call> = Array::with_max_entries(CALL_THREADS * CALL_FUNCTIONS, 0);

/// Threads whose ids differ by less do not get in each other's way.
pub(crate) const CALL_THREADS: u32 = 1024;
/// Functions that are told apart.
pub(crate) const CALL_FUNCTIONS: u32 = 8;

/// Changes of state that the first program on `inet_sock_set_state` took, for the second one.
#[map]
pub(crate) static TAKEN: PerCpuArray<Taken> = PerCpuArray::with_max_entries(1, 0);

/// A mark for each program that ran for the self-test's namespace.
#[map]
pub(crate) static PROOF: Array<u64> = Array::with_max_entries(PROGRAMS.len() as u32, 0);

/// The members' places in the running kernel.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = unsafe { core::mem::zeroed() };

/// What the user asked for.
#[unsafe(no_mangle)]
static SETTINGS: Settings = unsafe { core::mem::zeroed() };

/// See [`TAKEN`]: socket and new state of a change, 0 where the second program has seen it.
pub(crate) type Taken = [(u64, u64); TAKEN_PLACES];

/// Changes of different sockets that can be in work on one CPU: one, and those that interrupt it.
pub(crate) const TAKEN_PLACES: usize = 64;

/// See [`CALLS`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Call {
    /// `bpf_get_current_pid_tgid()`; 0 where there is no call.
    pub(crate) task: u64,
    /// First argument: the socket.
    pub(crate) socket: u64,
    /// Second argument: an address in kernel memory.
    pub(crate) address: u64,
}

/// Offsets as constants that the verifier knows: `.rodata` is frozen before the programs load.
macro_rules! offset {
    ($member:ident) => {{
        // SAFETY: a static of this program; volatile, so that the compiler does not fold the zeros.
        unsafe { core::ptr::read_volatile(&raw const (*$crate::maps::offsets()).$member) }
    }};
}
pub(crate) use offset;

/// Where [`offset!`] reads.
#[inline(always)]
pub(crate) fn offsets() -> *const Offsets {
    &raw const OFFSETS
}

/// One of the settings, as constant as an offset.
macro_rules! setting {
    ($member:ident) => {{
        // SAFETY: as in `offset!`.
        unsafe { core::ptr::read_volatile(&raw const (*$crate::maps::settings()).$member) }
    }};
}
pub(crate) use setting;

/// Where [`setting!`] reads.
#[inline(always)]
pub(crate) fn settings() -> *const Settings {
    &raw const SETTINGS
}
