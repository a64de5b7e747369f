//! Network namespaces: finding those that can be reached, what they are called, and doing a thing inside one.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, File},
    io,
    net::{IpAddr, SocketAddr},
    os::{
        fd::AsFd,
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    net::{AddressFamily, SocketType},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::{
    model::{
        address::canonical,
        event::{BootNanos, Fact},
    },
    sink::escape::escape,
};

/// Folders in which namespaces have names, and what goes before the names: those of `ip netns` and of most runtimes of containers
/// first, then Docker's, where a name is the end of a container's `SandboxKey`.
const NAMED: [(&str, &str); 3] =
    [("/run/netns", ""), ("/var/run/netns", ""), ("/run/docker/netns", "docker/")];
/// Docker's name for the namespace of the machine itself.
const DOCKERS_HOST: &str = "docker/default";
/// Names are read again at most this often: nanoseconds.
const READ_NAMES: BootNanos = 1_000_000_000;

/// The path to the namespace that is called so, as records call it and as `ip netns` does.
#[must_use]
pub fn called(name: &Path) -> Option<PathBuf> {
    path_in(&NAMED, name)
}

fn path_in(named: &[(&str, &str)], name: &Path) -> Option<PathBuf> {
    let mut paths = named.iter().filter_map(|(folder, before)| {
        let name = name.as_os_str().as_bytes().strip_prefix(before.as_bytes())?;
        let is_name = !name.is_empty() && !name.contains(&b'/') && name != b"." && name != b"..";
        is_name.then(|| Path::new(folder).join(OsStr::from_bytes(name)))
    });
    paths.find(|path| inode(path).is_ok())
}

/// Every network namespace that a task is in or that is mounted, by inode number, with the path to it that is
/// likely to last longest: a mount, a process's first thread, any other thread. The self-test's is not among
/// them: of the tracer itself only the first thread counts.
#[must_use]
pub fn reachable() -> BTreeMap<u32, PathBuf> {
    let Ok(nsfs) = device() else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    let mut add = |path: PathBuf| {
        if let Ok(number) = inode_on(&path, nsfs) {
            found.entry(number).or_insert(path);
        }
    };
    add(PathBuf::from("/proc/self/ns/net"));
    mounted().into_iter().for_each(&mut add);
    let own = fs::read_link("/proc/self").map(|number| Path::new("/proc").join(number)).ok();
    let others = numbered(Path::new("/proc")).filter(|process| own.as_ref() != Some(process));
    let others: Vec<PathBuf> = others.collect();
    for process in &others {
        add(process.join("ns/net"));
    }
    for tasks in others.iter().map(|process| process.join("task")).filter(|tasks| has_threads(tasks)) {
        numbered(&tasks).for_each(|task| add(task.join("ns/net")));
    }
    found
}

/// A process has more threads than its first: each is a link of its folder, after the two of every folder.
fn has_threads(tasks: &Path) -> bool {
    fs::metadata(tasks).is_ok_and(|metadata| metadata.nlink() != 3)
}

/// What network namespaces are called, escaped, by inode number. One without a name is not among them; of several names the
/// first counts.
#[must_use]
pub fn names() -> BTreeMap<u32, String> {
    let Ok(nsfs) = device() else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    for (folder, prefix) in NAMED {
        names_in(Path::new(folder), prefix, nsfs, &mut found);
    }
    found
}

fn names_in(folder: &Path, prefix: &str, nsfs: u64, found: &mut BTreeMap<u32, String>) {
    let mut names: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    names.sort_unstable();
    for name in names {
        let shown = format!("{prefix}{}", escape(name.as_bytes()));
        if shown != DOCKERS_HOST
            && let Ok(number) = inode_on(&folder.join(name), nsfs)
        {
            found.entry(number).or_insert(shown);
        }
    }
}

/// The names of namespaces as they were told last. The number of one that is gone is given to another, so they are read
/// again while sockets act.
#[derive(Debug, Default)]
pub struct Names {
    told: BTreeMap<u32, String>,
    next: BootNanos,
}

impl Names {
    /// True when they were read a while ago.
    #[must_use]
    pub fn is_due(&self, now: BootNanos) -> bool {
        now >= self.next
    }

    /// Reads them, and tells those that are not as they were told.
    pub fn read(&mut self, now: BootNanos, facts: &mut Vec<Fact>) {
        self.next = now.saturating_add(READ_NAMES);
        self.take(names(), facts);
    }

    fn take(&mut self, found: BTreeMap<u32, String>, facts: &mut Vec<Fact>) {
        let gone = self.told.keys().filter(|netns| !found.contains_key(netns));
        facts.extend(gone.map(|netns| Fact::Namespace { netns: *netns, name: None }));
        let new = found.iter().filter(|(netns, name)| self.told.get(netns) != Some(name));
        facts.extend(new.map(|(netns, name)| Fact::Namespace { netns: *netns, name: Some(name.clone()) }));
        self.told = found;
    }
}

/// Inode number of the namespace that a path names.
///
/// # Errors
/// When the path cannot be read, or names something that is not a network namespace.
pub fn inode(path: &Path) -> io::Result<u32> {
    inode_on(path, device()?)
}

/// The device on which namespaces are files.
fn device() -> io::Result<u64> {
    Ok(fs::metadata("/proc/self/ns/net")?.dev())
}

fn inode_on(path: &Path, nsfs: u64) -> io::Result<u32> {
    let metadata = fs::metadata(path)?;
    let number = u32::try_from(metadata.ino()).ok().filter(|_| metadata.dev() == nsfs);
    number.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a network namespace"))
}

/// Does something in a namespace, on a thread of its own, so that the caller stays where it is.
///
/// # Errors
/// When the namespace cannot be entered (needs CAP_SYS_ADMIN), or `job` fails.
pub fn inside<T: Send>(path: &Path, job: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let namespace = File::open(path)?;
    let enter = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        job()
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(enter);
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace died")))
    })
}

