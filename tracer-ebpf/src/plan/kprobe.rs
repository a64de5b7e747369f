//! Hooks on kernel functions by kprobe. An entry hook wherever the value is there at entry: a kretprobe has
//! few slots (10 on two CPUs), and calls that wait inside the function hold them.
//!
//! Where only the return tells, the call's arguments are remembered at its entry ([`enter`], [`leave`]).
//! None of these functions waits for the network, so their slots are free again at once.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use tracer_common::{COUNTER_NO_STATE, KIND_CONNECT, KIND_LISTEN, slot};

use crate::{
    emit::add,
    handlers::{tcp, udp},
    maps::{CALL_FUNCTIONS, CALL_THREADS, CALLS, Call, offset},
    proof::{is_self_test, mark, of_interest, wanted},
    sock::{Addressed, INET, LISTEN, Reads, Sock},
    task::Task,
};

const TCP_V4_CONNECT: u32 = 1;
const TCP_V6_CONNECT: u32 = 2;
const INET_BIND: u32 = 3;
const INET6_BIND: u32 = 4;
const IP4_DATAGRAM_CONNECT: u32 = 5;
const IP6_DATAGRAM_CONNECT: u32 = 6;

#[inline(always)]
fn argument<T: aya_ebpf::Argument + Default>(ctx: &ProbeContext, n: usize) -> T {
    ctx.arg(n).unwrap_or_default()
}

#[inline(always)]
fn pointer(ctx: &ProbeContext, n: usize) -> *const u8 {
    argument::<u64>(ctx, n) as *const u8
}

/// Remembers a call whose return is hooked as well.
#[inline(always)]
fn enter(ctx: &ProbeContext, function: u32) {
    let task = bpf_get_current_pid_tgid();
    let Some(place) = place(task, function) else { return };
    if place.task != 0 && place.task != task {
        add(COUNTER_NO_STATE, 1); // that thread's call will not be told
    }
    *place = Call { task, socket: pointer(ctx, 0) as u64, address: pointer(ctx, 1) as u64 };
}

/// The call that returns now; none when it began before the hooks came.
#[inline(always)]
fn leave(function: u32) -> Option<Call> {
    let task = bpf_get_current_pid_tgid();
    let place = place(task, function)?;
    let call = *place;
    if call.task != task {
        return None;
    }
    place.task = 0;
    Some(call)
}

#[inline(always)]
fn place(task: u64, function: u32) -> Option<&'static mut Call> {
    let thread = task as u32 % CALL_THREADS;
    // SAFETY: a live entry of an array map; of two threads that share it, the later one has it.
    unsafe { CALLS.get_ptr_mut(thread * CALL_FUNCTIONS + function)?.as_mut() }
}

/// The session that a process begins or takes over, when there is something to tell of it. Each load is a call of a helper, so
/// of those that are left aside nothing else is read; the program then proves itself by the namespace of the task, which in the
/// self-test is the socket's.
#[inline(always)]
fn session(slot: u32, at: *const u8) -> Option<Sock<Addressed>> {
    if Sock::is_aside_at(at, Addressed) && !is_self_test(Task::current().netns_number()) {
        return None;
    }
    of_interest(slot, at, Addressed)
}

/// `int tcp_connect(struct sock *sk)`
#[kprobe(function = "tcp_connect")]
pub(crate) fn k_tcp_connect(ctx: ProbeContext) -> u32 {
    if let Some(sk) = session(const { slot("k_tcp_connect") }, pointer(&ctx, 0)) {
        tcp::in_context(sk, || sk.cookie(), KIND_CONNECT);
    }
    0
}

/// `int tcp_v4_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`
#[kprobe(function = "tcp_v4_connect")]
pub(crate) fn k_tcp_v4_connect_entry(ctx: ProbeContext) -> u32 {
    enter(&ctx, TCP_V4_CONNECT);
    0
}

/// The error of a connect that sent no packet stands nowhere but in what the function returns.
#[kretprobe(function = "tcp_v4_connect")]
pub(crate) fn k_tcp_v4_connect(ctx: RetProbeContext) -> u32 {
    if let Some(call) = leave(TCP_V4_CONNECT) {
        connected(const { slot("k_tcp_v4_connect") }, &call, ctx.ret());
    }
    0
}

