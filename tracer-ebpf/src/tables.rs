//! The only file that touches the tables of UDP flows and sockets.
//!
//! Two CPUs may take the same free place at the same time: then what one of them counted is lost, as where one socket is
//! used on two CPUs at once. Counts are lower bounds there.

use tracer_common::{
    COUNTER_NO_STATE, FLOW_WAYS, Flow, FlowWords, SOCKET_WAYS, SocketSet, SocketState, flow_set, socket_set,
};

use crate::{
    emit::{add, now},
    maps::{FLOWS, SOCKETS, setting},
};

/// A set of flows.
pub(crate) type Flows = [Flow; FLOW_WAYS];

/// The flows that share a flow's set.
#[inline(always)]
pub(crate) fn flows(key: &FlowWords) -> Option<&'static mut Flows> {
    // SAFETY: a live entry of an array map; which CPU writes it last is told in the head of this file.
    unsafe { FLOWS.get_ptr_mut(flow_set(key))?.as_mut() }
}

/// The place of a flow that has one.
#[inline(always)]
pub(crate) fn place_of(set: &Flows, key: &FlowWords) -> Option<usize> {
    let mut way = 0;
    while way < FLOW_WAYS {
        if is_same(&set[way].key, key) {
            return Some(way);
        }
        way += 1;
    }
    None
}

/// The place that a new flow takes: a free one, or that of the flow that was told longest ago.
#[inline(always)]
fn oldest(set: &Flows) -> usize {
    let (mut way, mut other) = (0, 1);
    while other < FLOW_WAYS {
        // A free place was told at time 0.
        if set[other].reported < set[way].reported {
            way = other;
        }
        other += 1;
    }
    way
}

/// The flow at a place that is told, or the place that a new one is to [`take`]. The verifier would follow what comes next for each
/// place by itself, and take four times as long; so it does not get to know which one it is: the two highest bits of the clock are 0
/// for the first 146 years.
#[inline(always)]
pub(crate) fn at(set: &mut Flows, place: Option<usize>) -> &mut Flow {
    let way = place.unwrap_or_else(|| oldest(set));
    let unknown = (now() >> 62) as usize;
    &mut set[(way + unknown) % FLOW_WAYS]
}

/// Makes the place that of a flow, if it is not yet. What user space may not have asked for of the flow that was there is
/// counted as lost.
#[inline(always)]
pub(crate) fn take(flow: &mut Flow, key: &FlowWords, bytes: u64) {
    if is_same(&flow.key, key) {
        return;
    }
    if flow.count as u32 != flow.told && now() - flow.reported < 2 * setting!(udp_period) {
        add(COUNTER_NO_STATE, 1);
    }
    flow.key = *key;
    (flow.count, flow.bytes) = (1, bytes);
}

#[inline(always)]
fn is_same(one: &FlowWords, two: &FlowWords) -> bool {
    // The socket first: it differs most often.
    one[0] == two[0] && one[2] == two[2] && one[3] == two[3] && one[1] == two[1]
}

/// What is remembered of a socket, if anything.
#[inline(always)]
pub(crate) fn state_of(key: u64) -> Option<&'static mut SocketState> {
    if key == 0 {
        return None;
    }
    let set = set_of(key)?;
    let way = place(set, key)?;
    set.states.get_mut(way)
}

/// As [`state_of`], made when there is none. Where a set is full, nothing is remembered; that is counted.
#[inline(always)]
pub(crate) fn make_state_of(key: u64) -> Option<&'static mut SocketState> {
    if key == 0 {
        return None;
    }
    let set = set_of(key)?;
    if let Some(way) = place(set, key) {
        return set.states.get_mut(way);
    }
    let Some(way) = place(set, 0) else {
        add(COUNTER_NO_STATE, 1);
        return None;
    };
    *set.keys.get_mut(way)? = key;
    let state = set.states.get_mut(way)?;
    *state = SocketState { port_chosen: 0, sent: 0, received: 0 };
    Some(state)
}

/// The socket is gone, and so is what was remembered of it.
#[inline(always)]
pub(crate) fn forget(key: u64) {
    if let Some(set) = set_of(key)
        && let Some(way) = place(set, key)
        && let Some(place) = set.keys.get_mut(way)
    {
        *place = 0;
    }
}

#[inline(always)]
fn set_of(key: u64) -> Option<&'static mut SocketSet> {
    // SAFETY: a live entry of an array map; an entry whose socket goes meanwhile is given to another one, and then holds
    // that one's counts, never anything else.
    unsafe { SOCKETS.get_ptr_mut(socket_set(key))?.as_mut() }
}

#[inline(always)]
fn place(set: &SocketSet, key: u64) -> Option<usize> {
    let mut way = 0;
    while way < SOCKET_WAYS {
        if set.keys[way] == key {
            return Some(way);
        }
        way += 1;
    }
    None
}
