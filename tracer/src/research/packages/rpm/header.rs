//! The header of a package, as rpm keeps it: how many entries, how many bytes of data, sixteen bytes for each entry (tag, type,
//! offset, count), and the data; all numbers big-endian (rpm's "Package format", section Header).

use std::{iter, ops::ControlFlow};

use super::{
    super::digest::{Algorithm, Digest},
    be32,
};

// Tags, `include/rpm/rpmtag.h`.
const NAME: u32 = 1000;
const FILESTATES: u32 = 1029;
const FILEMODES: u32 = 1030;
const FILEDIGESTS: u32 = 1035;
const FILEFLAGS: u32 = 1037;
const DIRINDEXES: u32 = 1116;
const BASENAMES: u32 = 1117;
const DIRNAMES: u32 = 1118;
const FILEDIGESTALGO: u32 = 5011;

/// `RPMFILE_GHOST`: the package does not bring the file along.
const GHOST: u32 = 1 << 6;
/// `RPMFILE_STATE_NORMAL` and `_NETSHARED`: the file is there. Others were left out, or are another package's.
const INSTALLED: [u32; 2] = [0, 3];
/// `S_IFMT` and `S_IFREG`
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
/// Folders of one package that are looked at.
const FOLDERS: usize = 1 << 18;

pub(super) struct Header<'a> {
    entries: &'a [[u8; 16]],
    data: &'a [u8],
}

impl<'a> Header<'a> {
    pub(super) fn parse(blob: &'a [u8]) -> Option<Self> {
        let (count, size) = (be32(blob, 0)?, be32(blob, 4)?);
        let (entries, data) =
            blob.get(8..)?.split_at_checked(usize::try_from(count).ok()?.checked_mul(16)?)?;
        let data = data.get(..usize::try_from(size).ok()?)?;
        Some(Self { entries: entries.as_chunks().0, data })
    }

    /// The package's name.
    pub(super) fn name(&self) -> &'a [u8] {
        self.strings(NAME).next().unwrap_or_default()
    }

    /// Calls `take` with the path of each regular file that is installed, and its digest's hex digits.
    pub(super) fn each_file<B>(
        &self,
        mut take: impl FnMut(&[u8], &'a [u8]) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let folders: Vec<_> = self.strings(DIRNAMES).take(FOLDERS).collect();
        let mut states = self.numbers(FILESTATES);
        let mut modes = self.numbers(FILEMODES);
        let mut flags = self.numbers(FILEFLAGS);
        let mut digests = self.strings(FILEDIGESTS);
        let mut path = Vec::new();
        for (name, folder) in self.strings(BASENAMES).zip(self.numbers(DIRINDEXES)) {
            // Each file takes its part of every list, whether it counts or not.
            let is_installed = states.next().is_none_or(|state| INSTALLED.contains(&state));
            let is_regular = modes.next().is_none_or(|mode| mode & KIND == REGULAR);
            let is_shipped = flags.next().is_none_or(|flags| flags & GHOST == 0);
            let digest = digests.next().unwrap_or_default();
            let folder = usize::try_from(folder).ok().and_then(|folder| folders.get(folder));
            if let Some(folder) = folder.filter(|_| is_installed && is_regular && is_shipped) {
                path.clear();
                path.extend_from_slice(folder);
                path.extend_from_slice(name);
                take(&path, digest)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// The digest that hex digits of this package stand for. The numbers of algorithms are those of OpenPGP (RFC 9580, 9.5).
    pub(super) fn digest(&self, digits: &[u8]) -> Option<Digest> {
        let algorithm = match self.numbers(FILEDIGESTALGO).next() {
            None | Some(1) => Algorithm::Md5,
            Some(2) => Algorithm::Sha1,
            Some(8) => Algorithm::Sha256,
            Some(9) => Algorithm::Sha384,
            Some(10) => Algorithm::Sha512,
            Some(11) => Algorithm::Sha224,
            Some(_) => return None,
        };
        Digest::of_hex(algorithm, digits)
    }

    /// Strings of a tag; none when it is missing or of another type.
    fn strings(&self, tag: u32) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (mut data, count) = match self.find(tag) {
            // RPM_STRING_TYPE, RPM_STRING_ARRAY_TYPE, RPM_I18NSTRING_TYPE
            Some((6 | 8 | 9, data, count)) => (data, count),
            Some(_) | None => (&[][..], 0),
        };
        let next = move || {
            let end = data.iter().position(|byte| *byte == 0)?;
            let (string, rest) = data.split_at_checked(end)?;
            data = rest.get(1..)?;
            Some(string)
        };
        iter::from_fn(next).take(count)
    }

    /// Numbers of a tag; none when it is missing or of another type.
    fn numbers(&self, tag: u32) -> impl Iterator<Item = u32> + use<'a> {
        let (width, data, count) = match self.find(tag) {
            // RPM_CHAR_TYPE, RPM_INT8_TYPE, RPM_INT16_TYPE, RPM_INT32_TYPE
            Some((1 | 2, data, count)) => (1, data, count),
            Some((3, data, count)) => (2, data, count),
            Some((4, data, count)) => (4, data, count),
            Some(_) | None => (1, &[][..], 0),
        };
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
        data.chunks_exact(width).take(count).map(number)
    }

    /// Type, data from its offset on, and count.
    fn find(&self, tag: u32) -> Option<(u32, &'a [u8], usize)> {
        let entry = self.entries.iter().find(|entry| be32(*entry, 0) == Some(tag))?;
        let offset = usize::try_from(be32(entry, 8)?).ok()?;
        Some((be32(entry, 4)?, self.data.get(offset..)?, usize::try_from(be32(entry, 12)?).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(count in 0..8_u32, size in 0..200_u32, rest in proptest::collection::vec(any::<u8>(), 0..400)) {
            let blob = [&count.to_be_bytes()[..], &size.to_be_bytes(), &rest].concat();
            if let Some(header) = Header::parse(&blob) {
                let _ = header.name();
                let _ = header.each_file(|_, digits| {
                    let _ = header.digest(digits);
                    ControlFlow::<()>::Continue(())
                });
            }
        }
    }
}
