//! The baseline where BPF iterators are not to be had: `NETLINK_SOCK_DIAG` gives the sockets of each
//! namespace, the links in `/proc/PID/fd` their holders. What may not be read is told, never left out
//! in silence.

mod dump;
mod holders;
#[cfg(test)]
mod tests;

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::IpAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use self::{
    dump::{Entry, dump},
    holders::Held,
};
use super::{
    baseline::{self, Baseline, Namespace},
    live::boot_now,
    namespaces,
};
use crate::{
    bpf::decode::{Decoded, Meaning, Task},
    model::{
        event::{Attribution, BootNanos, Family, Protocol, SocketChange, SocketEvent, SocketId, State},
        host::Left,
    },
};

/// Reads everything once; `only` restricts it to one namespace. Beside it stands in sentences what
/// could not be read and what is unknown for that.
///
/// How a UDP socket came to its port is not told by the kernel: `port_bound` is true when the socket
/// has no peer and its port lies outside the range from which the kernel itself chooses
/// (`net.ipv4.ip_local_port_range` of its namespace, as it is now), and false in every other case.
#[must_use]
pub fn read(only: Option<u32>) -> (Baseline, Vec<String>) {
    let mut found = Found::default();
    for (number, tables) in tables(only, &mut found.unread) {
        found.take(number, tables);
    }
    found.finish()
}

/// Gives every socket that is there already a cookie, by asking for all of them: the kernel makes cookies
/// when they are first asked for.
pub fn name_all() {
    for what in tables(None, &mut Vec::new()).iter().flat_map(|(_, tables)| &tables.unread) {
        tracing::debug!("not named: {what}");
    }
}

/// The sockets of the namespace that a path names, by inode; those without one belong to no descriptor.
///
/// # Errors
/// When the namespace cannot be entered, or its sockets cannot be read.
pub fn of_namespace(path: &Path) -> io::Result<Vec<(u32, Decoded)>> {
    let number = namespaces::inode(path)?;
    let tables = inside(number, path, || Ok(Tables::read(path)))?;
    let Tables { at, entries, ports, .. } = tables;
    let decoded = |(protocol, entry): (Protocol, Entry)| {
        (entry.inode, decoded(number, at, protocol, ports.as_ref(), &entry))
    };
    Ok(entries.into_iter().map(decoded).filter(|(inode, _)| *inode != 0).collect())
}

/// Who has a descriptor of these sockets now, in the order of the pids; nothing of a socket that is gone, or that only the
/// kernel still has. `paths` name the sockets' namespaces, as far as they are still good.
#[must_use]
pub fn who_holds(sockets: &[Left], paths: &BTreeMap<u32, PathBuf>) -> Vec<(SocketId, Vec<Task>)> {
    let wanted: BTreeSet<SocketId> = sockets.iter().map(|socket| socket.id).collect();
    let tables: BTreeSet<_> = sockets.iter().map(|at| (at.netns, (at.protocol, at.family))).collect();
    let mut by_namespace: BTreeMap<u32, Vec<(Protocol, Family)>> = BTreeMap::new();
    tables.into_iter().for_each(|(netns, table)| by_namespace.entry(netns).or_default().push(table));
    let mut inodes = BTreeMap::new();
    let reachable = OnceCell::new();
    for (netns, tables) in by_namespace {
        let is_it = |path: &&PathBuf| namespaces::inode(path).is_ok_and(|number| number == netns);
        let known = paths.get(&netns).filter(is_it);
        let path = known.or_else(|| reachable.get_or_init(namespaces::reachable).get(&netns));
        let Some(path) = path else { continue }; // nobody is in it any more
        match inside(netns, path, || Ok(held(&tables))) {
            Ok(found) => inodes.extend(found.into_iter().filter(|(_, id)| wanted.contains(id))),
            Err(error) => tracing::debug!("network namespace {netns} ({}): {error}", path.display()),
        }
    }
    if inodes.is_empty() {
        return Vec::new(); // they were closed with their process: no other need be asked
    }
    let (mut holders, unread) = holders::of(&inodes.keys().copied().collect());
    unread.iter().for_each(|what| tracing::debug!("not read: {what}"));
    let held = inodes.into_iter().filter_map(|(inode, id)| Some((id, holders.remove(&inode)?.tasks)));
    let mut held: Vec<_> = held.collect();
    held.sort_unstable_by_key(|(id, _)| *id);
    held
}

/// The sockets to which a descriptor leads, by inode, in tables of the calling thread's namespace.
fn held(tables: &[(Protocol, Family)]) -> Vec<(u32, SocketId)> {
    let mut found = Vec::new();
    for (protocol, family) in tables {
        match dump(*protocol, *family) {
            Ok(answer) => found.extend(answer.entries.iter().map(|entry| (entry.inode, entry.id))),
            Err(error) => tracing::debug!("{} sockets: {error}", protocol.as_str()),
        }
    }
    found.retain(|(inode, _)| *inode != 0);
    found
}

/// Does something in a namespace. One's own needs no privilege, where entering even that does.
fn inside<T: Send>(netns: u32, path: &Path, job: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let own = namespaces::inode(Path::new("/proc/thread-self/ns/net")).ok();
    if own == Some(netns) { job() } else { namespaces::inside(path, job) }
}