/// The addresses of all interfaces of the calling thread's namespace.
///
/// # Errors
/// What `getifaddrs(3)` says.
pub fn own_addresses() -> io::Result<BTreeSet<IpAddr>> {
    let mut list = std::ptr::null_mut();
    // SAFETY: getifaddrs fills the pointer with a list that freeifaddrs takes back.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = BTreeSet::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: a node of the list, alive until freeifaddrs.
        let node = unsafe { &*next };
        // SAFETY: null or an address of the family that it names.
        addresses.extend(unsafe { address(node.ifa_addr) }.map(canonical));
        next = node.ifa_next;
    }
    // SAFETY: the list that getifaddrs gave; no node is used after.
    unsafe { libc::freeifaddrs(list) };
    Ok(addresses)
}

/// # Safety
/// `address` is null or points to a socket address of the family that it names.
unsafe fn address(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: the caller vouches for it.
    match i32::from(unsafe { address.as_ref() }?.sa_family) {
        libc::AF_INET => {
            // SAFETY: AF_INET addresses are sockaddr_in.
            let v4 = unsafe { &*address.cast::<libc::sockaddr_in>() };
            Some(IpAddr::from(v4.sin_addr.s_addr.to_ne_bytes()))
        }
        libc::AF_INET6 => {
            // SAFETY: AF_INET6 addresses are sockaddr_in6.
            let v6 = unsafe { &*address.cast::<libc::sockaddr_in6>() };
            Some(IpAddr::from(v6.sin6_addr.s6_addr))
        }
        _ => None,
    }
}

/// Asks the calling thread's namespace for a route: connecting a UDP socket sends nothing and fails
/// as a TCP connect without a route does.
#[must_use]
pub fn route_error(remote: SocketAddr) -> Option<u32> {
    let family = if remote.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket(family, SocketType::DGRAM, None).ok()?;
    let error = rustix::net::connect(&socket, &remote).err()?;
    u32::try_from(error.raw_os_error()).ok()
}

fn numbered(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|e| e.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit)).map(|e| e.path())
}

/// Namespaces that are kept alive by a mount, as `ip netns add` does.
fn mounted() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let lines = table.lines().filter(|line| line.contains(" - nsfs "));
    lines.filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_is_reachable_and_has_loopback() {
        let own = inode(Path::new("/proc/self/ns/net")).unwrap();
        assert!(reachable().contains_key(&own));
        assert!(own_addresses().unwrap().contains(&IpAddr::from([127, 0, 0, 1])));
    }

    #[test]
    fn a_file_that_is_no_namespace_is_refused() {
        assert!(inode(Path::new("/etc/passwd")).is_err());
    }

    #[test]
    fn a_name_leads_to_the_namespace_that_is_called_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web");
        std::os::unix::fs::symlink("/proc/self/ns/net", &path).unwrap();
        fs::write(folder.path().join("gone"), "what is left when a mount is gone").unwrap();
        let named = [("/no/such/folder", ""), (folder.path().to_str().unwrap(), "docker/")];
        let found = |name: &str| path_in(&named, Path::new(name));
        assert_eq!(found("docker/web"), Some(path));
        for other in ["web", "docker/", "docker/gone", "docker/..", "docker/../web", "docker/other"] {
            assert_eq!(found(other), None, "{other}");
        }
    }

    #[test]
    fn a_namespace_is_called_by_the_first_name_that_leads_to_it() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b\u{1b}", "a\u{1b}"] {
            std::os::unix::fs::symlink("/proc/self/ns/net", folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("0"), "what is left when a mount is gone").unwrap();
        let mut found = BTreeMap::new();
        names_in(folder.path(), "docker/", device().unwrap(), &mut found);
        let own = inode(Path::new("/proc/self/ns/net")).unwrap();
        assert_eq!(found, BTreeMap::from([(own, r"docker/a\x1b".to_owned())]));
        names_in(Path::new("/nowhere"), "", 0, &mut found);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn only_names_that_are_new_or_gone_are_told() {
        let told = |netns, name: Option<&str>| Fact::Namespace { netns, name: name.map(str::to_owned) };
        let mut names = Names::default();
        for (found, expected) in [
            (vec![(1, "a"), (2, "b")], vec![told(1, Some("a")), told(2, Some("b"))]),
            (vec![(1, "a"), (2, "b")], vec![]),
            (vec![(2, "c"), (3, "a")], vec![told(1, None), told(2, Some("c")), told(3, Some("a"))]),
        ] {
            let mut facts = Vec::new();
            names.take(found.into_iter().map(|(netns, name)| (netns, name.to_owned())).collect(), &mut facts);
            assert_eq!(facts, expected);
        }
    }

    #[test]
    fn names_are_read_again_after_a_while() {
        let mut names = Names::default();
        assert!(names.is_due(0));
        names.read(5, &mut Vec::new());
        assert!(!names.is_due(5 + READ_NAMES - 1) && names.is_due(5 + READ_NAMES));
    }
}
