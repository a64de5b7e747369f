//! What a person would look up of a process: the file that it runs, the package that this is of, where it belongs, and who else has its
//! sockets. Done on threads of their own, so that nothing of it
//! keeps the reader of the ring waiting; what finds no room in its queue is counted.

pub mod belongs;
pub mod file;
mod hash;
pub mod holders;
mod layer;
mod mounts;
pub mod packages;
mod path;
pub mod script;
mod stamp;
pub mod stdio;

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::{
    belongs::{Place, Places},
    file::{Examined, Files, Started},
    hash::Manner,
};
use crate::{model::event::ProcessId, source::passwd::Users};

/// Orders that may wait.
const QUEUE: usize = 4096;
/// Without an order for so long, the databases of packages do not stay in memory: executables come in heaps, when a machine or a
/// service starts, and reading again takes some hundredths of a second.
const UNUSED: Duration = Duration::from_secs(1);
/// Processes whose files wait to be hashed.
const LATER: usize = 64;

/// What is to be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Of which process.
    pub id: ProcessId,
    /// Count of its exec calls: another one makes the answer worthless.
    pub exec_id: u32,
    /// What it was started as.
    pub started: Started,
    /// As which user it acts.
    pub uid: u32,
    /// Who began it, where nothing is known yet of where that belongs.
    pub parent: Option<ProcessId>,
    /// The SHA-256 of its files is wanted, whatever they are.
    pub hash: bool,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// To which order.
    pub order: Order,
    /// What its file is.
    pub examined: Examined,
    /// Where it belongs; nothing where that cannot be known any more.
    pub place: Option<Place>,
    /// The users of the tracer's own root, where they have changed.
    pub users: Option<Arc<Users>>,
}

/// Looks things up, and remembers what many processes share.
#[derive(Default)]
pub struct Desk {
    places: Places,
    files: Files,
}

impl Desk {
    /// Reads what look-ups begin with, so that none has to wait for it.
    pub fn prepare(&mut self) {
        self.files.packages.prepare();
    }

    /// Does what was ordered.
    pub fn look_up(&mut self, order: Order) -> Answer {
        self.files.hashes_all = order.hash;
        let examined = file::examine(order.id, &order.started, &mut self.files);
        let place = self.place(&order);
        Answer { order, examined, place, users: self.places.take_users() }
    }

    /// One that has ended belonged where the one belongs that began it: fork passes on login, cgroup and root.
    fn place(&mut self, order: &Order) -> Option<Place> {
        let own = self.places.find(order.id, order.uid);
        own.or_else(|| self.places.find(order.parent?, order.uid).filter(|place| place.belongs.passes_on()))
    }
}

/// The thread; it ends when this goes.
pub struct Research {
    /// In boxes, because the channel has room for all that may wait.
    orders: SyncSender<Box<Order>>,
    answers: UnboundedReceiver<Answer>,
    overflow: u64,
}

impl Research {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn begin() -> io::Result<Self> {
        let (orders, ordered) = sync_channel(QUEUE);
        let (answer, answers) = unbounded_channel();
        thread::Builder::new().name("research".to_owned()).spawn(move || run(&ordered, &answer))?;
        Ok(Self { orders, answers, overflow: 0 })
    }

    /// Orders a look-up, without waiting.
    pub fn order(&mut self, order: Order) {
        if self.orders.try_send(Box::new(order)).is_err() {
            self.overflow += 1;
        }
    }

    /// Look-ups for which there was no room, since this was asked last.
    pub fn take_overflow(&mut self) -> u64 {
        std::mem::take(&mut self.overflow)
    }

    /// The next answer; never, when the thread is gone.
    pub async fn answer(&mut self) -> Answer {
        next_of(&mut self.answers).await
    }
}

/// The next answer of a thread; never, when it is gone.
async fn next_of<T>(answers: &mut UnboundedReceiver<T>) -> T {
    match answers.recv().await {
        Some(answer) => answer,
        None => std::future::pending().await,
    }
}

