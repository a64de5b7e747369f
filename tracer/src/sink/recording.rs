//! Recordings: every event that entered the tracer, one JSON object a line, for a later replay.
//!
//! The first line names the format. A recording that does not end with [`Fact::End`] was cut. Reading is
//! in `source/replay`.
//!
//! [`Fact::End`]: crate::model::event::Fact::End

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::model::event::Event;

/// Version of the format that is written, and the only one that is read.
pub const FORMAT: u64 = 1;

/// The first line of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the format.
    pub tracer_recording: u64,
    /// Version of the tracer that wrote it.
    #[serde(default)]
    pub version: String,
}

/// A recording that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot write the recording: {source}", path.display())]
pub struct RecordingError {
    /// Where it should lie.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Writes a recording.
#[derive(Debug)]
pub struct RecordingWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl RecordingWriter {
    /// Makes a new file, or empties an old one. Only its owner may read it: arguments of programs can hold
    /// secrets.
    ///
    /// # Errors
    /// When the file cannot be made or written.
    pub fn create(path: &Path) -> Result<Self, RecordingError> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        let file = file.map_err(|source| RecordingError { path: path.to_owned(), source })?;
        let mut recording = Self { path: path.to_owned(), file: BufWriter::with_capacity(256 * 1024, file) };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        recording.line(&Header { tracer_recording: FORMAT, version })?;
        recording.flush()?;
        Ok(recording)
    }

    /// Adds an event; it may stay in memory until [`RecordingWriter::flush`].
    ///
    /// # Errors
    /// When the file cannot be written, as on a full disk.
    pub fn write(&mut self, event: &Event) -> Result<(), RecordingError> {
        self.line(event)
    }

    /// Brings to the file what is still in memory.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn flush(&mut self) -> Result<(), RecordingError> {
        self.file.flush().map_err(|source| self.error(source))
    }

    /// Completes the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self) -> Result<(), RecordingError> {
        self.flush()
    }

    fn line(&mut self, value: &impl Serialize) -> Result<(), RecordingError> {
        let written = serde_json::to_writer(&mut self.file, value).map_err(io::Error::from);
        written.and_then(|()| self.file.write_all(b"\n")).map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> RecordingError {
        RecordingError { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::model::event::Fact;

    #[test]
    fn a_recording_is_a_header_and_a_line_for_each_event() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        fs::write(&path, "something longer that was there before, on one line").unwrap();
        let mut recording = RecordingWriter::create(&path).unwrap();
        recording.write(&Event { at: 5, fact: Fact::Clock(-3) }).unwrap();
        recording.write(&Event { at: 6, fact: Fact::End }).unwrap();
        recording.finish().unwrap();
        let header = format!(r#"{{"tracer_recording":1,"version":"{}"}}"#, env!("CARGO_PKG_VERSION"));
        let events = r#"{"at":5,"fact":{"clock":-3}}
{"at":6,"fact":"end"}
"#;
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{header}\n{events}"));
    }

    #[test]
    fn nobody_else_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        RecordingWriter::create(&path).unwrap().finish().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_full_disk_and_a_missing_folder_are_errors_that_name_the_file() {
        let error = RecordingWriter::create(Path::new("/dev/full")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/dev/full: cannot write the recording: No space left on device (os error 28)"
        );
        let error = RecordingWriter::create(Path::new("no/such/folder/run.jsonl")).unwrap_err();
        assert!(error.to_string().starts_with("no/such/folder/run.jsonl: cannot write"), "{error}");
    }

    #[test]
    fn a_disk_that_fills_up_later_is_an_error_at_the_latest_at_the_end() {
        let path = PathBuf::from("/dev/full");
        let file = BufWriter::new(OpenOptions::new().write(true).open(&path).unwrap());
        let mut recording = RecordingWriter { path, file };
        recording.write(&Event { at: 6, fact: Fact::End }).unwrap();
        assert!(recording.finish().is_err());
    }
}
