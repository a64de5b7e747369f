//! BTF → offsets: finds every member that the programs read, checks its width, and names what is
//! missing.

use tracer_common::{ABSENT, Offsets};

use super::btf::KernelTypes;

/// A member that the running kernel lacks or keeps in another width.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(pub &'static str);

/// Members without which the programs still work, and what then stays unknown.
const OPTIONAL: &[(&str, &str)] = &[
    ("tcp_sock.bytes_sent", "bytes of TCP connections"),
    ("tcp_sock.bytes_retrans", "bytes of TCP connections"),
    ("tcp_sock.bytes_received", "bytes of TCP connections"),
    ("sock.sk_userlocks", "whether a UDP program chose its port itself"),
    ("inet_timewait_sock.tw_substate", "the state of connections in time-wait"),
    ("task_struct.self_exec_id", "that a process became another program, until it is read anew"),
    ("net.net_cookie", "the namespace of a socket that is used in another one (plan tracepoint)"),
];

/// The structures that [`offsets`] looks into.
pub const STRUCTURES: &[&str] = &[
    "sock_common",
    "sock",
    "net",
    "inet_sock",
    "inet_timewait_sock",
    "tcp_sock",
    "task_struct",
    "cred",
    "nsproxy",
    "signal_struct",
    "mm_struct",
    "file",
    "inode",
    "super_block",
    "linux_binprm",
    "msghdr",
    "socket",
    "sk_buff",
];

impl Missing {
    /// What stays unknown without it; none when the programs cannot do without it.
    #[must_use]
    pub fn unseen(&self) -> Option<&'static str> {
        OPTIONAL.iter().find(|(name, _)| *name == self.0).map(|(_, unseen)| *unseen)
    }
}

/// Finds the offsets in the kernel's types, which must know [`STRUCTURES`]. What is missing comes back as a list beside them; members
/// that `masked` names count as missing.
#[must_use]
pub fn offsets(types: &KernelTypes<'_>, masked: &str) -> (Offsets, Vec<Missing>) {
    let mut find = Finder { types, masked: masked.split(',').collect(), missing: Vec::new() };
    let ipv6only = find.bits("sock_common", "skc_ipv6only", "sock_common.skc_ipv6only");
    let locks = find.bits("sock", "sk_userlocks", "sock.sk_userlocks");
    let offsets = Offsets {
        daddr: find.bytes("sock_common", "skc_daddr", 4, "sock_common.skc_daddr"),
        rcv_saddr: find.bytes("sock_common", "skc_rcv_saddr", 4, "sock_common.skc_rcv_saddr"),
        dport: find.bytes("sock_common", "skc_dport", 2, "sock_common.skc_dport"),
        num: find.bytes("sock_common", "skc_num", 2, "sock_common.skc_num"),
        family: find.bytes("sock_common", "skc_family", 2, "sock_common.skc_family"),
        state: find.bytes("sock_common", "skc_state", 1, "sock_common.skc_state"),
        ipv6only: ipv6only.0,
        ipv6only_mask: ipv6only.2,
        net: find.bytes("sock_common", "skc_net.net", 8, "sock_common.skc_net"),
        net_inum: find.bytes("net", "ns.inum", 4, "net.ns.inum"),
        v6_daddr: find.bytes("sock_common", "skc_v6_daddr", 16, "sock_common.skc_v6_daddr"),
        v6_rcv_saddr: find.bytes("sock_common", "skc_v6_rcv_saddr", 16, "sock_common.skc_v6_rcv_saddr"),
        flags: find.bytes("sock_common", "skc_flags", 8, "sock_common.skc_flags"),
        protocol: find.bytes("sock", "sk_protocol", 2, "sock.sk_protocol"),
        err: find.bytes("sock", "sk_err", 4, "sock.sk_err"),
        sk_socket: find.bytes("sock", "sk_socket", 8, "sock.sk_socket"),
        userlocks: locks.0,
        userlocks_shift: locks.1,
        inet_sport: find.bytes("inet_sock", "inet_sport", 2, "inet_sock.inet_sport"),
        tw_substate: find.bytes("inet_timewait_sock", "tw_substate", 1, "inet_timewait_sock.tw_substate"),
        bytes_sent: find.bytes("tcp_sock", "bytes_sent", 8, "tcp_sock.bytes_sent"),
        bytes_retrans: find.bytes("tcp_sock", "bytes_retrans", 8, "tcp_sock.bytes_retrans"),
        bytes_received: find.bytes("tcp_sock", "bytes_received", 8, "tcp_sock.bytes_received"),
        group_leader: find.bytes("task_struct", "group_leader", 8, "task_struct.group_leader"),
        start_boottime: find.bytes("task_struct", "start_boottime", 8, "task_struct.start_boottime"),
        self_exec_id: find.bytes("task_struct", "self_exec_id", 8, "task_struct.self_exec_id"),
        real_parent: find.bytes("task_struct", "real_parent", 8, "task_struct.real_parent"),
        tgid: find.bytes("task_struct", "tgid", 4, "task_struct.tgid"),
        tid: find.bytes("task_struct", "pid", 4, "task_struct.pid"),
        cred: find.bytes("task_struct", "cred", 8, "task_struct.cred"),
        euid: find.bytes("cred", "euid.val", 4, "cred.euid"),
        stack: find.bytes("task_struct", "stack", 8, "task_struct.stack"),
        comm: find.bytes("task_struct", "comm", 16, "task_struct.comm"),
        nsproxy: find.bytes("task_struct", "nsproxy", 8, "task_struct.nsproxy"),
        net_ns: find.bytes("nsproxy", "net_ns", 8, "nsproxy.net_ns"),
        net_cookie: find.bytes("net", "net_cookie", 8, "net.net_cookie"),
        mm: find.bytes("task_struct", "mm", 8, "task_struct.mm"),
        signal: find.bytes("task_struct", "signal", 8, "task_struct.signal"),
        live: find.bytes("signal_struct", "live", 4, "signal_struct.live"),
        exe_file: find.bytes("mm_struct", "exe_file", 8, "mm_struct.exe_file"),
        arg_start: find.bytes("mm_struct", "arg_start", 8, "mm_struct.arg_start"),
        arg_end: find.bytes("mm_struct", "arg_end", 8, "mm_struct.arg_end"),
        f_inode: find.bytes("file", "f_inode", 8, "file.f_inode"),
        i_ino: find.bytes("inode", "i_ino", 8, "inode.i_ino"),
        i_nlink: find.bytes("inode", "i_nlink", 4, "inode.i_nlink"),
        i_sb: find.bytes("inode", "i_sb", 8, "inode.i_sb"),
        s_dev: find.bytes("super_block", "s_dev", 4, "super_block.s_dev"),
        s_magic: find.bytes("super_block", "s_magic", 8, "super_block.s_magic"),
        bprm_exec: find.bytes("linux_binprm", "exec", 8, "linux_binprm.exec"),
        bprm_filename: find.bytes("linux_binprm", "filename", 8, "linux_binprm.filename"),
        bprm_interp: find.bytes("linux_binprm", "interp", 8, "linux_binprm.interp"),
        msg_name: find.bytes("msghdr", "msg_name", 8, "msghdr.msg_name"),
        socket_sk: find.bytes("socket", "sk", 8, "socket.sk"),
        cookie: find.bytes("sock_common", "skc_cookie", 8, "sock_common.skc_cookie"),
        skb_sk: find.bytes("sk_buff", "sk", 8, "sk_buff.sk"),
        skb_head: find.bytes("sk_buff", "head", 8, "sk_buff.head"),
        network_header: find.bytes("sk_buff", "network_header", 2, "sk_buff.network_header"),
        transport_header: find.bytes("sk_buff", "transport_header", 2, "sk_buff.transport_header"),
        skb_protocol: find.bytes("sk_buff", "protocol", 2, "sk_buff.protocol"),
    };
    (offsets, find.missing)
}

