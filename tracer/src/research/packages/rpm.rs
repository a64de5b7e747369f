//! The database of rpm: one header of tags for each package, kept in one of three formats: SQLite (Fedora, RHEL since 9), ndb
//! (SUSE) and Berkeley DB (RHEL before 9).

mod bdb;
mod header;
mod ndb;
mod sqlite;
mod wal;

use std::{fs::File, io, ops::ControlFlow, os::unix::fs::FileExt};

use self::header::Header;
use super::{
    Claim, Database, Found, best, broken, if_there,
    index::{Filling, Index, PACKAGES},
    root::{Merged, Root},
};

/// Folders in which the database may be; as a rule, the first is a link to one of the others where it is not the one.
const FOLDERS: [&str; 3] = ["var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"];

/// What changes whenever the database does.
pub(super) const WATCHED: &[&str] = &[
    "var/lib/rpm/rpmdb.sqlite",
    "var/lib/rpm/rpmdb.sqlite-wal",
    "var/lib/rpm/rpmdb.sqlite-journal",
    "var/lib/rpm/Packages.db",
    "var/lib/rpm/Packages",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/rpmdb.sqlite-wal",
    "usr/lib/sysimage/rpm/rpmdb.sqlite-journal",
    "usr/lib/sysimage/rpm/Packages.db",
    "usr/lib/sysimage/rpm/Packages",
    "usr/share/rpm/rpmdb.sqlite",
];

/// Longest header that is read, bytes: those of packages with ten thousands of files have a few MB.
const HEADER: usize = 32 << 20;

/// The formats, newest first.
#[derive(Clone, Copy)]
enum Format {
    Sqlite,
    Ndb,
    Bdb,
}

const FORMATS: [Format; 3] = [Format::Sqlite, Format::Ndb, Format::Bdb];

/// The place of a header in the file: what that is, the format knows.
type Place = u64;

/// A file that keeps headers.
trait Store {
    /// Calls `take` with each header and its place.
    ///
    /// # Errors
    /// When the file cannot be read, or is not as its format says.
    fn each(&self, take: &mut dyn FnMut(Place, &[u8]) -> io::Result<()>) -> io::Result<()>;

    /// The header at a place that `each` gave.
    ///
    /// # Errors
    /// As above.
    fn header(&self, place: Place) -> io::Result<Vec<u8>>;
}

struct Rpm {
    folder: &'static str,
    format: Format,
    /// Where the header of each package is.
    packages: Vec<Place>,
    index: Index,
}

/// Reads the database, if there is one.
pub(super) fn read(root: &Root, merged: &Merged) -> Found {
    for folder in FOLDERS {
        for format in FORMATS {
            if let Some(store) = format.open(root, folder)? {
                return Ok(Some(Box::new(Rpm::read(&*store, merged, folder, format)?)));
            }
        }
    }
    Ok(None)
}

impl Rpm {
    fn read(store: &dyn Store, merged: &Merged, folder: &'static str, format: Format) -> io::Result<Self> {
        let (mut packages, mut filling) = (Vec::new(), Filling::default());
        store.each(&mut |place, blob| {
            let header = Header::parse(blob).ok_or_else(|| broken("not a header of a package"))?;
            let number = packages.len();
            if number >= PACKAGES {
                return Err(broken("more packages than there is room for"));
            }
            packages.push(place);
            let _ = header.each_file(|path, _| {
                filling.add(&merged.on_disk(path), number);
                ControlFlow::<()>::Continue(())
            });
            if filling.is_full() { Err(broken("more files than there is room for")) } else { Ok(()) }
        })?;
        Ok(Self { folder, format, packages, index: filling.finish()? })
    }
}

impl Database for Rpm {
    fn owner(&self, root: &Root, merged: &Merged, path: &[u8]) -> io::Result<Option<Claim>> {
        let places: Vec<_> =
            self.index.candidates(path).filter_map(|number| self.packages.get(number)).collect();
        if places.is_empty() {
            return Ok(None);
        }
        let store = self.format.open(root, self.folder)?.ok_or_else(|| broken("gone while it was read"))?;
        best(places.into_iter().map(|place| claim(&store.header(*place)?, merged, path)))
    }

    #[cfg(test)]
    fn size(&self) -> usize {
        self.index.size() + size_of_val(&*self.packages)
    }
}

/// What the package of a header says of a path; nothing where it does not own it.
fn claim(blob: &[u8], merged: &Merged, path: &[u8]) -> io::Result<Option<Claim>> {
    let header = Header::parse(blob).ok_or_else(|| broken("not a header of a package"))?;
    let found = header.each_file(|listed, digest| {
        if *merged.on_disk(listed) == *path { ControlFlow::Break(digest) } else { ControlFlow::Continue(()) }
    });
    let ControlFlow::Break(digest) = found else { return Ok(None) };
    Ok(Some(Claim { name: header.name().to_vec(), digest: header.digest(digest) }))
}

impl Format {
    fn open(self, root: &Root, folder: &str) -> io::Result<Option<Box<dyn Store>>> {
        let open = |name: &str| if_there(root.database(format!("{folder}/{name}")));
        Ok(match self {
            Self::Sqlite => {
                let Some(file) = open("rpmdb.sqlite")? else { return Ok(None) };
                if open("rpmdb.sqlite-journal")?.is_some_and(|journal| !is_empty(&journal)) {
                    return Err(broken(
                        "a journal lies beside it: it is being written, or that was broken off",
                    ));
                }
                let wal = open("rpmdb.sqlite-wal")?.filter(|wal| !is_empty(wal));
                Some(Box::new(sqlite::Table::open(file, wal, b"Packages")?))
            }
            Self::Ndb => match open("Packages.db")? {
                Some(file) => Some(Box::new(ndb::Ndb::open(file)?)),
                None => None,
            },
            Self::Bdb => match open("Packages")? {
                Some(file) => Some(Box::new(bdb::Bdb::open(file)?)),
                None => None,
            },
        })
    }
}

fn is_empty(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.len() == 0)
}

/// Part of a file.
fn part(file: &File, at: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests;
