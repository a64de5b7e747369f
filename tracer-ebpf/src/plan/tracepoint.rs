//! Hooks for kernels that allow neither fentry nor kprobes: BTF tracepoints and cgroup programs.
//!
//! Cgroup programs could refuse traffic; these always return 1. They see the socket as
//! `struct bpf_sock`, which does not lead to its namespace, so that is taken from the task when the
//! cookies of both agree.

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_addr},
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_skc_to_tcp_sock},
    macros::{btf_tracepoint, cgroup_sock, cgroup_sock_addr, sock_ops},
    programs::{BtfTracePointContext, SockAddrContext, SockContext, SockOpsContext},
};
use tracer_common::{
    DIRECTION_RECEIVED, DIRECTION_SENT, FLAG_NO_ENDS, FLAG_PORT_BOUND, HOW_CALL, HOW_FIRST_USE, KIND_ACCEPT,
    KIND_ATTEMPT, KIND_BIND, KIND_CLOSE, KIND_CONNECT, KIND_LISTEN, KIND_UDP, READS_COOKIE, Record, slot,
};

use crate::{
    emit::emit,
    handlers::{peer::Peer, tcp, udp},
    maps::{offset, setting},
    proof::{is_asked_for, is_self_test, mark, wanted},
    sock::{CLOSE, ESTABLISHED, INET6, Sock, TCP, UDP, UDPLITE, plain, put_v4},
    tables::{self, forget},
    task::{NO_NETNS_COOKIE, Task},
};

/// The program lets the call go on.
pub(super) const ALLOW: i32 = 1;
/// `BPF_SOCK_OPS_TCP_CONNECT_CB`: called at the start of `tcp_connect()`.
const TCP_CONNECT: u32 = 3;
/// `BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB`: an inbound connection, before it becomes ESTABLISHED.
const PASSIVE_ESTABLISHED: u32 = 5;
/// `BPF_SOCK_OPS_TCP_LISTEN_CB`: called at the end of `listen()`.
const TCP_LISTEN: u32 = 11;
/// `MSG_PEEK` and `MSG_ERRQUEUE`: nothing was taken from the socket's queue.
const NOT_TAKEN: i32 = 0x2 | 0x2000;

/// Connect and listen with both ends known, in the caller's context.
#[sock_ops]
pub(crate) fn tcp_calls(ctx: SockOpsContext) -> u32 {
    let op = ctx.op();
    if op == TCP_CONNECT || op == TCP_LISTEN {
        if let Some(at) = full_socket(&ctx)
            && let Some(sk) = wanted!("tcp_calls", at)
            && !sk.is_aside()
        {
            let kind = if op == TCP_CONNECT { KIND_CONNECT } else { KIND_LISTEN };
            tcp::in_context(sk, || cookie(&ctx), kind);
        }
    } else if op == PASSIVE_ESTABLISHED && setting!(reads) & READS_COOKIE == 0 {
        // The tracepoint that comes next may not ask for the cookie, but it can read it.
        cookie(&ctx);
    }
    ALLOW as u32
}

#[inline(always)]
fn cookie(ctx: &SockOpsContext) -> u64 {
    // SAFETY: the verifier checks the context.
    unsafe { bpf_get_socket_cookie(ctx.ops.cast()) }
}

/// The socket with its kernel type, so that members can be read.
#[inline(always)]
pub(super) fn full_socket(ctx: &SockOpsContext) -> Option<*const u8> {
    // SAFETY: the verifier checks the context and that null is ruled out before the helper.
    unsafe {
        let sk = (&raw const (*ctx.ops).__bindgen_anon_2.sk).read_volatile();
        if sk.is_null() {
            return None;
        }
        let full = bpf_skc_to_tcp_sock(sk.cast()) as *const u8;
        if full.is_null() { None } else { Some(full) }
    }
}

/// `connect()` of an IPv4 address.
#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4(ctx: SockAddrContext) -> i32 {
    connect(&ctx, const { slot("connect4") }, v4_peer(&ctx));
    ALLOW
}

