//! The text of `/proc/PID/cgroup` → unit of systemd and container (cgroups(7)): version 1, version 2 and both at once.
//!
//! Runtimes and service managers are known by how they name cgroups, and whoever may make a cgroup gives it the name that he
//! likes. So what stands nearer to the root counts before what is below it: it was made with more rights. What is below a
//! unit or a container does not become another unit of the system, or another container.

use std::borrow::Cow;

use super::belongs::{Runtime, is_id};

#[cfg(test)]
mod tests;

/// What the kernel appends to the path of a cgroup that was removed under a process that ended.
const DELETED: &[u8] = b" (deleted)";

/// Names of cgroups that stand before a container's id: `NAME-ID.scope` under systemd's driver, `NAME-ID` under the cgroupfs
/// driver, `SLICE:NAME:ID` where the first's path was given to the second. A monitor's, such as `libpod-conmon-ID`, is not
/// the container's.
const NAMED: [(&[u8], Runtime); 6] = [
    (b"docker", Runtime::Docker),
    (b"cri-containerd", Runtime::Containerd),
    (b"nerdctl", Runtime::Containerd),
    (b"crio", Runtime::CriO),
    (b"libpod", Runtime::Podman),
    (b"libpod-payload", Runtime::Podman),
];

/// Kinds of units that have a cgroup (systemd.unit(5)).
const UNITS: [&str; 6] = ["service", "scope", "slice", "socket", "mount", "swap"];

/// Where a process is in the tree of cgroups. Names are as their bytes are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement<'a> {
    /// Path of its cgroup; in version 1, where it has one in each hierarchy, that of systemd's, or else the first that is not
    /// the root. Nothing where the text has none.
    pub path: Option<&'a [u8]>,
    /// Unit of the system's service manager.
    pub unit: Option<&'a str>,
    /// Unit of a user's service manager, which itself is `unit`.
    pub user_unit: Option<&'a str>,
    /// The outermost container that it is in.
    pub container: Option<Contained<'a>>,
}

/// A container that a cgroup was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contained<'a> {
    /// Its id or name.
    pub id: Cow<'a, [u8]>,
    /// What runs it; nothing where no name of the path says that.
    pub runtime: Option<Runtime>,
}

impl<'a> Placement<'a> {
    /// Reads the text of `/proc/PID/cgroup`; lines of another form are passed over.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Self {
        let mut lines: Vec<Line<'a>> = text.split(|byte| *byte == b'\n').filter_map(Line::parse).collect();
        lines.sort_by_key(|line| line.hierarchy);
        let managed = lines.iter().filter(|line| line.hierarchy != Hierarchy::Other);
        let (unit, user_unit) = managed.map(|line| units(line.path)).find(|(unit, _)| unit.is_some()).unzip();
        let deep = lines.iter().find(|line| line.path != b"/");
        Self {
            path: deep.or(lines.first()).map(|line| line.path),
            unit: unit.flatten(),
            user_unit: user_unit.flatten(),
            container: lines.iter().find_map(|line| container(line.path)),
        }
    }
}

/// A process's place in one hierarchy.
struct Line<'a> {
    hierarchy: Hierarchy,
    path: &'a [u8],
}

/// Hierarchies, those first that say most of a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hierarchy {
    /// Version 2.
    Unified,
    /// The one of version 1 that systemd keeps for itself.
    Systemd,
    /// Another one of version 1.
    Other,
}

impl<'a> Line<'a> {
    /// `ID:CONTROLLERS:PATH`, whose path may hold any byte but a newline.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(3, |byte| *byte == b':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let hierarchy = match (id, controllers) {
            (b"0", b"") => Hierarchy::Unified,
            (_, b"name=systemd") => Hierarchy::Systemd,
            _ => Hierarchy::Other,
        };
        let path = path.strip_suffix(DELETED).unwrap_or(path);
        path.starts_with(b"/").then_some(Self { hierarchy, path })
    }
}

/// The names of a path. Those that lead up come first, in paths outside of the reader's cgroup namespace: what follows is
/// then read as if it began at the root.
fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".."))
}

/// The unit of the system's manager, and that of a user's manager below it.
fn units(path: &[u8]) -> (Option<&str>, Option<&str>) {
    let mut names = names(path);
    let unit = first_unit(&mut names);
    let is_manager = unit.is_some_and(|unit| unit.starts_with("user@") && unit.ends_with(".service"));
    (unit, if is_manager { first_unit(&mut names) } else { None })
}

