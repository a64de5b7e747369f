//! Whole recordings come back as they were; everything else is an error that names the line.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::{
    model::{
        belongs::Container,
        event::{Ancestor, ProcessId},
    },
    sink::recording::RecordingWriter,
};

const HEADER: &str = r#"{"tracer_recording":1,"version":"0.1.0"}"#;
const TICK: &str = r#"{"at":1,"fact":"tick"}"#;
const END: &str = r#"{"at":2,"fact":"end"}"#;

fn replay(bytes: impl Into<Vec<u8>>) -> Result<Vec<Event>, ReplayError> {
    Replay::new(Path::new("run.jsonl"), Box::new(Cursor::new(bytes.into())))?.collect()
}

/// The message of a recording with these lines, each with a newline.
fn refusal(lines: &[&str]) -> String {
    replay(lines.join("\n") + "\n").unwrap_err().to_string()
}

fn process(comm: &str) -> Event {
    let process = Process {
        id: ProcessId { pid: 7, started: 1 },
        ppid: None,
        comm: Some(comm.to_owned()),
        exe: None,
        exe_file: None,
        args: Some(vec!["a".to_owned(), comm.to_owned()]),
        uid: Some(0),
        user: None,
        lineage: vec![Ancestor { pid: 1, comm: Some(comm.to_owned()), exe: None }],
        unknown: Some("exe: permission denied".to_owned()),
        provenance: None,
        belongs: None,
    };
    Event { at: u64::MAX, fact: Fact::Process(Box::new(process)) }
}

/// A process that belongs to a container with this id.
fn contained(id: &str) -> Event {
    let container = Container { id: id.to_owned(), runtime: None };
    let belongs =
        Belongs { container: Some(container), unit: Some("x.scope".to_owned()), ..Belongs::default() };
    let Event { at, fact: Fact::Process(mut process) } = process("x") else { panic!("a process") };
    process.belongs = Some(belongs.into());
    Event { at, fact: Fact::Process(process) }
}

#[test]
fn what_was_recorded_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.jsonl");
    let named = Fact::Namespace { netns: 7, name: Some("blue".to_owned()) };
    let facts = [named, Fact::Namespace { netns: 7, name: None }, Fact::End];
    let facts = facts.into_iter().map(|fact| Event { at: 3, fact });
    let events: Vec<Event> = [process(r"a\x1b\\ß"), contained("web")].into_iter().chain(facts).collect();
    let mut recording = RecordingWriter::create(&path).unwrap();
    events.iter().for_each(|event| recording.write(event).unwrap());
    recording.finish().unwrap();
    let replayed: Result<Vec<_>, _> = Replay::open(&path).unwrap().collect();
    assert_eq!(replayed.unwrap(), events);
}

#[test]
fn a_recording_of_before_knows_nothing_of_where_a_process_belongs() {
    let line = r#"{"at":1,"fact":{"process":{"id":{"pid":7,"started":1},"ppid":null,"comm":null,"exe":null,
        "exe_file":null,"args":null,"uid":0,"user":null,"lineage":[],"unknown":null}}}"#;
    let events = replay([HEADER, &line.replace('\n', ""), END].join("\n")).unwrap();
    let Some(Event { fact: Fact::Process(process), .. }) = events.first() else { panic!("{events:?}") };
    assert_eq!(process.belongs, None);
}

#[test]
fn a_recording_of_before_lets_no_provenance_explain() {
    let start = r#"{"at":1,"fact":{"start":{"version":"0","kernel":"6","hooks":"fentry","netns":null,"coverage":[]}}}"#;
    let process = r#"{"at":1,"fact":{"process":{"id":{"pid":7,"started":1},"ppid":null,"comm":null,"exe":null,
        "exe_file":null,"args":null,"uid":0,"user":null,"lineage":[],"unknown":null,
        "provenance":{"file":"present","package":{"owned":{"name":"one","state":"intact"}}}}}}"#;
    let events = replay([HEADER, start, &process.replace('\n', ""), END].join("\n")).unwrap();
    let [Event { fact: Fact::Start(start), .. }, Event { fact: Fact::Process(process), .. }, _] =
        events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert!(!start.provenance);
    assert_eq!(process.provenance.as_ref().and_then(Provenance::intact_of), None);
}

#[test]
fn the_last_newline_may_be_missing() {
    assert_eq!(replay([HEADER, TICK, END].join("\n")).unwrap().len(), 2);
}

#[test]
fn an_empty_file_is_not_a_recording() {
    assert_eq!(replay("").unwrap_err().to_string(), "run.jsonl: line 1: is empty: not a recording");
}

#[test]
fn something_else_is_not_a_recording() {
    let message = "run.jsonl: line 1: not a recording: its first line is not that of `tracer live --record`";
    for other in ["\n", "hello\n", "{}\n", "[1]\n", TICK, "\u{0}", r#"{"tracer_recording":"1"}"#] {
        assert_eq!(replay(other).unwrap_err().to_string(), message, "{other}");
    }
    for other in [&b"\xff\xfe\x00"[..], b"\x7fELF\x02\n\n"] {
        assert_eq!(replay(other).unwrap_err().to_string(), message, "{other:?}");
    }
}