/// `connect()` of an IPv6 address, v4-mapped ones too.
#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6(ctx: SockAddrContext) -> i32 {
    connect(&ctx, const { slot("connect6") }, v6_peer(&ctx));
    ALLOW
}

#[inline(always)]
fn connect(ctx: &SockAddrContext, slot: u32, peer: Peer) {
    let protocol = address_of(ctx).protocol as u16;
    let kind = if protocol == TCP {
        if setting!(loopback_aside) != 0 && peer.is_loopback() {
            return;
        }
        KIND_ATTEMPT
    } else if protocol == UDP || protocol == UDPLITE {
        KIND_CONNECT
    } else {
        return;
    };
    let Some(place) = Place::of(ctx, slot) else { return };
    emit(kind, |record| {
        fill(ctx, &place, record);
        record.remote = peer.address;
        record.remote_port = peer.port;
        if kind == KIND_CONNECT {
            record.flags |= tracer_common::FLAG_CONNECTED;
        }
    });
}

/// An unconnected datagram to an IPv4 address.
#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn sendmsg4(ctx: SockAddrContext) -> i32 {
    datagram(&ctx, const { slot("sendmsg4") }, v4_peer(&ctx), DIRECTION_SENT);
    ALLOW
}

/// An unconnected datagram to an IPv6 address.
#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn sendmsg6(ctx: SockAddrContext) -> i32 {
    datagram(&ctx, const { slot("sendmsg6") }, v6_peer(&ctx), DIRECTION_SENT);
    ALLOW
}

/// A datagram from an IPv4 address, read by a program that asked for it.
#[cgroup_sock_addr(recvmsg4)]
pub(crate) fn recvmsg4(ctx: SockAddrContext) -> i32 {
    received(&ctx, const { slot("recvmsg4") }, v4_peer(&ctx));
    ALLOW
}

/// A datagram from an IPv6 address, read by a program that asked for it.
#[cgroup_sock_addr(recvmsg6)]
pub(crate) fn recvmsg6(ctx: SockAddrContext) -> i32 {
    received(&ctx, const { slot("recvmsg6") }, v6_peer(&ctx));
    ALLOW
}

/// A connected socket's datagrams are counted where their length is known.
#[inline(always)]
fn received(ctx: &SockAddrContext, slot: u32, peer: Peer) {
    // SAFETY: the verifier checks the context.
    let state = unsafe { (*socket_of(ctx)).state } as u8;
    if state != ESTABLISHED {
        datagram(ctx, slot, peer, DIRECTION_RECEIVED);
    }
}

#[inline(always)]
fn datagram(ctx: &SockAddrContext, slot: u32, peer: Peer, direction: u8) {
    let cookie = cookie_of(ctx);
    let key = udp::flow_key(cookie, &peer, direction);
    let Some(set) = tables::flows(&key) else { return };
    let known = tables::place_of(set, &key);
    if known.is_some_and(|way| !udp::goes_on(&mut set[way], 0)) {
        return; // of most datagrams no more is looked at
    }
    let flow = tables::at(set, known);
    let Some(place) = Place::of(ctx, slot) else { return };
    tables::take(flow, &key, 0);
    emit(KIND_UDP, |record| {
        fill(ctx, &place, record);
        if udp::has_chosen_port(cookie) {
            record.flags |= FLAG_PORT_BOUND;
        }
        udp::fill_flow(record, &peer, direction, flow);
    });
}

/// `accept()` asks for the peer's name on the way out, when the program wants it: the acceptor's own
/// context.
#[cgroup_sock_addr(getpeername4)]
pub(crate) fn getpeername4(ctx: SockAddrContext) -> i32 {
    named(&ctx, const { slot("getpeername4") }, v4_peer(&ctx));
    ALLOW
}

/// As [`getpeername4`].
#[cgroup_sock_addr(getpeername6)]
pub(crate) fn getpeername6(ctx: SockAddrContext) -> i32 {
    named(&ctx, const { slot("getpeername6") }, v6_peer(&ctx));
    ALLOW
}

