//! Files that one package has put aside, so that its own take their place (dpkg-divert(1)).

use std::{collections::HashMap, io};

use foldhash::fast::FixedState;

use super::super::{if_there, lines::each_line, root::Root};

/// Three lines for each diversion: the path, where the others' file is, and the package whose own file has the path.
pub(super) const FILE: &str = "var/lib/dpkg/diversions";
/// Diversions that are read; machines have some dozen.
const DIVERSIONS: usize = 1 << 14;

/// The diversions of a root.
#[derive(Default)]
pub(super) struct Diversions(HashMap<Vec<u8>, Diversion, FixedState>);

struct Diversion {
    to: Vec<u8>,
    /// `:` where a person diverted the file: then every package's file is put aside.
    by: Vec<u8>,
}

impl Diversions {
    pub(super) fn read(root: &Root) -> io::Result<Self> {
        let mut diversions = Self::default();
        let Some(file) = if_there(root.database(FILE))? else { return Ok(diversions) };
        let (mut from, mut to) = (None, None);
        each_line(file, |line| {
            match (&from, &to) {
                (None, _) => from = Some(line.to_vec()),
                (Some(_), None) => to = Some(line.to_vec()),
                (Some(_), Some(_)) => {
                    let whole = from.take().zip(to.take()).filter(|_| diversions.0.len() < DIVERSIONS);
                    diversions.0.extend(whole.map(|(from, to)| (from, Diversion { to, by: line.to_vec() })));
                }
            };
        })?;
        Ok(diversions)
    }

    /// Where the file is that a package lists by this path.
    pub(super) fn divert<'a>(&'a self, path: &'a [u8], package: &[u8]) -> &'a [u8] {
        if self.0.is_empty() {
            return path;
        }
        self.0.get(path).filter(|diversion| diversion.by != package).map_or(path, |diversion| &diversion.to)
    }
}
