//! The sockets that are there already, with their holders, of every namespace that can be reached.
//!
//! Descriptors of all tasks give the holders; the kernel's own tables, namespace by namespace, give
//! what no descriptor leads to. Both are joined by the socket's identity.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read},
    net::IpAddr,
    path::{Path, PathBuf},
};

use tracer_common::Record;
use tracing::warn;

use super::namespaces;
use crate::{
    bpf::{
        decode::{Decoded, Meaning, Task, decode},
        iterators::{Iterators, Target, Walk},
        loader::LoadError,
    },
    model::event::{ProcessId, Protocol, SocketChange, SocketId, State},
};

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
    let mut found = Found { only, ..Found::default() };
    found.take(&contents(iterators.walk(Target::Held)?)?);
    let mut namespaces = BTreeMap::new();
    for (number, path) in namespaces::reachable() {
        if only.is_some_and(|only| only != number) {
            continue;
        }
        let walks = (iterators.walk(Target::Tcp)?, iterators.walk(Target::Udp)?);
        match namespaces::inside(&path, || tables(walks)) {
            Ok((tcp, udp, own)) => {
                found.take(&tcp);
                found.take(&udp);
                namespaces.insert(number, Namespace { path, own });
            }
            // It may be gone by now; its sockets that a process holds were found above.
            Err(error) => warn!("network namespace {number} ({}): {error}", path.display()),
        }
    }
    let unknown = found.unknown;
    Ok(Baseline { sockets: found.sorted(), namespaces, waiting: BTreeSet::new(), unknown })
}

/// The TCP and UDP tables and the addresses of the calling thread's namespace.
fn tables((tcp, udp): (Walk, Walk)) -> io::Result<(Vec<u8>, Vec<u8>, BTreeSet<IpAddr>)> {
    let read = |walk| contents(walk).map_err(io::Error::other);
    Ok((read(tcp)?, read(udp)?, namespaces::own_addresses()?))
}

fn contents(walk: Walk) -> Result<Vec<u8>, LoadError> {
    let mut bytes = Vec::new();
    let mut file: File = walk.open()?;
    let read = file.read_to_end(&mut bytes);
    read.map_err(|e| LoadError::Hook { hook: "iter".to_owned(), why: e.to_string() })?;
    Ok(bytes)
}

/// Addresses of one namespace; empty when it cannot be entered.
#[must_use]
pub fn own_addresses(path: &Path) -> BTreeSet<IpAddr> {
    namespaces::inside(path, namespaces::own_addresses).unwrap_or_default()
}

#[derive(Default)]
struct Found {
    only: Option<u32>,
    sockets: BTreeMap<SocketId, (Decoded, BTreeMap<ProcessId, Task>)>,
    unknown: u64,
}

impl Found {
    fn take(&mut self, bytes: &[u8]) {
        for record in bytes.chunks(size_of::<Record>()) {
            match decode(record) {
                Ok(decoded) => self.add(decoded),
                Err(_) => self.unknown += 1,
            }
        }
    }

    fn add(&mut self, decoded: Decoded) {
        let own = std::process::id();
        let wanted = self.only.is_none_or(|only| decoded.event.netns == Some(only));
        if !wanted || is_unbound(&decoded) || decoded.task.is_some_and(|task| task.id.pid == own) {
            return;
        }
        let task = decoded.task.filter(|_| decoded.meaning == Meaning::Held);
        let entry = self.sockets.entry(decoded.event.id).or_insert_with(|| (decoded, BTreeMap::new()));
        entry.1.extend(task.map(|task| (task.id, task)));
    }

    fn sorted(self) -> Vec<(Decoded, Vec<Task>)> {
        let holders = |(mut decoded, tasks): (Decoded, BTreeMap<ProcessId, Task>)| {
            decoded.event.change = SocketChange::Seen { holders: tasks.keys().copied().collect() };
            (decoded, tasks.into_values().collect())
        };
        let mut sockets: Vec<(Decoded, Vec<Task>)> = self.sockets.into_values().map(holders).collect();
        sort(&mut sockets);
        sockets
    }
}

/// Listeners first: sessions are understood by them.
pub(super) fn sort(sockets: &mut [(Decoded, Vec<Task>)]) {
    sockets.sort_by_key(|(decoded, _)| {
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