#[inline(always)]
fn named(ctx: &SockAddrContext, slot: u32, peer: Peer) {
    let aside = setting!(loopback_aside) != 0 && peer.is_loopback();
    if address_of(ctx).protocol as u16 != TCP || aside && !is_self_test(Task::current().netns_number()) {
        return;
    }
    // First what is most often false: every getpeername() of a program comes here.
    if !tcp::claim(cookie_of(ctx)) {
        return;
    }
    let Some(place) = Place::of(ctx, slot) else { return };
    emit(KIND_ACCEPT, |record| {
        fill(ctx, &place, record);
        record.remote = peer.address;
        record.remote_port = peer.port;
    });
}

/// `bind()` of an IPv4 socket: only here the program's own choice of the port can be seen.
#[cgroup_sock_addr(bind4)]
pub(crate) fn bind4(ctx: SockAddrContext) -> i32 {
    binds(&ctx, const { slot("bind4") });
    ALLOW
}

/// As [`bind4`].
#[cgroup_sock_addr(bind6)]
pub(crate) fn bind6(ctx: SockAddrContext) -> i32 {
    binds(&ctx, const { slot("bind6") });
    ALLOW
}

#[inline(always)]
fn binds(ctx: &SockAddrContext, slot: u32) {
    let address = address_of(ctx);
    if matches!(address.protocol as u16, UDP | UDPLITE) && Place::of(ctx, slot).is_some() {
        udp::binds(cookie_of(ctx), u16::from_be(address.user_port as u16));
    }
}

/// `bind()` has given an IPv4 socket its port.
#[cgroup_sock(post_bind4)]
pub(crate) fn post_bind4(ctx: SockContext) -> i32 {
    bound(&ctx, const { slot("post_bind4") }, |record| {
        // SAFETY: the verifier checks the context.
        let address = unsafe { (&raw const (*ctx.sock).src_ip4).read_volatile() };
        put_v4(&mut record.local, address);
    });
    ALLOW
}

/// `bind()` has given an IPv6 socket its port.
#[cgroup_sock(post_bind6)]
pub(crate) fn post_bind6(ctx: SockContext) -> i32 {
    bound(&ctx, const { slot("post_bind6") }, |record| {
        // SAFETY: the verifier checks the context.
        let address = unsafe { words(&raw const (*ctx.sock).src_ip6) };
        put(&mut record.local, INET6 as u8, (address, 0));
    });
    ALLOW
}

/// A program after `bind()` may read the local address of its own family only.
#[inline(always)]
fn bound(ctx: &SockContext, slot: u32, fill_local: impl FnOnce(&mut Record)) {
    if !is_udp(ctx) {
        return;
    }
    let Some(place) = Place::of_sock(ctx, slot) else { return };
    emit(KIND_BIND, |record| {
        fill_sock(ctx, &place, record, HOW_CALL);
        // SAFETY: the verifier checks the context.
        record.local_port = unsafe { (&raw const (*ctx.sock).src_port).read_volatile() } as u16;
        record.state = CLOSE;
        if udp::has_chosen_port(cookie_of_sock(ctx)) {
            record.flags |= FLAG_PORT_BOUND;
        }
        fill_local(record);
    });
}

/// The last descriptor of a socket is closed.
#[cgroup_sock(sock_release)]
pub(crate) fn sock_release(ctx: SockContext) -> i32 {
    // SAFETY: the verifier checks the context.
    let protocol = unsafe { (*ctx.sock).protocol } as u16;
    let cookie = cookie_of_sock(&ctx);
    if protocol == TCP {
        if tcp::claim(cookie) {
            released(&ctx, KIND_ACCEPT);
        }
    } else if is_udp(&ctx) {
        released(&ctx, KIND_CLOSE);
        forget(cookie);
    }
    ALLOW
}

#[inline(always)]
fn released(ctx: &SockContext, kind: u8) {
    let Some(place) = Place::of_sock(ctx, const { slot("sock_release") }) else { return };
    emit(kind, |record| {
        fill_sock(ctx, &place, record, HOW_FIRST_USE);
        record.flags |= FLAG_NO_ENDS;
        record.state = ESTABLISHED;
        if kind == KIND_CLOSE {
            record.state = CLOSE;
            udp::fill_totals(cookie_of_sock(ctx), record);
        }
    });
}

