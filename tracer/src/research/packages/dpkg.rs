//! The database of dpkg: Debian, Ubuntu and what comes from them, and images without dpkg (distroless), which have a file of
//! each package under `status.d`. Formats: dpkg(1) and deb-md5sums(5).

mod control;
mod diversions;

use std::{collections::BTreeMap, io};

use self::{
    control::{Stanza, State, each_stanza},
    diversions::Diversions,
};
use super::{
    Claim, Database, Found, best, broken,
    digest::{Algorithm, Digest},
    if_there,
    index::{Filling, Index, PACKAGES},
    lines::each_line,
    root::{Merged, Root},
};

const STATUS: &str = "var/lib/dpkg/status";
/// Stanzas that dpkg has not put into the status file yet, while it runs.
const UPDATES: &str = "var/lib/dpkg/updates";
const INFO: &str = "var/lib/dpkg/info";
const DISTROLESS: &str = "var/lib/dpkg/status.d";

/// What changes whenever the database does.
pub(super) const WATCHED: &[&str] = &[STATUS, UPDATES, INFO, diversions::FILE, DISTROLESS];

struct Dpkg {
    packages: Vec<Installed>,
    diversions: Diversions,
    index: Index,
}

/// A package whose files are on the disk.
struct Installed {
    name: Box<[u8]>,
    files: Files,
    /// False while dpkg unpacks it: what is on the disk is partly another version's.
    whole: bool,
}

/// Where the files of a package are listed: by the name of its files beside others'.
enum Files {
    /// `info/NAME.list`, with digests in `info/NAME.md5sums`.
    Info(Box<[u8]>),
    /// `status.d/NAME.md5sums` alone.
    Distroless(Box<[u8]>),
}

/// Reads the database, if there is one.
pub(super) fn read(root: &Root, merged: &Merged) -> Found {
    let (info, distroless) = (installed(root)?, distroless(root)?);
    if info.is_none() && distroless.is_none() {
        return Ok(None);
    }
    let packages: Vec<_> = info.into_iter().chain(distroless).flatten().collect();
    let diversions = Diversions::read(root)?;
    let mut filling = Filling::default();
    for (number, package) in packages.iter().enumerate() {
        let disk = Disk { root, merged, diversions: &diversions };
        let mut last = Vec::new();
        disk.each_path(package, |path| {
            // A folder stands before what is in it, and is no program.
            let is_folder = path.strip_prefix(last.as_slice()).is_some_and(|rest| rest.starts_with(b"/"));
            if !last.is_empty() && !is_folder {
                filling.add(&last, number);
            }
            last.clear();
            last.extend_from_slice(path);
        })?;
        if !last.is_empty() {
            filling.add(&last, number);
        }
    }
    Ok(Some(Box::new(Dpkg { packages, diversions, index: filling.finish()? })))
}

impl Database for Dpkg {
    fn owner(&self, root: &Root, merged: &Merged, path: &[u8]) -> io::Result<Option<Claim>> {
        let disk = Disk { root, merged, diversions: &self.diversions };
        let packages = self.index.candidates(path).filter_map(|number| self.packages.get(number));
        best(packages.map(|package| disk.claim(package, path)))
    }

    #[cfg(test)]
    fn size(&self) -> usize {
        self.index.size() + self.packages.iter().map(|package| size_of_val(package) + 64).sum::<usize>()
    }
}

/// What turns a path of a package into one on the disk.
struct Disk<'a> {
    root: &'a Root,
    merged: &'a Merged,
    diversions: &'a Diversions,
}

