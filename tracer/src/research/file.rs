//! Where the file of a process is, what became of it, and which package it belongs to: by /proc/PID, which is right in every mount
//! namespace; of a process that is gone, by what it was started as.

use std::{
    ffi::OsStr,
    fs::{self, File, Metadata},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{
    hash::Hashes,
    layer,
    mounts::Mounts,
    packages::{Packages, Root},
    path::DELETED,
    script::Script,
};
use crate::{
    model::{
        event::ProcessId,
        provenance::{FileState, Provenance},
    },
    sink::escape::escape,
    source::stat::Stat,
};

/// What the path of a file begins with that was made in memory (`mm/memfd.c`).
const MEMFD: &[u8] = b"/memfd:";
/// `S_IWOTH`: everybody may write.
const WRITABLE_BY_ALL: u32 = 0o002;
/// `TMPFS_MAGIC` of `include/uapi/linux/magic.h`.
const TMPFS: u64 = 0x0102_1994;
/// `OVERLAYFS_SUPER_MAGIC` of `include/uapi/linux/magic.h`.
const OVERLAY: u64 = 0x794c_7630;
/// File systems that give `stat` other numbers than the kernel itself uses: overlay, btrfs, bcachefs, fuse.
const OTHER_NUMBERS: [u64; 4] = [OVERLAY, 0x9123_683e, 0xca45_1a4e, 0x6573_5546];

/// What a process was started as, as far as its exec told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Started {
    /// Path of the executable as it was called, where it says by itself which file it names.
    pub path: Option<Vec<u8>>,
    /// Device and inode of the executable.
    pub file: Option<(u64, u64)>,
    /// Names that the file had then.
    pub links: Option<u32>,
    /// Kind of its file system.
    pub magic: Option<u64>,
    /// What it was told to run, where it is an interpreter.
    pub script: Option<Script>,
}

/// What the file is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// Its path without links, escaped, and with the kernel's note when it is gone.
    pub path: Option<String>,
    /// Its device and inode, as `stat` gives them.
    pub file: Option<(u64, u64)>,
    /// What became of it, and whose it is.
    pub provenance: Provenance,
}

/// What its package is looked up by: opened while it was known whose it is, since looking it up takes its time.
struct Shown {
    root: Root,
    /// Path within that root, without links.
    path: Vec<u8>,
    /// The very file that runs; nothing where it is not the one at the path any more, or cannot be read.
    file: Option<File>,
}

/// What files are looked at with.
#[derive(Default)]
pub(super) struct Files {
    pub(super) packages: Packages,
    pub(super) hashes: Hashes,
    /// A digest is wanted of every file, and not only of those that a rule finds suspicious.
    pub(super) hashes_all: bool,
}

impl Files {
    /// Adds what the digest of a file is, where that is wanted: known last, because that depends on all else.
    pub(super) fn hash(&mut self, file: Option<&File>, mounts: &Mounts, found: &mut Provenance) {
        if self.hashes_all || found.raises() {
            found.sha256 = self.hashes.of(file, mounts);
        }
    }
}

