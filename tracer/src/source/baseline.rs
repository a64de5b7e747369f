//! The sockets that are there already, with their holders, of every namespace that can be reached.
//!
//! Descriptors of all tasks give the holders; the kernel's own tables, namespace by namespace, give
//! what no descriptor leads to. Both are joined by the socket's identity.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{self, Read},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, mpsc},
    thread,
};

use foldhash::fast::FixedState;
use tracer_common::Record;
use tracing::warn;

use super::namespaces;
use crate::{
    bpf::{
        decode::{Decoded, Meaning, Task, decode},
        iterators::{Iterators, Target, Walk},
        loader::LoadError,
    },
    model::event::{Endpoint, ProcessId, Protocol, SocketChange, SocketId, State, Stdio},
    research::stdio::STDIO,
};

/// Bytes of records that are read at once: more than the kernel gives for one call, so that none is cut.
const CHUNK: usize = 64 * 1024;
/// Pieces that the kernel may be ahead of what is taken in.
const AHEAD: usize = 16;
/// Namespaces that are read at the same time: the kernel goes through its whole table for each of them.
const READERS: usize = 2;

/// The processes that have a socket as their standard input, output or error, with these of their descriptors.
pub(super) type StdioUsers = BTreeMap<ProcessId, BTreeSet<u8>>;

/// What was found.
#[derive(Default)]
pub struct Baseline {
    /// Sockets with their holders, listeners first.
    pub sockets: Vec<(Decoded, Vec<Task>)>,
    /// Namespaces by inode number, with a path and their own addresses.
    pub namespaces: BTreeMap<u32, Namespace>,
    /// Connections among them that no process has taken from their listener's queue yet, as far as the
    /// reading tells; by iterators it is known to the kernel side already.
    pub waiting: BTreeSet<SocketId>,
    /// Records that were not understood.
    pub unknown: u64,
}

/// A network namespace that was read.
pub struct Namespace {
    /// A path that leads to it.
    pub path: PathBuf,
    /// Addresses of its interfaces.
    pub own: BTreeSet<IpAddr>,
}

/// Reads everything once; `only` restricts it to one namespace.
///
/// # Errors
/// When an iterator cannot be started or read.
pub fn read(iterators: &mut Iterators, only: Option<u32>) -> Result<Baseline, LoadError> {
    let held = iterators.walk(Target::Held)?;
    let mut tables = Vec::new();
    for (number, path) in namespaces::reachable() {
        if only.is_none_or(|only| only == number) {
            let walks = [iterators.walk(Target::Tcp)?, iterators.walk(Target::Udp)?];
            tables.push(Table { number, path, walks });
        }
    }
    let mut found = Found { only, own: std::process::id(), ..Found::default() };
    let namespaces = found.read(held, tables)?;
    let unknown = found.unknown;
    Ok(Baseline { sockets: found.sorted(), namespaces, waiting: BTreeSet::new(), unknown })
}

/// What is to be read of one namespace.
struct Table {
    number: u32,
    path: PathBuf,
    walks: [Walk; 2],
}

/// Addresses of one namespace; empty when it cannot be entered.
#[must_use]
pub fn own_addresses(path: &Path) -> BTreeSet<IpAddr> {
    namespaces::inside(path, namespaces::own_addresses).unwrap_or_default()
}

#[derive(Default)]
struct Found {
    only: Option<u32>,
    /// Process id of the tracer, whose own sockets are nobody's business.
    own: u32,
    sockets: Vec<(Decoded, Vec<Task>)>,
    /// Where each stands in `sockets`.
    places: HashMap<SocketId, usize, FixedState>,
    /// Those that are a process's standard input, output or error, with these descriptors.
    stdio: BTreeMap<SocketId, StdioUsers>,
    unknown: u64,
}