struct Finder<'a> {
    types: &'a KernelTypes<'a>,
    masked: Vec<&'a str>,
    missing: Vec<Missing>,
}

impl Finder<'_> {
    /// Byte offset of a member of exactly `size` bytes.
    fn bytes(&mut self, structure: &str, path: &str, size: u32, name: &'static str) -> u32 {
        let found = self.types.member(structure, path).filter(|member| {
            member.bits == 0 && member.bit_offset % 8 == 0 && self.types.size(*member) == Some(size)
        });
        self.note(found, name).map_or(ABSENT, |member| member.bit_offset / 8)
    }

    /// Byte, shift and mask (in place) of a bit field that lies within one byte, or of a whole byte:
    /// kernels differ in which of the two a member is.
    fn bits(&mut self, structure: &str, path: &str, name: &'static str) -> (u32, u32, u32) {
        let found = self.types.member(structure, path).and_then(|member| {
            let whole_byte = member.bits == 0 && self.types.size(member) == Some(1);
            let bits = if whole_byte { 8 } else { member.bits };
            (bits > 0 && member.bit_offset % 8 + bits <= 8).then_some((member, bits))
        });
        self.note(found, name).map_or((ABSENT, 0, 0), |(member, bits)| {
            let shift = member.bit_offset % 8;
            (member.bit_offset / 8, shift, ((1 << bits) - 1) << shift)
        })
    }

    fn note<T>(&mut self, found: Option<T>, name: &'static str) -> Option<T> {
        let found = found.filter(|_| !self.masked.contains(&name));
        if found.is_none() {
            self.missing.push(Missing(name));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_every_member() {
        let bytes = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
        let (offsets, missing) =
            offsets(&KernelTypes::parse(&bytes, STRUCTURES.iter().copied()).unwrap(), "");
        assert_eq!(missing, []);
        assert_ne!(offsets.family, ABSENT);
    }

    #[test]
    fn a_masked_member_is_missing_and_named() {
        let bytes = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
        let types = KernelTypes::parse(&bytes, STRUCTURES.iter().copied()).unwrap();
        let (offsets, missing) = offsets(&types, "tcp_sock.bytes_sent,sock.sk_err");
        assert_eq!(offsets.bytes_sent, ABSENT);
        assert_eq!(missing, [Missing("sock.sk_err"), Missing("tcp_sock.bytes_sent")]);
        assert_eq!(missing[0].unseen(), None);
        assert_eq!(missing[1].unseen(), Some("bytes of TCP connections"));
    }
}
