//! Where files are mounted, by `/proc/PID/mountinfo` (proc_pid_mountinfo(5)). A mount is found by its number and not by path: a file
//! may be bound over another, and folders may be moved.

use std::{
    cell::OnceCell,
    ffi::OsString,
    fs::{self, File},
    io::Read,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, StatxFlags, statx};

use super::path::{DELETED, link_of};
use crate::{model::event::ProcessId, source::stat::Stat};

/// Of a table no more is read, bytes: machines with thousands of containers have one of a few MB.
const LARGEST: u64 = 8 << 20;

/// The mounts that a process sees, read when the first is asked for.
pub(super) struct Mounts {
    /// The tracer's own where there is none.
    of: Option<ProcessId>,
    table: OnceCell<Option<Table>>,
}

struct Table {
    text: Vec<u8>,
    /// The root of the mount points, as links of /proc tell it.
    root: Vec<u8>,
    /// The same root as a folder that can be looked into.
    folder: PathBuf,
}

/// A mount.
pub(super) struct Mount<'a> {
    /// What of the file system is mounted: a path in it.
    pub(super) root: Vec<u8>,
    /// The kind of file system.
    pub(super) kind: &'a [u8],
    /// The options of the file system, as the kernel writes them.
    options: &'a [u8],
    /// Where it is mounted.
    point: Vec<u8>,
    table: &'a Table,
}

impl Mounts {
    /// Those that a process sees.
    pub(super) fn of(id: ProcessId) -> Self {
        Self { of: Some(id), table: OnceCell::new() }
    }

    /// Those that the tracer sees.
    pub(super) fn own() -> Self {
        Self { of: None, table: OnceCell::new() }
    }

    /// The mount that a file was opened on; nothing where it has none that can be seen.
    pub(super) fn find(&self, file: &File) -> Option<Mount<'_>> {
        let number = number(file)?;
        let table = self.table.get_or_init(|| Table::read(self.of)).as_ref()?;
        table.text.split(|byte| *byte == b'\n').find_map(|line| table.mount(line, number))
    }
}

/// The number of the mount that a file was opened on.
fn number(file: &File) -> Option<u64> {
    // What the file system would have to be asked for is not needed.
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = statx(file, "", flags, StatxFlags::MNT_ID).ok()?;
    (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
}

impl Table {
    fn read(of: Option<ProcessId>) -> Option<Self> {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        let id = of.filter(|id| namespace(&id.pid.to_string()) != namespace("self"));
        let process = id.map_or_else(|| "/proc/self".to_owned(), |id| format!("/proc/{}", id.pid));
        let mut text = Vec::new();
        File::open(format!("{process}/mountinfo")).ok()?.take(LARGEST).read_to_end(&mut text).ok()?;
        let folder = PathBuf::from(format!("{process}/root"));
        let root = fs::read_link(&folder).ok()?.into_os_string().into_vec();
        // Looked at last: when it is still the same process then, all of the above was its own.
        let lives = id.is_none_or(|id| Stat::of(id).is_some());
        let root = if id.is_none() || root == b"/" { Vec::new() } else { root };
        lives.then_some(Self { text, root, folder })
    }

    fn mount<'a>(&'a self, line: &'a [u8], number: u64) -> Option<Mount<'a>> {
        let mut fields = line.split(|byte| *byte == b' ');
        let own: u64 = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        if own != number {
            return None;
        }
        let (root, point) = (unescaped(fields.nth(2)?), unescaped(fields.next()?));
        let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
        let (kind, options) = (fields.next()?, fields.nth(1)?);
        Some(Mount { root, kind, options, point, table: self })
    }
}

impl Mount<'_> {
    /// The value of an option of the file system.
    pub(super) fn option(&self, name: &[u8]) -> Option<Vec<u8>> {
        // A comma within a value is written as an escape.
        let mut options = self.options.split(|byte| *byte == b',');
        options.find_map(|option| option.strip_prefix(name)?.strip_prefix(b"=").map(unescaped))
    }

    /// The path of a file within its file system; nothing of one that has no path any more.
    pub(super) fn path_of(&self, file: &File) -> Option<Vec<u8>> {
        let path = link_of(file).filter(|path| !path.ends_with(DELETED))?;
        self.path_within(path.strip_prefix(self.table.root.as_slice())?)
    }

    /// The same, of a path below the root of the table.
    fn path_within(&self, path: &[u8]) -> Option<Vec<u8>> {
        let rest = match self.point.as_slice() {
            b"/" => path,
            point => path.strip_prefix(point)?,
        };
        // A file that is mounted itself has no path below the mount.
        let is_part = rest.is_empty() || rest.starts_with(b"/");
        let root = self.root.strip_suffix(b"/").unwrap_or(&self.root);
        is_part.then(|| [root, rest].concat())
    }

    /// The folder where it is mounted, seen from here.
    pub(super) fn folder(&self) -> PathBuf {
        let point = self.point.strip_prefix(b"/").unwrap_or(&self.point);
        self.table.folder.join(Path::new(&OsString::from_vec(point.to_vec())))
    }
}