/// Nothing is read of a socket whose SYN has left. The program then proves itself by the namespace of the task, which in the
/// self-test is the socket's.
#[inline(always)]
fn connected(slot: u32, call: &Call, result: i32) {
    if result >= 0 {
        mark(slot, Task::current().netns_number());
    } else if let Some(sk) = of_interest(slot, call.socket as *const u8, Addressed) {
        tcp::refused(sk, call.address as *const u8, result);
    }
}

/// `int tcp_v6_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`
#[kprobe(function = "tcp_v6_connect")]
pub(crate) fn k_tcp_v6_connect_entry(ctx: ProbeContext) -> u32 {
    enter(&ctx, TCP_V6_CONNECT);
    0
}

/// As [`k_tcp_v4_connect`].
#[kretprobe(function = "tcp_v6_connect")]
pub(crate) fn k_tcp_v6_connect(ctx: RetProbeContext) -> u32 {
    if let Some(call) = leave(TCP_V6_CONNECT) {
        connected(const { slot("k_tcp_v6_connect") }, &call, ctx.ret());
    }
    0
}

/// `int inet_hash(struct sock *sk)`: a listener enters the kernel's table, its port is bound.
#[kprobe(function = "inet_hash")]
pub(crate) fn k_hash(ctx: ProbeContext) -> u32 {
    if let Some(sk) = wanted!("k_hash", pointer(&ctx, 0), Addressed)
        && sk.state() == LISTEN
        && sk.is_tcp()
    {
        tcp::in_context(sk, || sk.cookie(), KIND_LISTEN);
    }
    0
}

/// `int inet6_hash(struct sock *sk)`
#[kprobe(function = "inet6_hash")]
pub(crate) fn k_hash6(ctx: ProbeContext) -> u32 {
    if let Some(sk) = wanted!("k_hash6", pointer(&ctx, 0), Addressed)
        && sk.state() == LISTEN
        && sk.is_tcp()
    {
        tcp::in_context(sk, || sk.cookie(), KIND_LISTEN);
    }
    0
}

/// `void security_sock_graft(struct sock *sk, struct socket *parent)`: every accept.
#[kprobe(function = "security_sock_graft")]
pub(crate) fn k_sock_graft(ctx: ProbeContext) -> u32 {
    if let Some(sk) = session(const { slot("k_sock_graft") }, pointer(&ctx, 0)) {
        tcp::grafted(sk);
    }
    0
}

/// `struct sock *inet_csk_accept(...)`: only where the kernel has no `security_sock_graft`, because
/// processes that wait in accept() hold the slots of a kretprobe.
#[kretprobe(function = "inet_csk_accept")]
pub(crate) fn k_accept_return(ctx: RetProbeContext) -> u32 {
    let accepted = ctx.ret::<u64>() as *const u8;
    if !accepted.is_null()
        && let Some(sk) = session(const { slot("k_accept_return") }, accepted)
    {
        tcp::grafted(sk);
    }
    0
}

/// `int inet_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)`
#[kprobe(function = "inet_bind")]
pub(crate) fn k_inet_bind_entry(ctx: ProbeContext) -> u32 {
    enter(&ctx, INET_BIND);
    0
}

/// Whether bind() succeeded, and with which port, is known at its return.
#[kretprobe(function = "inet_bind")]
pub(crate) fn k_inet_bind(ctx: RetProbeContext) -> u32 {
    if let Some(call) = leave(INET_BIND)
        && let Some(sk) = wanted!("k_inet_bind", socket_of(&call), Addressed)
        && ctx.ret::<i32>() == 0
    {
        udp::bind(sk);
    }
    0
}

/// `int inet6_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)`
#[kprobe(function = "inet6_bind")]
pub(crate) fn k_inet6_bind_entry(ctx: ProbeContext) -> u32 {
    enter(&ctx, INET6_BIND);
    0
}

/// As [`k_inet_bind`].
#[kretprobe(function = "inet6_bind")]
pub(crate) fn k_inet6_bind(ctx: RetProbeContext) -> u32 {
    if let Some(call) = leave(INET6_BIND)
        && let Some(sk) = wanted!("k_inet6_bind", socket_of(&call), Addressed)
        && ctx.ret::<i32>() == 0
    {
        udp::bind(sk);
    }
    0
}