/// `sock_send_length(struct sock *sk, int ret, int flags)`
#[btf_tracepoint(function = "sock_send_length")]
pub(crate) fn send_length(ctx: BtfTracePointContext) -> i32 {
    if let Some(sk) = wanted!("send_length", ctx.arg(0)) {
        used(sk, ctx.arg(1), 0, DIRECTION_SENT);
    }
    0
}

/// `sock_recv_length(struct sock *sk, int ret, int flags)`
#[btf_tracepoint(function = "sock_recv_length")]
pub(crate) fn recv_length(ctx: BtfTracePointContext) -> i32 {
    if let Some(sk) = wanted!("recv_length", ctx.arg(0)) {
        used(sk, ctx.arg(1), ctx.arg(2), DIRECTION_RECEIVED);
    }
    0
}

/// `tcp_rcv_space_adjust(struct sock *sk)`: a process has read from a TCP socket. Where [`recv_length`] is not to be had.
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub(crate) fn first_read(ctx: BtfTracePointContext) -> i32 {
    if let Some(sk) = wanted!("first_read", ctx.arg(0)) {
        tcp::first_use(sk, HOW_FIRST_USE);
    }
    0
}

/// `net_dev_queue(struct sk_buff *skb)`: a packet leaves. Where [`send_length`] is not to be had.
#[btf_tracepoint(function = "net_dev_queue")]
pub(crate) fn first_packet(ctx: BtfTracePointContext) -> i32 {
    let sk: *const u8 = plain(ctx.arg(0), offset!(skb_sk));
    if !sk.is_null()
        && let Some(sk) = wanted!("first_packet", sk)
        && sk.state() == ESTABLISHED
    {
        tcp::first_sent(sk);
    }
    0
}

#[inline(always)]
fn used(sk: Sock, result: i32, flags: i32, direction: u8) {
    if sk.is_tcp() {
        tcp::first_use(sk, HOW_FIRST_USE);
    } else if result >= 0 && flags & NOT_TAKEN == 0 && sk.is_udp() {
        let bytes = u64::from(result as u32);
        let cookie = sk.cookie();
        udp::add_bytes(cookie, direction, bytes);
        if sk.state() == ESTABLISHED {
            udp::datagram(sk, cookie, Peer::connected(sk), direction, bytes);
        }
    }
}

/// Who acts, and in which namespace the socket is (0: not known).
struct Place {
    task: Task,
    netns: u32,
}

impl Place {
    #[inline(always)]
    fn of(ctx: &SockAddrContext, slot: u32) -> Option<Self> {
        // SAFETY: the verifier checks the context.
        Self::wanted(unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) }, slot)
    }

    #[inline(always)]
    fn of_sock(ctx: &SockContext, slot: u32) -> Option<Self> {
        // SAFETY: the verifier checks the context.
        Self::wanted(unsafe { bpf_get_netns_cookie(ctx.sock.cast()) }, slot)
    }

    /// Nothing for the tracer itself and for a namespace that was not asked for. Where the kernel does
    /// not show a namespace's cookie, a socket is taken to be in its user's namespace.
    #[inline(always)]
    fn wanted(cookie: u64, slot: u32) -> Option<Self> {
        let task = Task::current();
        let (inum, task_cookie) = task.netns();
        let netns = if cookie == task_cookie || task_cookie == NO_NETNS_COOKIE { inum } else { 0 };
        if mark(slot, netns) || task.is_tracer() {
            return None;
        }
        (netns == 0 || is_asked_for(netns)).then_some(Self { task, netns })
    }
}

#[inline(always)]
fn cookie_of(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the verifier checks the context.
    unsafe { bpf_get_socket_cookie(ctx.sock_addr.cast()) }
}

#[inline(always)]
fn cookie_of_sock(ctx: &SockContext) -> u64 {
    // SAFETY: the verifier checks the context.
    unsafe { bpf_get_socket_cookie(ctx.sock.cast()) }
}

#[inline(always)]
fn address_of(ctx: &SockAddrContext) -> &bpf_sock_addr {
    // SAFETY: the verifier checks the context.
    unsafe { &*ctx.sock_addr }
}

