//! TCP: listen, connect and its outcome, accept, close.

use aya_ebpf::helpers::generated::bpf_skc_to_tcp_sock;
use tracer_common::{
    AWAITING_ENTRIES, COUNTER_NO_STATE, FAULT_BYTES, FAULT_PEER, HOW_CALL, HOW_FIRST_USE, KIND_ACCEPT,
    KIND_CLOSE, KIND_ESTABLISHED, KIND_FAILED, KIND_INCOMING, Record,
};

use super::peer::socket_address;
use crate::{
    emit::{add, emit},
    maps::{AWAITING, setting},
    sock::{CLOSE, ESTABLISHED, LISTEN, Reads, SYN_RECV, SYN_SENT, Sock},
    task::Task,
};

/// The acting process's own call: a socket listens, its port is bound; or a SYN is about to leave, with source port and
/// route chosen.
#[inline(always)]
pub(crate) fn in_context<R: Reads>(sk: Sock<R>, cookie: impl FnOnce() -> u64, kind: u8) {
    let task = Task::current();
    if task.is_tracer() {
        return;
    }
    emit(kind, |record| {
        sk.fill_with(record, cookie());
        task.fill(record, HOW_CALL);
    });
}

/// A connect that ended before a packet was sent (no route, for example): no other hook sees it.
/// `address` is the one that was asked for, `result` what the call returns.
#[inline(always)]
pub(crate) fn refused<R: Reads>(sk: Sock<R>, address: *const u8, result: i32) {
    if result >= 0 || sk.state() != CLOSE || sk.is_aside() {
        return;
    }
    let task = Task::current();
    if task.is_tracer() {
        return;
    }
    emit(KIND_FAILED, |record| {
        sk.fill(record);
        task.fill(record, HOW_CALL);
        record.error = result.unsigned_abs();
        let peer = socket_address(address);
        record.remote = peer.address;
        record.remote_port = peer.port;
        if !peer.known {
            record.faults |= FAULT_PEER;
        }
    });
}

/// `inet_sock_set_state`: outcomes and ends. Mostly in softirq, so no task is read.
#[inline(always)]
pub(crate) fn state_change<R: Reads>(sk: Sock<R>, old: u8, new: u8) {
    let kind = match (old, new) {
        (SYN_SENT, ESTABLISHED) => KIND_ESTABLISHED,
        (SYN_RECV, ESTABLISHED) => KIND_INCOMING,
        (SYN_SENT, CLOSE) => KIND_FAILED,
        (CLOSE, _) | (_, ESTABLISHED) => return,
        _ => KIND_CLOSE,
    };
    if sk.is_aside() || !sk.is_tcp() {
        return;
    }
    let cookie = sk.cookie();
    if kind == KIND_INCOMING {
        await_accept(cookie);
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
        claim(cookie);
    }
}

/// The handshake of an inbound connection is complete; whoever takes it over is still to be seen, where the plan sees
/// that by the connection's first use.
#[inline(always)]
pub(crate) fn await_accept(cookie: u64) {
    if setting!(accept_by_use) != 0 {
        remember(cookie);
    }
}

/// Keeps a connection's cookie until [`claim`].
#[inline(always)]
fn remember(cookie: u64) {
    let Some(place) = place(cookie) else { return };
    if *place != 0 && *place != cookie {
        add(COUNTER_NO_STATE, 1);
    }
    *place = cookie;
}

#[inline(always)]
fn is_remembered(cookie: u64) -> bool {
    place(cookie).is_some_and(|place| cookie != 0 && *place == cookie)
}

/// True once for each connection that is remembered.
#[inline(always)]
pub(crate) fn claim(cookie: u64) -> bool {
    let Some(place) = place(cookie) else { return false };
    let is_it = cookie != 0 && *place == cookie;
    if is_it {
        *place = 0;
    }
    is_it
}

#[inline(always)]
fn place(cookie: u64) -> Option<&'static mut u64> {
    // SAFETY: a live entry of an array map; only the hooks of one connection write it at a time, or a newer
    // connection that takes the place over.
    unsafe { AWAITING.get_ptr_mut(cookie as u32 & (AWAITING_ENTRIES - 1))?.as_mut() }
}

/// What outlives the socket's unbinding, which comes before its last change of state: the port it
/// had, and its byte counts; a listener has none.
#[inline(always)]
fn fill_end<R: Reads>(sk: Sock<R>, record: &mut Record, listened: bool) {
    let tcp = tcp_sock(sk);
    if tcp.is_null() {
        record.faults |= FAULT_BYTES;
        return;
    }
    record.local_port = sk.source_port(tcp);
    if !listened {
        sk.fill_bytes(tcp, record);
    }
}

/// The same socket as `struct tcp_sock`: to a probe every address is good, to the verifier it must be
/// proven.
#[inline(always)]
fn tcp_sock<R: Reads>(sk: Sock<R>) -> *const u8 {
    if !R::TYPED {
        return sk.at;
    }
    // SAFETY: the verifier checks that the pointer is a socket.
    unsafe { bpf_skc_to_tcp_sock(sk.at as *mut _) as *const u8 }
}

/// `inet_csk_accept` returns a connection: exactly the acceptor's context. A mark tells the hook that
/// comes next in the same call, [`grafted`].
#[inline(always)]
pub(crate) fn accepted<R: Reads>(sk: Sock<R>) {
    // Before 5.12 it may not have its cookie yet: then the next hook, which waits for the socket's lock, tells.
    if sk.is_aside() || !sk.is_tcp() || sk.cookie() == 0 {
        return;
    }
    remember(sk.cookie());
    tell_accept(sk, HOW_CALL);
}

/// An accepted socket gets its descriptor: the acceptor's context too, also of servers that were waiting
/// in accept() before the hooks came. Told only when [`accepted`] has not.
#[inline(always)]
pub(crate) fn grafted<R: Reads>(sk: Sock<R>) {
    if sk.is_tcp() && !claim(sk.cookie()) {
        tell_accept(sk, HOW_CALL);
    }
}

/// A process uses a TCP socket: for an inbound connection not yet seen accepted, that is the sign.
#[inline(always)]
pub(crate) fn first_use<R: Reads>(sk: Sock<R>, how: u8) {
    if claim(sk.cookie()) {
        tell_accept(sk, how);
    }
}

/// A packet of a TCP socket leaves. When it is the first that carries data, the process that wrote it runs; but not where
/// the data waited (`MSG_MORE`) and an interrupt sends it.
#[inline(always)]
pub(crate) fn first_sent<R: Reads>(sk: Sock<R>) {
    if !is_remembered(sk.cookie()) || !sk.is_tcp() {
        return;
    }
    let tcp = tcp_sock(sk);
    if !tcp.is_null() && sk.has_sent(tcp) && Task::current().is_on_own_stack() {
        first_use(sk, HOW_FIRST_USE);
    }
}

#[inline(always)]
fn tell_accept<R: Reads>(sk: Sock<R>, how: u8) {
    emit(KIND_ACCEPT, |record| {
        sk.fill(record);
        Task::current().fill(record, how);
    });
}
