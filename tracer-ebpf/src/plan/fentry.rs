//! Hooks on kernel functions by trampoline (fentry, fexit).

use aya_ebpf::{
    helpers::bpf_probe_read_kernel,
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use tracer_common::{DIRECTION_RECEIVED, DIRECTION_SENT, FAULT_PEER, HOW_CALL, KIND_FAILED};

use crate::{
    emit::emit,
    handlers::{
        tcp,
        udp::{self, Peer},
    },
    maps::offset,
    sock::{CLOSE, ESTABLISHED, INET, INET6, Sock, load, put_v4},
    task::Task,
};

/// `MSG_PEEK` and `MSG_ERRQUEUE`: nothing was taken from the socket's queue.
const NOT_TAKEN: i32 = 0x2 | 0x2000;

/// `int tcp_connect(struct sock *sk)`
#[fentry(function = "tcp_connect")]
pub(crate) fn tcp_connect(ctx: FEntryContext) -> i32 {
    let sk = Sock(ctx.arg(0));
    tcp::connect(sk, sk.cookie());
    0
}

/// `int tcp_v4_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`
#[fexit(function = "tcp_v4_connect")]
pub(crate) fn tcp_v4_connect(ctx: FExitContext) -> i32 {
    connect_refused_locally(Sock(ctx.arg(0)), ctx.arg(1), ctx.arg(3));
    0
}

/// `int tcp_v6_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`
#[fexit(function = "tcp_v6_connect")]
pub(crate) fn tcp_v6_connect(ctx: FExitContext) -> i32 {
    connect_refused_locally(Sock(ctx.arg(0)), ctx.arg(1), ctx.arg(3));
    0
}

/// A connect that ended before a packet was sent (no route, for example): no other hook sees it.
#[inline(always)]
fn connect_refused_locally(sk: Sock, address: *const u8, result: i32) {
    let task = Task::current();
    if result >= 0 || sk.state() != CLOSE || !sk.is_wanted() || task.is_tracer() {
        return;
    }
    emit(KIND_FAILED, |record| {
        sk.fill(record);
        task.fill(record, HOW_CALL);
        record.error = result.unsigned_abs();
        match read_peer(address) {
            Some(peer) => {
                record.remote = peer.address;
                record.remote_port = peer.port;
            }
            None => record.faults |= FAULT_PEER,
        }
    });
}

/// `int inet_csk_listen_start(struct sock *sk)`; one more argument on older kernels.
#[fexit(function = "inet_csk_listen_start")]
pub(crate) fn listen_start(ctx: FExitContext) -> i32 {
    let sk = Sock(ctx.arg(0));
    if sk.state() == crate::sock::LISTEN && sk.is_tcp() {
        tcp::listen(sk, sk.cookie());
    }
    0
}

/// `void security_sock_graft(struct sock *sk, struct socket *parent)`: every accept, also of servers
/// that were already waiting when the hook was attached.
#[fentry(function = "security_sock_graft")]
pub(crate) fn sock_graft(ctx: FEntryContext) -> i32 {
    tcp::accept(Sock(ctx.arg(0)));
    0
}

/// `struct sock *inet_csk_accept(struct sock *sk, int flags, int *err, bool kern)`
#[fexit(function = "inet_csk_accept")]
pub(crate) fn accept_return_4(ctx: FExitContext) -> i32 {
    accepted(ctx.arg(4));
    0
}

/// `struct sock *inet_csk_accept(struct sock *sk, struct proto_accept_arg *arg)`
#[fexit(function = "inet_csk_accept")]
pub(crate) fn accept_return_2(ctx: FExitContext) -> i32 {
    accepted(ctx.arg(2));
    0
}

#[inline(always)]
fn accepted(sk: *const u8) {
    if !sk.is_null() {
        tcp::accept(Sock(sk));
    }
}

/// `int inet_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)`
#[fexit(function = "inet_bind")]
pub(crate) fn inet_bind(ctx: FExitContext) -> i32 {
    bound(ctx.arg(0), ctx.arg(3));
    0
}

/// `int inet6_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)`
#[fexit(function = "inet6_bind")]
pub(crate) fn inet6_bind(ctx: FExitContext) -> i32 {
    bound(ctx.arg(0), ctx.arg(3));
    0
}

#[inline(always)]
fn bound(socket: *const u8, result: i32) {
    if result == 0 {
        udp::bind(Sock(load(socket, offset!(socket_sk))));
    }
}

/// `int __ip4_datagram_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`; for an IPv6
/// socket it is a step on the way, and the peer is not set yet.
#[fexit(function = "__ip4_datagram_connect")]
pub(crate) fn udp_connect(ctx: FExitContext) -> i32 {
    let sk = Sock(ctx.arg(0));
    if sk.family() == INET {
        peer_set(sk, ctx.arg(3));
    }
    0
}

/// `int __ip6_datagram_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`
#[fexit(function = "__ip6_datagram_connect")]
pub(crate) fn udp6_connect(ctx: FExitContext) -> i32 {
    peer_set(Sock(ctx.arg(0)), ctx.arg(3));
    0
}

#[inline(always)]
fn peer_set(sk: Sock, result: i32) {
    if result == 0 {
        udp::connect(sk);
    }
}

/// `int udp_sendmsg(struct sock *sk, struct msghdr *msg, size_t len)`
#[fentry(function = "udp_sendmsg")]
pub(crate) fn udp_sendmsg(ctx: FEntryContext) -> i32 {
    let bytes: u64 = ctx.arg(2);
    let sk = Sock(ctx.arg(0));
    sent(sk, peer_of(sk, ctx.arg(1)), bytes);
    0
}

/// `int udpv6_sendmsg(struct sock *sk, struct msghdr *msg, size_t len)`; what goes to a v4-mapped
/// address ends in `udp_sendmsg`.
#[fentry(function = "udpv6_sendmsg")]
pub(crate) fn udpv6_sendmsg(ctx: FEntryContext) -> i32 {
    let bytes: u64 = ctx.arg(2);
    let sk = Sock(ctx.arg(0));
    let peer = peer_of(sk, ctx.arg(1));
    if !peer.as_ref().is_some_and(is_v4_mapped) {
        sent(sk, peer, bytes);
    }
    0
}

#[inline(always)]
fn sent(sk: Sock, peer: Option<Peer>, bytes: u64) {
    udp::add_bytes(sk.0, DIRECTION_SENT, bytes);
    udp::datagram(sk, peer, DIRECTION_SENT, bytes);
}

/// `int udp_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, int flags, int *addr_len)`
#[fexit(function = "udp_recvmsg")]
pub(crate) fn udp_recvmsg(ctx: FExitContext) -> i32 {
    received(Sock(ctx.arg(0)), ctx.arg(1), ctx.arg(3), ctx.arg(5));
    0
}

/// `int udpv6_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, int flags, int *addr_len)`
#[fexit(function = "udpv6_recvmsg")]
pub(crate) fn udpv6_recvmsg(ctx: FExitContext) -> i32 {
    received(Sock(ctx.arg(0)), ctx.arg(1), ctx.arg(3), ctx.arg(5));
    0
}

#[inline(always)]
fn received(sk: Sock, message: *const u8, flags: i32, result: i32) {
    if result < 0 || flags & NOT_TAKEN != 0 {
        return;
    }
    let bytes = u64::from(result as u32);
    udp::add_bytes(sk.0, DIRECTION_RECEIVED, bytes);
    udp::datagram(sk, peer_of(sk, message), DIRECTION_RECEIVED, bytes);
}

/// `void udp_destroy_sock(struct sock *sk)`
#[fentry(function = "udp_destroy_sock")]
pub(crate) fn udp_destroy(ctx: FEntryContext) -> i32 {
    udp::close(Sock(ctx.arg(0)));
    0
}

/// `void udpv6_destroy_sock(struct sock *sk)`
#[fentry(function = "udpv6_destroy_sock")]
pub(crate) fn udpv6_destroy(ctx: FEntryContext) -> i32 {
    udp::close(Sock(ctx.arg(0)));
    0
}

/// The other end of a message: the address that goes with it, else the socket's own peer.
#[inline(always)]
fn peer_of(sk: Sock, message: *const u8) -> Option<Peer> {
    let name: *const u8 = load(message, offset!(msg_name));
    if !name.is_null() {
        read_peer(name)
    } else if sk.state() == ESTABLISHED {
        Some(Peer::connected(sk))
    } else {
        None
    }
}

/// Reads a `struct sockaddr_in` or `sockaddr_in6` that stands in kernel memory.
#[inline(always)]
fn read_peer(name: *const u8) -> Option<Peer> {
    // SAFETY: the helper survives any address.
    let head: [u16; 2] = unsafe { bpf_probe_read_kernel(name.cast()) }.ok()?;
    let port = u16::from_be(head[1]);
    if head[0] == INET {
        // SAFETY: as above; `sin_addr` is at 4.
        let address = unsafe { bpf_probe_read_kernel(name.add(4).cast()) }.ok()?;
        Some(Peer::v4(address, port))
    } else if head[0] == INET6 {
        // SAFETY: as above; `sin6_addr` is at 8.
        let address = unsafe { bpf_probe_read_kernel(name.add(8).cast()) }.ok()?;
        Some(Peer { address, port })
    } else {
        None
    }
}

#[inline(always)]
fn is_v4_mapped(peer: &Peer) -> bool {
    let mut prefix = [0u8; 16];
    put_v4(&mut prefix, 0);
    let mut i = 0;
    while i < 12 {
        if peer.address[i] != prefix[i] {
            return false;
        }
        i += 1;
    }
    true
}