impl Found {
    /// The kernel walks in threads of their own, which enter the namespaces, while what it found before is taken in.
    fn read(&mut self, held: Walk, tables: Vec<Table>) -> Result<BTreeMap<u32, Namespace>, LoadError> {
        let tables = Mutex::new(tables);
        thread::scope(|scope| {
            let (sender, chunks) = mpsc::sync_channel(AHEAD);
            let own = sender.clone();
            let held = scope.spawn(move || walk_through(held.open()?, &own).map_err(|e| broken(&e)));
            let readers: Vec<_> = (0..READERS)
                .map(|_| {
                    let (tables, own) = (&tables, sender.clone());
                    scope.spawn(move || read_tables(tables, &own))
                })
                .collect();
            drop(sender);
            self.take_all(chunks);
            held.join().unwrap_or_else(|_| Err(broken(&"it broke off")))?;
            Ok(readers.into_iter().filter_map(|reader| reader.join().ok()).flatten().collect())
        })
    }

    fn take_all(&mut self, chunks: mpsc::Receiver<Vec<u8>>) {
        chunks.into_iter().for_each(|chunk| self.take(&chunk));
    }

    fn take(&mut self, bytes: &[u8]) {
        for record in bytes.chunks(size_of::<Record>()) {
            match decode(record) {
                Ok(decoded) => self.add(decoded),
                Err(_) => self.unknown += 1,
            }
        }
    }

    fn add(&mut self, decoded: Decoded) {
        let wanted = self.only.is_none_or(|only| decoded.event.netns == Some(only));
        if !wanted || is_unbound(&decoded) || decoded.task.is_some_and(|task| task.id.pid == self.own) {
            return;
        }
        let task = decoded.task.filter(|_| matches!(decoded.meaning, Meaning::Held(_)));
        if let (Meaning::Held(descriptor), Some(task)) = (decoded.meaning, task)
            && let Some(descriptor) = STDIO.into_iter().find(|of| u32::from(*of) == descriptor)
        {
            let users = self.stdio.entry(decoded.event.id).or_default();
            users.entry(task.id).or_default().insert(descriptor);
        }
        let next = self.sockets.len();
        let place = *self.places.entry(decoded.event.id).or_insert(next);
        if place == next {
            self.sockets.push((decoded, Vec::new()));
        } else if task.is_some() && self.sockets[place].1.is_empty() {
            self.sockets[place].0 = decoded; // which of the walks comes first is left to chance
        }
        let (_, tasks) = &mut self.sockets[place];
        let Some(task) = task else { return };
        match tasks.binary_search_by_key(&task.id, |task| task.id) {
            Ok(known) => tasks[known] = task,
            Err(new) => {
                tasks.reserve_exact(1); // nearly all have one holder
                tasks.insert(new, task);
            }
        }
    }

    fn sorted(mut self) -> Vec<(Decoded, Vec<Task>)> {
        let mut sockets = self.sockets;
        for (decoded, tasks) in &mut sockets {
            let users = self.stdio.remove(&decoded.event.id).unwrap_or_default();
            decoded.event.change = seen(decoded.event.id, tasks, users);
        }
        sort(&mut sockets);
        sockets
    }
}

fn broken(why: &dyn std::fmt::Display) -> LoadError {
    LoadError::Hook { hook: "iter".to_owned(), why: why.to_string() }
}

/// Reads one namespace after the other, until none is left.
fn read_tables(tables: &Mutex<Vec<Table>>, found: &mpsc::SyncSender<Vec<u8>>) -> Vec<(u32, Namespace)> {
    let next = || tables.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut read = Vec::new();
    while let Some(Table { number, path, walks }) = next() {
        let inside = || {
            for walk in walks {
                walk_through(walk.open().map_err(io::Error::other)?, found)?;
            }
            namespaces::own_addresses()
        };
        match namespaces::inside(&path, inside) {
            Ok(own) => read.push((number, Namespace { path, own })),
            // It may be gone by now; its sockets that a process holds are found all the same.
            Err(error) => warn!("network namespace {number} ({}): {error}", path.display()),
        }
    }
    read
}

