//! The machine's package sources as apt describes them (sources.list(5)), read only to learn its mirror's
//! address. Both forms: one line, and deb822 stanzas.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// One source of binary packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The mirror's address.
    pub(crate) uri: String,
    /// Releases, and their updates and fixes.
    pub(crate) suites: Vec<String>,
    components: Vec<String>,
    /// The keyring that signs it, where it is given as a file.
    pub(crate) keyring: Option<PathBuf>,
}

impl Source {
    /// Whether it is a release's main archive, and not one of updates, security fixes or a third party.
    fn is_main_archive(&self) -> bool {
        self.release().is_some() && self.components.iter().any(|component| component == "main")
    }

    /// The first suite that is a release, as `bookworm` is and `bookworm-updates` is not.
    pub(crate) fn release(&self) -> Option<&str> {
        self.suites.iter().map(String::as_str).find(|suite| !suite.contains(['-', '/']))
    }

    /// Whether all of it belongs to `release`: the release itself, its updates or its security fixes.
    fn is_of(&self, release: &str) -> bool {
        let belongs = |suite: &String| {
            suite.strip_prefix(release).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        self.suites.iter().all(belongs) && self.components.iter().any(|component| component == "main")
    }
}

/// The machine's main archive, from the files under `etc` (normally /etc/apt).
pub(crate) fn main_archive(etc: &Path) -> Result<Source> {
    let described = || format!("no main archive of Debian stands in {}", etc.display());
    all(etc)?.into_iter().find(Source::is_main_archive).with_context(described)
}

/// The main archive with everything else of the same release: its updates and its security fixes.
pub(crate) fn release_archives(etc: &Path) -> Result<Vec<Source>> {
    let main = main_archive(etc)?;
    let release = main.release().unwrap_or_default();
    Ok(all(etc)?.into_iter().filter(|source| source.is_of(release)).collect())
}

fn all(etc: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for file in files(etc) {
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => sources.extend(stanzas(&text)),
            _ => sources.extend(text.lines().filter_map(one_line)),
        }
    }
    Ok(sources)
}

fn files(etc: &Path) -> Vec<PathBuf> {
    let mut parts: Vec<PathBuf> = std::fs::read_dir(etc.join("sources.list.d"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    parts.sort();
    let wanted = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "list" || extension == "sources")
    };
    std::iter::once(etc.join("sources.list"))
        .filter(|path| path.exists())
        .chain(parts.into_iter().filter(wanted))
        .collect()
}

/// `deb [option=value …] URI SUITE COMPONENT…`
fn one_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let keyring =
        options.split_whitespace().find_map(|option| option.strip_prefix("signed-by=")).and_then(keyring);
    Some(Source { uri: words.next()?, suites: vec![words.next()?], components: words.collect(), keyring })
}

/// Stanzas of `Name: value` lines, separated by empty lines; further lines of a value begin with a blank.
fn stanzas(text: &str) -> Vec<Source> {
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.split(|line| line.trim().is_empty()).filter_map(stanza).collect()
}

fn stanza(lines: &[&str]) -> Option<Source> {
    let words = |name| field(lines, name).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let off = field(lines, "Enabled").trim().eq_ignore_ascii_case("no");
    if off || !words("Types").contains(&"deb".to_owned()) {
        return None;
    }
    Some(Source {
        uri: words("URIs").into_iter().next()?,
        suites: words("Suites"),
        components: words("Components"),
        keyring: keyring(field(lines, "Signed-By").trim()),
    })
}

fn field(lines: &[&str], name: &str) -> String {
    let starts = |line: &&str| {
        line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name))
            && !line.starts_with([' ', '\t'])
    };
    let Some(first) = lines.iter().position(starts) else { return String::new() };
    let further = lines[first + 1..].iter().take_while(|line| line.starts_with([' ', '\t']));
    let value = lines[first].split_once(':').map_or("", |(_, value)| value);
    std::iter::once(&value).chain(further).copied().collect::<Vec<_>>().join("\n")
}

/// A key may also be a fingerprint or the key itself; those name no file.
fn keyring(value: &str) -> Option<PathBuf> {
    let first = value.split([',', ' ']).next()?;
    first.starts_with('/').then(|| PathBuf::from(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "\
# the image's own
Types: deb
# a comment inside
URIs: http://mirror.test/debian-security
Suites: bookworm-security
Components: main
Signed-By: /keys/security.gpg

Enabled: no
Types: deb
URIs: http://off.test/debian
Suites: bookworm
Components: main

Types: deb deb-src
URIs:
  http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /keys/debian.gpg
";

    fn etc(list: Option<&str>, parts: &[(&str, &str)]) -> tempfile::TempDir {
        let etc = tempfile::tempdir().unwrap();
        std::fs::create_dir(etc.path().join("sources.list.d")).unwrap();
        if let Some(list) = list {
            std::fs::write(etc.path().join("sources.list"), list).unwrap();
        }
        for (name, text) in parts {
            std::fs::write(etc.path().join("sources.list.d").join(name), text).unwrap();
        }
        etc
    }

    #[test]
    fn the_main_archive_is_found_among_deb822_stanzas() {
        let etc = etc(None, &[("debian.sources", DEB822)]);
        let source = main_archive(etc.path()).unwrap();
        assert_eq!(source.uri, "http://mirror.test/debian");
        assert_eq!(source.keyring, Some(PathBuf::from("/keys/debian.gpg")));
    }

    #[test]
    fn the_one_line_form_with_and_without_options() {
        let plain = one_line("deb http://mirror.test/debian trixie main contrib # mine").unwrap();
        assert_eq!((plain.uri.as_str(), plain.keyring.clone()), ("http://mirror.test/debian", None));
        assert!(plain.is_main_archive());
        let signed =
            one_line("deb [ arch=amd64 signed-by=/k.gpg ] https://other.test/d trixie main").unwrap();
        assert_eq!(signed.keyring, Some(PathBuf::from("/k.gpg")));
        assert_eq!(signed.uri, "https://other.test/d");
    }

    #[test]
    fn a_release_has_its_fixes_and_no_third_party() {
        let third = "deb http://third.test/apt cloud-sdk-bookworm main\n";
        let etc = etc(Some(third), &[("debian.sources", DEB822)]);
        let uris: Vec<_> =
            release_archives(etc.path()).unwrap().into_iter().map(|source| source.uri).collect();
        assert_eq!(uris, ["http://mirror.test/debian-security", "http://mirror.test/debian"]);
    }

    #[test]
    fn comments_source_packages_and_third_parties_are_passed_over() {
        let list = "# deb http://no.test/debian trixie main\ndeb-src http://src.test/debian trixie main\n\
                    deb http://third.test/apt stable/ \ndeb http://third.test/apt cloud-sdk main\n";
        let etc = etc(Some(list), &[("off.list.disabled", "deb http://off.test/debian trixie main")]);
        assert!(main_archive(etc.path()).is_err());
    }

    #[test]
    fn the_list_file_comes_before_the_parts() {
        let etc = etc(Some("deb http://first.test/debian bookworm main"), &[("debian.sources", DEB822)]);
        assert_eq!(main_archive(etc.path()).unwrap().uri, "http://first.test/debian");
    }

    #[test]
    fn a_key_that_is_no_file_is_none() {
        assert_eq!(keyring("-----BEGIN PGP PUBLIC KEY BLOCK-----"), None);
        assert_eq!(keyring("/a.gpg,/b.gpg"), Some(PathBuf::from("/a.gpg")));
    }
}