/// The first unit below the slices; where there is none, the last slice.
fn first_unit<'a>(names: &mut impl Iterator<Item = &'a [u8]>) -> Option<&'a str> {
    let mut slice = None;
    for name in names {
        match unit_name(name) {
            Some(unit) if unit.ends_with(".slice") => slice = Some(unit),
            Some(unit) => return Some(unit),
            None => break,
        }
    }
    slice
}

/// The name as a unit's. Before some, which the kernel uses itself, systemd puts a `_`.
fn unit_name(name: &[u8]) -> Option<&str> {
    let name = str::from_utf8(name.strip_prefix(b"_").unwrap_or(name)).ok()?;
    let (stem, kind) = name.rsplit_once('.')?;
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    // A container of LXC may be called `x.service`.
    let is_of_lxc = stem.starts_with("lxc.payload.") || stem.starts_with("lxc.monitor.");
    let is_unit = UNITS.contains(&kind) && !stem.is_empty() && stem.bytes().all(is_allowed) && !is_of_lxc;
    is_unit.then_some(name)
}

fn container(path: &[u8]) -> Option<Contained<'_>> {
    let mut above: &[u8] = b"";
    let mut names = names(path).peekable();
    while let Some(name) = names.next() {
        let below = names.peek().copied();
        let found = by_id(above, name).or_else(|| lxc(name, below)).or_else(|| machine(name, below));
        if found.is_some() {
            return found;
        }
        above = name;
    }
    None
}

fn by_id<'a>(above: &[u8], name: &'a [u8]) -> Option<Contained<'a>> {
    if is_id(name) {
        let runtime = match above {
            b"docker" => Some(Runtime::Docker),
            b"k8s.io" => Some(Runtime::Containerd),
            b"libpod_parent" => return None, // a pod
            _ if above.starts_with(b"pod") || above.starts_with(b"kubepods") => Some(Runtime::Kubepods),
            _ => None,
        };
        return Some(Contained { id: name.into(), runtime });
    }
    let stem = name.strip_suffix(b".scope").unwrap_or(name);
    let mark = stem.iter().rposition(|byte| matches!(byte, b'-' | b':'))?;
    let (before, id) = (stem.get(..mark)?, stem.get(mark + 1..)?);
    let by = before.rsplit(|byte| *byte == b':').next()?;
    let (_, runtime) = NAMED.iter().find(|(name, _)| *name == by)?;
    is_id(id).then(|| Contained { id: id.into(), runtime: Some(*runtime) })
}

/// `lxc.payload.NAME`, `lxc.payload/NAME` or `lxc/NAME`; what watches over it is in `lxc.monitor…`.
fn lxc<'a>(name: &'a [u8], below: Option<&'a [u8]>) -> Option<Contained<'a>> {
    let id = match name {
        b"lxc" | b"lxc.payload" => below,
        _ => name.strip_prefix(b"lxc.payload.").filter(|name| !name.is_empty()),
    };
    id.map(|id| Contained { id: id.into(), runtime: Some(Runtime::Lxc) })
}

/// `machine-NAME.scope` or `systemd-nspawn@NAME.service`, whose `supervisor` is not in the container. The emulator of a
/// virtual machine, which libvirt calls `qemu-…`, is a program of the host.
fn machine<'a>(name: &'a [u8], below: Option<&[u8]>) -> Option<Contained<'a>> {
    let scope = name.strip_prefix(b"machine-").and_then(|name| name.strip_suffix(b".scope"));
    let service = || name.strip_prefix(b"systemd-nspawn@").and_then(|name| name.strip_suffix(b".service"));
    let id = unescaped(scope.or_else(service)?);
    let is_container = !id.is_empty() && !id.starts_with(b"qemu-") && below != Some(b"supervisor");
    is_container.then_some(Contained { id, runtime: Some(Runtime::Machine) })
}

/// A name without the escapes of a unit's name, `\xNN` (systemd.unit(5)).
fn unescaped(name: &[u8]) -> Cow<'_, [u8]> {
    if !name.contains(&b'\\') {
        return name.into();
    }
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, after @ ..] = rest {
        let escape = match rest {
            [b'\\', b'x', high, low, after @ ..] => byte(*high, *low).map(|byte| (byte, after)),
            _ => None,
        };
        let (byte, after) = escape.unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    bytes.into()
}

/// The byte that two hexadecimal digits make.
fn byte(high: u8, low: u8) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}
