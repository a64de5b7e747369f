//! Hooks on kernel functions by trampoline (fentry, fexit).

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};

use crate::{
    handlers::{tcp, udp},
    maps::offset,
    proof::proven,
    sock::{INET, LISTEN, Sock, plain},
};

/// `int tcp_connect(struct sock *sk)`
#[fentry(function = "tcp_connect")]
pub(crate) fn tcp_connect(ctx: FEntryContext) -> i32 {
    let sk = Sock(ctx.arg(0));
    if !proven!("tcp_connect", sk) {
        tcp::connect(sk, sk.cookie());
    }
    0
}

/// `int tcp_v4_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`
#[fexit(function = "tcp_v4_connect")]
pub(crate) fn tcp_v4_connect(ctx: FExitContext) -> i32 {
    let sk = Sock(ctx.arg(0));
    if !proven!("tcp_v4_connect", sk) {
        tcp::refused(sk, ctx.arg(1), ctx.arg(3));
    }
    0
}

/// `int tcp_v6_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`
#[fexit(function = "tcp_v6_connect")]
pub(crate) fn tcp_v6_connect(ctx: FExitContext) -> i32 {
    let sk = Sock(ctx.arg(0));
    if !proven!("tcp_v6_connect", sk) {
        tcp::refused(sk, ctx.arg(1), ctx.arg(3));
    }
    0
}

/// `int inet_csk_listen_start(struct sock *sk)`; one more argument on older kernels.
#[fexit(function = "inet_csk_listen_start")]
pub(crate) fn listen_start(ctx: FExitContext) -> i32 {
    let sk = Sock(ctx.arg(0));
    if !proven!("listen_start", sk) && sk.state() == LISTEN && sk.is_tcp() {
        tcp::listen(sk, sk.cookie());
    }
    0
}

/// `void security_sock_graft(struct sock *sk, struct socket *parent)`: every accept, also of servers
/// that were already waiting when the hook was attached.
#[fentry(function = "security_sock_graft")]
pub(crate) fn sock_graft(ctx: FEntryContext) -> i32 {
    let sk = Sock(ctx.arg(0));
    if !proven!("sock_graft", sk) {
        tcp::grafted(sk);
    }
    0
}

/// `struct sock *inet_csk_accept(struct sock *sk, int flags, int *err, bool kern)`
#[fexit(function = "inet_csk_accept")]
pub(crate) fn accept_return_4(ctx: FExitContext) -> i32 {
    let sk = Sock(ctx.arg(4));
    if !sk.0.is_null() && !proven!("accept_return_4", sk) {
        tcp::accepted(sk);
    }
    0
}

/// `struct sock *inet_csk_accept(struct sock *sk, struct proto_accept_arg *arg)`
#[fexit(function = "inet_csk_accept")]
pub(crate) fn accept_return_2(ctx: FExitContext) -> i32 {
    let sk = Sock(ctx.arg(2));
    if !sk.0.is_null() && !proven!("accept_return_2", sk) {
        tcp::accepted(sk);
    }
    0
}

/// `int inet_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)`
#[fexit(function = "inet_bind")]
pub(crate) fn inet_bind(ctx: FExitContext) -> i32 {
    let sk = Sock(plain(ctx.arg(0), offset!(socket_sk)));
    let result: i32 = ctx.arg(3);
    if !proven!("inet_bind", sk) && result == 0 {
        udp::bind(sk);
    }
    0
}

/// `int inet6_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)`
#[fexit(function = "inet6_bind")]
pub(crate) fn inet6_bind(ctx: FExitContext) -> i32 {
    let sk = Sock(plain(ctx.arg(0), offset!(socket_sk)));
    let result: i32 = ctx.arg(3);
    if !proven!("inet6_bind", sk) && result == 0 {
        udp::bind(sk);
    }
    0
}

/// `int __ip4_datagram_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`; for an IPv6
/// socket it is a step on the way, and the peer is not set yet.
#[fexit(function = "__ip4_datagram_connect")]
pub(crate) fn udp_connect(ctx: FExitContext) -> i32 {
    let sk = Sock(ctx.arg(0));
    let result: i32 = ctx.arg(3);
    if !proven!("udp_connect", sk) && result == 0 && sk.family() == INET {
        udp::connect(sk);
    }
    0
}

/// `int __ip6_datagram_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`
#[fexit(function = "__ip6_datagram_connect")]
pub(crate) fn udp6_connect(ctx: FExitContext) -> i32 {
    let sk = Sock(ctx.arg(0));
    let result: i32 = ctx.arg(3);
    if !proven!("udp6_connect", sk) && result == 0 {
        udp::connect(sk);
    }
    0
}

/// `int udp_sendmsg(struct sock *sk, struct msghdr *msg, size_t len)`
#[fentry(function = "udp_sendmsg")]
pub(crate) fn udp_sendmsg(ctx: FEntryContext) -> i32 {
    let sk = Sock(ctx.arg(0));
    if !proven!("udp_sendmsg", sk) {
        udp::sends(sk, ctx.arg(1), ctx.arg(2));
    }
    0
}

/// `int udpv6_sendmsg(struct sock *sk, struct msghdr *msg, size_t len)`
#[fentry(function = "udpv6_sendmsg")]
pub(crate) fn udpv6_sendmsg(ctx: FEntryContext) -> i32 {
    let sk = Sock(ctx.arg(0));
    if !proven!("udpv6_sendmsg", sk) {
        udp::sends_v6(sk, ctx.arg(1), ctx.arg(2));
    }
    0
}

/// `void skb_consume_udp(struct sock *sk, struct sk_buff *skb, int len)`: both families, in the
/// receiver's context, also of receivers that were already waiting; the packet still has its headers,
/// so the sender is known even when the program does not ask for it.
#[fentry(function = "skb_consume_udp")]
pub(crate) fn udp_consume(ctx: FEntryContext) -> i32 {
    let sk = Sock(ctx.arg(0));
    if !proven!("udp_consume", sk) {
        udp::consumed(sk, ctx.arg(1), ctx.arg(2));
    }
    0
}

/// `void udp_destroy_sock(struct sock *sk)`
#[fentry(function = "udp_destroy_sock")]
pub(crate) fn udp_destroy(ctx: FEntryContext) -> i32 {
    let sk = Sock(ctx.arg(0));
    if !proven!("udp_destroy", sk) {
        udp::close(sk);
    }
    0
}

/// `void udpv6_destroy_sock(struct sock *sk)`
#[fentry(function = "udpv6_destroy_sock")]
pub(crate) fn udpv6_destroy(ctx: FEntryContext) -> i32 {
    let sk = Sock(ctx.arg(0));
    if !proven!("udpv6_destroy", sk) {
        udp::close(sk);
    }
    0
}