/// The `struct sock` of a call whose first argument is a `struct socket`.
#[inline(always)]
fn socket_of(call: &Call) -> *const u8 {
    Addressed::load(call.socket as *const u8, offset!(socket_sk))
}

/// `int __ip4_datagram_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`; for an IPv6
/// socket it is a step on the way, and the peer is not set yet.
#[kprobe(function = "__ip4_datagram_connect")]
pub(crate) fn k_udp_connect_entry(ctx: ProbeContext) -> u32 {
    enter(&ctx, IP4_DATAGRAM_CONNECT);
    0
}

/// The peer and the local end that goes with it are set when the function returns.
#[kretprobe(function = "__ip4_datagram_connect")]
pub(crate) fn k_udp_connect(ctx: RetProbeContext) -> u32 {
    if let Some(call) = leave(IP4_DATAGRAM_CONNECT)
        && let Some(sk) = wanted!("k_udp_connect", call.socket as *const u8, Addressed)
        && ctx.ret::<i32>() == 0
        && sk.family() == INET
    {
        udp::connect(sk);
    }
    0
}

/// `int __ip6_datagram_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`
#[kprobe(function = "__ip6_datagram_connect")]
pub(crate) fn k_udp6_connect_entry(ctx: ProbeContext) -> u32 {
    enter(&ctx, IP6_DATAGRAM_CONNECT);
    0
}

/// As [`k_udp_connect`].
#[kretprobe(function = "__ip6_datagram_connect")]
pub(crate) fn k_udp6_connect(ctx: RetProbeContext) -> u32 {
    if let Some(call) = leave(IP6_DATAGRAM_CONNECT)
        && let Some(sk) = wanted!("k_udp6_connect", call.socket as *const u8, Addressed)
        && ctx.ret::<i32>() == 0
    {
        udp::connect(sk);
    }
    0
}

/// `int udp_sendmsg(struct sock *sk, struct msghdr *msg, size_t len)`
#[kprobe(function = "udp_sendmsg")]
pub(crate) fn k_udp_sendmsg(ctx: ProbeContext) -> u32 {
    if let Some(sk) = wanted!("k_udp_sendmsg", pointer(&ctx, 0), Addressed) {
        udp::sends(sk, pointer(&ctx, 1), argument(&ctx, 2));
    }
    0
}

/// `int udpv6_sendmsg(struct sock *sk, struct msghdr *msg, size_t len)`
#[kprobe(function = "udpv6_sendmsg")]
pub(crate) fn k_udpv6_sendmsg(ctx: ProbeContext) -> u32 {
    if let Some(sk) = wanted!("k_udpv6_sendmsg", pointer(&ctx, 0), Addressed) {
        udp::sends_v6(sk, pointer(&ctx, 1), argument(&ctx, 2));
    }
    0
}

/// `void skb_consume_udp(struct sock *sk, struct sk_buff *skb, int len)`
#[kprobe(function = "skb_consume_udp")]
pub(crate) fn k_udp_consume(ctx: ProbeContext) -> u32 {
    if let Some(sk) = wanted!("k_udp_consume", pointer(&ctx, 0), Addressed) {
        udp::consumed(sk, pointer(&ctx, 1), argument(&ctx, 2));
    }
    0
}

/// `void udp_destroy_sock(struct sock *sk)`
#[kprobe(function = "udp_destroy_sock")]
pub(crate) fn k_udp_destroy(ctx: ProbeContext) -> u32 {
    if let Some(sk) = wanted!("k_udp_destroy", pointer(&ctx, 0), Addressed) {
        udp::close(sk);
    }
    0
}

/// `void udpv6_destroy_sock(struct sock *sk)`
#[kprobe(function = "udpv6_destroy_sock")]
pub(crate) fn k_udpv6_destroy(ctx: ProbeContext) -> u32 {
    if let Some(sk) = wanted!("k_udpv6_destroy", pointer(&ctx, 0), Addressed) {
        udp::close(sk);
    }
    0
}
