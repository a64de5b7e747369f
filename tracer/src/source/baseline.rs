//! The sockets that are there already, with their holders, of every namespace that can be reached.
//!
//! Descriptors of all tasks give the holders; the kernel's own tables, namespace by namespace, give
//! what no descriptor leads to. Both are joined by the socket's identity.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io::{self, Read},
    net::IpAddr,
    path::{Path, PathBuf},
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
    model::event::{Protocol, SocketChange, SocketId, State},
};

/// Bytes of records that are read at once: more than the kernel gives for one call, so that none is cut.
const CHUNK: usize = 64 * 1024;

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
    let mut found = Found { only, own: std::process::id(), ..Found::default() };
    found.read(iterators.walk(Target::Held)?)?;
    let mut namespaces = BTreeMap::new();
    for (number, path) in namespaces::reachable() {
        if only.is_some_and(|only| only != number) {
            continue;
        }
        let walks = [iterators.walk(Target::Tcp)?, iterators.walk(Target::Udp)?];
        match namespaces::inside(&path, || found.read_tables(walks)) {
            Ok(own) => {
                namespaces.insert(number, Namespace { path, own });
            }
            // It may be gone by now; its sockets that a process holds were found above.
            Err(error) => warn!("network namespace {number} ({}): {error}", path.display()),
        }
    }
    let unknown = found.unknown;
    Ok(Baseline { sockets: found.sorted(), namespaces, waiting: BTreeSet::new(), unknown })
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
    unknown: u64,
}

impl Found {
    /// The TCP and UDP tables and the addresses of the calling thread's namespace.
    fn read_tables(&mut self, walks: [Walk; 2]) -> io::Result<BTreeSet<IpAddr>> {
        for walk in walks {
            self.read(walk).map_err(io::Error::other)?;
        }
        namespaces::own_addresses()
    }

    /// Takes the records of a walk as they come.
    fn read(&mut self, walk: Walk) -> Result<(), LoadError> {
        let mut file: File = walk.open()?;
        self.read_from(&mut file).map_err(|e| LoadError::Hook { hook: "iter".to_owned(), why: e.to_string() })
    }

    fn read_from(&mut self, input: &mut impl Read) -> io::Result<()> {
        let (mut buffer, mut filled) = (vec![0; CHUNK], 0);
        loop {
            let count = match input.read(&mut buffer[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            filled += count;
            let whole = if count == 0 { filled } else { filled - filled % size_of::<Record>() };
            self.take(&buffer[..whole]);
            buffer.copy_within(whole..filled, 0);
            filled -= whole;
            if count == 0 {
                return Ok(());
            }
        }
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
        let task = decoded.task.filter(|_| decoded.meaning == Meaning::Held);
        let next = self.sockets.len();
        let place = *self.places.entry(decoded.event.id).or_insert(next);
        if place == next {
            self.sockets.push((decoded, Vec::new()));
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

    fn sorted(self) -> Vec<(Decoded, Vec<Task>)> {
        let mut sockets = self.sockets;
        for (decoded, tasks) in &mut sockets {
            decoded.event.change = SocketChange::Seen { holders: tasks.iter().map(|task| task.id).collect() };
        }
        sort(&mut sockets);
        sockets
    }
}

/// Listeners first: sessions are understood by them.
pub(super) fn sort(sockets: &mut [(Decoded, Vec<Task>)]) {
    sockets.sort_unstable_by_key(|(decoded, _)| {
        let event = &decoded.event;
        let listens = event.state == State::Listen;
        (!listens, event.netns, event.protocol, event.local, event.remote, event.id)
    });
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

    fn record(cookie: u64, pid: u32) -> Record {
        Record {
            cookie,
            pid,
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
        let records =
            [record(7, 30), record(8, 20), record(7, 10), record(7, 30), record(7, 0), record(9, 5)];
        let mut found = Found { own: 5, ..Found::default() };
        found.read_from(&mut Dripping(records.as_bytes())).unwrap();
        found.read_from(&mut Dripping(b"a tail that is no record")).unwrap();
        assert_eq!(found.unknown, 1);
        let sockets = found.sorted();
        let pids = sockets.iter().map(|(decoded, tasks)| {
            (decoded.event.id.0, tasks.iter().map(|task| task.id.pid).collect::<Vec<_>>())
        });
        assert_eq!(pids.collect::<Vec<_>>(), [(7, vec![10, 30]), (8, vec![20])]);
        let holders = SocketChange::Seen { holders: sockets[0].1.iter().map(|task| task.id).collect() };
        assert_eq!(sockets[0].0.event.change, holders);
    }
}
