//! UDP flows between two reports: the kernel tells the first datagram of a flow and then at most one
//! a period; what moved in between is asked for when the period is over, so that nothing that was
//! exchanged stays untold.

use std::collections::{BTreeMap, BTreeSet};

use tracer_common::FlowKey;

use crate::{
    bpf::flows::Flows as KernelFlows,
    model::event::{BootNanos, SocketChange, SocketEvent},
};

/// Flows that are remembered while they are quiet; past that a quiet one is forgotten, and its next
/// datagram is told as the first.
const REMEMBERED: usize = 16_384;
/// Nanoseconds in which a flow is told at most once.
pub const PERIOD: BootNanos = 1_000_000_000;

type Key = (u64, u16, [u8; 16], u16);

/// The flows that were told.
#[derive(Default)]
pub struct Flows {
    told: BTreeMap<Key, Told>,
    due: BTreeSet<(BootNanos, Key)>,
}

struct Told {
    total: u64,
    at: BootNanos,
    event: SocketEvent,
}

impl Flows {
    /// Takes a record of a flow with its total; gives the event when one is due.
    pub fn take(
        &mut self,
        key: FlowKey,
        total: u64,
        event: SocketEvent,
        at: BootNanos,
    ) -> Option<SocketEvent> {
        let key = plain(key);
        let before = self.told.get(&key).filter(|told| told.total <= total).map(|told| (told.total, told.at));
        if before.is_some_and(|(_, told_at)| at < told_at + PERIOD) {
            return None; // told within this period: the check that is due will tell the rest
        }
        Some(self.tell(key, total, before.map_or(0, |(total, _)| total), event, at))
    }

    /// Asks the kernel for what moved in flows whose period is over.
    pub fn check(&mut self, kernel: &KernelFlows, now: BootNanos) -> Vec<SocketEvent> {
        let mut events = Vec::new();
        while let Some(&(at, key)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            let moved = self.settle(kernel, key, now);
            if moved.is_none() && self.told.len() > REMEMBERED {
                self.told.remove(&key);
                kernel.remove(whole(key));
            }
            events.extend(moved);
        }
        events
    }

    /// Tells what is left of all flows, whether their period is over or not: nothing is asked later.
    pub fn conclude(&mut self, kernel: &KernelFlows, now: BootNanos) -> Vec<SocketEvent> {
        let keys: Vec<Key> = self.told.keys().copied().collect();
        keys.into_iter().filter_map(|key| self.settle(kernel, key, now)).collect()
    }

    /// When the next check is due.
    #[must_use]
    pub fn next_due(&self) -> Option<BootNanos> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Tells what is left of a socket's flows, and forgets them: the socket is closed.
    pub fn close(&mut self, kernel: &KernelFlows, socket: u64, now: BootNanos) -> Vec<SocketEvent> {
        let first = (socket, 0, [0; 16], 0);
        let keys: Vec<Key> =
            self.told.range(first..).map(|(key, _)| *key).take_while(|k| k.0 == socket).collect();
        let mut events = Vec::new();
        for key in keys {
            events.extend(self.settle(kernel, key, now));
            if let Some(told) = self.told.remove(&key) {
                self.due.remove(&(told.at + PERIOD, key));
            }
            kernel.remove(whole(key));
        }
        events
    }

    fn settle(&mut self, kernel: &KernelFlows, key: Key, now: BootNanos) -> Option<SocketEvent> {
        let total = kernel.count(whole(key))?;
        let told = self.told.get(&key)?;
        let (before, event) = (told.total, told.event.clone());
        (total > before).then(|| self.tell(key, total, before, event, now))
    }

    fn tell(
        &mut self,
        key: Key,
        total: u64,
        before: u64,
        mut event: SocketEvent,
        at: BootNanos,
    ) -> SocketEvent {
        if let SocketChange::Datagrams { count, .. } = &mut event.change {
            *count = total - before;
        }
        if let Some(old) = self.told.insert(key, Told { total, at, event: event.clone() }) {
            self.due.remove(&(old.at + PERIOD, key));
        }
        self.due.insert((at + PERIOD, key));
        event
    }
}

fn plain(key: FlowKey) -> Key {
    (key.socket, key.direction, key.remote, key.remote_port)
}

fn whole((socket, direction, remote, remote_port): Key) -> FlowKey {
    FlowKey { socket, remote, remote_port, direction, reserved: 0 }
}
