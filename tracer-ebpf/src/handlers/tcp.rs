//! TCP: listen, connect and its outcome, accept, close.

use aya_ebpf::helpers::generated::bpf_skc_to_tcp_sock;
use tracer_common::{
    FAULT_BYTES, FAULT_PEER, HOW_CALL, KIND_ACCEPT, KIND_CLOSE, KIND_ESTABLISHED, KIND_FAILED,
    KIND_INCOMING, READS_BY_PROBE, Record,
};

use super::{forget, make_state_of, peer::socket_address, state_of};
use crate::{
    emit::emit,
    maps::setting,
    sock::{CLOSE, ESTABLISHED, LISTEN, SYN_RECV, SYN_SENT, Sock, source_port},
    task::Task,
};

/// The acting process's own call: a socket listens, its port is bound; or a SYN is about to leave, with source port and
/// route chosen.
#[inline(always)]
pub(crate) fn in_context(sk: Sock, cookie: u64, kind: u8) {
    let task = Task::current();
    if sk.is_aside() || task.is_tracer() {
        return;
    }
    emit(kind, |record| {
        sk.fill_with(record, cookie);
        task.fill(record, HOW_CALL);
    });
}

/// A connect that ended before a packet was sent (no route, for example): no other hook sees it.
/// `address` is the one that was asked for, `result` what the call returns.
#[inline(always)]
pub(crate) fn refused(sk: Sock, address: *const u8, result: i32) {
    let task = Task::current();
    if result >= 0 || sk.state() != CLOSE || sk.is_aside() || task.is_tracer() {
        return;
    }
    emit(KIND_FAILED, |record| {
        sk.fill(record);
        task.fill(record, HOW_CALL);
        record.error = result.unsigned_abs();
        match socket_address(address) {
            Some(peer) => {
                record.remote = peer.address;
                record.remote_port = peer.port;
            }
            None => record.faults |= FAULT_PEER,
        }
    });
}

/// `inet_sock_set_state`: outcomes and ends. Mostly in softirq, so no task is read.
#[inline(always)]
pub(crate) fn state_change(sk: Sock, old: u8, new: u8) {
    let kind = match (old, new) {
        (SYN_SENT, ESTABLISHED) => KIND_ESTABLISHED,
        (SYN_RECV, ESTABLISHED) => KIND_INCOMING,
        (SYN_SENT, CLOSE) => KIND_FAILED,
        (CLOSE, _) | (_, ESTABLISHED) => return,
        _ => KIND_CLOSE,
    };
    if !sk.is_tcp() || sk.is_aside() {
        return;
    }
    let cookie = sk.cookie();
    let key = sk.key_of(cookie);
    if kind == KIND_INCOMING {
        await_accept(key);
    }
    emit(kind, |record| {
        sk.fill_with(record, cookie);
        record.state = new;
        if new == CLOSE {
            fill_end(sk, record, old == LISTEN);
        }
        if kind == KIND_FAILED {
            record.error = sk.connect_error(record.local_port);
        }
    });
    if kind == KIND_CLOSE {
        forget(key);
    }
}

/// The handshake of an inbound connection is complete; whoever takes it over is still to be seen.
#[inline(always)]
pub(crate) fn await_accept(key: u64) {
    if setting!(accept_by_use) != 0
        && let Some(state) = make_state_of(key)
    {
        state.awaits_accept = 1;
    }
}

/// What outlives the socket's unbinding, which comes before its last change of state: the port it
/// had, and its byte counts; a listener has none.
#[inline(always)]
fn fill_end(sk: Sock, record: &mut Record, listened: bool) {
    let tcp = tcp_sock(sk);
    if tcp.is_null() {
        record.faults |= FAULT_BYTES;
        return;
    }
    record.local_port = source_port(tcp);
    if !listened {
        sk.fill_bytes(tcp, record);
    }
}

/// The same socket as `struct tcp_sock`: to a probe every address is good, to the verifier it must be
/// proven.
#[inline(always)]
fn tcp_sock(sk: Sock) -> *const u8 {
    if setting!(reads) & READS_BY_PROBE != 0 {
        return sk.at;
    }
    // SAFETY: the verifier checks that the pointer is a socket.
    unsafe { bpf_skc_to_tcp_sock(sk.at as *mut _) as *const u8 }
}

/// `inet_csk_accept` returns a connection: exactly the acceptor's context. A mark tells the hook that
/// comes next in the same call, [`grafted`].
#[inline(always)]
pub(crate) fn accepted(sk: Sock) {
    // Before 5.12 it may not have its cookie yet: then the next hook, which waits for the socket's lock, tells.
    if !sk.is_tcp() || sk.is_aside() || sk.cookie() == 0 {
        return;
    }
    let _ = make_state_of(sk.key());
    tell_accept(sk, HOW_CALL);
}

/// An accepted socket gets its descriptor: the acceptor's context too, also of servers that were waiting
/// in accept() before the hooks came. Told only when [`accepted`] has not.
#[inline(always)]
pub(crate) fn grafted(sk: Sock) {
    if !sk.is_tcp() || sk.is_aside() {
        return;
    }
    let key = sk.key();
    if state_of(key).is_some() {
        forget(key);
    } else {
        tell_accept(sk, HOW_CALL);
    }
}

/// A process uses a TCP socket: for an inbound connection not yet seen accepted, that is the sign.
#[inline(always)]
pub(crate) fn first_use(sk: Sock, how: u8) {
    if claim(sk.key()) {
        tell_accept(sk, how);
    }
}

#[inline(always)]
fn tell_accept(sk: Sock, how: u8) {
    emit(KIND_ACCEPT, |record| {
        sk.fill(record);
        Task::current().fill(record, how);
    });
}

/// True once for each inbound connection that waits to be accepted.
#[inline(always)]
pub(crate) fn claim(key: u64) -> bool {
    let waits = state_of(key).is_some_and(|state| state.awaits_accept == 1);
    if waits {
        forget(key);
    }
    waits
}
