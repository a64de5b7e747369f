//! In which layer of an overlay a file lies: the upper one holds what was written since it was mounted, which in a container is since
//! its image was made. The mount says where the upper layer is, in words of whoever mounted it; so what is seen there from here is
//! held against the mount.

use std::{
    ffi::OsStr,
    fs::{self, File, Metadata},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, getxattr, openat, openat2},
    io::Errno,
};

use super::{
    mounts::{Mount, Mounts},
    path::by_descriptor,
};
use crate::model::provenance::Layer;

/// A file with one of these in the upper layer has its contents in a lower one: only its owner or mode was changed
/// (`metacopy=on`).
const METADATA_ALONE: [&str; 2] = ["trusted.overlay.metacopy", "user.overlay.metacopy"];

/// The layer of a file that is open; nothing where it does not lie on an overlay.
pub(super) fn of(file: &File, mounts: &Mounts) -> Option<Layer> {
    let mount = mounts.find(file).filter(|mount| mount.kind == b"overlay")?;
    let Some(upper) = mount.option(b"upperdir") else { return Some(Layer::Lower) };
    let path = mount.path_of(file);
    // Some kernels tell the option as it was given, with backslashes before what would end it.
    let names = [without_backslashes(&upper), upper];
    let found = path.and_then(|path| names.iter().find_map(|upper| by(file, &mount, upper, &path)));
    Some(found.unwrap_or(Layer::Unknown))
}

/// By the folder that may be the upper layer; nothing where it cannot be seen or may be another.
fn by(file: &File, mount: &Mount<'_>, upper: &[u8], path: &[u8]) -> Option<Layer> {
    let upper = Path::new(OsStr::from_bytes(upper));
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    // One that is relative was so to another process.
    let upper = upper.is_absolute().then(|| openat(CWD, upper, flags | OFlags::DIRECTORY, Mode::empty()))?;
    let upper = File::from(upper.ok()?);
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let path = path.strip_prefix(b"/").unwrap_or(path);
    match openat2(&upper, path, flags | OFlags::NOFOLLOW, Mode::empty(), inside) {
        Ok(found) => of_upper(file, &File::from(found)),
        Err(Errno::NOENT) => is_upper_of(mount, &upper).then_some(Layer::Lower),
        Err(_) => None,
    }
}

/// By the file that has the path in the upper layer. Numbers of device and inode tell nothing: those of an overlay are others.
fn of_upper(file: &File, found: &File) -> Option<Layer> {
    if state(&file.metadata().ok()?) != state(&found.metadata().ok()?) {
        return None;
    }
    let path = by_descriptor(found);
    let is_metadata = METADATA_ALONE.iter().any(|name| getxattr(&path, *name, &mut [0u8; 64]).is_ok());
    Some(if is_metadata { Layer::Lower } else { Layer::Upper })
}

/// True when a folder is the upper layer of a mount, whose own folder has the attributes of that one's. Of a part of an overlay that
/// was mounted elsewhere it cannot be told.
fn is_upper_of(mount: &Mount<'_>, upper: &File) -> bool {
    let merged = || Some(state(&fs::symlink_metadata(mount.folder()).ok()?));
    mount.root == b"/" && upper.metadata().is_ok_and(|upper| Some(state(&upper)) == merged())
}

/// What an overlay tells of a file as the layer has it: mode, size, and the times of the last changes.
fn state(file: &Metadata) -> (u32, u64, [i64; 4]) {
    let times = [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()];
    (file.mode(), if file.is_dir() { 0 } else { file.size() }, times)
}

fn without_backslashes(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        plain.extend(if *byte == b'\\' { bytes.next() } else { Some(byte) });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backslashes_of_an_option_are_taken_away() {
        assert_eq!(without_backslashes(br"/a\:b\,c\\d\"), br"/a:b,c\d");
    }

    #[test]
    fn what_is_on_no_overlay_has_no_layer() {
        let file = File::open("/proc/self/stat").unwrap();
        assert_eq!(of(&file, &Mounts::own()), None);
    }

    #[test]
    fn the_very_file_is_told_from_another_of_that_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("one"), "1").unwrap();
        fs::write(path("other"), "22").unwrap();
        let open = |name: &str| File::open(path(name)).unwrap();
        assert_eq!(of_upper(&open("one"), &open("one")), Some(Layer::Upper));
        assert_eq!(of_upper(&open("one"), &open("other")), None);
    }
}
