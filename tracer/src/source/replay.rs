//! Events out of a recording: a file or standard input, read line by line.
//!
//! A recording is somebody else's file: whatever it holds, the answer is an event or an error that names
//! the line. Writing is in `sink/recording`; what the events mean is decided elsewhere.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::{
    model::{
        belongs::Belongs,
        event::{Degraded, Event, Fact, PolicyFile, Process, Start},
        provenance::{Package, Provenance, Script},
    },
    sink::{
        escape::escape,
        recording::{FORMAT, Header},
    },
};

#[cfg(test)]
mod tests;

/// A line may be this long, in bytes; an event with the longest arguments that Linux passes stays far below.
const LONGEST: usize = 16 * 1024 * 1024;

/// A recording that cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ReplayError {
    /// The recording, as the user named it; `-` is standard input.
    pub path: PathBuf,
    /// Number of the line, from 1; nothing when it is about the whole file.
    pub line: Option<u64>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.to_str() {
            Some("-") => f.write_str("standard input")?,
            Some(_) | None => f.write_str(&escape(self.path.as_os_str().as_bytes()))?,
        }
        match self.line {
            Some(line) => write!(f, ": line {line}: {}", self.message),
            None => write!(f, ": {}", self.message),
        }
    }
}

/// The events of a recording, in their order. After an error or the last event there are no more.
pub struct Replay {
    path: PathBuf,
    input: Box<dyn BufRead>,
    /// The line that was read last, without its newline.
    text: Vec<u8>,
    /// Its number, from 1.
    line: u64,
    /// It had a newline.
    whole: bool,
    progress: Progress,
}

/// The texts that reach the output as they are, because the tracer escapes them before it records them.
fn texts(fact: &Fact) -> impl Iterator<Item = &str> {
    let texts = match fact {
        Fact::Start(start) => start_texts(start),
        Fact::Policy(PolicyFile { path, .. }) => vec![path],
        Fact::Process(process) => process_texts(process),
        Fact::Life(life) => process_texts(&life.process),
        Fact::Namespace { name, .. } => name.iter().collect(),
        Fact::Degraded(degraded) => degraded_texts(degraded),
        Fact::Clock(_)
        | Fact::Services(_)
        | Fact::Addresses { .. }
        | Fact::Forget(_)
        | Fact::Socket(_)
        | Fact::Stdio(_)
        | Fact::Held { .. }
        | Fact::Reread { .. }
        | Fact::Ready
        | Fact::Lost(_)
        | Fact::Tick
        | Fact::End => Vec::new(),
    };
    texts.into_iter().map(String::as_str)
}

fn start_texts(start: &Start) -> Vec<&String> {
    let parts =
        start.coverage.iter().flat_map(|part| [Some(&part.event), part.by.as_ref(), part.why.as_ref()]);
    [&start.version, &start.kernel, &start.hooks].into_iter().chain(parts.flatten()).collect()
}

fn degraded_texts(degraded: &Degraded) -> Vec<&String> {
    let Degraded { hook, unseen, why, delivers: _ } = degraded;
    [hook, why].into_iter().chain(unseen).collect()
}

fn process_texts(process: &Process) -> Vec<&String> {
    let own = [&process.comm, &process.exe, &process.user, &process.unknown];
    let lineage = process.lineage.iter().flat_map(|ancestor| [&ancestor.comm, &ancestor.exe]);
    let belongs = process.belongs.as_deref().into_iter().flat_map(belongs_texts);
    let found = process.provenance.iter().flat_map(provenance_texts);
    let own = own.into_iter().chain(lineage).flatten();
    own.chain(process.args.iter().flatten()).chain(belongs).chain(found).collect()
}

fn provenance_texts(provenance: &Provenance) -> Vec<&String> {
    let Provenance { file: _, open_folder, package, script, layer: _, sha256: _ } = provenance;
    let package = match package {
        Package::Owned { name, state: _, believed: _ } => Some(name),
        Package::Unknown | Package::None => None,
    };
    let script = match script.as_deref() {
        Some(Script::File { path, found }) => [vec![path], provenance_texts(found)].concat(),
        Some(Script::Module(name)) => vec![name],
        None => Vec::new(),
    };
    open_folder.iter().chain(package).chain(script).collect()
}

fn belongs_texts(belongs: &Belongs) -> impl Iterator<Item = &String> {
    let Belongs { login_uid: _, login_user, session: _, cgroup, unit, user_unit, container } = belongs;
    let container = container.iter().map(|container| &container.id);
    [login_user, cgroup, unit, user_unit].into_iter().flatten().chain(container)
}

