//! The proof that hooks are alive: each program leaves a mark when it runs for the self-test's network
//! namespace, and tells nothing else of it.

/// Programs that leave marks; a program's place here is its slot in the map of marks.
pub const PROGRAMS: [&str; 57] = [
    "state_change",
    "state_change_inside",
    "fork",
    "exec",
    "exit",
    "tcp_connect",
    "tcp_v4_connect",
    "tcp_v6_connect",
    "listen_start",
    "sock_graft",
    "accept_return_2",
    "accept_return_4",
    "inet_bind",
    "inet6_bind",
    "udp_connect",
    "udp6_connect",
    "udp_sendmsg",
    "udpv6_sendmsg",
    "udp_consume",
    "udp_destroy",
    "udpv6_destroy",
    "tcp_calls",
    "getpeername4",
    "getpeername6",
    "send_length",
    "recv_length",
    "first_packet",
    "first_read",
    "sock_release",
    "connect4",
    "connect6",
    "bind4",
    "bind6",
    "post_bind4",
    "post_bind6",
    "sendmsg4",
    "sendmsg6",
    "recvmsg4",
    "recvmsg6",
    "name_sockets",
    "name_connections",
    "k_tcp_connect",
    "k_tcp_v4_connect",
    "k_tcp_v6_connect",
    "k_hash",
    "k_hash6",
    "k_sock_graft",
    "k_accept_return",
    "k_inet_bind",
    "k_inet6_bind",
    "k_udp_connect",
    "k_udp6_connect",
    "k_udp_sendmsg",
    "k_udpv6_sendmsg",
    "k_udp_consume",
    "k_udp_destroy",
    "k_udpv6_destroy",
];

/// The slot of a program.
///
/// # Panics
/// When there is no program of that name; in the kernel programs that is an error of compilation.
#[must_use]
pub const fn slot(program: &str) -> u32 {
    let mut at = 0;
    while at < PROGRAMS.len() {
        if same(PROGRAMS[at].as_bytes(), program.as_bytes()) {
            return at as u32;
        }
        at += 1;
    }
    panic!("a program without a slot")
}

const fn same(one: &[u8], two: &[u8]) -> bool {
    if one.len() != two.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != two[at] {
            return false;
        }
        at += 1;
    }
    true
}
