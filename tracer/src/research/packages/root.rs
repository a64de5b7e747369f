//! The files of a root, which may be a container's and hostile: no link in it leads out of it, nothing is opened that is not a
//! regular file or a folder, and no more is read than a look-up may cost.

use std::{
    borrow::Cow,
    cell::Cell,
    ffi::CString,
    fs::{self, File},
    io,
    os::unix::{ffi::OsStringExt, fs::MetadataExt},
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, open, openat2, readlinkat},
    io::Errno,
};

use super::{
    super::{
        path::{by_descriptor, without_dots},
        stamp::{Stamp, stamp},
    },
    broken,
};

/// Bytes that may be read of a root's databases in one look-up: the largest rpm databases are a few hundred MB.
const BUDGET: u64 = 1 << 30;
/// Entries of a folder that are read.
const ENTRIES: usize = 1 << 17;
/// Times that a path is tried whose folders are moved meanwhile (`openat2(2)`, EAGAIN).
const TRIES: usize = 8;

/// An opened root folder.
pub struct Root {
    folder: File,
    is_own: bool,
    left: Cell<u64>,
}

impl Root {
    /// Opens a root: `/`, or `/proc/PID/root`, which stays that process's when it ends.
    ///
    /// # Errors
    /// When the folder cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let folder = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { folder: folder.into(), is_own: path == Path::new("/"), left: Cell::new(BUDGET) })
    }

    /// True for the root that the tracer itself has, seen as the tracer sees it.
    pub(in super::super) fn is_own(&self) -> bool {
        self.is_own
    }

    /// The tracer's own, where it is the same folder. What else a process may have mounted in there is its own affair, and its
    /// databases are not read.
    ///
    /// # Errors
    /// When a system call fails.
    pub(in super::super) fn or_own(self) -> io::Result<Self> {
        let own = Self::open(Path::new("/"))?;
        Ok(if own.id()? == self.id()? { own } else { self })
    }

    /// Device and inode of the root.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn id(&self) -> io::Result<(u64, u64)> {
        let metadata = self.folder.metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Opens a regular file.
    ///
    /// # Errors
    /// When it is none, cannot be opened, or is larger than what may still be read.
    pub fn file(&self, path: &[u8]) -> io::Result<File> {
        let place = self.find(path, OFlags::empty())?;
        if !place.metadata()?.is_file() {
            return Err(broken("not a regular file"));
        }
        File::open(by_descriptor(&place))
    }

    /// Opens a file of a database.
    pub(super) fn database(&self, path: impl AsRef<[u8]>) -> io::Result<File> {
        let file = self.file(path.as_ref())?;
        let left = self.left.get().checked_sub(file.metadata()?.len());
        self.left.set(left.ok_or_else(|| broken("larger than what is read in one look-up"))?);
        Ok(file)
    }

    /// Names in a folder, in no order.
    pub(super) fn entries(&self, path: &str) -> io::Result<Vec<Vec<u8>>> {
        let place = self.find(path.as_bytes(), OFlags::DIRECTORY)?;
        let names = fs::read_dir(by_descriptor(&place))?.map(|entry| Ok(entry?.file_name().into_vec()));
        let names: Vec<_> = names.take(ENTRIES + 1).collect::<io::Result<_>>()?;
        if names.len() > ENTRIES { Err(broken("a folder with too many files")) } else { Ok(names) }
    }

    /// Nothing for what is not there or cannot be looked at.
    pub(super) fn stamp(&self, path: &str) -> Option<Stamp> {
        Some(stamp(&self.find(path.as_bytes(), OFlags::empty()).ok()?.metadata().ok()?))
    }

    /// Where a link leads, as it says.
    fn link(&self, path: &str) -> Option<CString> {
        readlinkat(self.find(path.as_bytes(), OFlags::NOFOLLOW).ok()?, "", Vec::new()).ok()
    }

    /// A descriptor that opens nothing yet: a device would already act on being opened.
    fn find(&self, path: &[u8], flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut found = Err(Errno::AGAIN);
        for _ in 0..TRIES {
            found = openat2(&self.folder, path, flags, Mode::empty(), resolve);
            if !matches!(found, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        Ok(found?.into())
    }
}

/// Folders that are links to others since /usr was merged, by the root's own links: packages may list a file by either path.
pub(super) struct Merged(Vec<(Vec<u8>, Vec<u8>)>);

/// The folders that distributions merged, outer ones first: what these lead to may be a link itself.
const MERGED: [&str; 9] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt", "usr/sbin", "usr/lib64"];

impl Merged {
    pub(super) fn read(root: &Root) -> Self {
        let links = MERGED.iter().filter_map(|link| {
            let target = target(link.as_bytes(), root.link(link)?.as_bytes())?;
            Some((format!("/{link}/").into_bytes(), target))
        });
        Self(links.collect())
    }

    /// The path without those links.
    pub(super) fn on_disk<'a>(&self, path: &'a [u8]) -> Cow<'a, [u8]> {
        let mut path = Cow::Borrowed(path);
        for (link, target) in &self.0 {
            // Most paths are told from most links by this byte, without a call.
            if path.get(1) == link.get(1)
                && let Some(rest) = path.strip_prefix(link.as_slice())
            {
                path = Cow::Owned([target, rest].concat());
            }
        }
        path
    }
}

