//! Hooks that more than one plan uses.

use aya_ebpf::{
    helpers::generated::bpf_get_socket_cookie,
    macros::{btf_tracepoint, cgroup_sock, sock_ops},
    programs::{BtfTracePointContext, SockContext, SockOpsContext},
};

use super::tracepoint::{ALLOW, Place, full_socket};
use crate::{handlers::tcp, proof::proven, sock::Sock};

/// `BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB`: an inbound connection, before it becomes ESTABLISHED.
const PASSIVE_ESTABLISHED: u32 = 5;

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn state_change(ctx: BtfTracePointContext) -> i32 {
    let old: i32 = ctx.arg(1);
    let new: i32 = ctx.arg(2);
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(&ctx, "inet_sock_set_state: {} to {}", old, new);
    let sk = Sock(ctx.arg(0));
    if !proven!("state_change", sk) {
        tcp::state_change(sk, old as u8, new as u8);
    }
    0
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
