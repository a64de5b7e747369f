//! What research found out of the file that a process runs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is known of an executable beyond its path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// What became of the file.
    pub file: FileState,
    /// The nearest folder above it that everybody may write into, escaped.
    pub open_folder: Option<String>,
    /// The installed package that it belongs to.
    pub package: Package,
    /// What it runs itself, where it is an interpreter.
    pub script: Option<Box<Script>>,
    /// In which layer it lies, where it lies on an overlay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<Layer>,
    /// Its SHA-256, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Box<Sha256>>,
}

/// What an interpreter runs: the program that a person means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Script {
    /// A file.
    File {
        /// Its path as the process sees it, escaped; as it was given, where that is all that is known.
        path: String,
        /// What is known of it.
        found: Provenance,
    },
    /// A module, by its name, escaped: where it lies only the interpreter knows.
    Module(String),
}

impl Provenance {
    /// The package that shipped the file as it runs, where nothing is amiss with it and that can be believed.
    #[must_use]
    pub fn intact_of(&self) -> Option<&str> {
        match &self.package {
            Package::Owned { name, state: Shipped::Intact, believed: true }
                if self.file == FileState::Present && self.open_folder.is_none() =>
            {
                Some(name)
            }
            Package::Owned { .. } | Package::Unknown | Package::None => None,
        }
    }

    /// True when a rule that raises to suspicious speaks of the file itself.
    #[must_use]
    pub fn raises(&self) -> bool {
        self.open_folder.is_some()
            || matches!(self.file, FileState::Deleted | FileState::Replaced | FileState::Memory)
            || matches!(self.package, Package::Owned { state: Shipped::Modified, .. })
    }
}

/// In which layer of an overlay a file lies: of a container's files it says whether they came with its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The one that is written to: the file was put there, or its contents were changed, after the overlay was made.
    Upper,
    /// One of those below, which stay as they are.
    Lower,
    /// The tracer cannot see the upper layer, or not tell whether what it sees is the one.
    Unknown,
}

/// The SHA-256 of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sha256 {
    /// This one.
    Is(Digest),
    /// It was not made.
    Unknown(Unhashed),
}

/// The 32 bytes of a SHA-256; as text, hex digits in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str = "a SHA-256 is 64 hex digits";
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(WRONG) };
        let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
        let bytes: Option<Vec<u8>> = bytes.collect();
        Ok(Self(bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(WRONG)?))
    }
}

/// Why a file has no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unhashed {
    /// It is larger than what is read.
    TooLarge,
    /// It is on a file system that may not answer.
    Remote,
    /// It cannot be read, or is gone.
    Unreadable,
    /// It was written to meanwhile.
    Changed,
    /// Too many others wait.
    Busy,
}

impl Unhashed {
    /// Largest file that is hashed, bytes: hardly a program is larger, and it takes a third of a second at most.
    pub const LARGEST: u64 = 64 << 20;

    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "the file is larger than 64 MiB",
            Self::Remote => {
                "the file is on a file system that may not answer: of the network, in user space, or not mounted any more"
            }
            Self::Unreadable => "the file cannot be read",
            Self::Changed => "the file was changed while it was read",
            Self::Busy => "too many other files waited to be read",
        }
    }
}

/// What became of an executable since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileState {
    /// It could not be looked at.
    #[default]
    Unknown,
    /// It is where it was.
    Present,
    /// Its name is gone.
    Deleted,
    /// Its name is another file's now.
    Replaced,
    /// It never had a name: it was made in memory (`memfd_create(2)`).
    Memory,
}

/// The installed package that an executable belongs to, by the package managers of the root that its process has. In a
/// container these are the container's own word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Package {
    /// It was not looked up, or there is no database, or one that could not be read.
    #[default]
    Unknown,
    /// None: the databases were read.
    None,
    /// This one.
    Owned {
        /// Its name, escaped; without the architecture that dpkg may put behind it.
        name: String,
        /// Whether the file is still its own.
        state: Shipped,
        /// True where nobody had a word in it who could profit: the databases are those of the tracer's own root, and that it
        /// runs this very file the kernel told, and not the process itself.
        #[serde(default)]
        believed: bool,
    },
}

impl Package {
    /// The same, on the word of somebody who may not be believed.
    #[must_use]
    pub fn doubted(self) -> Self {
        match self {
            Self::Owned { name, state, believed: _ } => Self::Owned { name, state, believed: false },
            Self::Unknown | Self::None => self,
        }
    }
}

/// Whether a file is what its package shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shipped {
    /// The package has no digest of it, or the file that runs could not be read, or is not the one at its path any more.
    Unverified,
    /// It is.
    Intact,
    /// It is another.
    Modified,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_recorded_as_hex_and_nothing_else_is_one() {
        let mut bytes = [0xab; 32];
        bytes[0] = 1;
        let found = Provenance { sha256: Some(Box::new(Sha256::Is(Digest(bytes)))), ..Provenance::default() };
        let text = serde_json::to_string(&found).unwrap();
        assert!(text.contains(&format!(r#""sha256":{{"is":"01{}"}}"#, "ab".repeat(31))), "{text}");
        assert_eq!(serde_json::from_str::<Provenance>(&text).unwrap(), found);
        for wrong in ["", "0", "+1", &"0".repeat(63), &"0".repeat(66), &"g".repeat(64), &"é".repeat(32)] {
            assert!(Digest::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_older_tracers_recorded_has_neither_layer_nor_digest() {
        let old = r#"{"file":"present","open_folder":null,"package":"none","script":null}"#;
        let found: Provenance = serde_json::from_str(old).unwrap();
        assert_eq!((found.layer, &found.sha256), (None, &None));
        let text = serde_json::to_string(&found).unwrap();
        assert_eq!(text, old, "what is not known takes no room");
    }

    #[test]
    fn the_limit_is_told_as_it_is() {
        assert!(Unhashed::TooLarge.as_str().contains(&format!(" {} MiB", Unhashed::LARGEST >> 20)));
    }
}