/// What one namespace told.
struct Tables {
    at: BootNanos,
    path: PathBuf,
    entries: Vec<(Protocol, Entry)>,
    own: BTreeSet<IpAddr>,
    ports: Option<RangeInclusive<u16>>,
    unread: Vec<String>,
    unknown: u64,
}

fn tables(only: Option<u32>, unread: &mut Vec<String>) -> Vec<(u32, Tables)> {
    let mut reachable = namespaces::reachable();
    reachable.retain(|number, _| only.is_none_or(|only| only == *number));
    if reachable.is_empty() {
        unread.push(match only {
            Some(only) => {
                format!("network namespace {only}, which cannot be reached: no socket of it is known")
            }
            None => "every network namespace, as none can be reached: no socket is known".to_owned(),
        });
    }
    let mut all = Vec::new();
    for (number, path) in reachable {
        match inside(number, &path, || Ok(Tables::read(&path))) {
            Ok(tables) => all.push((number, tables)),
            Err(error) => {
                unread.push(format!("network namespace {number} ({}): {error}", path.display()));
            }
        }
    }
    all
}

impl Tables {
    /// Everything of the namespace that the calling thread is in.
    fn read(path: &Path) -> Self {
        let mut unread = Vec::new();
        let own = namespaces::own_addresses();
        let own = own.map_err(|error| unread.push(format!("its own addresses: {error}")));
        let (at, path, ports) = (boot_now(), path.to_owned(), port_range());
        let mut tables =
            Self { at, path, entries: Vec::new(), own: own.unwrap_or_default(), ports, unread, unknown: 0 };
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::UdpLite] {
            tables.take(protocol, Family::Ipv4);
            tables.take(protocol, Family::Ipv6);
        }
        tables
    }

    fn take(&mut self, protocol: Protocol, family: Family) {
        let table = format!("{} sockets of {}", protocol.as_str(), family.as_str());
        match dump(protocol, family) {
            Ok(answer) => {
                self.unknown += answer.unknown;
                self.entries.extend(answer.entries.into_iter().map(|entry| (protocol, entry)));
                if answer.interrupted {
                    self.unread.push(format!("{table}: they changed while being read, some may be missing"));
                }
            }
            // A kernel that has no UDP-Lite has no sockets of it.
            Err(error) if protocol == Protocol::UdpLite && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.unread.push(format!("{table}: {error}")),
        }
    }
}

/// The ports from which the kernel chooses in the calling thread's namespace.
fn port_range() -> Option<RangeInclusive<u16>> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = text.split_ascii_whitespace();
    Some(ends.next()?.parse().ok()?..=ends.next()?.parse().ok()?)
}

#[derive(Default)]
struct Found {
    /// By namespace as well: up to Linux 5.9 each counts its cookies for itself.
    sockets: BTreeMap<(u32, SocketId), (u32, Decoded)>,
    baseline: Baseline,
    unread: Vec<String>,
}

impl Found {
    fn take(&mut self, number: u32, tables: Tables) {
        let Tables { at, path, entries, own, ports, unread, unknown } = tables;
        self.unread.extend(unread.into_iter().map(|what| format!("network namespace {number}: {what}")));
        self.baseline.unknown += unknown;
        self.baseline.namespaces.insert(number, Namespace { path, own });
        for (protocol, entry) in entries {
            let decoded = decoded(number, at, protocol, ports.as_ref(), &entry);
            // One that its process has left is in another state: the kernel closes it.
            let open = matches!(entry.state, State::Established | State::CloseWait);
            if entry.inode == 0 && open && protocol == Protocol::Tcp {
                self.baseline.waiting.insert(entry.id);
            }
            if !baseline::is_unbound(&decoded) {
                self.sockets.insert((number, entry.id), (entry.inode, decoded));
            }
        }
    }

    fn finish(mut self) -> (Baseline, Vec<String>) {
        let inodes = self.sockets.values().map(|(inode, _)| *inode).filter(|inode| *inode != 0).collect();
        let (mut holders, unread) = holders::of(&inodes);
        self.unread.extend(unread);
        for (inode, mut decoded) in self.sockets.into_values() {
            let Held { tasks, stdio } = holders.remove(&inode).unwrap_or_default();
            decoded.event.process = tasks.first().map(|task| (task.id, Attribution::Holder));
            decoded.event.change = baseline::seen(decoded.event.id, &tasks, stdio);
            self.baseline.sockets.push((decoded, tasks));
        }
        baseline::sort(&mut self.baseline.sockets);
        (self.baseline, self.unread)
    }
}

fn decoded(
    netns: u32,
    at: BootNanos,
    protocol: Protocol,
    ports: Option<&RangeInclusive<u16>>,
    entry: &Entry,
) -> Decoded {
    let outside = ports.is_some_and(|ports| !ports.contains(&entry.local.port));
    let event = SocketEvent {
        id: entry.id,
        change: SocketChange::Seen { holders: Vec::new(), stdio: None },
        netns: Some(netns),
        protocol,
        family: entry.family,
        state: entry.state,
        local: Some(entry.local),
        remote: entry.remote,
        v6only: entry.v6only,
        port_bound: protocol.is_datagram() && entry.remote.is_none() && outside,
        process: None,
    };
    let remnant = matches!(event.state, State::TimeWait | State::NewSynRecv);
    Decoded { at, event, meaning: Meaning::Seen, task: None, remnant, address: None }
}
