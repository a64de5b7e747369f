//! The maps, and what user space sets before the programs load.

use aya_ebpf::{
    btf_maps::SkStorage,
    macros::{btf_map, map},
    maps::{Array, LruHashMap, RingBuf},
};
use tracer_common::{CONTROL_ENTRIES, Offsets, Settings};

/// `BPF_F_MMAPABLE` of `include/uapi/linux/bpf.h`.
const MMAPABLE: u32 = 1 << 10;

/// The one ring; its size is set at load.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Reader's flag and per-CPU counters; user space maps it and reads it without system calls.
#[map]
pub(crate) static CONTROL: Array<u64> = Array::with_max_entries(CONTROL_ENTRIES, MMAPABLE);

/// What a UDP socket exchanged with one peer in one direction.
#[map]
pub(crate) static FLOWS: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(65_536, 0);

/// What is remembered of one socket; it goes when the socket goes.
#[btf_map]
pub(crate) static SOCKETS: SkStorage<SocketState> = SkStorage::new();

/// The members' places in the running kernel.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = unsafe { core::mem::zeroed() };

/// What the user asked for.
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings { own_pid: 0, netns: 0, udp_period: 0, accept_by_use: 0, reserved: 0 };

/// Key of [`FLOWS`]; user space looks flows up by the same bytes.
pub(crate) use tracer_common::{Flow, FlowKey};

/// See [`SOCKETS`].
#[repr(C)]
pub(crate) struct SocketState {
    /// 1 while an inbound connection has not yet been seen in a process's hands.
    pub(crate) awaits_accept: u32,
    /// 1 when the program named the port in `bind()`, where only the call itself tells.
    pub(crate) port_chosen: u32,
    /// Payload bytes that a UDP socket sent.
    pub(crate) sent: u64,
    /// Payload bytes that a UDP socket received.
    pub(crate) received: u64,
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

/// The tracer's own process id.
#[inline(always)]
pub(crate) fn own_pid() -> u32 {
    // SAFETY: a static of this program.
    unsafe { core::ptr::read_volatile(&raw const SETTINGS.own_pid) }
}

/// The network namespace asked for, 0 for all.
#[inline(always)]
pub(crate) fn only_netns() -> u32 {
    // SAFETY: a static of this program.
    unsafe { core::ptr::read_volatile(&raw const SETTINGS.netns) }
}

/// Whether accepts are seen by the first use of the connection.
#[inline(always)]
pub(crate) fn accept_by_use() -> bool {
    // SAFETY: a static of this program.
    unsafe { core::ptr::read_volatile(&raw const SETTINGS.accept_by_use) != 0 }
}

/// Nanoseconds between two reports of one UDP flow.
#[inline(always)]
pub(crate) fn udp_period() -> u64 {
    // SAFETY: a static of this program.
    unsafe { core::ptr::read_volatile(&raw const SETTINGS.udp_period) }
}
