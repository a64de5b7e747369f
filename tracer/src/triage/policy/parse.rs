//! `[[expect]]` entries out of TOML: which keys there are, and every mistake with its place.
//!
//! Kept out: what the value of each key may be (`value`).

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::error::position;
use super::value::{self, Mistake, quoted};
use super::{Criterion, Entry, Policy, PolicyError};
use crate::triage::nearest::nearest;

/// The key of the array of entries.
const EXPECT: &str = "expect";

/// The key that every entry has.
const NAME: &str = "name";

/// A key of an entry, and how its value is read.
type Key = (&'static str, fn(&Spanned<DeValue<'_>>) -> Result<Criterion, Vec<Mistake>>);

/// The keys that ask for something.
const CRITERIA: &[Key] = &[
    ("kind", |value| value::each(value, value::kind).map(Criterion::Kind)),
    ("exe", |value| value::each(value, value::exe).map(Criterion::Exe)),
    ("user", |value| value::each(value, value::user).map(Criterion::User)),
    ("unit", |value| value::each(value, value::unit).map(Criterion::Unit)),
    ("user_unit", |value| value::each(value, value::unit).map(Criterion::UserUnit)),
    ("container", |value| value::each(value, value::container).map(Criterion::Container)),
    ("direction", |value| value::each(value, value::direction).map(Criterion::Direction)),
    ("local_port", |value| value::each(value, value::ports).map(Criterion::LocalPort)),
    ("remote_class", |value| value::each(value, value::remote_class).map(Criterion::RemoteClass)),
    ("remote_cidr", |value| value::each(value, value::cidr).map(Criterion::RemoteCidr)),
    ("remote_port", |value| value::each(value, value::ports).map(Criterion::RemotePort)),
];

/// Keys with a meaning that this version cannot check yet. To pass over them would explain too much.
const NOT_YET: &[&str] = &["remote_name"];

/// Reads a policy from TOML; `file` is what errors and entries call it.
///
/// # Errors
///
/// Every mistake, in the order of the text. Where the text is not TOML at all, only that: the first mistake of a line.
pub fn parse(file: &str, text: &str) -> Result<Policy, Vec<PolicyError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { file, text, mistakes: Vec::new() };
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(reader.syntax_errors(&errors));
    }
    let entries = reader.document(document.get_ref());
    if reader.mistakes.is_empty() { Ok(Policy { entries }) } else { Err(reader.errors()) }
}

/// Reads a policy from the bytes of a file, as [`parse`] does.
///
/// # Errors
///
/// Those of [`parse`], or the place of the first byte that is not UTF-8.
pub fn parse_bytes(file: &str, bytes: &[u8]) -> Result<Policy, Vec<PolicyError>> {
    match str::from_utf8(bytes) {
        Ok(text) => parse(file, text),
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let text = valid.strip_prefix('\u{feff}').unwrap_or(&valid);
            let mistakes = vec![Mistake::at(text.len(), "the file is not valid UTF-8 from here on")];
            Err(Reader { file, text, mistakes }.errors())
        }
    }
}