/// What the kernel wrote with escapes, a backslash and three octal digits each (`mangle_path` of `fs/seq_file.c`).
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let escaped = behind.first_chunk::<3>().filter(|_| *first == b'\\').and_then(octal);
        plain.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { behind.get(3..).unwrap_or_default() } else { behind };
    }
    plain
}

fn octal(digits: &[u8; 3]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "\
        21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        300 21 0:40 / /var/lib/x\\040y/merged rw shared:9 master:2 - overlay over\\040lay \
        rw,lowerdir=/l/1:/l/2,upperdir=/up\\134\\054er\\040x,workdir=/w\n\
        301 21 0:40 /etc/a\\011b /srv/file rw - overlay  rw,lowerdir=/l\n";

    fn table() -> Table {
        Table { text: LINES.into(), root: Vec::new(), folder: "/proc/1/root".into() }
    }

    fn mount(table: &Table, number: u64) -> Option<Mount<'_>> {
        table.text.split(|byte| *byte == b'\n').find_map(|line| table.mount(line, number))
    }

    #[test]
    fn a_line_is_read_with_its_escapes() {
        let table = table();
        let found = mount(&table, 300).unwrap();
        assert_eq!((found.kind, found.root.as_slice()), (&b"overlay"[..], &b"/"[..]));
        assert_eq!(found.point, b"/var/lib/x y/merged");
        assert_eq!(found.option(b"upperdir").as_deref(), Some(&b"/up\\,er x"[..]));
        assert_eq!(found.option(b"lowerdir").as_deref(), Some(&b"/l/1:/l/2"[..]));
        assert_eq!(found.option(b"upper"), None);
        assert_eq!(found.folder(), Path::new("/proc/1/root").join("var/lib/x y/merged"));
        assert_eq!(mount(&table, 21).unwrap().kind, b"ext4");
        assert_eq!(mount(&table, 301).unwrap().option(b"upperdir"), None);
        assert!(mount(&table, 30).is_none());
    }

    #[test]
    fn a_path_is_told_within_its_file_system() {
        let table = table();
        let within = |number, path: &str| mount(&table, number).unwrap().path_within(path.as_bytes());
        assert_eq!(within(300, "/var/lib/x y/merged/bin/x").as_deref(), Some(&b"/bin/x"[..]));
        assert_eq!(within(300, "/var/lib/x y/merged.old/x"), None);
        assert_eq!(within(300, "/elsewhere"), None);
        assert_eq!(within(301, "/srv/file").as_deref(), Some(&b"/etc/a\tb"[..]));
        assert_eq!(within(21, "/bin/x").as_deref(), Some(&b"/bin/x"[..]));
    }

    #[test]
    fn a_broken_line_is_no_mount() {
        let table = table();
        for line in [
            "",
            "300",
            "300 1 0:1 /",
            "300 1 0:1 / / rw",
            "300 1 0:1 / / rw - overlay",
            "x 1 0:1 / / rw - a b c",
        ] {
            assert!(table.mount(line.as_bytes(), 300).is_none(), "{line}");
        }
        assert_eq!(unescaped(b"a\\04\\9\\400\\"), b"a\\04\\9\\400\\");
    }

    #[test]
    fn this_machine_s_own_mounts_are_found() {
        let file = File::open("/proc/self/stat").unwrap();
        let mounts = Mounts::own();
        assert_eq!(mounts.find(&file).unwrap().kind, b"proc");
        let pid = std::process::id();
        let id = ProcessId { pid, started: Stat::read(pid).unwrap().started * crate::source::stat::TICK };
        let mounts = Mounts::of(id);
        let path = mounts.find(&file).unwrap().path_of(&file);
        assert_eq!(path, Some(format!("/{pid}/stat").into_bytes()));
    }
}
