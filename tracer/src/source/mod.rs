//! Where events come from: the running kernel, by hooks or by reading its sockets again and again, or a
//! recording.

pub mod attempts;
pub mod baseline;
pub mod ends;
pub mod exits;
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
pub(crate) mod stat;
pub mod stdio;

use self::{
    live::{Live, Word},
    poll::Poll,
};
use crate::{
    bpf::loader::LoadError,
    model::{
        event::{BootNanos, Event, ProcessId},
        host::Left,
    },
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

    /// Tells what time would still have brought: the end has come.
    pub fn conclude(&mut self, now: BootNanos, out: &mut Vec<Event>) {
        match self {
            Self::Hooks(live) => live.conclude(now, out),
            Self::Poll(_) => {}
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

    /// What comes from the source's own threads next.
    pub async fn word(&mut self) -> Word {
        match self {
            Self::Hooks(live) => live.word().await,
            Self::Poll(_) => std::future::pending().await,
        }
    }

    /// Takes in what came from a thread of its own.
    pub fn heed(&mut self, word: Word, out: &mut Vec<Event>) {
        match self {
            Self::Hooks(live) => live.heed(word, out),
            Self::Poll(_) => {}
        }
    }

    /// Processes that ended a while ago and had sockets: whoever knows what is left of these has [`Source::find_holders`]
    /// find out who holds it. None where it is not time yet, and none without hooks, whose readings tell holders anyhow.
    pub fn ended(&mut self, now: BootNanos) -> Vec<ProcessId> {
        match self {
            Self::Hooks(live) => live.ended(now),
            Self::Poll(_) => Vec::new(),
        }
    }

    /// Has looked for those who hold sockets that processes have left behind.
    pub fn find_holders(&mut self, left: Vec<Left>) {
        match self {
            Self::Hooks(live) => live.find_holders(left),
            Self::Poll(_) => {}
        }
    }

    /// Has what a process runs hashed; the answer comes as every other about it does.
    pub fn hash(&mut self, id: ProcessId, now: BootNanos, out: &mut Vec<Event>) {
        match self {
            Self::Hooks(live) => live.hash(id, now, out),
            Self::Poll(poll) => poll.hash(id, now, out),
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