/// Looks at the file that a process runs.
#[must_use]
pub(super) fn examine(id: ProcessId, started: &Started, files: &mut Files) -> Examined {
    let exe = PathBuf::from(format!("/proc/{}/exe", id.pid));
    let place = openat(CWD, &exe, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok().map(File::from);
    let found = fs::read_link(&exe).ok().zip(fs::metadata(&exe).ok());
    let found = found.map(|(path, metadata)| by_link(id.pid, path.as_os_str().as_bytes(), &metadata));
    // Looked at last: when it is still the same process then, all of the above was its own.
    let lives = Stat::of(id).is_some();
    let found = found.filter(|(found, _)| lives && is_it(started, found));
    let (mounts, place) = if found.is_some() { (Mounts::of(id), place) } else { (Mounts::own(), None) };
    let (mut examined, shown) = found.unwrap_or_else(|| by_name(started));
    let runs = shown.as_ref().and_then(|shown| shown.file.as_ref()?.try_clone().ok());
    let place = place.or(runs).filter(|place| examined.file.is_some_and(|file| is_file(place, file)));
    let Examined { provenance, .. } = &mut examined;
    let told_by_kernel = started.file.is_some();
    let script = started.script.as_ref().map(|script| script.look_up(id, told_by_kernel, files));
    provenance.script = script.map(Box::new);
    if let Some(Shown { root, path, file }) = shown {
        provenance.package = files.packages.look_up(&root, &path, file);
    }
    let may_be_overlay = started.magic.is_none_or(|magic| magic == OVERLAY);
    provenance.layer = place.as_ref().filter(|_| may_be_overlay).and_then(|file| layer::of(file, &mounts));
    files.hash(place.as_ref(), &mounts, provenance);
    examined
}

/// A process that got the pid within one tick of the clock runs another file, as a rule.
fn is_it(started: &Started, found: &Examined) -> bool {
    let comparable = started.magic.is_some_and(|magic| !OTHER_NUMBERS.contains(&magic));
    !comparable || started.file == found.file
}

/// By the link of /proc and the file behind it, which are there as long as the process is.
fn by_link(pid: u32, path: &[u8], metadata: &Metadata) -> (Examined, Option<Shown>) {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let file = (metadata.dev(), metadata.ino());
    let state = if path.starts_with(MEMFD) && metadata.nlink() == 0 {
        FileState::Memory
    } else {
        match path.strip_suffix(DELETED) {
            Some(name) if file_at(&root, path) != Some(file) => {
                if file_at(&root, name).is_some() {
                    FileState::Replaced
                } else {
                    FileState::Deleted
                }
            }
            Some(_) | None => FileState::Present,
        }
    };
    let name = if state == FileState::Present { path } else { path.strip_suffix(DELETED).unwrap_or(path) };
    let has_name = state != FileState::Memory;
    let open_folder = has_name.then(|| open_folder(&root, name)).flatten();
    let examined = Examined {
        path: Some(escape(path)),
        file: Some(file),
        provenance: Provenance { file: state, open_folder, ..Provenance::default() },
    };
    let shown = has_name.then(|| home(pid, name)).flatten().map(|(root, path)| {
        let runs = (state == FileState::Present).then(|| File::open(format!("/proc/{pid}/exe")).ok());
        Shown { root, path, file: runs.flatten().filter(|runs| is_file(runs, file)) }
    });
    (examined, shown)
}

/// The root in whose databases a process's executable stands, and its path there.
fn home(pid: u32, path: &[u8]) -> Option<(Root, Vec<u8>)> {
    let folder = PathBuf::from(format!("/proc/{pid}/root"));
    let root = Root::open(&folder).and_then(Root::or_own).ok()?;
    if root.is_own() {
        return Some((root, path.to_vec()));
    }
    let name = fs::read_link(&folder).ok()?;
    let name = name.as_os_str().as_bytes();
    // The root of another mount namespace has no name in this one.
    if name == b"/" {
        return Some((root, path.to_vec()));
    }
    match path.strip_prefix(name) {
        Some(within) if within.starts_with(b"/") => Some((root, within.to_vec())),
        // A program that has locked itself up since it was started.
        Some(_) | None => {
            let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
            let is_same = namespace("self")? == namespace(&pid.to_string())?;
            Some((Root::open(Path::new("/")).ok().filter(|_| is_same)?, path.to_vec()))
        }
    }
}

/// By what the process was started as: it is gone. Its root is not known any more; a path that leads to its very file here is
/// taken to be its own.
fn by_name(started: &Started) -> (Examined, Option<Shown>) {
    let mut examined = Examined { file: started.file, ..Examined::default() };
    if started.links == Some(0) {
        let in_memory = started.magic == Some(TMPFS) && started.path.is_none();
        examined.provenance.file = if in_memory { FileState::Memory } else { FileState::Deleted };
    }
    let Some(path) = started.path.as_deref() else { return (examined, None) };
    let here = fs::canonicalize(OsStr::from_bytes(path)).ok();
    let here = here.zip(started.file).filter(|(here, file)| {
        let metadata = fs::metadata(here).ok();
        metadata.is_some_and(|metadata| *file == (metadata.dev(), metadata.ino()))
    });
    let Some((here, file)) = here else {
        examined.provenance.open_folder = open_folder(Path::new("/"), path);
        return (examined, None);
    };
    let bytes = here.as_os_str().as_bytes();
    examined.path = Some(escape(bytes));
    examined.provenance.file = FileState::Present;
    examined.provenance.open_folder = open_folder(Path::new("/"), bytes);
    let shown = Root::open(Path::new("/")).ok().map(|root| {
        let ran = root.file(bytes).ok().filter(|ran| is_file(ran, file));
        Shown { root, path: bytes.to_vec(), file: ran }
    });
    (examined, shown)
}

fn is_file(opened: &File, file: (u64, u64)) -> bool {
    opened.metadata().is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == file)
}

