//! Who holds sockets that a process of theirs has left behind. Done on a thread of its own: it reads the sockets of whole
//! namespaces and the descriptors of all processes, which would keep other look-ups waiting.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Instant,
};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    bpf::decode::Task,
    model::{event::SocketId, host::Left},
    source::sockdiag,
};

/// What is to be found out.
#[derive(Debug)]
pub struct Order {
    /// The sockets.
    pub sockets: Vec<Left>,
    /// Paths that named their network namespaces, as far as there were any.
    pub namespaces: BTreeMap<u32, PathBuf>,
}

/// What was found.
#[derive(Debug)]
pub struct Answer {
    /// Sockets that are held, each with the processes that have a descriptor of it, in the order of their pids.
    pub held: Vec<(SocketId, Vec<Task>)>,
    /// How long it took: nanoseconds.
    pub took: u64,
}

/// The thread; it ends when this goes.
pub struct Search {
    orders: SyncSender<Order>,
    answers: UnboundedReceiver<Answer>,
}

impl Search {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn begin() -> io::Result<Self> {
        let (orders, ordered) = sync_channel(1);
        let (answer, answers) = unbounded_channel();
        thread::Builder::new().name("holders".to_owned()).spawn(move || run(&ordered, &answer))?;
        Ok(Self { orders, answers })
    }

    /// Orders a search, without waiting; false where there is no room for it.
    pub fn order(&self, order: Order) -> bool {
        self.orders.try_send(order).is_ok()
    }

    /// The next answer; never, when the thread is gone.
    pub async fn answer(&mut self) -> Answer {
        super::next_of(&mut self.answers).await
    }
}

fn run(orders: &Receiver<Order>, answer: &UnboundedSender<Answer>) {
    while let Ok(Order { sockets, namespaces }) = orders.recv() {
        let begun = Instant::now();
        let held = sockdiag::who_holds(&sockets, &namespaces);
        let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if answer.send(Answer { held, took }).is_err() {
            return;
        }
    }
}