/// Whether something is left to escape, backslashes aside: in escaped text they are escapes themselves.
fn is_unescaped(text: &str) -> bool {
    let graphic = |byte: u8| matches!(byte, b' '..=b'~');
    if text.bytes().all(graphic) {
        return false;
    }
    let plain = text.replace('\\', "");
    escape(plain.as_bytes()) != plain
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Reading,
    /// The event that ends a recording was read.
    Ended,
    /// There is nothing more to give.
    Over,
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("path", &self.path).field("line", &self.line).finish_non_exhaustive()
    }
}

impl Replay {
    /// Opens a recording; `-` is standard input.
    ///
    /// # Errors
    /// When it cannot be read, is no recording, or one of a newer format.
    pub fn open(path: &Path) -> Result<Self, ReplayError> {
        if path == Path::new("-") {
            return Self::new(path, Box::new(io::stdin().lock()));
        }
        match File::open(path) {
            Ok(file) => Self::new(path, Box::new(BufReader::with_capacity(256 * 1024, file))),
            Err(error) => {
                let message = format!("cannot be opened: {error}");
                Err(ReplayError { path: path.to_owned(), line: None, message })
            }
        }
    }

    /// Reads a recording from `input`; `path` is for messages.
    ///
    /// # Errors
    /// Those of [`Replay::open`].
    pub fn new(path: &Path, input: Box<dyn BufRead>) -> Result<Self, ReplayError> {
        let (path, text) = (path.to_owned(), Vec::new());
        let mut replay = Self { path, input, text, line: 0, whole: true, progress: Progress::Reading };
        replay.read_header()?;
        Ok(replay)
    }

    fn read_header(&mut self) -> Result<(), ReplayError> {
        if !self.read_line()? {
            return Err(ReplayError { line: Some(1), ..self.error("is empty: not a recording") });
        }
        // To serde an array would be a header as well.
        let header = self.text.starts_with(b"{").then(|| serde_json::from_slice(&self.text));
        let Some(Ok(Header { tracer_recording, version })) = header else {
            return Err(self.error("not a recording: its first line is not that of `tracer live --record`"));
        };
        match tracer_recording {
            FORMAT => Ok(()),
            newer if newer > FORMAT => {
                let by = escape(version.as_bytes());
                Err(self.error(format!(
                    "was written by a newer tracer ({by}): format {newer}, this one reads {FORMAT}"
                )))
            }
            unknown => Err(self.error(format!("format {unknown} is not known, this tracer reads {FORMAT}"))),
        }
    }

    /// Reads the next line; false at the end.
    fn read_line(&mut self) -> Result<bool, ReplayError> {
        self.text.clear();
        let limit = LONGEST as u64 + 1;
        let count = self.input.by_ref().take(limit).read_until(b'\n', &mut self.text);
        let count = count.map_err(|error| self.error(format!("cannot be read: {error}")))?;
        self.whole = self.text.last() == Some(&b'\n');
        self.line += u64::from(count > 0);
        if self.whole {
            self.text.pop();
        } else if count > LONGEST {
            return Err(self.error("longer than 16 MiB: not a recording, or a damaged one"));
        }
        Ok(count > 0)
    }

    fn next_event(&mut self) -> Result<Option<Event>, ReplayError> {
        let (before, more) = (self.line, self.read_line()?);
        match (self.progress, more) {
            (Progress::Reading, true) => {}
            (Progress::Reading, false) => return Err(self.cut(before)),
            (Progress::Ended, true) => return Err(self.error("follows the end of the recording")),
            (Progress::Ended, false) | (Progress::Over, _) => return Ok(None),
        }
        let event: Event = match serde_json::from_slice(&self.text) {
            Ok(event) => event,
            Err(_) if !self.whole => return Err(self.cut(before)),
            Err(error) => return Err(self.malformed(&error)),
        };
        if texts(&event.fact).any(is_unescaped) {
            return Err(self.error("holds a name with a raw control or invisible character: altered by hand"));
        }
        if event.fact == Fact::End {
            self.progress = Progress::Ended;
        }
        Ok(Some(event))
    }

    fn cut(&self, last: u64) -> ReplayError {
        let message = format!(
            "the recording ends after line {last} without an end: the tracer was killed or the file was cut"
        );
        ReplayError { path: self.path.clone(), line: None, message }
    }

    fn malformed(&self, error: &serde_json::Error) -> ReplayError {
        let (text, column) = (error.to_string(), error.column());
        // Each line is read on its own: to the parser it is always the first.
        let place = format!(" at line {} column {column}", error.line());
        let text = text.strip_suffix(&place).unwrap_or(&text);
        self.error(format!("column {column}: not an event: {}", escape(text.as_bytes())))
    }

    fn error(&self, message: impl Into<String>) -> ReplayError {
        ReplayError { path: self.path.clone(), line: Some(self.line.max(1)), message: message.into() }
    }
}

impl Iterator for Replay {
    type Item = Result<Event, ReplayError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.progress == Progress::Over {
            return None;
        }
        let next = self.next_event().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.progress = Progress::Over;
        }
        next
    }
}