/// Hands on what is read, in pieces that end with a record; a tail that is none comes last.
fn walk_through(mut input: impl Read, found: &mpsc::SyncSender<Vec<u8>>) -> io::Result<()> {
    let mut rest = Vec::new();
    loop {
        let mut chunk = rest;
        let begun = chunk.len();
        chunk.resize(begun + CHUNK, 0);
        let count = loop {
            match input.read(&mut chunk[begun..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        chunk.truncate(begun + count);
        let whole = if count == 0 { chunk.len() } else { chunk.len() - chunk.len() % size_of::<Record>() };
        rest = chunk.split_off(whole);
        // Only a reader that panicked takes nothing any more.
        if found.send(chunk).is_err() || count == 0 {
            return Ok(());
        }
    }
}

/// What a picture tells of a socket.
pub(super) fn seen(socket: SocketId, holders: &[Task], users: StdioUsers) -> SocketChange {
    let stdio = |(process, descriptors): (ProcessId, BTreeSet<u8>)| Stdio {
        socket,
        process,
        descriptors: descriptors.into_iter().collect(),
    };
    SocketChange::Seen {
        holders: holders.iter().map(|task| task.id).collect(),
        stdio: Some(users.into_iter().map(stdio).collect()),
    }
}

/// Listeners first: sessions are understood by them.
pub(super) fn sort(sockets: &mut [(Decoded, Vec<Task>)]) {
    // They are large: each is moved once, and its key made once, of numbers.
    sockets.sort_by_cached_key(|(decoded, _)| {
        let event = &decoded.event;
        let listens = event.state == State::Listen;
        (!listens, event.netns, event.protocol, event.local.map(place), event.remote.map(place), event.id)
    });
}

/// An end as numbers that have its order.
fn place(end: Endpoint) -> (bool, u128, u16) {
    match end.ip {
        IpAddr::V4(ip) => (false, u32::from(ip).into(), end.port),
        IpAddr::V6(ip) => (true, u128::from(ip), end.port),
    }
}

/// A socket that has no port yet talks to nobody, and `ss` does not show it either.
pub(super) fn is_unbound(decoded: &Decoded) -> bool {
    let port = decoded.event.local.map_or(0, |local| local.port);
    match decoded.event.protocol {
        Protocol::Tcp => decoded.event.state == State::Close,
        Protocol::Udp | Protocol::UdpLite => port == 0,
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::{HOW_HELD, KIND_HELD, KIND_SEEN};
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    fn record(cookie: u64, pid: u32, fd: u32) -> Record {
        Record {
            cookie,
            pid,
            fd,
            kind: if pid == 0 { KIND_SEEN } else { KIND_HELD },
            how: if pid == 0 { 0 } else { HOW_HELD },
            state: 10,
            family: 2,
            protocol: 6,
            local_port: 80,
            ..Record::new_zeroed()
        }
    }

    /// Gives a few bytes at a time, with no regard to where a record ends.
    struct Dripping<'a>(&'a [u8]);

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(100);
            self.0.read(&mut buffer[..most])
        }
    }

    #[test]
    fn holders_are_joined_in_the_order_of_their_pids_however_the_bytes_come() {
        let records = [
            record(7, 30, 2),
            record(8, 20, 3),
            record(7, 10, 0),
            record(7, 30, 0),
            record(7, 30, 258),
            record(7, 0, 0),
            record(9, 5, 0),
        ];
        let mut found = Found { own: 5, ..Found::default() };
        for bytes in [records.as_bytes(), b"a tail that is no record"] {
            let (sender, chunks) = mpsc::sync_channel(100);
            walk_through(Dripping(bytes), &sender).unwrap();
            drop(sender);
            found.take_all(chunks);
        }
        assert_eq!(found.unknown, 1);
        let sockets = found.sorted();
        let pids = sockets.iter().map(|(decoded, tasks)| {
            (decoded.event.id.0, tasks.iter().map(|task| task.id.pid).collect::<Vec<_>>())
        });
        assert_eq!(pids.collect::<Vec<_>>(), [(7, vec![10, 30]), (8, vec![20])]);
        let holders = sockets[0].1.iter().map(|task| task.id).collect();
        let on_stdio = |pid, descriptors: &[u8]| Stdio {
            socket: SocketId(7),
            process: ProcessId { pid, started: 0 },
            descriptors: descriptors.to_vec(),
        };
        let stdio = Some(vec![on_stdio(10, &[0]), on_stdio(30, &[0, 2])]);
        assert_eq!(sockets[0].0.event.change, SocketChange::Seen { holders, stdio });
        let none = SocketChange::Seen { holders: vec![sockets[1].1[0].id], stdio: Some(Vec::new()) };
        assert_eq!(sockets[1].0.event.change, none);
    }
}
