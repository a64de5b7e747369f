//! Hooks that more than one plan uses.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{handlers::tcp, sock::Sock};

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn state_change(ctx: BtfTracePointContext) -> i32 {
    let old: i32 = ctx.arg(1);
    let new: i32 = ctx.arg(2);
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(&ctx, "inet_sock_set_state: {} to {}", old, new);
    tcp::state_change(Sock(ctx.arg(0)), old as u8, new as u8);
    0
}
