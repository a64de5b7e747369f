//! Connects of which the call was seen and no packet yet: where no hook sees a connect fail before its first packet, time
//! has to say that it did.

use std::collections::VecDeque;

use crate::{
    bpf::decode::Decoded,
    model::event::{BootNanos, SocketId},
};

/// After so many nanoseconds without a packet it is asked whether there is a route.
const ASKED: BootNanos = 50_000_000;
/// One with a route is given up after so many nanoseconds, without its local address: its process may have had to wait for a
/// processor in the middle of the call.
const GIVEN_UP: BootNanos = 1_000_000_000;
/// Connects with a route that may wait: each event of a TCP socket looks through them.
const QUEUE: usize = 1024;

/// Connects whose first packet is still to come.
#[derive(Default)]
pub struct Attempts {
    /// Nobody asked for their route yet; oldest first.
    fresh: VecDeque<Decoded>,
    /// They have a route; oldest first.
    put_off: VecDeque<Decoded>,
}

impl Attempts {
    /// Takes in that connect() was called.
    pub fn add(&mut self, attempt: Decoded) {
        self.fresh.push_back(attempt);
    }

    /// More is known of the socket: it has begun, or has come to its end.
    pub fn went_on(&mut self, id: SocketId) {
        for queue in [&mut self.fresh, &mut self.put_off] {
            if !queue.is_empty() {
                queue.retain(|attempt| attempt.event.id != id);
            }
        }
    }

    /// When [`Attempts::unasked`] or [`Attempts::given_up`] has one next.
    #[must_use]
    pub fn next_due(&self) -> Option<BootNanos> {
        let due = |queue: &VecDeque<Decoded>, after| queue.front().map(|attempt| attempt.at + after);
        [due(&self.fresh, ASKED), due(&self.put_off, GIVEN_UP)].into_iter().flatten().min()
    }

    /// One whose route is to be asked for now.
    pub fn unasked(&mut self, now: BootNanos) -> Option<Decoded> {
        self.fresh.pop_front_if(|attempt| attempt.at + ASKED <= now)
    }

    /// It has a route, so its packet may still come. Answers the oldest where too many wait.
    pub fn put_off(&mut self, attempt: Decoded) -> Option<Decoded> {
        self.put_off.push_back(attempt);
        if self.put_off.len() > QUEUE { self.put_off.pop_front() } else { None }
    }

    /// One that has a route and of which no packet is waited for any longer.
    pub fn given_up(&mut self, now: BootNanos) -> Option<Decoded> {
        self.put_off.pop_front_if(|attempt| attempt.at + GIVEN_UP <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bpf::decode::Meaning,
        model::event::{Family, Protocol, SocketChange, SocketEvent, State},
    };

    const MS: BootNanos = 1_000_000;

    fn attempt(id: u64, at: BootNanos) -> Decoded {
        let event = SocketEvent {
            id: SocketId(id),
            change: SocketChange::Connect,
            netns: Some(1),
            protocol: Protocol::Tcp,
            family: Family::Ipv4,
            state: State::Close,
            local: None,
            remote: None,
            v6only: false,
            port_bound: false,
            process: None,
        };
        Decoded { at, event, meaning: Meaning::Attempt, task: None, remnant: false, address: None }
    }

    fn id(attempt: Option<Decoded>) -> Option<u64> {
        attempt.map(|attempt| attempt.event.id.0)
    }

    #[test]
    fn the_route_is_asked_for_after_a_while_and_one_that_has_it_is_waited_for() {
        let mut attempts = Attempts::default();
        assert_eq!(attempts.next_due(), None);
        attempts.add(attempt(1, 100 * MS));
        assert_eq!(attempts.next_due(), Some(150 * MS));
        assert_eq!(id(attempts.unasked(149 * MS)), None);
        let one = attempts.unasked(150 * MS).unwrap();
        assert_eq!(id(attempts.put_off(one)), None);
        assert_eq!(attempts.next_due(), Some(1_100 * MS));
        assert_eq!(id(attempts.given_up(1_099 * MS)), None);
        assert_eq!(id(attempts.given_up(1_100 * MS)), Some(1));
        assert_eq!(attempts.next_due(), None);
    }

    #[test]
    fn one_that_went_on_is_not_given_up_whether_it_was_asked_for_or_not() {
        let mut attempts = Attempts::default();
        attempts.put_off(attempt(1, 0));
        attempts.add(attempt(2, 0));
        attempts.went_on(SocketId(1));
        attempts.went_on(SocketId(2));
        assert_eq!((id(attempts.unasked(2_000 * MS)), id(attempts.given_up(2_000 * MS))), (None, None));
    }

    #[test]
    fn where_too_many_wait_the_oldest_is_told() {
        let mut attempts = Attempts::default();
        for number in 1..=QUEUE as u64 {
            assert_eq!(id(attempts.put_off(attempt(number, number))), None);
        }
        assert_eq!(id(attempts.put_off(attempt(0, 9_999))), Some(1));
    }
}