impl Disk<'_> {
    /// What a package says of a path; nothing where it does not own it.
    fn claim(&self, package: &Installed, path: &[u8]) -> io::Result<Option<Claim>> {
        let mut owns = false;
        self.each_path(package, |listed| owns |= listed == path)?;
        if !owns {
            return Ok(None);
        }
        let digest = if package.whole { self.digest(package, path)? } else { None };
        Ok(Some(Claim { name: package.name.to_vec(), digest }))
    }

    /// Calls `take` with each path of a package, as it is on the disk.
    fn each_path(&self, package: &Installed, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        match &package.files {
            Files::Info(stem) => self.each_line(INFO, stem, ".list", |line| {
                self.on_disk(line, package, &mut take);
            }),
            Files::Distroless(_) => self.each_digest(package, |path, _| take(path)),
        }
    }

    /// Calls `take` with each path for which the package has a digest, as it is on the disk, and the digest's hex digits.
    fn each_digest(&self, package: &Installed, mut take: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        let (folder, stem) = match &package.files {
            Files::Info(stem) => (INFO, stem),
            Files::Distroless(stem) => (DISTROLESS, stem),
        };
        self.each_line(folder, stem, ".md5sums", |line| {
            let Some((digits, rest)) = line.split_at_checked(32) else { return };
            // Two spaces as a rule; the path has no slash before it.
            let path = rest.trim_ascii_start();
            let path = [b"/", path.strip_prefix(b"./").unwrap_or(path)].concat();
            self.on_disk(&path, package, |path| take(path, digits));
        })
    }

    fn each_line(&self, folder: &str, stem: &[u8], ending: &str, take: impl FnMut(&[u8])) -> io::Result<()> {
        let path = [folder.as_bytes(), b"/", stem, ending.as_bytes()].concat();
        // dpkg, too, takes a list that is not there for one without files.
        let Some(file) = if_there(self.root.database(path))? else { return Ok(()) };
        each_line(file, take)
    }

    fn on_disk(&self, path: &[u8], package: &Installed, mut take: impl FnMut(&[u8])) {
        take(&self.merged.on_disk(self.diversions.divert(path, &package.name)));
    }

    /// The digest that the package has of a path: of what it shipped, or of a configuration file as it was installed.
    fn digest(&self, package: &Installed, path: &[u8]) -> io::Result<Option<Digest>> {
        let mut digest = None;
        self.each_digest(package, |digested, digits| {
            if digested == path {
                digest = Digest::of_hex(Algorithm::Md5, digits);
            }
        })?;
        if digest.is_some() {
            return Ok(digest);
        }
        each_status(self.root, |stanza| {
            for (configured, digits) in stanza.conffiles.iter().filter(|_| stanza.package == *package.name) {
                self.on_disk(configured, package, |configured| {
                    if configured == path {
                        digest = Digest::of_hex(Algorithm::Md5, digits);
                    }
                });
            }
        })?;
        Ok(digest)
    }
}

/// The packages of the status file; nothing when there is none.
fn installed(root: &Root) -> io::Result<Option<Vec<Installed>>> {
    // By name and architecture: what stands later is newer.
    let mut packages = BTreeMap::new();
    let is_there = each_status(root, |stanza| {
        if packages.len() < PACKAGES {
            let name = (stanza.package.clone(), stanza.architecture.clone());
            packages.insert(name, (stanza.state, stanza.same));
        }
    })?;
    if packages.len() >= PACKAGES {
        return Err(broken("more packages than there is room for"));
    }
    let installed = packages.into_iter().filter_map(|((name, architecture), (state, same))| {
        let whole = match state {
            State::Whole => true,
            State::Half => false,
            State::Gone => return None,
        };
        let stem = if same { [name.as_slice(), b":", &architecture].concat() } else { name.clone() };
        Some(Installed { name: name.into(), files: Files::Info(stem.into()), whole })
    });
    Ok(is_there.then(|| installed.collect()))
}

/// Calls `take` with each stanza of the status file and of what dpkg has not put into it yet; false when there is no such file.
fn each_status(root: &Root, mut take: impl FnMut(&Stanza)) -> io::Result<bool> {
    let Some(status) = if_there(root.database(STATUS))? else { return Ok(false) };
    each_stanza(status, &mut take)?;
    let mut updates = if_there(root.entries(UPDATES))?.unwrap_or_default();
    updates.retain(|name| name.iter().all(u8::is_ascii_digit));
    updates.sort_unstable();
    for name in updates {
        let update = root.database([UPDATES.as_bytes(), b"/", &name].concat());
        if let Some(update) = if_there(update)? {
            each_stanza(update, &mut take)?;
        }
    }
    Ok(true)
}

/// The packages of an image that was made without dpkg; nothing when it is none.
fn distroless(root: &Root) -> io::Result<Option<Vec<Installed>>> {
    let Some(names) = if_there(root.entries(DISTROLESS))? else { return Ok(None) };
    let mut packages = Vec::new();
    for name in names.into_iter().filter(|name| !name.ends_with(b".md5sums")) {
        let file = root.database([DISTROLESS.as_bytes(), b"/", &name].concat())?;
        let mut package = None;
        each_stanza(file, |stanza| package = Some(stanza.package.clone()))?;
        let files = Files::Distroless(name.into());
        packages.extend(package.map(|name| Installed { name: name.into(), files, whole: true }));
    }
    Ok(Some(packages))
}

#[cfg(test)]
mod tests;