/// The folder that a link means, with a slash at both ends; none for the root itself.
fn target(link: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    let parent = link.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |slash| &link[..slash]);
    let parent = if text.starts_with(b"/") { &[][..] } else { parent };
    let parts = [parent, text].into_iter().flat_map(|path| path.split(|byte| *byte == b'/'));
    let parts = without_dots(parts);
    (!parts.is_empty()).then(|| [b"/", parts.join(&b'/').as_slice(), b"/"].concat())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_do_not_lead_out_of_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let (outer, inner) = (folder.path().join("secret"), folder.path().join("root"));
        fs::create_dir(&inner).unwrap();
        fs::write(&outer, "outside").unwrap();
        symlink(&outer, inner.join("absolute")).unwrap();
        symlink("../secret", inner.join("relative")).unwrap();
        let root = Root::open(&inner).unwrap();
        assert!(root.file(b"absolute").is_err());
        assert!(root.file(b"relative").is_err());
        assert!(root.file(b"../secret").is_err());
        fs::write(inner.join("secret"), "inside").unwrap();
        assert_eq!(io::read_to_string(root.file(b"relative").unwrap()).unwrap(), "inside");
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        rustix::fs::mkfifoat(&root.folder, "fifo", Mode::RUSR).unwrap_or_else(|e| panic!("{e}"));
        fs::create_dir(folder.path().join("folder")).unwrap();
        assert!(root.file(b"fifo").is_err());
        assert!(root.file(b"folder").is_err());
        assert!(root.file(b"a\0b").is_err());
    }

    #[test]
    fn no_more_is_read_than_a_look_up_may_cost() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["one", "two"] {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_len(BUDGET - 1).unwrap();
        }
        let root = Root::open(folder.path()).unwrap();
        assert!(root.database("one").is_ok());
        assert!(root.database("two").is_err());
    }

    #[test]
    fn merged_folders_are_those_that_are_links() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("usr/bin")).unwrap();
        fs::create_dir(folder.path().join("lib")).unwrap();
        for (link, target) in [("bin", "usr/bin"), ("sbin", "/usr/sbin"), ("usr/sbin", "bin")] {
            symlink(target, folder.path().join(link)).unwrap();
        }
        let merged = Merged::read(&Root::open(folder.path()).unwrap());
        for (path, on_disk) in [
            (&b"/bin/ls"[..], &b"/usr/bin/ls"[..]),
            (b"/sbin/ip", b"/usr/bin/ip"),
            (b"/usr/sbin/ip", b"/usr/bin/ip"),
            (b"/lib/x", b"/lib/x"),
            (b"/binary", b"/binary"),
        ] {
            assert_eq!(merged.on_disk(path), on_disk);
        }
    }

    #[test]
    fn a_link_is_followed_as_far_as_its_text_goes() {
        for (link, text, folder) in [
            (&b"bin"[..], &b"usr/bin"[..], Some(&b"/usr/bin/"[..])),
            (b"usr/sbin", b"bin", Some(b"/usr/bin/")),
            (b"usr/sbin", b"../../sbin/.", Some(b"/sbin/")),
            (b"usr/sbin", b"/x//y/", Some(b"/x/y/")),
            (b"opt", b"..", None),
        ] {
            assert_eq!(target(link, text).as_deref(), folder);
        }
    }
}
