//! Whom a UDP socket spoke to.
//!
//! Most sockets have one peer and few have many: a sorted list takes a tenth of a tree's room.

use super::{
    address::Direction,
    event::{BootNanos, Endpoint},
};

/// Peers that are remembered of one UDP socket; past that the one that was silent longest goes.
const REMEMBERED: usize = 256;

/// The peers of one UDP socket, in the order of their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers(Vec<(Endpoint, Exchange)>);

/// What was exchanged with one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams received.
    pub received: u64,
    /// The peer spoke first.
    pub inbound: bool,
    /// Last datagram that was told.
    pub last: BootNanos,
}

impl Exchange {
    /// Who spoke first.
    #[must_use]
    pub fn direction(&self) -> Direction {
        if self.inbound { Direction::Inbound } else { Direction::Outbound }
    }

    /// More than one datagram in one direction: not a lone probe or a lone answer.
    #[must_use]
    pub fn is_repeated(&self) -> bool {
        self.sent > 1 || self.received > 1
    }
}

impl Peers {
    /// What was exchanged with a peer.
    #[must_use]
    pub fn get(&self, peer: &Endpoint) -> Option<&Exchange> {
        let at = self.place(peer).ok()?;
        self.0.get(at).map(|(_, exchange)| exchange)
    }

    /// All that are remembered, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &(Endpoint, Exchange)> {
        self.0.iter()
    }

    /// None is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds datagrams of one direction.
    pub(super) fn add(&mut self, peer: Endpoint, sent: bool, count: u64, at: BootNanos) {
        let place = self.place(&peer).or_else(|_| {
            self.make_room();
            self.place(&peer)
        });
        let place = place.unwrap_or_else(|place| {
            self.0.insert(place, (peer, Exchange { inbound: !sent, ..Exchange::default() }));
            place
        });
        let (_, exchange) = &mut self.0[place];
        exchange.last = at;
        if sent {
            exchange.sent += count;
        } else {
            exchange.received += count;
        }
    }

    fn place(&self, peer: &Endpoint) -> Result<usize, usize> {
        self.0.binary_search_by_key(peer, |(peer, _)| *peer)
    }

    fn make_room(&mut self) {
        if self.0.is_empty() {
            self.0.reserve_exact(1);
        }
        if self.0.len() >= REMEMBERED {
            let quietest =
                self.0.iter().enumerate().min_by_key(|(_, (peer, exchange))| (exchange.last, *peer));
            if let Some(at) = quietest.map(|(at, _)| at) {
                self.0.remove(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> Endpoint {
        Endpoint { ip: [9, 1, 1, 1].into(), port }
    }

    #[test]
    fn peers_are_kept_in_order_and_add_up() {
        let mut peers = Peers::default();
        for (port, sent) in [(7, true), (3, false), (7, false), (7, true)] {
            peers.add(peer(port), sent, 1, 5);
        }
        assert_eq!(peers.iter().map(|(end, _)| end.port).collect::<Vec<_>>(), [3, 7]);
        assert_eq!(peers.get(&peer(7)), Some(&Exchange { sent: 2, received: 1, inbound: false, last: 5 }));
        assert!(peers.get(&peer(3)).is_some_and(|exchange| exchange.inbound));
    }

    #[test]
    fn the_quietest_goes_when_there_are_too_many() {
        let mut peers = Peers::default();
        for port in 0..REMEMBERED as u16 {
            peers.add(peer(port), true, 1, if port == 9 { 1 } else { 2 });
        }
        peers.add(peer(1000), true, 1, 3);
        assert_eq!((peers.iter().count(), peers.get(&peer(9))), (REMEMBERED, None));
    }
}
