//! The database of apk: Alpine and what comes from it. One text: a stanza of each package, in which `F:` names a folder, `R:` a
//! file in it and `Z:` the digest of that file. Applets of busybox are links, which no path of an executable leads over.

use std::io;

use super::{
    Claim, Database, Found,
    digest::{Algorithm, Digest},
    if_there,
    index::{Filling, Index},
    lines::each_line,
    root::{Merged, Root},
};

/// What changes whenever the database does; the first that is there is read.
pub(super) const WATCHED: &[&str] = &["lib/apk/db/installed", "usr/lib/apk/db/installed"];

struct Apk {
    path: &'static str,
    index: Index,
}

/// One file of a package.
struct Entry<'a> {
    /// Number of the package's stanza.
    package: usize,
    name: &'a [u8],
    path: &'a [u8],
    digest: Option<&'a [u8]>,
}

/// Reads the database, if there is one.
pub(super) fn read(root: &Root, merged: &Merged) -> Found {
    for path in WATCHED {
        let mut filling = Filling::default();
        if each_entry(root, path, |entry| filling.add(&merged.on_disk(entry.path), entry.package))? {
            return Ok(Some(Box::new(Apk { path, index: filling.finish()? })));
        }
    }
    Ok(None)
}

impl Database for Apk {
    fn owner(&self, root: &Root, merged: &Merged, path: &[u8]) -> io::Result<Option<Claim>> {
        let candidates: Vec<_> = self.index.candidates(path).collect();
        let mut owner = None;
        if candidates.is_empty() {
            return Ok(owner);
        }
        each_entry(root, self.path, |entry| {
            if candidates.contains(&entry.package) && *merged.on_disk(entry.path) == *path {
                owner = Some(Claim { name: entry.name.to_vec(), digest: entry.digest.and_then(digest) });
            }
        })?;
        Ok(owner)
    }

    #[cfg(test)]
    fn size(&self) -> usize {
        self.index.size()
    }
}

/// Calls `take` with each file of each package; false when there is no database.
fn each_entry(root: &Root, path: &str, mut take: impl FnMut(&Entry<'_>)) -> io::Result<bool> {
    let Some(text) = if_there(root.database(path))? else { return Ok(false) };
    let mut package = 0;
    let (mut name, mut folder, mut file, mut digest) = (Vec::new(), Vec::new(), None, None);
    let mut end = |package, name: &[u8], file: &mut Option<Vec<u8>>, digest: &mut Option<Vec<u8>>| {
        let digest = digest.take();
        if let Some(path) = file.take() {
            take(&Entry { package, name, path: &path, digest: digest.as_deref() });
        }
    };
    each_line(text, |line| match line.split_at_checked(2) {
        Some((b"P:", value)) => name = value.to_vec(),
        Some((b"F:", value)) => {
            end(package, &name, &mut file, &mut digest);
            folder = value.to_vec();
        }
        Some((b"R:", value)) => {
            end(package, &name, &mut file, &mut digest);
            let separator: &[u8] = if folder.is_empty() { b"" } else { b"/" };
            file = Some([b"/", folder.as_slice(), separator, value].concat());
        }
        Some((b"Z:", value)) => digest = Some(value.to_vec()),
        None if line.is_empty() => {
            end(package, &name, &mut file, &mut digest);
            (package, name, folder) = (package + 1, Vec::new(), Vec::new());
        }
        Some(_) | None => {}
    })?;
    end(package, &name, &mut file, &mut digest);
    Ok(true)
}

/// `Q1` and the SHA-1 in base64.
fn digest(text: &[u8]) -> Option<Digest> {
    Digest::new(Algorithm::Sha1, from_base64(text.strip_prefix(b"Q1")?)?)
}

/// RFC 4648, section 4.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"=").map_or(text, |text| text.strip_suffix(b"=").unwrap_or(text));
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for byte in text {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        (bits, held) = (bits << 6 | u32::from(six), held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (text, bytes) in [
            (&b""[..], &b""[..]),
            (b"Zg==", b"f"),
            (b"Zm8=", b"fo"),
            (b"Zm9v", b"foo"),
            (b"Zm9vYmFy", b"foobar"),
            (b"+/+/", b"\xfb\xff\xbf"),
        ] {
            assert_eq!(from_base64(text).as_deref(), Some(bytes));
        }
        assert_eq!(from_base64(b"Zm9-"), None);
    }
}
