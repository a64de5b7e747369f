//! Ends of sockets that the kernel does not tell. Of millions of TCP sockets a few end without a run of
//! `inet_sock_set_state`, seen on a 6.18 whose processors are held up. What the kernel does tell is where
//! a socket lies in its memory: when another one begins at that place, the older one has ended. Those whose place nobody
//! takes are told in the end, when a reading of all sockets does not show them.

use std::collections::{BTreeSet, HashMap, hash_map::Entry};

use foldhash::fast::FixedState;

use super::baseline::Baseline;
use crate::{
    bpf::decode::Decoded,
    model::event::{BootNanos, Family, Protocol, SocketChange, SocketEvent, SocketId, State},
};

/// Sockets that have begun and not ended, by where they lie. Each place holds one socket, so there are no
/// more of them than sockets were alive at once.
#[derive(Default)]
pub struct Ends {
    alive: HashMap<u64, Alive, FixedState>,
}

/// What an end says of a socket beside what is known of it.
#[derive(Clone, Copy)]
struct Alive {
    id: SocketId,
    /// When it was seen last.
    at: BootNanos,
    netns: Option<u32>,
    protocol: Protocol,
    family: Family,
    /// Its state then.
    state: State,
}

impl Ends {
    /// Takes a record in; gives the end of the socket that lay there before, when that one's was not told.
    pub fn take(&mut self, record: &Decoded) -> Option<SocketEvent> {
        let (address, event) = (record.address?, &record.event);
        match event.change {
            SocketChange::Close { .. } | SocketChange::Failed { .. } => {
                if let Entry::Occupied(entry) = self.alive.entry(address)
                    && entry.get().id == event.id
                {
                    entry.remove();
                }
                None
            }
            SocketChange::Seen { .. }
            | SocketChange::Bind
            | SocketChange::Listen
            | SocketChange::Connect
            | SocketChange::Incoming => self.begin(address, alive(record)),
            // Another record of the same socket came before these.
            SocketChange::Established | SocketChange::Accept | SocketChange::Datagrams { .. } => None,
        }
    }

    /// Ends of those that a reading, begun `from` then, does not show, in the namespaces that it read. It shows every listener
    /// and every connection, whoever holds it; of other sockets none can be told by it.
    pub fn unseen(&self, from: BootNanos, shown: &Baseline) -> Vec<SocketEvent> {
        let there: BTreeSet<SocketId> = shown.sockets.iter().map(|(decoded, _)| decoded.event.id).collect();
        let is_gone = |alive: &&Alive| {
            alive.at < from
                && alive.protocol == Protocol::Tcp
                && alive.state != State::Close
                && alive.netns.is_some_and(|netns| shown.namespaces.contains_key(&netns))
                && !there.contains(&alive.id)
        };
        self.alive.values().filter(is_gone).copied().map(end).collect()
    }

    fn begin(&mut self, address: u64, now: Alive) -> Option<SocketEvent> {
        let before = match self.alive.entry(address) {
            // A reading of the sockets tells what is newer than records that still lie on the ring.
            Entry::Occupied(entry) if entry.get().at > now.at => return None,
            Entry::Occupied(mut entry) => entry.insert(now),
            Entry::Vacant(entry) => {
                entry.insert(now);
                return None;
            }
        };
        (before.id != now.id).then(|| end(before))
    }
}

fn alive(record: &Decoded) -> Alive {
    let event = &record.event;
    let SocketEvent { id, netns, protocol, family, state, .. } = *event;
    Alive { id, at: record.at, netns, protocol, family, state }
}