#[test]
fn a_newer_format_is_named() {
    let newer = r#"{"tracer_recording":2,"version":"0.9.\u001b0","other":[]}"#;
    assert_eq!(
        refusal(&[newer, "whatever"]),
        r"run.jsonl: line 1: was written by a newer tracer (0.9.\x1b0): format 2, this one reads 1"
    );
    let zero = r#"{"tracer_recording":0}"#;
    assert_eq!(refusal(&[zero]), "run.jsonl: line 1: format 0 is not known, this tracer reads 1");
}

#[test]
fn a_cut_recording_tells_its_last_whole_line() {
    let cut = |line| {
        format!(
            "run.jsonl: the recording ends after line {line} without an end: the tracer was killed or the file was cut"
        )
    };
    assert_eq!(refusal(&[HEADER]), cut(1));
    assert_eq!(refusal(&[HEADER, TICK, TICK]), cut(3));
    assert_eq!(replay([HEADER, TICK, TICK].join("\n")).unwrap_err().to_string(), cut(3));
    let half = [HEADER, TICK, r#"{"at":1,"fa"#].join("\n");
    assert_eq!(replay(half).unwrap_err().to_string(), cut(2));
}

#[test]
fn a_malformed_event_is_named_by_its_line() {
    let message = refusal(&[HEADER, TICK, r#"{"at":1,"fact":"ti\u001bck"}"#, END]);
    assert!(
        message.starts_with(r"run.jsonl: line 3: column 27: not an event: unknown variant `ti\x1bck`"),
        "{message}"
    );
    assert!(!message.contains("line 1"), "{message}");
    for line in ["", "{", "null", r#"{"at":-1,"fact":"tick"}"#, r#"{"at":1}"#] {
        let message = refusal(&[HEADER, TICK, line, END]);
        assert!(message.starts_with("run.jsonl: line 3: column "), "{line}: {message}");
    }
}

#[test]
fn names_that_were_not_escaped_are_refused() {
    for (comm, accepted) in [
        ("a\u{1b}[31m", false),
        ("a\u{202e}b", false),
        ("a\nb", false),
        (r"a\x1b[31m", true),
        ("größe\\\\", true),
    ] {
        let name = Fact::Namespace { netns: 7, name: Some(comm.to_owned()) };
        for event in [process(comm), contained(comm), Event { at: 1, fact: name }] {
            let line = serde_json::to_string(&event).unwrap();
            let replayed = replay([HEADER, &line, END].join("\n"));
            assert_eq!(replayed.is_ok(), accepted, "{comm:?}: {replayed:?}");
        }
    }
}

#[test]
fn nothing_follows_the_end() {
    assert_eq!(refusal(&[HEADER, END, TICK]), "run.jsonl: line 3: follows the end of the recording");
}

#[test]
fn after_an_error_there_is_nothing() {
    let text = [HEADER, "x", TICK, END].join("\n");
    let mut replay = Replay::new(Path::new("-"), Box::new(Cursor::new(text))).unwrap();
    let error = replay.next().unwrap().unwrap_err();
    assert!(error.to_string().starts_with("standard input: line 2: column 1: "), "{error}");
    assert!(replay.next().is_none());
}

#[test]
fn a_line_without_end_costs_no_memory_without_end() {
    let endless = io::repeat(b'x');
    let input = Cursor::new(HEADER.to_owned() + "\n").chain(endless);
    let mut replay = Replay::new(Path::new("run.jsonl"), Box::new(BufReader::new(input))).unwrap();
    let error = replay.next().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "run.jsonl: line 2: longer than 16 MiB: not a recording, or a damaged one");
    assert!(replay.text.capacity() <= 4 * LONGEST);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let error = Replay::open(Path::new("no/such\nfile")).unwrap_err();
    assert_eq!(error.to_string(), r"no/such\nfile: cannot be opened: No such file or directory (os error 2)");
    let folder = tempfile::tempdir().unwrap();
    let error = Replay::open(folder.path()).unwrap_err();
    assert!(error.to_string().ends_with("cannot be read: Is a directory (os error 21)"), "{error}");
}

#[test]
fn an_event_is_given_before_the_next_line_is_there() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    rustix::io::write(&writer, format!("{HEADER}\n{TICK}\n").as_bytes()).unwrap();
    let input = Box::new(BufReader::new(File::from(reader)));
    let mut replay = Replay::new(Path::new("-"), input).unwrap();
    assert_eq!(replay.next().unwrap().unwrap(), Event { at: 1, fact: Fact::Tick });
    drop(writer);
    assert!(replay.next().unwrap().is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        prop_assert!(replay(bytes).is_err());
    }

    #[test]
    fn no_bytes_after_a_header_make_it_panic(bytes: Vec<u8>) {
        let text = [HEADER.as_bytes(), &bytes].join(&b'\n');
        prop_assert!(replay(text).is_err());
    }

    #[test]
    fn no_cut_and_no_flipped_byte_makes_it_panic(cut in 0..200usize, at in 0..200usize, byte: u8) {
        let mut text = [HEADER, TICK, TICK, TICK, END].join("\n").into_bytes();
        let length = text.len();
        text[at % length] = byte;
        text.truncate(length.saturating_sub(cut));
        let _ = replay(text);
    }

    #[test]
    fn every_cut_recording_is_refused(kept: prop::sample::Index) {
        let text = [HEADER, TICK, TICK, END].join("\n");
        prop_assert!(replay(&text.as_bytes()[..kept.index(text.len())]).is_err());
    }
}