#[inline(always)]
fn socket_of(ctx: &SockAddrContext) -> *mut bpf_sock {
    // SAFETY: the verifier checks the context.
    unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk }
}

#[inline(always)]
fn v4_peer(ctx: &SockAddrContext) -> Peer {
    let address = address_of(ctx);
    Peer::v4(address.user_ip4, u16::from_be(address.user_port as u16))
}

#[inline(always)]
fn v6_peer(ctx: &SockAddrContext) -> Peer {
    let address = address_of(ctx);
    let mut peer = Peer::v6([0; 16], u16::from_be(address.user_port as u16));
    let words = peer.address.as_mut_ptr().cast::<u32>();
    let mut i = 0;
    while i < 4 {
        // SAFETY: four words of both arrays; the verifier wants loads of 4 bytes from the context.
        unsafe { words.add(i).write_unaligned((&raw const address.user_ip6[i]).read_volatile()) };
        i += 1;
    }
    peer
}

/// Writes the socket of a call with an address.
#[inline(always)]
fn fill(ctx: &SockAddrContext, place: &Place, record: &mut Record) {
    record.cookie = cookie_of(ctx);
    record.protocol = address_of(ctx).protocol as u16;
    record.netns = place.netns;
    fill_ends(socket_of(ctx), record);
    place.task.fill(record, HOW_CALL);
}

/// Writes the socket of a call without an address: its ends may not be read here.
#[inline(always)]
fn fill_sock(ctx: &SockContext, place: &Place, record: &mut Record, how: u8) {
    record.cookie = cookie_of_sock(ctx);
    // SAFETY: the verifier checks the context.
    record.protocol = unsafe { (*ctx.sock).protocol } as u16;
    // SAFETY: as above.
    record.family = unsafe { (*ctx.sock).family } as u8;
    record.netns = place.netns;
    place.task.fill(record, how);
}

#[inline(always)]
fn is_udp(ctx: &SockContext) -> bool {
    // SAFETY: the verifier checks the context.
    matches!(unsafe { (*ctx.sock).protocol } as u16, UDP | UDPLITE)
}

/// Writes state and ends as `struct bpf_sock` shows them; addresses in network order.
///
/// Both families' members are loaded before one is chosen: a choice between members would become
/// arithmetic on the pointer, which the verifier does not allow.
#[inline(always)]
fn fill_ends(sk: *mut bpf_sock, record: &mut Record) {
    // SAFETY: the verifier checks the pointer and rewrites each load; volatile keeps them apart.
    unsafe {
        record.family = (&raw const (*sk).family).read_volatile() as u8;
        record.state = (&raw const (*sk).state).read_volatile() as u8;
        record.local_port = (&raw const (*sk).src_port).read_volatile() as u16;
        record.remote_port = u16::from_be((&raw const (*sk).dst_port).read_volatile());
        let local = (words(&raw const (*sk).src_ip6), (&raw const (*sk).src_ip4).read_volatile());
        let remote = (words(&raw const (*sk).dst_ip6), (&raw const (*sk).dst_ip4).read_volatile());
        put(&mut record.local, record.family, local);
        put(&mut record.remote, record.family, remote);
    }
}

#[inline(always)]
unsafe fn words(from: *const [u32; 4]) -> [u32; 4] {
    let from = from.cast::<u32>();
    // SAFETY: four words; the caller vouches for the pointer.
    unsafe {
        [
            from.read_volatile(),
            from.add(1).read_volatile(),
            from.add(2).read_volatile(),
            from.add(3).read_volatile(),
        ]
    }
}

#[inline(always)]
fn put(to: &mut [u8; 16], family: u8, (v6, v4): ([u32; 4], u32)) {
    if u16::from(family) == INET6 {
        let place = to.as_mut_ptr().cast::<u32>();
        let mut i = 0;
        while i < 4 {
            // SAFETY: four words on both sides; `to` is aligned to 8 in the record.
            unsafe { place.add(i).write(v6[i]) };
            i += 1;
        }
    } else {
        put_v4(to, v4);
    }
}
