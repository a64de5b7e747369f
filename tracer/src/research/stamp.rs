//! By what a change of a file is seen.

use std::{fs::Metadata, os::unix::fs::MetadataExt};

/// A file and a state of it: device, inode, size, and times of the last changes to contents and metadata, in seconds and
/// nanoseconds.
pub(super) type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

pub(super) fn stamp(file: &Metadata) -> Stamp {
    let (written, changed) = ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
    (file.dev(), file.ino(), file.size(), written, changed)
}
