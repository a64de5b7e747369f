//! The hash of what the kernel object is built from: names and contents, in an order that no file system
//! decides.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Files and folders, from the top folder, that the kernel object depends on.
const SOURCES: [&str; 5] = [
    "tracer-ebpf/src",
    "tracer-ebpf/Cargo.toml",
    "tracer-ebpf/Cargo.lock",
    "tracer-common/src",
    "tracer-common/Cargo.toml",
];

/// The hash of the kernel object's sources under `root`, as `sha256:<hex>`.
pub(crate) fn of_sources(root: &Path) -> Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(&root.join(source), &mut files)?;
    }
    let mut named = Vec::new();
    for file in files {
        let name = file.strip_prefix(root)?.to_string_lossy().into_owned();
        let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        named.push((name, bytes));
    }
    Ok(digest(named))
}

/// The hash of one file's bytes, as `sha256:<hex>`.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    text(Sha256::digest(bytes).as_slice())
}

/// Each file enters as its name, NUL, its length (8 bytes, little endian) and its bytes: no two lists give
/// the same input.
fn digest(mut files: Vec<(String, Vec<u8>)>) -> String {
    files.sort();
    let mut hash = Sha256::new();
    for (name, bytes) in files {
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    text(hash.finalize().as_slice())
}

fn text(hash: &[u8]) -> String {
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let describe = || format!("cannot read {}", path.display());
    if path.metadata().with_context(describe)?.is_file() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).with_context(describe)? {
        collect(&entry.with_context(describe)?.path(), files)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: &str) -> (String, Vec<u8>) {
        (name.to_owned(), bytes.as_bytes().to_vec())
    }

    fn tree(text: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for source in ["tracer-ebpf/src/plan/fentry.rs", "tracer-common/src/lib.rs"] {
            let path = root.path().join(source);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        for source in ["tracer-ebpf/Cargo.toml", "tracer-ebpf/Cargo.lock", "tracer-common/Cargo.toml"] {
            std::fs::write(root.path().join(source), "manifest").unwrap();
        }
        root
    }

    #[test]
    fn the_hash_is_that_of_names_lengths_and_bytes() {
        let expected = of_bytes(b"a\0\x01\0\0\0\0\0\0\0xb\0\0\0\0\0\0\0\0\0");
        assert_eq!(digest(vec![file("b", ""), file("a", "x")]), expected);
    }

    #[test]
    fn moving_a_byte_between_files_or_renaming_changes_the_hash() {
        let base = digest(vec![file("a", "xy"), file("b", "z")]);
        assert_ne!(base, digest(vec![file("a", "x"), file("b", "yz")]));
        assert_ne!(base, digest(vec![file("a", "xy"), file("c", "z")]));
    }

    #[test]
    fn the_folder_does_not_matter_and_a_nested_source_does() {
        assert_eq!(of_sources(tree("one").path()).unwrap(), of_sources(tree("one").path()).unwrap());
        assert_ne!(of_sources(tree("one").path()).unwrap(), of_sources(tree("two").path()).unwrap());
    }

    #[test]
    fn a_missing_source_is_named() {
        let root = tree("one");
        std::fs::remove_file(root.path().join("tracer-ebpf/Cargo.lock")).unwrap();
        assert!(of_sources(root.path()).unwrap_err().to_string().contains("Cargo.lock"));
    }

    #[test]
    fn a_known_hash() {
        assert_eq!(
            of_bytes(b"abc"),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
