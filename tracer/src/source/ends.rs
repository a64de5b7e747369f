//! Ends of sockets that the kernel does not tell. Of millions of TCP sockets a few end without a run of
//! `inet_sock_set_state`, seen on a 6.18 whose processors are held up. What the kernel does tell is where
//! a socket lies in its memory: when another one begins at that place, the older one has ended.

use std::collections::{HashMap, hash_map::Entry};

use foldhash::fast::FixedState;

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
    Alive { id: event.id, at: record.at, netns: event.netns, protocol: event.protocol, family: event.family }
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
    use super::*;
    use crate::bpf::decode::Meaning;

    fn record(address: Option<u64>, id: u64, change: SocketChange) -> Decoded {
        let (id, netns, protocol) = (SocketId(id), Some(1), Protocol::Tcp);
        let event = SocketEvent { change, ..end(Alive { id, at: 0, netns, protocol, family: Family::Ipv4 }) };
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
    fn what_has_no_place_or_no_cookie_tells_nothing() {
        let mut ends = Ends::default();
        assert_eq!(ends.take(&record(None, 1, SocketChange::Connect)), None);
        assert!(ends.alive.is_empty());
    }
}
