//! What model and triage may not name: they are functions of events, so that a replay gives what live gave.
//! Only the text is looked at.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::rust_text::{self, NamedPath};

const PURE: [&str; 2] = ["tracer/src/model", "tracer/src/triage"];

/// The kernel, clocks, files, sockets, processes, threads and the environment.
const FORBIDDEN: [&[&str]; 13] = [
    &["aya"],
    &["tokio"],
    &["libc"],
    &["rustix"],
    &["std", "fs"],
    &["std", "env"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "net", "TcpStream"],
    &["std", "net", "TcpListener"],
    &["std", "net", "UdpSocket"],
    &["std", "time", "SystemTime"],
    &["std", "time", "Instant"],
];

/// An error that lists every forbidden name with its file and line.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut offences = Vec::new();
    for folder in PURE {
        for file in rust_files(&root.join(folder))? {
            let source =
                std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
            offences.extend(
                impure(&source)
                    .into_iter()
                    .map(|path| format!("{name}:{}: {}", path.line, path.segments.join("::"))),
            );
        }
    }
    if !offences.is_empty() {
        bail!("model and triage are pure and may not name:\n{}", offences.join("\n"));
    }
    Ok(())
}

fn impure(source: &str) -> Vec<NamedPath> {
    rust_text::paths(source)
        .into_iter()
        .filter(|path| FORBIDDEN.iter().any(|forbidden| reaches(&path.segments, forbidden)))
        .collect()
}

/// Whether `path` is what is forbidden, something inside it, or the module around it taken whole (`std::time`
/// alone, or `std::time::*`), under which it could be named unseen. A crate's name counts only as the head of
/// a longer path: alone it may be any variable's.
fn reaches(path: &[String], forbidden: &[&str]) -> bool {
    let is_glob = path.last().is_some_and(|last| last == "*");
    let named = &path[..path.len() - usize::from(is_glob)];
    let common = named.iter().zip(forbidden).take_while(|(a, b)| a == b).count();
    match path.len() {
        0 | 1 => false,
        _ => common == forbidden.len() || common == named.len(),
    }
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offences(source: &str) -> Vec<String> {
        impure(source).iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn addresses_and_durations_are_pure() {
        let source =
            "use std::net::{IpAddr, Ipv4Addr}; use std::time::Duration; let aya = libc; std::fmt::Debug;";
        assert_eq!(offences(source), Vec::<String>::new());
    }

    #[test]
    fn clocks_files_and_sockets_are_not() {
        let source = "use std::{fs::File, time::{Duration, Instant}}; std::net::UdpSocket::bind(a); aya::Ebpf::load(b); \
                      use tokio::*;";
        assert_eq!(
            offences(source),
            [
                "std::fs::File",
                "std::time::Instant",
                "std::net::UdpSocket::bind",
                "aya::Ebpf::load",
                "tokio::*"
            ]
        );
    }

    #[test]
    fn a_whole_module_hides_what_is_in_it() {
        assert_eq!(
            offences("use std::time; use std::net::*; use std::*;"),
            ["std::time", "std::net::*", "std::*"]
        );
    }

    #[test]
    fn every_file_of_both_folders_is_looked_at() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["tracer/src/model", "tracer/src/triage/deep"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        check(root.path()).unwrap();
        std::fs::write(root.path().join("tracer/src/triage/deep/rule.rs"), "// fine\nuse std::env::var;\n")
            .unwrap();
        let error = check(root.path()).unwrap_err().to_string();
        assert!(error.contains("tracer/src/triage/deep/rule.rs:2: std::env::var"), "{error}");
    }
}
