//! The kernel side's tables of UDP flows and sockets: arrays of sets, in which a key has a few places. To find one costs no
//! call and touches a line or two of the cache; a look-up in a large hash map costs more than the rest of a hook.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Sets of the table of UDP flows.
pub const FLOW_SETS: u32 = 1 << FLOW_BITS;
const FLOW_BITS: u32 = 14;
/// Flows in each.
pub const FLOW_WAYS: usize = 4;
/// Sets of the table of UDP sockets.
pub const SOCKET_SETS: u32 = 1 << SOCKET_BITS;
const SOCKET_BITS: u32 = 14;
/// Sockets in each.
pub const SOCKET_WAYS: usize = 8;

/// 2^64 divided by the golden ratio: spreads keys that follow one another.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Names a UDP flow: one socket, one peer, one direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct FlowKey {
    /// Socket cookie.
    pub socket: u64,
    /// Peer's address in v4-mapped form.
    pub remote: [u8; 16],
    /// Peer's port, host order.
    pub remote_port: u16,
    /// [`DIRECTION_SENT`](crate::DIRECTION_SENT) or [`DIRECTION_RECEIVED`](crate::DIRECTION_RECEIVED).
    pub direction: u16,
    /// Keeps the layout free of implicit padding.
    pub reserved: u32,
}

/// A [`FlowKey`] as words.
pub type FlowWords = [u64; size_of::<FlowKey>() / 8];

/// What a UDP flow came to so far: a line of the cache.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Flow {
    /// Its key as words, all 0 where the place is free.
    pub key: FlowWords,
    /// Datagrams.
    pub count: u64,
    /// Payload bytes, as far as the hook sees lengths.
    pub bytes: u64,
    /// When the kernel last sent a record of it, nanoseconds since boot.
    pub reported: u64,
    /// Low half of `count` at that time.
    pub told: u32,
    /// Low half of the jiffies at the last look at the clock.
    pub tick: u32,
}

/// The set that has a flow's place.
#[must_use]
#[inline(always)]
pub const fn flow_set(key: &FlowWords) -> u32 {
    let [socket, high, low, ends] = *key;
    let near = (socket ^ ends.rotate_left(40)).wrapping_mul(GOLDEN);
    let all = (near ^ low ^ high.rotate_left(32)).wrapping_mul(GOLDEN);
    (all >> (u64::BITS - FLOW_BITS)) as u32
}

/// What the kernel side remembers of UDP sockets that share a set.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct SocketSet {
    /// Their cookies, 0 where a place is free.
    pub keys: [u64; SOCKET_WAYS],
    /// What is remembered, in the same order.
    pub states: [SocketState; SOCKET_WAYS],
}

/// What the kernel side remembers of one UDP socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct SocketState {
    /// 1 when the program named the port in `bind()`, where only the call itself tells.
    pub port_chosen: u64,
    /// Payload bytes that a UDP socket sent.
    pub sent: u64,
    /// Payload bytes that a UDP socket received.
    pub received: u64,
}

/// The set that has a socket's place: cookies that follow one another have neighbouring ones.
#[must_use]
#[inline(always)]
pub const fn socket_set(key: u64) -> u32 {
    (key ^ (key >> SOCKET_BITS) ^ (key >> (2 * SOCKET_BITS))) as u32 & (SOCKET_SETS - 1)
}

const _: () = {
    assert!(size_of::<FlowKey>() == 32);
    assert!(size_of::<Flow>() == 64);
    assert!(size_of::<SocketSet>() == 256);
};
