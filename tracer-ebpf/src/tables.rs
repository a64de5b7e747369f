//! The only file that touches the tables of UDP flows and sockets.
//!
//! Two CPUs may take the same free place at the same time: then what one of them counted is lost, as where one socket is
//! used on two CPUs at once. Counts are lower bounds there.

use tracer_common::{
    COUNTER_NO_STATE, FLOW_WAYS, Flow, FlowWords, SOCKET_WAYS, SocketSet, SocketState, flow_set, socket_set,
};

use crate::{
    emit::add,
    maps::{FLOWS, SOCKETS, setting},
};

/// A flow that has its place.
#[inline(always)]
pub(crate) fn flow(key: &FlowWords) -> Option<&'static mut Flow> {
    let set = flows(key)?;
    let mut way = 0;
    while way < FLOW_WAYS {
        if is_same(&set[way].key, key) {
            return Some(&mut set[way]);
        }
        way += 1;
    }
    None
}

/// A place for a new flow. The flow that was told
/// longest ago gives way where a set is full; what user space may not have asked for by then is counted as lost.
#[inline(always)]
pub(crate) fn new_flow(key: &FlowWords, now: u64) -> Option<&'static mut Flow> {
    let flow = oldest(flows(key)?);
    if flow.count as u32 != flow.told && now - flow.reported < 2 * setting!(udp_period) {
        add(COUNTER_NO_STATE, 1);
    }
    flow.key = *key;
    Some(flow)
}

#[inline(always)]
fn flows(key: &FlowWords) -> Option<&'static mut [Flow; FLOW_WAYS]> {
    // SAFETY: a live entry of an array map; which CPU writes it last is told in the head of this file.
    unsafe { FLOWS.get_ptr_mut(flow_set(key))?.as_mut() }
}

#[inline(always)]
fn is_same(one: &FlowWords, two: &FlowWords) -> bool {
    // The socket first: it differs most often.
    one[0] == two[0] && one[2] == two[2] && one[3] == two[3] && one[1] == two[1]
}

/// A free place was told at time 0.
#[inline(always)]
fn oldest(set: &'static mut [Flow; FLOW_WAYS]) -> &'static mut Flow {
    let [a, b, c, d] = set;
    let (first, second) = (older(a, b), older(c, d));
    older(first, second)
}

#[inline(always)]
fn older(one: &'static mut Flow, two: &'static mut Flow) -> &'static mut Flow {
    if one.reported <= two.reported { one } else { two }
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
