//! One fixed-size record for every kind of socket event: a single layout keeps the decoder and the
//! ring simple, and its 152 bytes cost less than a second reservation would.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What the kernel saw happen to one socket, in one moment, with the task that was acting.
///
/// Addresses are 16 bytes in network order; an IPv4 address stands there in its v4-mapped form, and
/// `family` tells what the socket itself is. Ports are in host order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Record {
    /// `bpf_ktime_get_boot_ns()`: nanoseconds since boot, suspend included.
    pub time: u64,
    /// Address of the `struct sock`; only an identity, and only together with a time.
    pub sock: u64,
    /// Socket cookie, unique for the life of the machine; 0 where the kernel gives none.
    pub cookie: u64,
    /// Start of the acting process, nanoseconds since boot (`task_struct.start_boottime` of the leader).
    pub process_start: u64,
    /// Payload bytes sent: of the connection (close), or of the flow so far (udp).
    pub bytes_sent: u64,
    /// Payload bytes received: of the connection (close), or of the flow so far (udp).
    pub bytes_received: u64,
    /// Datagrams of the flow so far, in `direction` (udp).
    pub count: u64,
    /// Inode number of the socket's network namespace.
    pub netns: u32,
    /// Process id (the kernel's tgid) in the initial pid namespace.
    pub pid: u32,
    /// Thread id (the kernel's pid).
    pub tid: u32,
    /// Process id of the real parent.
    pub ppid: u32,
    /// Effective user id of the acting task, initial user namespace.
    pub uid: u32,
    /// Counts the exec calls of the acting task (low half of `task_struct.self_exec_id`).
    pub exec_id: u32,
    /// Positive errno of a failed connect, or 0.
    pub error: u32,
    /// [`FAULT_PEER`] and its neighbours: what could not be read.
    pub faults: u32,
    /// [`KIND_LISTEN`] and its neighbours.
    pub kind: u8,
    /// State after the change, as in `include/net/tcp_states.h`.
    pub state: u8,
    /// `AF_INET` (2) or `AF_INET6` (10): the socket's own family.
    pub family: u8,
    /// [`DIRECTION_SENT`] or [`DIRECTION_RECEIVED`] (udp), else 0.
    pub direction: u8,
    /// [`FLAG_V6ONLY`] and its neighbours.
    pub flags: u8,
    /// [`HOW_NONE`] and its neighbours: which evidence ties the task to the socket.
    pub how: u8,
    /// IP protocol number: 6 TCP, 17 UDP, 136 UDP-Lite.
    pub protocol: u16,
    /// Local port; 0 when none is bound yet.
    pub local_port: u16,
    /// Remote port; 0 when there is no remote.
    pub remote_port: u16,
    /// Descriptor number, in records of the descriptor iterator; else 0.
    pub fd: u32,
    /// Local address.
    pub local: [u8; 16],
    /// Remote address; all zero when there is none.
    pub remote: [u8; 16],
    /// Name of the acting task, NUL padded; set by the process itself, never an identity.
    pub comm: [u8; 16],
}

const _: () = {
    assert!(size_of::<Record>() == 152);
    assert!(align_of::<Record>() == 8);
    assert!(core::mem::offset_of!(Record, netns) == 56);
    assert!(core::mem::offset_of!(Record, kind) == 88);
    assert!(core::mem::offset_of!(Record, local) == 104);
};

/// A TCP socket entered LISTEN.
pub const KIND_LISTEN: u8 = 1;
/// A UDP socket was bound by `bind()`.
pub const KIND_BIND: u8 = 2;
/// `connect()` was called; nothing was sent yet, the local end may be unknown.
pub const KIND_ATTEMPT: u8 = 3;
/// A SYN is about to leave (TCP), or the peer was set (UDP): both ends are known.
pub const KIND_CONNECT: u8 = 4;
/// An outbound TCP connection is established.
pub const KIND_ESTABLISHED: u8 = 5;
/// An inbound TCP connection is established and waits to be accepted; no process is known.
pub const KIND_INCOMING: u8 = 6;
/// A connect ended without a connection; `error` says why, 0 when the process gave up.
pub const KIND_FAILED: u8 = 7;
/// An inbound TCP connection is in a process's hands; `how` says how that is known.
pub const KIND_ACCEPT: u8 = 8;
/// Datagrams went to or came from a peer; `count` and bytes are totals of the flow.
pub const KIND_UDP: u8 = 9;
/// The socket is closed.
pub const KIND_CLOSE: u8 = 10;
/// The socket was found by an iterator that walks the kernel's tables.
pub const KIND_SEEN: u8 = 11;
/// The socket was found among a task's descriptors.
pub const KIND_HELD: u8 = 12;

/// The record does not name a task: it was made in softirq context.
pub const HOW_NONE: u8 = 0;
/// The task made the call that the record tells of.
pub const HOW_CALL: u8 = 1;
/// The task is the first that used the socket (sent, received or released it).
pub const HOW_FIRST_USE: u8 = 2;
/// The task holds a descriptor of the socket.
pub const HOW_HELD: u8 = 3;

/// Datagrams that the socket sent.
pub const DIRECTION_SENT: u8 = 1;
/// Datagrams that the socket received.
pub const DIRECTION_RECEIVED: u8 = 2;

/// `IPV6_V6ONLY` is set.
pub const FLAG_V6ONLY: u8 = 1;
/// The port was chosen by the program in `bind()` (`SOCK_BINDPORT_LOCK`).
pub const FLAG_PORT_BOUND: u8 = 2;
/// The UDP socket is connected to one peer.
pub const FLAG_CONNECTED: u8 = 4;
/// The peer of the datagrams is not known: the program did not ask for it.
pub const FLAG_NO_PEER: u8 = 8;
/// The hook may not read addresses and ports: they are those that are known of the socket already.
pub const FLAG_NO_ENDS: u8 = 16;
/// Not a full socket: a connection request, or what is left of a connection (time-wait).
pub const FLAG_REMNANT: u8 = 64;
/// The byte counts are not whole: the socket is older than the hooks.
pub const FLAG_NO_BYTES: u8 = 32;

/// The remote end of a call could not be read.
pub const FAULT_PEER: u32 = 2;
/// The byte counts could not be read.
pub const FAULT_BYTES: u32 = 4;
