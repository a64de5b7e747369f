//! When whom is looked at, and what is told of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use foldhash::fast::FixedState;
use tokio::sync::mpsc::UnboundedSender;

use super::{Answer, Order, look::Look};
use crate::{bpf::decode::Decoded, model::event::ProcessId, source::sockdiag};

/// Processes that are looked at again.
const WATCHED: usize = 4096;
/// When a process is looked at, after it was ordered.
const LOOKS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(60), Duration::from_millis(200)];
/// A socket that was found is told when it is found again after so long.
const CONFIRM: Duration = Duration::from_millis(40);
/// One that was told is looked at again this often, until it is there no more.
const KEEP: Duration = Duration::from_secs(1);
/// Sockets that are remembered by their inode; past that all are forgotten.
const SOCKETS: usize = 1024;
/// So long it is remembered: the kernel does not give an inode number again so soon.
const REMEMBERED: Duration = Duration::from_secs(60);
/// The sockets of a namespace are read again only after so many times the time that the last reading took.
const SHARE: u32 = 10;

/// The thread's own.
pub(super) struct Watcher {
    answer: UnboundedSender<Answer>,
    overflow: Arc<AtomicU64>,
    watched: HashMap<ProcessId, Watched, FixedState>,
    due: BTreeSet<(Instant, ProcessId)>,
    sockets: HashMap<u32, (Instant, Box<Decoded>), FixedState>,
    /// Before this the sockets of a namespace are not read again.
    rest_until: Instant,
}

/// A process that is looked at.
struct Watched {
    exec_id: u32,
    /// Looks that are still due.
    looks: VecDeque<Instant>,
    /// When the next look is due, of whatever kind.
    next: Instant,
    /// Sockets that its descriptors lead to, by inode.
    found: BTreeMap<u32, Found>,
}

/// A socket that descriptors of a process lead to.
struct Found {
    since: Instant,
    /// As it was told.
    told: Option<Box<Decoded>>,
}

impl Watcher {
    pub(super) fn new(answer: UnboundedSender<Answer>, overflow: Arc<AtomicU64>) -> Self {
        Self {
            answer,
            overflow,
            watched: HashMap::default(),
            due: BTreeSet::new(),
            sockets: HashMap::default(),
            rest_until: Instant::now(),
        }
    }

    /// Until nobody orders or listens any more.
    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let next = self.due.first().map(|(at, _)| at.saturating_duration_since(Instant::now()));
            match orders.recv_timeout(next.unwrap_or(KEEP)) {
                Ok(order) => self.take(order, Instant::now()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Some((at, id)) = self.due.first().copied()
                && at <= Instant::now()
            {
                self.due.pop_first();
                if self.look(id, Instant::now()).is_err() {
                    return;
                }
            }
        }
    }

