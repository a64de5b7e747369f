//! Paths as bytes, and of what is open.

use std::{
    fs::File,
    os::{fd::AsRawFd, unix::ffi::OsStringExt},
};

/// What the kernel appends to the path of a file whose name is gone (`d_path` of `fs/d_path.c`).
pub(super) const DELETED: &[u8] = b" (deleted)";

/// Leaves out empty parts and `.`, and lets `..` take away the part before it.
pub(super) fn without_dots<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for part in parts {
        match part {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            _ => kept.push(part),
        }
    }
    kept
}

/// A path of /proc that leads to an opened file.
pub(super) fn by_descriptor(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// The path of an opened file as the kernel tells it: without links, from the root of its mount namespace or the tracer's own.
/// One whose name is gone has the kernel's note behind it.
pub(super) fn link_of(file: &File) -> Option<Vec<u8>> {
    Some(std::fs::read_link(by_descriptor(file)).ok()?.into_os_string().into_vec())
}
