//! Which installed package owns an executable, and whether the file is still what the package shipped. The databases of the
//! package managers are read as they lie on the disk; no command is run.
//!
//! **What is kept.** Of each database a table from path to package, eight bytes a path (`index`): a few MB for thousands of
//! packages, all paths and not only those where programs usually are, because programs lie under /usr/share too. What the
//! table answers is looked up in the one package's own list, and digests are read from there when they are asked for. The
//! table is built at the first look-up and goes when nobody asked for a while ([`Packages::rest`]); answers stay.
//!
//! **Who is believed.** The databases of a container are its own word: whoever is root in it writes them.

mod apk;
pub(super) mod digest;
mod dpkg;
mod index;
mod lines;
mod root;
mod rpm;

use std::{collections::HashMap, fs::File, io, os::unix::fs::MetadataExt, path::Path};

use foldhash::fast::FixedState;

pub use self::root::Root;
use self::{digest::Digest, root::Merged};
use super::stamp::Stamp;
use crate::{
    memory,
    model::provenance::{Package, Shipped},
    sink::escape::escape,
};

/// Roots of which something is kept: this machine's, and those of containers. The one that was asked of longest ago gives way.
const ROOTS: usize = 8;
/// Answers that are kept of a root; past that all are forgotten.
const ANSWERS: usize = 1024;
/// Longest name of a package that is shown, bytes: longer ones than any package manager allows.
const NAME: usize = 256;
/// What was read of the databases of a few roots.
#[derive(Default)]
pub struct Packages {
    /// Asked of last, stands last.
    roots: Vec<Known>,
}

/// What is kept of one root.
struct Known {
    /// Device and inode of the root.
    id: (u64, u64),
    /// The files of its databases, as they were before these were read.
    stamps: Vec<Option<Stamp>>,
    databases: Option<Databases>,
    answers: HashMap<Asked, Package, FixedState>,
}

/// One executable: what is known of it holds until its file or a database changes.
#[derive(PartialEq, Eq, Hash)]
struct Asked {
    path: Box<[u8]>,
    /// Device, inode, size, and change time in seconds and nanoseconds.
    file: Option<(u64, u64, u64, i64, i64)>,
}

/// The databases of a root.
struct Databases {
    merged: Merged,
    read: Vec<Box<dyn Database>>,
    /// There is one more that could not be read: what the others do not own may be its.
    unreadable: bool,
}

/// One database of installed packages.
trait Database: Send {
    /// The package that owns a path; one that has a digest of it before one that has none.
    ///
    /// # Errors
    /// When the database cannot be read, or contradicts itself.
    fn owner(&self, root: &Root, merged: &Merged, path: &[u8]) -> io::Result<Option<Claim>>;

    /// Bytes that it keeps in memory, about.
    #[cfg(test)]
    fn size(&self) -> usize;
}

/// A database, where the root has one of its kind.
type Found = io::Result<Option<Box<dyn Database>>>;

/// What a database says of a path.
struct Claim {
    /// The package, as its bytes are.
    name: Vec<u8>,
    digest: Option<Digest>,
}

/// Of several packages that own a path the first that has a digest of the file; where none has, the first.
fn best(claims: impl IntoIterator<Item = io::Result<Option<Claim>>>) -> io::Result<Option<Claim>> {
    let mut owner = None;
    for claim in claims {
        match claim? {
            Some(claim) if claim.digest.is_some() => return Ok(Some(claim)),
            claim => owner = owner.or(claim),
        }
    }
    Ok(owner)
}

impl Packages {
    /// The package that owns `path`, which leads over no link within the root, and whether `file`, which was opened there, is what
    /// it shipped.
    ///
    /// May wait for the disk: reading a database takes a fraction of a second, a large file as long.
    pub fn look_up(&mut self, root: &Root, path: &[u8], file: Option<File>) -> Package {
        let Some(known) = self.known_of(root) else { return Package::Unknown };
        let asked = Asked::new(path, file.as_ref());
        if let Some(answer) = known.answers.get(&asked) {
            return answer.clone();
        }
        let databases = known.databases.get_or_insert_with(|| Databases::read(root));
        let answer = databases.look_up(root, path, file);
        // What could not be read may be the next time.
        if answer != Package::Unknown {
            if known.answers.len() >= ANSWERS {
                known.answers.clear();
            }
            known.answers.insert(asked, answer.clone());
        }
        answer
    }

