//! UDP: bind, connect, flows, close. A flow is reported at its first datagram and then at most once
//! a period; in between only counters move.

use tracer_common::{
    DIRECTION_RECEIVED, DIRECTION_SENT, FLAG_NO_BYTES, FLAG_NO_PEER, Flow, FlowKey, HOW_CALL, KIND_BIND,
    KIND_CLOSE, KIND_CONNECT, KIND_UDP, Record,
};

use super::{
    forget, make_state_of,
    peer::{Peer, is_v4_mapped, named, sender},
    state_of,
};
use crate::{
    emit::{emit, now},
    maps::{FLOWS, setting},
    sock::Sock,
    task::Task,
};

/// `bind()` has given the socket its port.
#[inline(always)]
pub(crate) fn bind(sk: Sock) {
    if sk.is_udp() {
        let _ = make_state_of(sk.key()); // its byte counts begin here
    }
    in_context(sk, KIND_BIND);
}

/// `connect()` has set the socket's peer.
#[inline(always)]
pub(crate) fn connect(sk: Sock) {
    in_context(sk, KIND_CONNECT);
}

#[inline(always)]
fn in_context(sk: Sock, kind: u8) {
    let task = Task::current();
    if !sk.is_udp() || task.is_tracer() {
        return;
    }
    emit(kind, |record| {
        sk.fill(record);
        task.fill(record, HOW_CALL);
    });
}

/// The socket is destroyed.
#[inline(always)]
pub(crate) fn close(sk: Sock) {
    if !sk.is_udp() || sk.local_port() == 0 {
        return;
    }
    emit(KIND_CLOSE, |record| {
        sk.fill(record);
        record.state = crate::sock::CLOSE;
        fill_totals(sk.key(), record);
    });
    forget(sk.key());
}

/// Byte totals of the socket; a socket older than the hooks has none that are whole.
#[inline(always)]
pub(crate) fn fill_totals(key: u64, record: &mut Record) {
    match state_of(key) {
        Some(state) => {
            record.bytes_sent = state.sent;
            record.bytes_received = state.received;
        }
        None => record.flags |= FLAG_NO_BYTES,
    }
}

/// Adds a datagram's payload to the socket's totals.
#[inline(always)]
pub(crate) fn add_bytes(sk: Sock, direction: u8, bytes: u64) {
    if let Some(state) = make_state_of(sk.key()) {
        if direction == DIRECTION_SENT {
            state.sent += bytes;
        } else {
            state.received += bytes;
        }
    }
}

/// Remembers at the call of `bind()` whether the program named a port.
#[inline(always)]
pub(crate) fn binds(key: u64, port: u16) {
    if let Some(state) = make_state_of(key) {
        state.port_chosen = u64::from(port != 0);
    }
}

/// What [`binds`] remembered.
#[inline(always)]
pub(crate) fn has_chosen_port(key: u64) -> bool {
    state_of(key).is_some_and(|state| state.port_chosen == 1)
}

/// Counts one datagram; true when the flow is to be reported now, with its totals.
#[inline(always)]
pub(crate) fn count(socket: u64, peer: &Peer, direction: u8, bytes: u64) -> Option<(u64, u64)> {
    let key = FlowKey {
        socket,
        remote: peer.address,
        remote_port: peer.port,
        direction: direction.into(),
        reserved: 0,
    };
    let (now, period) = (now(), setting!(udp_period));
    if let Some(flow) = FLOWS.get_ptr_mut(key) {
        // SAFETY: a live entry; a count lost to a race with another CPU is made up by none, so the
        // counts are lower bounds under concurrent use of one socket.
        unsafe {
            (*flow).count += 1;
            (*flow).bytes += bytes;
            if now - (*flow).reported < period {
                return None;
            }
            (*flow).reported = now;
            return Some(((*flow).count, (*flow).bytes));
        }
    }
    let _ = FLOWS.insert(key, Flow { count: 1, bytes, reported: now }, 0);
    Some((1, bytes))
}

/// `udp_sendmsg` is called.
#[inline(always)]
pub(crate) fn sends(sk: Sock, message: *const u8, bytes: u64) {
    sent(sk, named(sk, message), bytes);
}

/// `udpv6_sendmsg` is called; what goes to a v4-mapped address ends in `udp_sendmsg`.
#[inline(always)]
pub(crate) fn sends_v6(sk: Sock, message: *const u8, bytes: u64) {
    let peer = named(sk, message);
    if !peer.as_ref().is_some_and(is_v4_mapped) {
        sent(sk, peer, bytes);
    }
}

#[inline(always)]
fn sent(sk: Sock, peer: Option<Peer>, bytes: u64) {
    add_bytes(sk, DIRECTION_SENT, bytes);
    datagram(sk, peer, DIRECTION_SENT, bytes);
}

/// A datagram is handed to the process and taken off the socket's queue; a negative `length` says that
/// the process only looked at it.
#[inline(always)]
pub(crate) fn consumed(sk: Sock, packet: *const u8, length: i32) {
    if length < 0 || !sk.is_udp() {
        return;
    }
    let bytes = u64::from(length as u32);
    add_bytes(sk, DIRECTION_RECEIVED, bytes);
    datagram(sk, sender(packet), DIRECTION_RECEIVED, bytes);
}

/// One datagram of a socket that can be read: counted, and reported when it is due.
#[inline(always)]
pub(crate) fn datagram(sk: Sock, peer: Option<Peer>, direction: u8, bytes: u64) {
    let task = Task::current();
    if task.is_tracer() {
        return;
    }
    let known = peer.is_some();
    let peer = peer.unwrap_or(Peer { address: [0; 16], port: 0 });
    let Some((count, total)) = count(sk.key(), &peer, direction, bytes) else {
        return;
    };
    emit(KIND_UDP, |record| {
        sk.fill(record);
        task.fill(record, HOW_CALL);
        fill_flow(record, &peer, known, direction, (count, total));
    });
}

/// Writes peer, direction and totals of a flow into its record.
#[inline(always)]
pub(crate) fn fill_flow(
    record: &mut Record,
    peer: &Peer,
    known: bool,
    direction: u8,
    (count, bytes): (u64, u64),
) {
    record.remote = peer.address;
    record.remote_port = peer.port;
    record.direction = direction;
    record.count = count;
    if !known {
        record.flags |= FLAG_NO_PEER;
    }
    if direction == DIRECTION_SENT {
        record.bytes_sent = bytes;
    } else {
        record.bytes_received = bytes;
    }
}
