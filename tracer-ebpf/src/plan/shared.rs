//! Hooks that more than one plan uses.

use aya_ebpf::{
    helpers::generated::bpf_get_socket_cookie,
    macros::{btf_tracepoint, cgroup_sock, sock_ops},
    programs::{BtfTracePointContext, SockContext, SockOpsContext},
};

use tracer_common::{COUNTER_INSIDE, READS_FOR_OTHERS, slot};

use super::tracepoint::{ALLOW, full_socket};
use crate::{
    emit::add,
    handlers::tcp,
    maps::{TAKEN, TAKEN_PLACES, offset, setting},
    proof::{is_asked_for, mark},
    sock::{CLOSE, ESTABLISHED, LISTEN, SYN_RECV, SYN_SENT, Sock, Typed, plain},
    task::Task,
};

/// `BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB`: an inbound connection, before it becomes ESTABLISHED.
const PASSIVE_ESTABLISHED: u32 = 5;

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn state_change(ctx: BtfTracePointContext) -> i32 {
    let change = Change::of(&ctx);
    if !change.is_told() {
        name(&change);
        take(&change);
        return 0;
    }
    let sk = Sock::at(change.at, Typed);
    // The second program proves itself by what this one does not take.
    if mark(const { slot("state_change") }, sk.netns) {
        return 0;
    }
    take(&change);
    if is_asked_for(sk.netns) {
        #[cfg(feature = "log")]
        aya_log_ebpf::debug!(&ctx, "inet_sock_set_state: {} to {}", change.old, change.new);
        tcp::state_change(sk, change.old, change.new);
    }
    0
}

/// The same, attached behind [`state_change`], for the changes that it did not take. Since 6.1 the kernel does
/// not run a program inside itself, and states change in interrupts as well: one that comes while the first
/// program is at work on this CPU finds only this one.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn state_change_inside(ctx: BtfTracePointContext) -> i32 {
    let change = Change::of(&ctx);
    if is_taken(&change) {
        return 0;
    }
    if change.is_told() {
        let sk = Sock::at(change.at, Typed);
        if mark(const { slot("state_change_inside") }, sk.netns) {
            if change.old == SYN_RECV {
                tcp::await_accept(sk.cookie()); // what comes next proves itself by this
            }
            return 0;
        }
        if is_asked_for(sk.netns) {
            tcp::state_change(sk, change.old, change.new);
        }
    } else {
        name(&change);
    }
    // Also where nothing is lost: the kernel counts every run that it left out.
    add(COUNTER_INSIDE, 1);
    0
}

/// Has a socket that begins to connect or to listen named, for the hooks on the functions that come next: of those that the
/// kernel makes for itself, as for MPTCP, [`name_sockets`] is not told.
#[inline(always)]
fn name(change: &Change) {
    if setting!(reads) & READS_FOR_OTHERS != 0 && matches!(change.new, SYN_SENT | LISTEN) {
        // SAFETY: the verifier checks that the pointer is a socket.
        unsafe { bpf_get_socket_cookie(change.at as *mut _) };
    }
}

/// A change of a socket's state.
struct Change {
    at: *const u8,
    old: u8,
    new: u8,
}

impl Change {
    #[inline(always)]
    fn of(ctx: &BtfTracePointContext) -> Self {
        Self { at: ctx.arg(0), old: ctx.arg::<i32>(1) as u8, new: ctx.arg::<i32>(2) as u8 }
    }

    /// Only outcomes and ends are: of most changes nothing is read.
    #[inline(always)]
    fn is_told(&self) -> bool {
        self.new == ESTABLISHED || self.new == CLOSE
    }
}

/// Says to the second program that this change is taken.
#[inline(always)]
fn take(change: &Change) {
    if let Some(place) = taken(change) {
        *place = (change.at as u64, change.new.into());
    }
}

/// Whether the first program took this change; it is then crossed out.
#[inline(always)]
fn is_taken(change: &Change) -> bool {
    let Some(place) = taken(change) else { return true };
    let is_it = *place == (change.at as u64, change.new.into());
    if is_it {
        place.0 = 0;
    }
    is_it
}

/// The place for a change, by its socket's ports: what interrupts is about another one, and seldom overwrites a change that the
/// second program is still to see. Where it does, that change is told twice, and the second time tells nothing new.
#[inline(always)]
fn taken(change: &Change) -> Option<&'static mut (u64, u64)> {
    // Both in one: the kernel has them side by side, to compare them so (`skc_portpair` of `include/net/sock.h`).
    let ports: u32 = plain(change.at, offset!(dport));
    let place = (ports ^ (ports >> 16)) as usize % TAKEN_PLACES;
    // SAFETY: this CPU's own entry, and a place inside it.
    unsafe { (*TAKEN.get_ptr_mut(0)?).get_mut(place) }
}

/// Every socket that a process makes: where tracing programs cannot ask for a socket's cookie, this
/// makes the kernel give it one before any of them sees the socket.
#[cgroup_sock(sock_create)]
pub(crate) fn name_sockets(ctx: SockContext) -> i32 {
    // SAFETY: the verifier checks the context.
    unsafe { bpf_get_socket_cookie(ctx.sock.cast()) };
    mark(const { slot("name_sockets") }, Task::current().netns_number());
    ALLOW
}

/// Every inbound connection, which no process makes: named as in [`name_sockets`].
#[sock_ops]
pub(crate) fn name_connections(ctx: SockOpsContext) -> u32 {
    if ctx.op() == PASSIVE_ESTABLISHED {
        // SAFETY: the verifier checks the context.
        unsafe { bpf_get_socket_cookie(ctx.ops.cast()) };
        if let Some(at) = full_socket(&ctx) {
            mark(const { slot("name_connections") }, Sock::at(at, Typed).netns);
        }
    }
    ALLOW as u32
}
