//! Processes that ended and whose sockets may be in other hands: they were inherited over fork, or passed on.

use std::collections::VecDeque;

use crate::model::event::{BootNanos, ProcessId};

/// What a process alone held is closed right after its end was told: what is left so many nanoseconds later is not.
const GRACE: BootNanos = 50_000_000;
/// From one look at what is left to the next: nanoseconds. It is a look at all sockets that are known.
const PERIOD: BootNanos = 1_000_000_000;
/// Of a processor's time, at most one part in so many is spent on finding out who holds sockets.
const SHARE: BootNanos = 20;
/// Ends that may wait: more than there are process ids on most machines.
const QUEUE: usize = 65_536;

/// Ends that nobody looked at yet.
#[derive(Default)]
pub struct Exits {
    /// Oldest first.
    ended: VecDeque<(BootNanos, ProcessId)>,
    /// Nobody looks before this.
    next: BootNanos,
    /// Who holds what is left is being found out.
    asked: bool,
    dropped: u64,
}

impl Exits {
    /// Takes in that a process ended.
    pub fn add(&mut self, at: BootNanos, id: ProcessId) {
        if self.ended.len() >= QUEUE {
            self.ended.pop_front();
            self.dropped += 1;
        }
        self.ended.push_back((at, id));
    }

    /// When there is something to look at next.
    #[must_use]
    pub fn next_due(&self) -> Option<BootNanos> {
        let (ended, _) = self.ended.front().filter(|_| !self.asked)?;
        Some(self.next.max(ended + GRACE))
    }

    /// The processes that ended and whose sockets are to be looked at now; none where it is not time yet.
    pub fn due(&mut self, now: BootNanos) -> Vec<ProcessId> {
        if self.next_due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.next = now + PERIOD;
        let count = self.ended.iter().take_while(|(ended, _)| ended + GRACE <= now).count();
        self.ended.drain(..count).map(|(_, id)| id).collect()
    }

    /// Who holds what is left is being found out: until that is answered nothing is due.
    pub fn ask(&mut self) {
        self.asked = true;
    }

    /// It was answered, after so many nanoseconds.
    pub fn answered(&mut self, now: BootNanos, took: u64) {
        self.asked = false;
        self.next = self.next.max(now.saturating_add(took.saturating_mul(SHARE)));
    }

    /// Nobody will find out who holds so many sockets.
    pub fn give_up(&mut self, sockets: usize) {
        self.dropped += sockets as u64;
    }

    /// Ends and sockets of which nobody found out more, since this was asked last.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ProcessId = ProcessId { pid: 1, started: 1 };
    const B: ProcessId = ProcessId { pid: 2, started: 1 };
    const MS: BootNanos = 1_000_000;

    #[test]
    fn an_end_is_looked_at_when_what_closes_with_the_process_is_closed() {
        let mut exits = Exits::default();
        assert_eq!(exits.next_due(), None);
        exits.add(1_000 * MS, A);
        assert_eq!(exits.next_due(), Some(1_050 * MS));
        assert_eq!(exits.due(1_049 * MS), []);
        exits.add(1_040 * MS, B);
        assert_eq!(exits.due(1_050 * MS), [A]);
        assert_eq!(exits.due(1_090 * MS), [], "nobody looks twice in a second");
        assert_eq!(exits.next_due(), Some(2_050 * MS));
        assert_eq!(exits.due(2_050 * MS), [B]);
        assert_eq!(exits.next_due(), None);
    }

    #[test]
    fn until_an_answer_comes_ends_are_joined_and_a_long_search_is_followed_by_a_long_rest() {
        let mut exits = Exits::default();
        exits.ask();
        exits.add(0, A);
        exits.add(0, B);
        assert_eq!((exits.next_due(), exits.due(9_000 * MS)), (None, vec![]));
        exits.answered(10_000 * MS, 100 * MS);
        assert_eq!(exits.next_due(), Some(12_000 * MS));
        assert_eq!(exits.due(12_000 * MS), [A, B]);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut exits = Exits::default();
        (0..=QUEUE).for_each(|_| exits.add(0, A));
        exits.give_up(2);
        assert_eq!((exits.take_dropped(), exits.take_dropped()), (3, 0));
    }
}
