//! Hooks on kernel functions by trampoline (fentry, fexit).

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use tracer_common::{KIND_CONNECT, KIND_LISTEN};

use crate::{
    handlers::{tcp, udp},
    maps::offset,
    proof::wanted,
    sock::{INET, LISTEN, plain},
};

/// `int tcp_connect(struct sock *sk)`
#[fentry(function = "tcp_connect")]
pub(crate) fn tcp_connect(ctx: FEntryContext) -> i32 {
    if let Some(sk) = wanted!("tcp_connect", ctx.arg(0))
        && !sk.is_aside()
    {
        tcp::in_context(sk, || sk.cookie(), KIND_CONNECT);
    }
    0
}

/// `int tcp_v4_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`
#[fexit(function = "tcp_v4_connect")]
pub(crate) fn tcp_v4_connect(ctx: FExitContext) -> i32 {
    if let Some(sk) = wanted!("tcp_v4_connect", ctx.arg(0)) {
        tcp::refused(sk, ctx.arg(1), ctx.arg(3));
    }
    0
}

/// `int tcp_v6_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`
#[fexit(function = "tcp_v6_connect")]
pub(crate) fn tcp_v6_connect(ctx: FExitContext) -> i32 {
    if let Some(sk) = wanted!("tcp_v6_connect", ctx.arg(0)) {
        tcp::refused(sk, ctx.arg(1), ctx.arg(3));
    }
    0
}

/// `int inet_csk_listen_start(struct sock *sk)`; one more argument on older kernels.
#[fexit(function = "inet_csk_listen_start")]
pub(crate) fn listen_start(ctx: FExitContext) -> i32 {
    if let Some(sk) = wanted!("listen_start", ctx.arg(0))
        && sk.state() == LISTEN
        && sk.is_tcp()
    {
        tcp::in_context(sk, || sk.cookie(), KIND_LISTEN);
    }
    0
}

/// `void security_sock_graft(struct sock *sk, struct socket *parent)`: every accept, also of servers
/// that were already waiting when the hook was attached.
#[fentry(function = "security_sock_graft")]
pub(crate) fn sock_graft(ctx: FEntryContext) -> i32 {
    if let Some(sk) = wanted!("sock_graft", ctx.arg(0))
        && !sk.is_aside()
    {
        tcp::grafted(sk);
    }
    0
}

/// `struct sock *inet_csk_accept(struct sock *sk, int flags, int *err, bool kern)`
#[fexit(function = "inet_csk_accept")]
pub(crate) fn accept_return_4(ctx: FExitContext) -> i32 {
    let accepted: *const u8 = ctx.arg(4);
    if !accepted.is_null()
        && let Some(sk) = wanted!("accept_return_4", accepted)
    {
        tcp::accepted(sk);
    }
    0
}

/// `struct sock *inet_csk_accept(struct sock *sk, struct proto_accept_arg *arg)`
#[fexit(function = "inet_csk_accept")]
pub(crate) fn accept_return_2(ctx: FExitContext) -> i32 {
    let accepted: *const u8 = ctx.arg(2);
    if !accepted.is_null()
        && let Some(sk) = wanted!("accept_return_2", accepted)
    {
        tcp::accepted(sk);
    }
    0
}

/// `int inet_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)`
#[fexit(function = "inet_bind")]
pub(crate) fn inet_bind(ctx: FExitContext) -> i32 {
    let result: i32 = ctx.arg(3);
    if let Some(sk) = wanted!("inet_bind", plain(ctx.arg(0), offset!(socket_sk)))
        && result == 0
    {
        udp::bind(sk);
    }
    0
}

/// `int inet6_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)`
#[fexit(function = "inet6_bind")]
pub(crate) fn inet6_bind(ctx: FExitContext) -> i32 {
    let result: i32 = ctx.arg(3);
    if let Some(sk) = wanted!("inet6_bind", plain(ctx.arg(0), offset!(socket_sk)))
        && result == 0
    {
        udp::bind(sk);
    }
    0
}

/// `int __ip4_datagram_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`; for an IPv6
/// socket it is a step on the way, and the peer is not set yet.
#[fexit(function = "__ip4_datagram_connect")]
pub(crate) fn udp_connect(ctx: FExitContext) -> i32 {
    let result: i32 = ctx.arg(3);
    if let Some(sk) = wanted!("udp_connect", ctx.arg(0))
        && result == 0
        && sk.family() == INET
    {
        udp::connect(sk);
    }
    0
}

/// `int __ip6_datagram_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`
#[fexit(function = "__ip6_datagram_connect")]
pub(crate) fn udp6_connect(ctx: FExitContext) -> i32 {
    let result: i32 = ctx.arg(3);
    if let Some(sk) = wanted!("udp6_connect", ctx.arg(0))
        && result == 0
    {
        udp::connect(sk);
    }
    0
}

/// `int udp_sendmsg(struct sock *sk, struct msghdr *msg, size_t len)`
#[fentry(function = "udp_sendmsg")]
pub(crate) fn udp_sendmsg(ctx: FEntryContext) -> i32 {
    if let Some(sk) = wanted!("udp_sendmsg", ctx.arg(0)) {
        udp::sends(sk, ctx.arg(1), ctx.arg(2));
    }
    0
}

/// `int udpv6_sendmsg(struct sock *sk, struct msghdr *msg, size_t len)`
#[fentry(function = "udpv6_sendmsg")]
pub(crate) fn udpv6_sendmsg(ctx: FEntryContext) -> i32 {
    if let Some(sk) = wanted!("udpv6_sendmsg", ctx.arg(0)) {
        udp::sends_v6(sk, ctx.arg(1), ctx.arg(2));
    }
    0
}

/// `void skb_consume_udp(struct sock *sk, struct sk_buff *skb, int len)`: both families, in the
/// receiver's context, also of receivers that were already waiting; the packet still has its headers,
/// so the sender is known even when the program does not ask for it.
#[fentry(function = "skb_consume_udp")]
pub(crate) fn udp_consume(ctx: FEntryContext) -> i32 {
    if let Some(sk) = wanted!("udp_consume", ctx.arg(0)) {
        udp::consumed(sk, ctx.arg(1), ctx.arg(2));
    }
    0
}

/// `void udp_destroy_sock(struct sock *sk)`
#[fentry(function = "udp_destroy_sock")]
pub(crate) fn udp_destroy(ctx: FEntryContext) -> i32 {
    if let Some(sk) = wanted!("udp_destroy", ctx.arg(0)) {
        udp::close(sk);
    }
    0
}

/// `void udpv6_destroy_sock(struct sock *sk)`
#[fentry(function = "udpv6_destroy_sock")]
pub(crate) fn udpv6_destroy(ctx: FEntryContext) -> i32 {
    if let Some(sk) = wanted!("udpv6_destroy", ctx.arg(0)) {
        udp::close(sk);
    }
    0
}
