//! TCP: listen, connect and its outcome, accept, close.

use aya_ebpf::helpers::generated::bpf_skc_to_tcp_sock;
use tracer_common::{
    FAULT_BYTES, HOW_CALL, KIND_ACCEPT, KIND_CLOSE, KIND_CONNECT, KIND_ESTABLISHED, KIND_FAILED,
    KIND_INCOMING, KIND_LISTEN, Record,
};

use super::{make_state_of, state_of, try_state_of};
use crate::{
    emit::emit,
    maps::accept_by_use,
    sock::{CLOSE, ESTABLISHED, LISTEN, SYN_RECV, SYN_SENT, Sock, source_port},
    task::Task,
};

/// A socket listens, its port is bound; called in the listener's context.
#[inline(always)]
pub(crate) fn listen(sk: Sock, cookie: u64) {
    in_context(sk, cookie, KIND_LISTEN);
}

/// A SYN is about to leave; source port and route are chosen; called in the caller's context.
#[inline(always)]
pub(crate) fn connect(sk: Sock, cookie: u64) {
    in_context(sk, cookie, KIND_CONNECT);
}

#[inline(always)]
fn in_context(sk: Sock, cookie: u64, kind: u8) {
    let task = Task::current();
    if !sk.is_wanted() || task.is_tracer() {
        return;
    }
    emit(kind, |record| {
        sk.fill_with(record, cookie);
        task.fill(record, HOW_CALL);
    });
}

/// `inet_sock_set_state`: outcomes and ends. Mostly in softirq, so no task is read.
#[inline(always)]
pub(crate) fn state_change(sk: Sock, old: u8, new: u8) {
    if !sk.is_tcp() || !sk.is_wanted() {
        return;
    }
    if new == ESTABLISHED && old == SYN_SENT {
        emit(KIND_ESTABLISHED, |record| sk.fill(record));
    } else if new == ESTABLISHED && old == SYN_RECV {
        incoming(sk);
    } else if new == CLOSE && old == SYN_SENT {
        emit(KIND_FAILED, |record| {
            sk.fill(record);
            fill_end(sk, record);
            record.error = sk.connect_error(record.local_port);
        });
    } else if new == CLOSE && old != CLOSE {
        close(sk, old);
    }
}

/// The handshake of an inbound connection is complete; whoever takes it over is still to be seen.
#[inline(always)]
fn incoming(sk: Sock) {
    if accept_by_use()
        && let Some(state) = make_state_of(sk.0)
    {
        state.awaits_accept = 1;
    }
    emit(KIND_INCOMING, |record| {
        sk.fill(record);
        record.state = ESTABLISHED;
    });
}

#[inline(always)]
fn close(sk: Sock, old: u8) {
    emit(KIND_CLOSE, |record| {
        sk.fill(record);
        record.state = CLOSE;
        fill_end(sk, record);
        if old == LISTEN {
            record.bytes_sent = 0;
            record.bytes_received = 0;
        }
    });
}

/// What outlives the socket's unbinding, which comes before its last change of state: the port it
/// had, and its byte counts.
#[inline(always)]
fn fill_end(sk: Sock, record: &mut Record) {
    // SAFETY: the verifier checks that the pointer is a socket.
    let tcp = unsafe { bpf_skc_to_tcp_sock(sk.0 as *mut _) } as *const u8;
    if tcp.is_null() {
        record.faults |= FAULT_BYTES;
    } else {
        sk.fill_bytes(tcp, record);
        record.local_port = source_port(tcp);
    }
}

/// An accepted socket is grafted or returned: exactly the acceptor's context. Counted once.
#[inline(always)]
pub(crate) fn accept(sk: Sock) {
    if !sk.is_tcp() || !claim(sk.0, true) || !sk.is_wanted() {
        return;
    }
    emit(KIND_ACCEPT, |record| {
        sk.fill(record);
        Task::current().fill(record, HOW_CALL);
    });
}

/// A process uses a TCP socket: for an inbound connection not yet seen accepted, that is the sign.
#[inline(always)]
pub(crate) fn first_use(sk: Sock, how: u8) {
    if !claim(sk.0, false) || !sk.is_wanted() {
        return;
    }
    emit(KIND_ACCEPT, |record| {
        sk.fill(record);
        Task::current().fill(record, how);
    });
}

/// True once for each inbound connection. A connection older than the hooks has no state: `unknown`
/// says whether the hook is proof enough to count it now.
#[inline(always)]
pub(crate) fn claim(sk: *const u8, unknown: bool) -> bool {
    match state_of(sk) {
        Some(state) if state.awaits_accept == 1 => {
            state.awaits_accept = 0;
            true
        }
        Some(_) => false,
        None if unknown => {
            // Without memory for it a second hook tells the same accept again; user space knows.
            let _ = try_state_of(sk);
            true
        }
        None => false,
    }
}
