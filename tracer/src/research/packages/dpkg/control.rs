//! Stanzas of dpkg's status file: fields, one a line, and lines that go on with a space (deb822(5)).

use std::io::{self, Read};

use super::super::lines::each_line;

/// Configuration files of one package that are looked at.
const CONFFILES: usize = 1 << 14;

/// What of a package's stanza is of use here.
#[derive(Default)]
pub(super) struct Stanza {
    pub(super) package: Vec<u8>,
    pub(super) architecture: Vec<u8>,
    pub(super) state: State,
    /// `Multi-Arch: same`: it may be installed for several architectures, and its files' names carry the one.
    pub(super) same: bool,
    /// Configuration files, with the hex digits of their digests as they were installed.
    pub(super) conffiles: Vec<(Vec<u8>, Vec<u8>)>,
    /// The lines that follow are configuration files.
    in_conffiles: bool,
}

/// How much of a package is installed (dpkg(1), package states).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// All its files are there.
    Whole,
    /// It is being unpacked, or that was broken off.
    Half,
    /// Nothing, or configuration files alone.
    #[default]
    Gone,
}

/// Calls `take` with each stanza that names a package.
pub(super) fn each_stanza(text: impl Read, mut take: impl FnMut(&Stanza)) -> io::Result<()> {
    let mut stanza = Stanza::default();
    let mut end = |stanza: &mut Stanza| {
        if !stanza.package.is_empty() {
            take(stanza);
        }
        *stanza = Stanza::default();
    };
    each_line(text, |line| if line.is_empty() { end(&mut stanza) } else { stanza.line(line) })?;
    end(&mut stanza);
    Ok(())
}

impl Stanza {
    fn line(&mut self, line: &[u8]) {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            if self.in_conffiles && self.conffiles.len() < CONFFILES {
                self.conffiles.extend(conffile(line.trim_ascii()));
            }
            return;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        let (field, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        self.in_conffiles = field.eq_ignore_ascii_case(b"Conffiles");
        if field.eq_ignore_ascii_case(b"Package") {
            self.package = value.to_vec();
        } else if field.eq_ignore_ascii_case(b"Architecture") {
            self.architecture = value.to_vec();
        } else if field.eq_ignore_ascii_case(b"Multi-Arch") {
            self.same = value.eq_ignore_ascii_case(b"same");
        } else if field.eq_ignore_ascii_case(b"Status") {
            self.state = State::of(value);
        }
    }
}

impl State {
    /// By the last word of the status field.
    fn of(status: &[u8]) -> Self {
        match status.rsplit(|byte| *byte == b' ').next().unwrap_or_default() {
            b"installed" | b"unpacked" | b"half-configured" | b"triggers-awaited" | b"triggers-pending" => {
                Self::Whole
            }
            b"half-installed" => Self::Half,
            _ => Self::Gone,
        }
    }
}

/// A path, its digest and what may follow. The path may have spaces.
fn conffile(line: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let line = line.strip_suffix(b" remove-on-upgrade").unwrap_or(line);
    let line = line.strip_suffix(b" obsolete").unwrap_or(line);
    let space = line.iter().rposition(|byte| *byte == b' ')?;
    Some((line[..space].to_vec(), line[space + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &[u8] = b"Package: one
Status: install ok installed
Multi-Arch: same
Architecture: amd64
Conffiles:
 /etc/a b 0123 obsolete
 /etc/c 4567
Description: one
 /not/a conffile

package: two
STATUS: deinstall ok config-files
noise without a colon

Status: install ok installed

Package: three
Status: install reinstreq half-installed";

    #[test]
    fn a_stanza_is_what_stands_between_empty_lines() {
        let mut told = Vec::new();
        each_stanza(STATUS, |stanza| {
            let name = String::from_utf8(stanza.package.clone()).unwrap();
            told.push((name, stanza.state, stanza.same, stanza.conffiles.clone()));
        })
        .unwrap();
        let conffiles =
            vec![(b"/etc/a b".to_vec(), b"0123".to_vec()), (b"/etc/c".to_vec(), b"4567".to_vec())];
        assert_eq!(
            told,
            [
                ("one".to_owned(), State::Whole, true, conffiles),
                ("two".to_owned(), State::Gone, false, Vec::new()),
                ("three".to_owned(), State::Half, false, Vec::new()),
            ]
        );
    }
}
