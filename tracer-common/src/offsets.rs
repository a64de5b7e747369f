//! Where the running kernel keeps what the programs read; found in its BTF before loading.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An offset that the running kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Byte offsets of kernel structure members (and bit positions where named so), as the kernel's BTF
/// gives them. A member that is missing is [`ABSENT`]; the programs then leave out what needs it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Offsets {
    /// `sock_common.skc_daddr`
    pub daddr: u32,
    /// `sock_common.skc_rcv_saddr`
    pub rcv_saddr: u32,
    /// `sock_common.skc_dport` (network order)
    pub dport: u32,
    /// `sock_common.skc_num` (host order)
    pub num: u32,
    /// `sock_common.skc_family`
    pub family: u32,
    /// `sock_common.skc_state`
    pub state: u32,
    /// `sock_common.skc_ipv6only`: the byte that holds the bit
    pub ipv6only: u32,
    /// `sock_common.skc_ipv6only`: mask of the bit in that byte
    pub ipv6only_mask: u32,
    /// `sock_common.skc_net` (`possible_net_t.net`)
    pub net: u32,
    /// `net.ns.inum`
    pub net_inum: u32,
    /// `sock_common.skc_v6_daddr`
    pub v6_daddr: u32,
    /// `sock_common.skc_v6_rcv_saddr`
    pub v6_rcv_saddr: u32,
    /// `sock_common.skc_flags`
    pub flags: u32,
    /// `sock.sk_protocol`
    pub protocol: u32,
    /// `sock.sk_err`
    pub err: u32,
    /// `sock.sk_userlocks`: the byte that holds the bits
    pub userlocks: u32,
    /// bits to shift that byte to the right
    pub userlocks_shift: u32,
    /// `inet_sock.inet_sport` (network order)
    pub inet_sport: u32,
    /// `inet_timewait_sock.tw_substate`
    pub tw_substate: u32,
    /// `tcp_sock.bytes_sent`
    pub bytes_sent: u32,
    /// `tcp_sock.bytes_retrans`
    pub bytes_retrans: u32,
    /// `tcp_sock.bytes_received`
    pub bytes_received: u32,
    /// `task_struct.group_leader`
    pub group_leader: u32,
    /// `task_struct.start_boottime`
    pub start_boottime: u32,
    /// `task_struct.self_exec_id`
    pub self_exec_id: u32,
    /// `task_struct.real_parent`
    pub real_parent: u32,
    /// `task_struct.tgid`
    pub tgid: u32,
    /// `task_struct.pid`
    pub tid: u32,
    /// `task_struct.cred`
    pub cred: u32,
    /// `cred.euid`
    pub euid: u32,
    /// `task_struct.stack`
    pub stack: u32,
    /// `task_struct.comm`
    pub comm: u32,
    /// `task_struct.mm`
    pub mm: u32,
    /// `task_struct.signal`
    pub signal: u32,
    /// `signal_struct.live`
    pub live: u32,
    /// `mm_struct.exe_file`
    pub exe_file: u32,
    /// `mm_struct.arg_start`
    pub arg_start: u32,
    /// `mm_struct.arg_end`
    pub arg_end: u32,
    /// `file.f_inode`
    pub f_inode: u32,
    /// `inode.i_ino`
    pub i_ino: u32,
    /// `inode.i_nlink`
    pub i_nlink: u32,
    /// `inode.i_sb`
    pub i_sb: u32,
    /// `super_block.s_dev`
    pub s_dev: u32,
    /// `super_block.s_magic`
    pub s_magic: u32,
    /// `linux_binprm.exec`: where the new program finds the name of its file
    pub bprm_exec: u32,
    /// `linux_binprm.filename`
    pub bprm_filename: u32,
    /// `linux_binprm.interp`
    pub bprm_interp: u32,
    /// `msghdr.msg_name`
    pub msg_name: u32,
    /// `socket.sk`
    pub socket_sk: u32,
    /// `task_struct.nsproxy`
    pub nsproxy: u32,
    /// `nsproxy.net_ns`
    pub net_ns: u32,
    /// `net.net_cookie`
    pub net_cookie: u32,
    /// `sock.sk_socket`
    pub sk_socket: u32,
    /// `sock_common.skc_cookie`
    pub cookie: u32,
    /// `sk_buff.sk`
    pub skb_sk: u32,
    /// `sk_buff.head`
    pub skb_head: u32,
    /// `sk_buff.network_header`
    pub network_header: u32,
    /// `sk_buff.transport_header`
    pub transport_header: u32,
    /// `sk_buff.protocol` (network order)
    pub skb_protocol: u32,
}

/// `bpf_get_current_task_btf` is to be had (5.11 and later): tasks are read by plain loads.
pub const READS_TASK_TYPE: u32 = 1;
/// Tracing programs may ask for a socket's cookie (5.12 and later).
pub const READS_COOKIE: u32 = 2;
/// Other programs of the plan know sockets by their address alone and cannot ask: where a change of state is seen, it asks
/// for them, which gives the socket its cookie.
pub const READS_FOR_OTHERS: u32 = 4;

/// What the programs are told once, before they load.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Settings {
    /// Process id of the tracer: its own sockets are not reported.
    pub own_pid: u32,
    /// Only sockets of this network namespace are reported; 0 means all.
    pub netns: u32,
    /// Nanoseconds in which a UDP flow is reported at most once.
    pub udp_period: u64,
    /// 1 when the plan sees accepts by the first use of the connection, for which each inbound
    /// connection is remembered from its handshake on.
    pub accept_by_use: u32,
    /// The self-test's network namespace: programs leave their mark for its sockets and tell nothing of
    /// them; 0 means that there is none.
    pub proof_netns: u32,
    /// [`READS_TASK_TYPE`] and its neighbours: what programs of this kernel and plan may use.
    pub reads: u32,
    /// 1 when TCP sessions with a loopback remote are passed over: no rule looks at them, and nobody asked for
    /// all events.
    pub loopback_aside: u32,
}
