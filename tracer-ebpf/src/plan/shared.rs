//! Hooks that more than one plan uses.

use aya_ebpf::{
    helpers::generated::bpf_get_socket_cookie,
    macros::{btf_tracepoint, cgroup_sock, sock_ops},
    programs::{BtfTracePointContext, SockContext, SockOpsContext},
};

use tracer_common::COUNTER_INSIDE;

use super::tracepoint::{ALLOW, Place, full_socket};
use crate::{emit::add, handlers::tcp, maps::AT_WORK, proof::proven, sock::Sock};

/// `BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB`: an inbound connection, before it becomes ESTABLISHED.
const PASSIVE_ESTABLISHED: u32 = 5;

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn state_change(ctx: BtfTracePointContext) -> i32 {
    set_at_work(1);
    let sk = Sock(ctx.arg(0));
    if !proven!("state_change", sk) {
        changed(&ctx, sk);
    }
    set_at_work(0);
    0
}

/// The same, attached behind [`state_change`]. Since 6.1 the kernel does not run a program inside itself, and
/// states change in interrupts as well: one that comes while the first is at work finds only this one.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn state_change_inside(ctx: BtfTracePointContext) -> i32 {
    let sk = Sock(ctx.arg(0));
    if !proven!("state_change_inside", sk) && is_at_work() {
        add(COUNTER_INSIDE, 1);
        changed(&ctx, sk);
    }
    0
}

#[inline(always)]
fn changed(ctx: &BtfTracePointContext, sk: Sock) {
    let old: i32 = ctx.arg(1);
    let new: i32 = ctx.arg(2);
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(ctx, "inet_sock_set_state: {} to {}", old, new);
    tcp::state_change(sk, old as u8, new as u8);
}

#[inline(always)]
fn set_at_work(value: u64) {
    if let Some(place) = AT_WORK.get_ptr_mut(0) {
        // SAFETY: this CPU's own entry.
        unsafe { place.write_volatile(value) };
    }
}

#[inline(always)]
fn is_at_work() -> bool {
    // SAFETY: this CPU's own entry.
    AT_WORK.get_ptr(0).is_some_and(|place| unsafe { place.read_volatile() } != 0)
}

/// Every socket that a process makes: where tracing programs cannot ask for a socket's cookie, this
/// makes the kernel give it one before any of them sees the socket.
#[cgroup_sock(sock_create)]
pub(crate) fn name_sockets(ctx: SockContext) -> i32 {
    // SAFETY: the verifier checks the context.
    unsafe { bpf_get_socket_cookie(ctx.sock.cast()) };
    let _ = Place::of_sock(&ctx, const { tracer_common::slot("name_sockets") });
    ALLOW
}

/// Every inbound connection, which no process makes: named as in [`name_sockets`].
#[sock_ops]
pub(crate) fn name_connections(ctx: SockOpsContext) -> u32 {
    if ctx.op() == PASSIVE_ESTABLISHED {
        // SAFETY: the verifier checks the context.
        unsafe { bpf_get_socket_cookie(ctx.ops.cast()) };
        if let Some(sk) = full_socket(&ctx) {
            proven!("name_connections", sk);
        }
    }
    ALLOW as u32
}
