//! The digest that a package has of a file.

use std::{
    fs::File,
    io::{self, Read},
};

use super::lines::from_hex;

/// Largest file that is read, bytes: no program is, and reading takes seconds.
const LARGEST: u64 = 1 << 30;

/// How a digest is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// A digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digest {
    algorithm: Algorithm,
    value: Vec<u8>,
}

impl Digest {
    /// Nothing for a value that no file can have.
    pub(super) fn new(algorithm: Algorithm, value: Vec<u8>) -> Option<Self> {
        let length = match algorithm {
            Algorithm::Md5 => 16,
            Algorithm::Sha1 => 20,
            Algorithm::Sha224 => 28,
            Algorithm::Sha256 => 32,
            Algorithm::Sha384 => 48,
            Algorithm::Sha512 => 64,
        };
        (value.len() == length).then_some(Self { algorithm, value })
    }

    /// The same, of hex digits.
    pub(super) fn of_hex(algorithm: Algorithm, text: &[u8]) -> Option<Self> {
        Self::new(algorithm, from_hex(text)?)
    }

    /// Whether a file that was just opened has it; nothing when the file cannot be read or is too large.
    pub(super) fn is_of(&self, file: File) -> Option<bool> {
        if file.metadata().ok()?.len() > LARGEST {
            return None;
        }
        let sum = match self.algorithm {
            Algorithm::Md5 => sum::<md5::Md5>(file),
            Algorithm::Sha1 => sum::<sha1::Sha1>(file),
            Algorithm::Sha224 => sum::<sha2::Sha224>(file),
            Algorithm::Sha256 => sum::<sha2::Sha256>(file),
            Algorithm::Sha384 => sum::<sha2::Sha384>(file),
            Algorithm::Sha512 => sum::<sha2::Sha512>(file),
        };
        Some(sum.ok()? == self.value)
    }
}

/// The digest of a file, of which no more is read than [`LARGEST`].
pub(in crate::research) fn sum<H: sha2::Digest>(file: impl Read) -> io::Result<Vec<u8>> {
    let mut hash = H::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut file = file.take(LARGEST);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().to_vec()),
            Ok(length) => hash.update(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn digests_are_those_of_the_standards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "abc").unwrap();
        for (algorithm, hex) in [
            (Algorithm::Md5, "900150983cd24fb0d6963f7d28e17f72"),
            (Algorithm::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (Algorithm::Sha224, "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
            (Algorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ] {
            let digest = Digest::of_hex(algorithm, hex.as_bytes()).unwrap();
            assert_eq!(digest.is_of(File::open(&path).unwrap()), Some(true));
        }
        let other = Digest::new(Algorithm::Sha512, vec![0; 64]).unwrap();
        assert_eq!(other.is_of(File::open(&path).unwrap()), Some(false));
        assert_eq!(Digest::of_hex(Algorithm::Md5, b"newconffile"), None);
        assert_eq!(Digest::of_hex(Algorithm::Sha1, b"900150983cd24fb0d6963f7d28e17f72"), None);
    }

    #[test]
    fn a_file_that_is_too_large_or_unreadable_is_not_judged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        let file = File::create(&path).unwrap();
        file.set_len(LARGEST + 1).unwrap();
        let digest = Digest::new(Algorithm::Md5, vec![0; 16]).unwrap();
        assert_eq!(digest.is_of(File::open(&path).unwrap()), None);
        assert_eq!(digest.is_of(File::open(folder.path()).unwrap()), None);
    }
}
