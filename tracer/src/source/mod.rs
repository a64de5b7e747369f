//! Where events come from: the running kernel, by hooks or by reading its sockets again and again, or a
//! recording.

pub mod baseline;
pub mod flows;
pub mod live;
pub mod namespaces;
pub mod passwd;
pub mod poll;
pub mod processes;
pub mod proofs;
pub mod replay;
pub mod selftest;
pub mod sockdiag;
mod stat;

use self::{live::Live, poll::Poll, selftest::Traffic};
use crate::{
    bpf::loader::LoadError,
    model::event::{BootNanos, Event},
};

/// The running kernel as it can be watched here: what the one loop asks.
pub enum Source {
    /// By hooks.
    Hooks(Box<Live>),
    /// Without any.
    Poll(Box<Poll>),
}

impl Source {
    /// The sockets that are there already.
    ///
    /// # Errors
    /// When the iterators fail.
    pub fn baseline(&mut self, out: &mut Vec<Event>) -> Result<(), LoadError> {
        match self {
            Self::Hooks(live) => live.baseline(out),
            Self::Poll(poll) => {
                poll.baseline(out);
                Ok(())
            }
        }
    }

    /// Takes what the hooks have told, at most a batch; gives how many records it were.
    pub fn drain(&mut self, out: &mut Vec<Event>) -> usize {
        match self {
            Self::Hooks(live) => live.drain(out),
            Self::Poll(_) => 0,
        }
    }

    /// Tells the kernel side whether the reader sleeps.
    pub fn set_waits(&self, waits: bool) {
        match self {
            Self::Hooks(live) => live.set_waits(waits),
            Self::Poll(_) => {}
        }
    }

    /// What the passing of time brings.
    pub fn tick(&mut self, now: BootNanos, out: &mut Vec<Event>) {
        match self {
            Self::Hooks(live) => live.tick(now, out),
            Self::Poll(poll) => poll.tick(now, out),
        }
    }

    /// When [`Source::tick`] has something to do next.
    #[must_use]
    pub fn next_due(&self) -> Option<BootNanos> {
        match self {
            Self::Hooks(live) => live.next_due(),
            Self::Poll(poll) => Some(poll.next_due()),
        }
    }

    /// The outcome of the self-test's next round.
    pub async fn proof(&mut self) -> Traffic {
        match self {
            Self::Hooks(live) => live.proof().await,
            Self::Poll(_) => std::future::pending().await,
        }
    }

    /// Tells what a round of the self-test changed.
    pub fn judge(&mut self, traffic: &Traffic, out: &mut Vec<Event>) {
        match self {
            Self::Hooks(live) => live.judge(traffic, out),
            Self::Poll(_) => {}
        }
    }

    /// Tells what was lost since the last time.
    ///
    /// # Errors
    /// When the iterators fail.
    pub fn tell_losses(&mut self, now: BootNanos, last: bool, out: &mut Vec<Event>) -> Result<(), LoadError> {
        match self {
            Self::Hooks(live) => live.tell_losses(now, last, out),
            Self::Poll(_) => Ok(()),
        }
    }
}