pub(super) fn file_at(root: &Path, path: &[u8]) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(inside(root, path)).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// The nearest folder above a path that everybody may write into, escaped.
pub(super) fn open_folder(root: &Path, path: &[u8]) -> Option<String> {
    let mut folders = Path::new(OsStr::from_bytes(path)).ancestors().skip(1);
    let is_open = |folder: &&Path| {
        // A link would lead out of the process's root.
        let metadata = fs::symlink_metadata(inside(root, folder.as_os_str().as_bytes()));
        metadata.is_ok_and(|metadata| metadata.is_dir() && metadata.mode() & WRITABLE_BY_ALL != 0)
    };
    folders.find(is_open).map(|folder| escape(folder.as_os_str().as_bytes()))
}

/// A path of a process, seen from here.
fn inside(root: &Path, path: &[u8]) -> PathBuf {
    let relative = path.strip_prefix(b"/").unwrap_or(path);
    root.join(OsStr::from_bytes(relative))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use sha2::Digest as _;

    use crate::model::provenance::{Digest, Package, Sha256, Shipped};
    use crate::source::stat::TICK;

    /// A copy of a file that sleeps.
    fn sleeper(folder: &Path) -> (PathBuf, std::process::Child) {
        let path = folder.join("sleeper");
        fs::copy("/bin/sleep", &path).unwrap();
        let child = std::process::Command::new(&path).arg("60").spawn().unwrap();
        (path, child)
    }

    fn examined(child: &std::process::Child) -> Examined {
        let started = Stat::read(child.id()).unwrap().started * TICK;
        examine(ProcessId { pid: child.id(), started }, &Started::default(), &mut Files::default())
    }

    #[test]
    fn what_becomes_of_a_file_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut child) = sleeper(folder.path());
        let at_first = examined(&child);
        fs::remove_file(&path).unwrap();
        let deleted = examined(&child);
        fs::write(&path, "another").unwrap();
        let replaced = examined(&child);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(at_first.provenance.file, FileState::Present);
        let digest = sha2::Sha256::digest(fs::read("/bin/sleep").unwrap());
        let digest = Some(Box::new(Sha256::Is(Digest(digest.into()))));
        assert_eq!(deleted.provenance.sha256, digest);
        assert_eq!(replaced.provenance.sha256, digest, "of the file that runs, not of that at its path");
        assert_eq!(at_first.path.as_deref(), path.to_str());
        assert_eq!(deleted.provenance.file, FileState::Deleted);
        assert_eq!(replaced.provenance.file, FileState::Replaced);
        assert_eq!(at_first.file, replaced.file);
    }

    #[test]
    fn a_packaged_program_is_told_with_its_package() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let Provenance { package, sha256, .. } = examined(&child).provenance;
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(sha256, None, "nothing is wrong with it, and nobody asked");
        // Where dpkg is, coreutils or a package in its place has it.
        if Path::new("/var/lib/dpkg/status").exists() {
            assert!(
                matches!(&package, Package::Owned { state: Shipped::Intact, believed: true, .. }),
                "{package:?}"
            );
        }
    }

    #[test]
    fn the_nearest_folder_that_all_may_write_into_is_named() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("open/closed")).unwrap();
        fs::set_permissions(root.path().join("open"), fs::Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(open_folder(root.path(), b"/open/closed/x").as_deref(), Some("/open"));
        assert_eq!(open_folder(root.path(), b"/elsewhere/x"), None);
    }

    #[test]
    fn a_process_that_is_gone_is_known_by_what_it_was_started_as() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let metadata = fs::metadata(&file).unwrap();
        let started = Started {
            path: Some(link.as_os_str().as_bytes().to_vec()),
            file: Some((metadata.dev(), metadata.ino())),
            links: Some(1),
            magic: None,
            script: None,
        };
        let nobody = ProcessId { pid: u32::MAX, started: 0 };
        let mut files = Files::default();
        let examined = examine(nobody, &started, &mut files);
        assert_eq!(examined.path.as_deref(), file.to_str());
        assert_eq!(examined.provenance.file, FileState::Present);
        let other = Started { file: Some((0, 0)), ..started.clone() };
        assert_eq!(examine(nobody, &other, &mut files).path, None);
        let nameless = Started { path: None, links: Some(0), magic: Some(TMPFS), ..started };
        assert_eq!(examine(nobody, &nameless, &mut files).provenance.file, FileState::Memory);
    }
}
