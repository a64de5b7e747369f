//! Whether a process has a socket as its standard input, output or error, which is how a shell is given to somebody at
//! the other end: by the links in /proc/PID/fd, on a thread of its own.
//!
//! A redirection puts the socket there shortly after it was connected or accepted, or before a program is started, so a
//! process is looked at when it acts on a socket and after it ran exec, and a few times more. What holds for a moment only is
//! not told: `sshd` has its client there until it has read its configuration.

mod look;
mod watcher;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use self::watcher::Watcher;
use crate::{
    bpf::decode::{Decoded, Task},
    model::event::ProcessId,
};

/// Standard input, output and error.
pub const STDIO: [u8; 3] = [0, 1, 2];
/// Orders that may wait.
const QUEUE: usize = 4096;

/// Whom to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The process.
    pub id: ProcessId,
    /// Count of its exec calls, where it is known.
    pub exec_id: u32,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These descriptors of the process lead to the socket.
    Found {
        /// The process.
        task: Task,
        /// Its descriptors, of 0, 1 and 2.
        descriptors: Vec<u8>,
        /// The socket.
        socket: Box<Decoded>,
    },
    /// No descriptor of the process leads to the socket any more, or the process has ended.
    Gone {
        /// The process.
        id: ProcessId,
        /// The socket as it was found.
        socket: Box<Decoded>,
    },
}

impl Answer {
    /// The socket that it is about.
    #[must_use]
    pub fn socket(&self) -> &Decoded {
        match self {
            Self::Found { socket, .. } | Self::Gone { socket, .. } => socket,
        }
    }
}

/// The thread; it ends when this goes.
pub struct Watch {
    orders: SyncSender<Order>,
    answers: UnboundedReceiver<Answer>,
    overflow: Arc<AtomicU64>,
    told_overflow: u64,
}

impl Watch {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn begin() -> io::Result<Self> {
        let (orders, ordered) = sync_channel(QUEUE);
        let (answer, answers) = unbounded_channel();
        let overflow = Arc::new(AtomicU64::new(0));
        let watcher = Watcher::new(answer, Arc::clone(&overflow));
        thread::Builder::new().name("stdio".to_owned()).spawn(move || watcher.run(&ordered))?;
        Ok(Self { orders, answers, overflow, told_overflow: 0 })
    }

    /// Has a process looked at, without waiting.
    pub fn order(&mut self, order: Order) {
        if self.orders.try_send(order).is_err() {
            self.overflow.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Orders for which there was no room, since this was asked last.
    pub fn take_overflow(&mut self) -> u64 {
        let now = self.overflow.load(Ordering::Relaxed);
        now - std::mem::replace(&mut self.told_overflow, now)
    }

    /// The next answer; never, when the thread is gone.
    pub async fn answer(&mut self) -> Answer {
        super::next_of(&mut self.answers).await
    }
}