    /// Reads the databases of the tracer's own root, so that no look-up has to.
    pub fn prepare(&mut self) {
        let Ok(root) = Root::open(Path::new("/")) else { return };
        let Some(known) = self.known_of(&root) else { return };
        known.databases.get_or_insert_with(|| Databases::read(&root));
    }

    /// True when there is something to give back.
    #[must_use]
    pub fn is_awake(&self) -> bool {
        self.roots.iter().any(|known| known.databases.is_some())
    }

    /// Gives the memory of the databases back. The next executable that was not seen before has them read again.
    pub fn rest(&mut self) {
        self.roots.iter_mut().for_each(|known| known.databases = None);
        memory::give_back();
    }

    /// Bytes that are kept of the databases, about.
    #[cfg(test)]
    fn size(&self) -> usize {
        let databases = self.roots.iter().filter_map(|known| known.databases.as_ref());
        databases.flat_map(|databases| &databases.read).map(|database| database.size()).sum()
    }

    /// What is kept of a root and still holds.
    fn known_of(&mut self, root: &Root) -> Option<&mut Known> {
        let known = self.known(root.id().ok()?);
        known.forget_what_changed(root);
        Some(known)
    }

    fn known(&mut self, id: (u64, u64)) -> &mut Known {
        let found = self.roots.iter().position(|known| known.id == id);
        let known = match found {
            Some(at) => self.roots.remove(at),
            None => Known::new(id),
        };
        if self.roots.len() >= ROOTS {
            self.roots.remove(0);
        }
        self.roots.push_mut(known)
    }
}

impl Known {
    fn new(id: (u64, u64)) -> Self {
        Self { id, stamps: Vec::new(), databases: None, answers: HashMap::default() }
    }

    fn forget_what_changed(&mut self, root: &Root) {
        let watched = [dpkg::WATCHED, rpm::WATCHED, apk::WATCHED];
        let stamps: Vec<_> = watched.into_iter().flatten().map(|path| root.stamp(path)).collect();
        if stamps != self.stamps {
            self.stamps = stamps;
            self.databases = None;
            self.answers.clear();
        }
    }
}

impl Asked {
    fn new(path: &[u8], file: Option<&File>) -> Self {
        let file = file.and_then(|file| file.metadata().ok());
        let file = file.map(|m| (m.dev(), m.ino(), m.size(), m.ctime(), m.ctime_nsec()));
        Self { path: path.into(), file }
    }
}

impl Databases {
    fn read(root: &Root) -> Self {
        let merged = Merged::read(root);
        let (mut read, mut unreadable) = (Vec::new(), false);
        for (kind, found) in [
            ("dpkg", dpkg::read(root, &merged)),
            ("rpm", rpm::read(root, &merged)),
            ("apk", apk::read(root, &merged)),
        ] {
            match found {
                Ok(database) => read.extend(database),
                Err(error) => {
                    if root.is_own() {
                        tracing::warn!(
                            "packages are not known: the database of {kind} cannot be read: {error}"
                        );
                    }
                    unreadable = true;
                }
            }
        }
        Self { merged, read, unreadable }
    }

    fn look_up(&self, root: &Root, path: &[u8], file: Option<File>) -> Package {
        let path = self.merged.on_disk(path);
        let mut unreadable = self.unreadable || self.read.is_empty();
        for database in &self.read {
            match database.owner(root, &self.merged, &path) {
                Ok(Some(claim)) => return claim.answer(file, root.is_own()),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!("a package database cannot be read: {error}");
                    unreadable = true;
                }
            }
        }
        if unreadable { Package::Unknown } else { Package::None }
    }
}

impl Claim {
    fn answer(self, file: Option<File>, believed: bool) -> Package {
        let verdict = self.digest.zip(file).and_then(|(digest, file)| digest.is_of(file));
        let state = match verdict {
            None => Shipped::Unverified,
            Some(true) => Shipped::Intact,
            Some(false) => Shipped::Modified,
        };
        let name = self.name.get(..NAME).unwrap_or(&self.name);
        Package::Owned { name: escape(name), state, believed }
    }
}

/// The error of a database that is not as its format says.
fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Nothing for what is not there.
fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