/// One file on its way to a policy.
struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn document(&mut self, table: &DeTable<'_>) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (key, value) in table {
            if key.get_ref() != EXPECT {
                self.mistakes.push(unknown_key(key, [EXPECT]));
            } else if let Some(array) = value.get_ref().as_array() {
                self.entries(array, &mut entries);
            } else {
                self.mistake(value.span().start, "an entry is written under `[[expect]]`, with two brackets");
            }
        }
        entries
    }

    fn entries(&mut self, array: &DeArray<'_>, entries: &mut Vec<Entry>) {
        for value in array {
            let start = value.span().start;
            let Some(table) = value.get_ref().as_table() else {
                let found = value.get_ref().type_str();
                self.mistake(
                    start,
                    format!("an entry is a table under `[[expect]]`, not a value of type {found}"),
                );
                continue;
            };
            if let Some(entry) = self.entry(start, table) {
                self.push_unique(entries, entry);
            }
        }
    }

    /// Reads one entry that starts at byte `start`; none when its name is missing or wrong.
    fn entry(&mut self, start: usize, table: &DeTable<'_>) -> Option<(usize, Entry)> {
        let mut name = None;
        let mut criteria = Vec::new();
        for (key, value) in table {
            if key.get_ref() == NAME {
                name = Some(self.take(value::name(value).map_err(|mistake| vec![mistake])));
            } else {
                criteria.push(self.criterion(key, value));
            }
        }
        if name.is_none() {
            self.mistake(start, "this entry has no `name`");
        }
        if criteria.is_empty() {
            self.mistake(
                start,
                "this entry asks for nothing, so it would explain everything: add a key such as `exe`",
            );
        }
        let (offset, name) = name.flatten()?;
        let (line, column) = position(self.text, offset);
        let criteria = criteria.into_iter().flatten().collect();
        Some((offset, Entry { name, file: self.file.into(), line, column, criteria }))
    }

    fn criterion(&mut self, key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) -> Option<Criterion> {
        let word = key.get_ref().as_ref();
        if let Some((_, read)) = CRITERIA.iter().find(|(known, _)| *known == word) {
            return self.take(read(value));
        }
        if NOT_YET.contains(&word) {
            self.mistake(key.span().start, format!("the key `{word}` is not supported yet"));
        } else {
            let known = CRITERIA.iter().map(|&(known, _)| known);
            self.mistakes.push(unknown_key(key, [NAME].into_iter().chain(known)));
        }
        None
    }

    fn push_unique(&mut self, entries: &mut Vec<Entry>, (offset, entry): (usize, Entry)) {
        match entries.iter().find(|earlier| earlier.name == entry.name) {
            Some(earlier) => {
                let message = format!("the name {} is taken by line {}", quoted(&entry.name), earlier.line);
                self.mistake(offset, message);
            }
            None => entries.push(entry),
        }
    }

    /// The value, or none with its mistakes noted.
    fn take<T>(&mut self, result: Result<T, Vec<Mistake>>) -> Option<T> {
        result.map_err(|mistakes| self.mistakes.extend(mistakes)).ok()
    }

    fn mistake(&mut self, offset: usize, message: impl Into<String>) {
        self.mistakes.push(Mistake::at(offset, message));
    }

    /// One mistake often breaks what follows it on the line as well: the first of each line is told.
    fn syntax_errors(&mut self, errors: &[toml::de::Error]) -> Vec<PolicyError> {
        for error in errors {
            let span = error.span().unwrap_or_default();
            self.mistake(span.start, syntax_message(error.message(), self.text.get(span)));
        }
        let mut errors = self.errors();
        errors.dedup_by_key(|error| error.line);
        errors
    }

    fn errors(&self) -> Vec<PolicyError> {
        let mut errors: Vec<_> = self.mistakes.iter().map(|mistake| self.error(mistake)).collect();
        errors.sort();
        errors
    }

    fn error(&self, mistake: &Mistake) -> PolicyError {
        let (line, column) = position(self.text, mistake.offset);
        PolicyError { file: self.file.to_owned(), line, column, message: mistake.message.clone() }
    }
}

fn unknown_key(key: &Spanned<DeString<'_>>, known: impl IntoIterator<Item = &'static str>) -> Mistake {
    let word = key.get_ref();
    let known: Vec<_> = known.into_iter().collect();
    let hint = match nearest(word, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("expected {}", value::listed(known)),
    };
    Mistake::at(key.span().start, format!("unknown key {}, {hint}", quoted(word)))
}

/// The parser's words on one line, with the key when it does not name it.
fn syntax_message(message: &str, at: Option<&str>) -> String {
    let message = message.lines().collect::<Vec<_>>().join(" ");
    match at {
        Some(key) if message == "duplicate key" => format!("the key {} is given twice", quoted(key)),
        Some(_) | None => message,
    }
}