fn run(orders: &Receiver<Box<Order>>, answer: &UnboundedSender<Answer>) {
    let mut desk = Desk::default();
    let mut later = VecDeque::new();
    while let Some((order, manner)) = next(orders, &mut desk, &mut later) {
        desk.files.hashes.set_manner(manner);
        let found = desk.look_up(order);
        if desk.files.hashes.take_put_off() && later.iter().all(|order: &Order| order.id != found.order.id) {
            later.push_back(found.order.clone());
        }
        if answer.send(found).is_err() {
            return;
        }
    }
}

/// The next order, and what to do with a large file of it; nothing when there will be none. What was put off comes when nothing
/// else waits, and no sooner than may be read again.
fn next(
    orders: &Receiver<Box<Order>>,
    desk: &mut Desk,
    later: &mut VecDeque<Order>,
) -> Option<(Order, Manner)> {
    let at_once = if later.len() < LATER { Manner::PutsOff } else { Manner::Refuses };
    loop {
        let patience = if later.is_empty() {
            desk.files.packages.is_awake().then_some(UNUSED)
        } else {
            Some(desk.files.hashes.rest())
        };
        let Some(patience) = patience else { return orders.recv().ok().map(|order| (*order, at_once)) };
        match orders.recv_timeout(patience) {
            Ok(order) => return Some((*order, at_once)),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => match later.pop_front() {
                Some(order) => return Some((order, Manner::Waits)),
                None => desk.files.packages.rest(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::stat::{Stat, TICK};

    #[test]
    fn a_process_that_has_ended_belongs_where_the_one_does_that_began_it() {
        let pid = std::process::id();
        let own = ProcessId { pid, started: Stat::read(pid).unwrap().started * TICK };
        let gone = ProcessId { pid: u32::MAX, started: 0 };
        let mut desk = Desk::default();
        let mut place = |id, parent| {
            let order = Order { id, exec_id: 0, started: Started::default(), uid: 0, parent, hash: false };
            desk.look_up(order).place
        };
        let expected = place(own, None).filter(|place| place.belongs.passes_on());
        assert_eq!(place(gone, Some(own)), expected);
        assert_eq!(place(gone, None), None);
        assert_eq!(place(gone, Some(gone)), None);
    }

    /// The answers to orders, as they come, as far as they tell of digests of these files.
    fn digests(orders: Vec<Order>) -> Vec<(u32, bool)> {
        let (sender, ordered) = sync_channel(QUEUE);
        let (answer, mut answers) = unbounded_channel();
        let expected = orders.len() * 2;
        orders.into_iter().for_each(|order| sender.send(Box::new(order)).unwrap());
        let thread = thread::spawn(move || run(&ordered, &answer));
        let told = (0..expected).map_while(|_| answers.blocking_recv());
        let told = told.map(|told| (told.order.exec_id, told.examined.provenance.sha256.is_some())).collect();
        drop(sender);
        thread.join().unwrap();
        told
    }

    #[test]
    fn a_large_file_is_hashed_when_all_else_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        std::fs::copy("/bin/sleep", &path).unwrap();
        // What follows an ELF file does not keep it from being run.
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(10 << 20).unwrap();
        let mut child = std::process::Command::new(&path).arg("60").spawn().unwrap();
        let id = ProcessId { pid: child.id(), started: Stat::read(child.id()).unwrap().started * TICK };
        let order = |exec_id, id| Order {
            id,
            exec_id,
            started: Started::default(),
            uid: 0,
            parent: None,
            hash: true,
        };
        let own = std::process::id();
        let own = ProcessId { pid: own, started: Stat::read(own).unwrap().started * TICK };
        let told = digests(vec![order(1, id), order(2, own)]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(
            told,
            [(1, false), (2, false), (1, true), (2, true)],
            "the test's own binary is large too"
        );
    }
}