/// What is known of the socket is known already; what it sent and received is not.
fn end(Alive { id, netns, protocol, family, .. }: Alive) -> SocketEvent {
    SocketEvent {
        id,
        change: SocketChange::Close { sent: None, received: None },
        netns,
        protocol,
        family,
        state: State::Close,
        local: None,
        remote: None,
        v6only: false,
        port_bound: false,
        process: None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{bpf::decode::Meaning, source::baseline::Namespace};

    fn record(address: Option<u64>, id: u64, change: SocketChange) -> Decoded {
        let (id, netns, protocol) = (SocketId(id), Some(1), Protocol::Tcp);
        let alive = Alive { id, at: 0, netns, protocol, family: Family::Ipv4, state: State::Close };
        let state = if change == SocketChange::Bind { State::Close } else { State::SynSent };
        let event = SocketEvent { change, state, ..end(alive) };
        Decoded { at: 5, event, meaning: Meaning::Event, task: None, remnant: false, address }
    }

    fn close() -> SocketChange {
        SocketChange::Close { sent: Some(1), received: Some(1) }
    }

    fn ended(ends: &mut Ends, address: u64, id: u64, change: SocketChange) -> Option<u64> {
        let end = ends.take(&record(Some(address), id, change))?;
        assert_eq!(end.change, SocketChange::Close { sent: None, received: None });
        Some(end.id.0)
    }

    #[test]
    fn a_socket_whose_place_is_taken_has_ended() {
        let mut ends = Ends::default();
        assert_eq!(ended(&mut ends, 0x10, 1, SocketChange::Connect), None);
        assert_eq!(ended(&mut ends, 0x10, 1, SocketChange::Established), None);
        assert_eq!(ended(&mut ends, 0x10, 2, SocketChange::Incoming), Some(1));
        assert_eq!(ended(&mut ends, 0x10, 2, close()), None);
        assert_eq!(ended(&mut ends, 0x10, 3, SocketChange::Connect), None);
    }

    #[test]
    fn what_a_reading_found_stands_against_older_records() {
        let mut ends = Ends::default();
        let seen = SocketChange::Seen { holders: Vec::new(), stdio: None };
        let found = Decoded { at: 9, ..record(Some(0x10), 2, seen) };
        assert_eq!(ends.take(&found), None);
        for (id, change) in [(1, SocketChange::Connect), (1, close()), (2, SocketChange::Connect)] {
            assert_eq!(ended(&mut ends, 0x10, id, change), None);
        }
        assert_eq!(ends.alive.len(), 1);
        assert_eq!(
            ends.take(&Decoded { at: 10, ..record(Some(0x10), 3, SocketChange::Connect) }).unwrap().id.0,
            2
        );
    }

    #[test]
    fn a_socket_that_connects_again_or_listens_has_not_ended() {
        let mut ends = Ends::default();
        for change in [SocketChange::Bind, SocketChange::Connect, SocketChange::Connect, SocketChange::Listen]
        {
            assert_eq!(ended(&mut ends, 0x10, 1, change), None);
        }
        assert_eq!(ends.alive.len(), 1);
    }

    #[test]
    fn what_a_reading_does_not_show_has_ended_where_it_would_show_it() {
        let mut ends = Ends::default();
        for id in 1..=3 {
            ended(&mut ends, 0x10 * id, id, SocketChange::Connect);
        }
        ended(&mut ends, 0x40, 4, SocketChange::Bind);
        let elsewhere = record(Some(0x50), 5, SocketChange::Connect);
        ends.take(&Decoded { event: SocketEvent { netns: Some(2), ..elsewhere.event }, ..elsewhere });
        let datagrams = record(Some(0x60), 6, SocketChange::Connect);
        let event = SocketEvent { protocol: Protocol::Udp, ..datagrams.event };
        ends.take(&Decoded { event, ..datagrams });
        ended(&mut ends, 0x30, 3, close());

        let seen = SocketChange::Seen { holders: Vec::new(), stdio: None };
        let namespace = Namespace { path: "/proc/self/ns/net".into(), own: BTreeSet::new() };
        let shown = Baseline {
            sockets: vec![(record(Some(0x20), 2, seen), Vec::new())],
            namespaces: BTreeMap::from([(1, namespace)]),
            ..Baseline::default()
        };
        let gone = |from| ends.unseen(from, &shown).iter().map(|end| end.id.0).collect::<Vec<_>>();
        assert_eq!(gone(6), [1]);
        assert_eq!(gone(5), [0; 0], "it began after the reading");
    }

    #[test]
    fn what_has_no_place_or_no_cookie_tells_nothing() {
        let mut ends = Ends::default();
        assert_eq!(ends.take(&record(None, 1, SocketChange::Connect)), None);
        assert!(ends.alive.is_empty());
    }
}
