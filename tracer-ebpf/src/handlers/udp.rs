//! UDP: bind, connect, flows, close. A flow is reported at its first datagram and then at most once
//! a period; in between only counters move.

use aya_ebpf::helpers::generated::bpf_jiffies64;
use tracer_common::{
    DIRECTION_RECEIVED, DIRECTION_SENT, FLAG_NO_BYTES, FLAG_NO_PEER, Flow, FlowKey, FlowWords, HOW_CALL,
    KIND_BIND, KIND_CLOSE, KIND_CONNECT, KIND_UDP, Record,
};

use super::peer::{Peer, is_v4_mapped, named, sender};
use crate::{
    emit::{emit, now},
    maps::setting,
    sock::{Reads, Sock},
    tables::{self, forget, make_state_of, state_of},
    task::Task,
};

/// `bind()` has given the socket its port.
#[inline(always)]
pub(crate) fn bind<R: Reads>(sk: Sock<R>) {
    if sk.is_udp() {
        let _ = make_state_of(sk.cookie()); // its byte counts begin here
    }
    in_context(sk, KIND_BIND);
}

/// `connect()` has set the socket's peer.
#[inline(always)]
pub(crate) fn connect<R: Reads>(sk: Sock<R>) {
    in_context(sk, KIND_CONNECT);
}

#[inline(always)]
fn in_context<R: Reads>(sk: Sock<R>, kind: u8) {
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
pub(crate) fn close<R: Reads>(sk: Sock<R>) {
    if !sk.is_udp() || sk.local_port() == 0 {
        return;
    }
    emit(KIND_CLOSE, |record| {
        sk.fill(record);
        record.state = crate::sock::CLOSE;
        fill_totals(sk.cookie(), record);
    });
    forget(sk.cookie());
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
pub(crate) fn add_bytes(cookie: u64, direction: u8, bytes: u64) {
    if let Some(state) = make_state_of(cookie) {
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

/// The flow that a datagram belongs to.
#[inline(always)]
pub(crate) fn flow_key(socket: u64, peer: &Peer, direction: u8) -> FlowWords {
    let (remote, remote_port, direction) = (peer.address, peer.port, direction.into());
    let key = FlowKey { socket, remote, remote_port, direction, reserved: 0 };
    // SAFETY: the same bytes, without padding.
    unsafe { core::mem::transmute(key) }
}

/// Counts one more datagram of a flow; true when the flow is to be told now. A count that is lost to a race with another
/// CPU is made up by none.
#[inline(always)]
pub(crate) fn goes_on(flow: &mut Flow, bytes: u64) -> bool {
    flow.count += 1;
    flow.bytes += bytes;
    // The clock is dear, and moves little between two jiffies.
    // SAFETY: a helper without arguments.
    let tick = unsafe { bpf_jiffies64() as u32 };
    if flow.tick == tick {
        return false;
    }
    flow.tick = tick;
    now() - flow.reported >= setting!(udp_period)
}

/// Totals of a flow that is told now.
#[inline(always)]
fn tell(flow: &mut Flow) -> (u64, u64) {
    flow.reported = now();
    flow.told = flow.count as u32;
    (flow.count, flow.bytes)
}

/// `udp_sendmsg` is called.
#[inline(always)]
pub(crate) fn sends<R: Reads>(sk: Sock<R>, message: *const u8, bytes: u64) {
    sent(sk, named(sk, message), bytes);
}

/// `udpv6_sendmsg` is called; what goes to a v4-mapped address ends in `udp_sendmsg`.
#[inline(always)]
pub(crate) fn sends_v6<R: Reads>(sk: Sock<R>, message: *const u8, bytes: u64) {
    let peer = named(sk, message);
    if !is_v4_mapped(&peer) {
        sent(sk, peer, bytes);
    }
}

#[inline(always)]
fn sent<R: Reads>(sk: Sock<R>, peer: Peer, bytes: u64) {
    let cookie = sk.cookie();
    add_bytes(cookie, DIRECTION_SENT, bytes);
    datagram(sk, cookie, peer, DIRECTION_SENT, bytes);
}

/// A datagram is handed to the process and taken off the socket's queue; a negative `length` says that
/// the process only looked at it.
#[inline(always)]
pub(crate) fn consumed<R: Reads>(sk: Sock<R>, packet: *const u8, length: i32) {
    if length < 0 || !sk.is_udp() {
        return;
    }
    let bytes = u64::from(length as u32);
    let cookie = sk.cookie();
    add_bytes(cookie, DIRECTION_RECEIVED, bytes);
    datagram(sk, cookie, sender::<R>(packet), DIRECTION_RECEIVED, bytes);
}

/// One datagram of a socket that can be read: counted, and reported when it is due.
#[inline(always)]
pub(crate) fn datagram<R: Reads>(sk: Sock<R>, cookie: u64, peer: Peer, direction: u8, bytes: u64) {
    let key = flow_key(cookie, &peer, direction);
    let Some(set) = tables::flows(&key) else { return };
    let place = tables::place_of(set, &key);
    if place.is_some_and(|way| !goes_on(&mut set[way], bytes)) {
        return; // of most datagrams no more is looked at
    }
    let flow = tables::at(set, place);
    let task = Task::current();
    if task.is_tracer() {
        return;
    }
    tables::take(flow, &key, bytes);
    emit(KIND_UDP, |record| {
        sk.fill_with(record, cookie);
        task.fill(record, HOW_CALL);
        fill_flow(record, &peer, direction, flow);
    });
}

/// Writes peer, direction and totals of a flow into its record.
#[inline(always)]
pub(crate) fn fill_flow(record: &mut Record, peer: &Peer, direction: u8, flow: &mut Flow) {
    let (count, bytes) = tell(flow);
    record.remote = peer.address;
    record.remote_port = peer.port;
    record.direction = direction;
    record.count = count;
    if !peer.known {
        record.flags |= FLAG_NO_PEER;
    }
    if direction == DIRECTION_SENT {
        record.bytes_sent = bytes;
    } else {
        record.bytes_received = bytes;
    }
}