    fn take(&mut self, order: Order, now: Instant) {
        if self.watched.len() >= WATCHED && !self.watched.contains_key(&order.id) {
            self.overflow.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let fresh = || Watched { exec_id: 0, looks: VecDeque::new(), next: now, found: BTreeMap::new() };
        let watched = self.watched.entry(order.id).or_insert_with(fresh);
        self.due.remove(&(watched.next, order.id));
        watched.exec_id = order.exec_id;
        watched.looks = LOOKS.iter().map(|after| now + *after).collect();
        watched.next = now;
        self.due.insert((now, order.id));
    }

    /// Looks at a process, tells what is new, and sets when to look again; an error when nobody listens.
    fn look(&mut self, id: ProcessId, now: Instant) -> Result<(), ()> {
        let Some(mut watched) = self.watched.remove(&id) else { return Ok(()) };
        let Some(look) = Look::at(id) else { return self.gone(id, watched) };
        watched.looks.retain(|at| *at > now);
        let left: Vec<u32> =
            watched.found.keys().filter(|i| !look.sockets.contains_key(i)).copied().collect();
        for inode in left {
            let told = watched.found.remove(&inode).and_then(|found| found.told);
            self.tell_gone(id, told)?;
        }
        for (inode, descriptors) in &look.sockets {
            let found = watched.found.entry(*inode).or_insert(Found { since: now, told: None });
            if found.told.is_some() || now < found.since + CONFIRM {
                continue;
            }
            let Some(socket) = self.socket(id, *inode, now) else { continue };
            let Some(task) = look.task(id, watched.exec_id) else { continue };
            found.told = Some(socket.clone());
            let answer = Answer::Found { task, descriptors: descriptors.clone(), socket };
            self.answer.send(answer).map_err(drop)?;
        }
        if let Some(next) = watched.next_look(now, self.rest_until) {
            watched.next = next;
            self.due.insert((next, id));
            self.watched.insert(id, watched);
        }
        Ok(())
    }

    fn gone(&mut self, id: ProcessId, watched: Watched) -> Result<(), ()> {
        watched.found.into_values().try_for_each(|found| self.tell_gone(id, found.told))
    }

    fn tell_gone(&self, id: ProcessId, told: Option<Box<Decoded>>) -> Result<(), ()> {
        told.map_or(Ok(()), |socket| self.answer.send(Answer::Gone { id, socket }).map_err(drop))
    }

    /// The socket with this inode; nothing while it is not known, or talks to nobody.
    fn socket(&mut self, id: ProcessId, inode: u32, now: Instant) -> Option<Box<Decoded>> {
        self.sockets.retain(|_, (read, _)| now < *read + REMEMBERED);
        if !self.sockets.contains_key(&inode) && now >= self.rest_until {
            let namespace = PathBuf::from(format!("/proc/{}/ns/net", id.pid));
            let found = sockdiag::of_namespace(&namespace);
            let found = found.map_err(|error| tracing::debug!("sockets of process {}: {error}", id.pid));
            self.rest_until = Instant::now() + now.elapsed() * SHARE;
            if self.sockets.len() >= SOCKETS {
                self.sockets.clear();
            }
            let found = found.unwrap_or_default().into_iter().find(|(number, _)| *number == inode);
            self.sockets.extend(found.map(|(number, socket)| (number, (now, Box::new(socket)))));
        }
        self.sockets.get(&inode).map(|(_, socket)| socket.clone())
    }
}

impl Watched {
    /// When to look again; never, where there is nothing to wait for.
    fn next_look(&self, now: Instant, rest_until: Instant) -> Option<Instant> {
        let found = self.found.values().map(|found| match found.told {
            Some(_) => now + KEEP,
            None if now < found.since + CONFIRM => found.since + CONFIRM,
            // It was not found among the namespace's sockets, or these may not be read yet.
            None => rest_until.max(now + CONFIRM),
        });
        self.looks.front().copied().into_iter().chain(found).min()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::fd::{AsFd, OwnedFd},
        process::{Command, Stdio},
        sync::mpsc::sync_channel,
        thread,
    };

    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::source::stat::{Stat, TICK};

    fn answers(answers: &mut UnboundedReceiver<Answer>, wanted: usize) -> Vec<Answer> {
        let until = Instant::now() + Duration::from_secs(20);
        let mut all = Vec::new();
        while all.len() < wanted && Instant::now() < until {
            match answers.try_recv() {
                Ok(answer) => all.push(answer),
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
        all
    }

    #[test]
    fn a_socket_that_stays_is_told_and_its_end_too() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let owned = || stream.as_fd().try_clone_to_owned().unwrap();
        let (input, output): (OwnedFd, OwnedFd) = (owned(), owned());
        let mut command = Command::new("/bin/sleep");
        let mut child = command.arg("60").stdin(input).stdout(output).stderr(Stdio::null()).spawn().unwrap();
        let id = ProcessId { pid: child.id(), started: Stat::read(child.id()).unwrap().started * TICK };
        let ((orders, ordered), (answer, mut told)) = (sync_channel(8), unbounded_channel());
        let watcher = Watcher::new(answer, Arc::default());
        let thread = thread::spawn(move || watcher.run(&ordered));
        orders.send(Order { id, exec_id: 7 }).unwrap();
        let found = answers(&mut told, 1);
        let [Answer::Found { task, descriptors, socket }] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((task.id, task.exec_id, descriptors.as_slice()), (id, 7, [0, 1].as_slice()));
        let local = socket.event.local.unwrap();
        assert_eq!((local.ip, local.port), {
            let local = stream.local_addr().unwrap();
            (local.ip(), local.port())
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let gone = answers(&mut told, 1);
        assert!(matches!(gone.as_slice(), [Answer::Gone { id: of, .. }] if *of == id), "{gone:?}");
        drop(orders);
        thread.join().unwrap();
    }

    #[test]
    fn no_more_processes_are_watched_than_there_is_room_for() {
        let overflow = Arc::default();
        let mut watcher = Watcher::new(unbounded_channel().0, Arc::clone(&overflow));
        let now = Instant::now();
        for pid in 0..WATCHED as u32 + 3 {
            watcher.take(Order { id: ProcessId { pid, started: 1 }, exec_id: 0 }, now);
        }
        watcher.take(Order { id: ProcessId { pid: 0, started: 1 }, exec_id: 0 }, now + CONFIRM);
        assert_eq!((watcher.watched.len(), watcher.due.len()), (WATCHED, WATCHED));
        assert_eq!(overflow.load(Ordering::Relaxed), 3);
    }
}
