//! From a path to the packages that may own it: eight bytes a path.
//!
//! An entry is 48 bits of the path's hash and 16 of the package's number, and all lie sorted in one piece. Two paths may
//! meet, so an answer is a place to look at, not yet an owner.

use std::{hash::BuildHasher, io};

use foldhash::fast::FixedState;

use super::broken;

/// Paths that are kept, 16 MB at most: four times those of a machine with thousands of packages.
const PATHS: usize = 2_000_000;
/// Packages that are told apart.
pub(super) const PACKAGES: usize = 1 << 16;
/// Packages that are looked at for one path. More share none but folders, or were made to.
const CANDIDATES: usize = 32;
/// The part of an entry that is the package's.
const PACKAGE: u64 = 0xffff;

/// The table, while it is filled.
#[derive(Default)]
pub(super) struct Filling {
    entries: Vec<u64>,
    overflow: bool,
}

impl Filling {
    /// Notes that a package has a path.
    pub(super) fn add(&mut self, path: &[u8], package: usize) {
        match u16::try_from(package) {
            Ok(package) if self.entries.len() < PATHS => self.entries.push(key(path) | u64::from(package)),
            Ok(_) | Err(_) => self.overflow = true,
        }
    }

    /// True when no more will be of use.
    pub(super) fn is_full(&self) -> bool {
        self.overflow
    }

    /// # Errors
    /// When there was more than there is room for.
    pub(super) fn finish(mut self) -> io::Result<Index> {
        if self.overflow {
            return Err(broken("more files or packages than there is room for"));
        }
        self.entries.sort_unstable();
        self.entries.dedup();
        Ok(Index(self.entries.into_boxed_slice()))
    }
}

/// The table.
pub(super) struct Index(Box<[u64]>);

impl Index {
    /// Numbers of the packages that may have a path.
    pub(super) fn candidates(&self, path: &[u8]) -> impl Iterator<Item = usize> {
        let key = key(path);
        let first = self.0.partition_point(|entry| *entry < key);
        let found = self.0.iter().skip(first).take_while(move |entry| *entry & !PACKAGE == key);
        found.take(CANDIDATES).filter_map(|entry| usize::try_from(entry & PACKAGE).ok())
    }

    /// Bytes in memory.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        size_of_val(&*self.0)
    }
}

fn key(path: &[u8]) -> u64 {
    FixedState::default().hash_one(path) & !PACKAGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_of_a_path_is_found_and_no_other() {
        let mut filling = Filling::default();
        for package in 0..1000 {
            filling.add(format!("/usr/bin/{package}").as_bytes(), package);
        }
        filling.add(b"/usr/bin/7", 3);
        filling.add(b"/usr/bin/7", 3);
        let index = filling.finish().unwrap();
        let found = |path: &str| index.candidates(path.as_bytes()).collect::<Vec<_>>();
        assert_eq!(found("/usr/bin/7"), [3, 7]);
        assert_eq!(found("/usr/bin/999"), [999]);
        assert_eq!(found("/usr/bin/1000"), [0; 0]);
    }

    #[test]
    fn too_much_is_an_error_and_not_a_part_of_it() {
        let mut filling = Filling::default();
        filling.add(b"/a", PACKAGES);
        assert!(filling.finish().is_err());
    }
}
