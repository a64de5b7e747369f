//! Every record is delivered with a number of its own or counted in exactly one gap.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{
    output::{Report, Verdict},
    sink::{
        samples,
        writer::{Ended, Refused},
    },
};

/// Takes as many lines as there is room for, counted in lines.
#[derive(Default)]
struct Fake {
    room: usize,
    waiting: usize,
    lines: Vec<Value>,
}

impl Fake {
    fn with_room(room: usize) -> Self {
        Self { room, ..Self::default() }
    }

    fn records(&self) -> Vec<&str> {
        self.lines.iter().map(|line| line["record"].as_str().unwrap()).collect()
    }
}

impl Out for Fake {
    fn try_send(&mut self, line: &[u8]) -> Result<(), Refused> {
        if self.waiting >= self.room {
            return Err(Refused::Full);
        }
        self.send(line);
        Ok(())
    }

    fn send(&mut self, line: &[u8]) {
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
        self.waiting += 1;
        self.lines.push(serde_json::from_slice(line).unwrap());
    }

    fn has_room(&self) -> bool {
        self.waiting <= self.room / 2
    }

    fn ended(&self) -> Option<Ended> {
        None
    }
}

fn stream(room: usize, all: bool) -> Stream<Fake> {
    Stream::new(Fake::with_room(room), Format::Json, all)
}

fn push(stream: &mut Stream<Fake>, output: &Output<'_>) {
    stream.push(output, samples::CLOCK_OFFSET);
}

fn listener() -> Report<'static> {
    samples::listener()
}

#[test]
fn numbers_rise_by_one_and_a_clear_names_its_flag() {
    let mut stream = stream(100, false);
    let cleared = Report { verdict: Verdict::Ok, ..listener() };
    push(&mut stream, &samples::start());
    push(&mut stream, &samples::event(listener()));
    push(&mut stream, &samples::flag(5, listener()));
    push(&mut stream, &samples::flag(6, listener()));
    push(&mut stream, &samples::clear(5, cleared.clone()));
    push(&mut stream, &samples::clear(5, cleared));
    push(&mut stream, &samples::finish());
    let seqs: Vec<_> = stream.out().lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
    assert_eq!(stream.out().records(), ["start", "flag", "flag", "clear", "clear", "end"]);
    assert_eq!(stream.out().lines[3]["flag_seq"], 2);
    assert_eq!(stream.out().lines[4]["flag_seq"], Value::Null);
}

#[test]
fn all_delivers_events_too() {
    let mut stream = stream(100, true);
    push(&mut stream, &samples::event(listener()));
    assert_eq!(stream.out().records(), ["event"]);
}

#[test]
fn what_was_not_asked_for_is_neither_delivered_nor_lost() {
    let mut stream = stream(0, false);
    push(&mut stream, &samples::event(listener()));
    push(&mut stream, &samples::finish());
    assert_eq!(stream.out().records(), ["end"]);
    assert_eq!(stream.out().lines[0]["lost"], 5);
}

#[test]
fn what_finds_no_room_is_told_before_the_next_record() {
    let mut stream = stream(2, false);
    push(&mut stream, &samples::start());
    for id in 0..4 {
        let mut output = samples::flag(id, listener());
        output.time += i64::try_from(id).unwrap() * 1000;
        push(&mut stream, &output);
    }
    assert_eq!((stream.out().records(), stream.dropped()), (vec!["start", "flag"], 3));
    stream.out.waiting = 0;
    push(&mut stream, &samples::clear(2, listener()));
    assert_eq!(stream.out().records(), ["start", "flag", "gap", "clear"]);
    let gap = &stream.out().lines[2];
    assert_eq!((&gap["lost"], &gap["stage"], &gap["resynced"]), (&3.into(), &"stdout".into(), &true.into()));
    assert_eq!(gap["from"], "2026-11-22T21:04:05.123457789Z");
    assert_eq!(gap["to"], "2026-11-22T21:04:05.123459789Z");
    assert_eq!(gap["time"], gap["to"]);
    assert_eq!((&gap["seq"], &stream.out().lines[3]["seq"]), (&3.into(), &4.into()));
    assert_eq!(stream.out().lines[3]["flag_seq"], Value::Null);
}

#[test]
fn a_gap_is_told_without_waiting_for_a_record() {
    let mut stream = stream(1, false);
    (0..3).for_each(|id| push(&mut stream, &samples::flag(id, listener())));
    stream.settle();
    assert_eq!(stream.out().records(), ["flag"]);
    stream.out.waiting = 0;
    stream.settle();
    stream.settle();
    assert_eq!(stream.out().records(), ["flag", "gap"]);
}

#[test]
fn start_gaps_and_end_find_their_way_without_room() {
    let mut stream = stream(0, false);
    push(&mut stream, &samples::start());
    push(&mut stream, &samples::gap(7));
    push(&mut stream, &samples::flag(1, listener()));
    push(&mut stream, &samples::gap(4));
    push(&mut stream, &samples::finish());
    assert_eq!(stream.out().records(), ["start", "gap", "gap", "end"]);
    let lines = &stream.out().lines;
    assert_eq!((&lines[1]["stage"], &lines[1]["lost"]), (&"ring".into(), &11.into()));
    assert_eq!((&lines[2]["stage"], &lines[2]["lost"]), (&"stdout".into(), &1.into()));
    assert_eq!(lines[3]["lost"], 6);
}

#[test]
fn a_degraded_hook_is_told_without_room_and_in_its_place() {
    let mut stream = stream(0, false);
    push(&mut stream, &samples::flag(1, listener()));
    push(&mut stream, &samples::degraded(false));
    assert_eq!(stream.out().records(), ["gap", "degraded"]);
    assert_eq!((&stream.out().lines[0]["seq"], &stream.out().lines[1]["seq"]), (&1.into(), &2.into()));
}

#[test]
fn text_goes_the_same_way() {
    let (reader, fd) = rustix::pipe::pipe().unwrap();
    let view = View { colour: false, home: None };
    let mut stream = Stream::new(super::super::writer::Direct::new(fd), Format::Text(view), false);
    stream.push(&samples::flag(1, listener()), samples::CLOCK_OFFSET);
    drop(stream.into_out());
    let text = io::read_to_string(std::fs::File::from(reader)).unwrap();
    assert!(text.contains("unexplained-listener"), "{text}");
}

/// What happens to a stream: a record is pushed, or the reader takes some lines.
#[derive(Clone, Debug)]
enum Step {
    Flag,
    Clear,
    Event,
    Gap(u64),
    Read(usize),
    Settle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Flag),
        2 => Just(Step::Clear),
        4 => Just(Step::Event),
        1 => (1..100u64).prop_map(Step::Gap),
        1 => (0..8usize).prop_map(Step::Read),
        1 => Just(Step::Settle),
    ];
    prop::collection::vec(step, 0..200)
}

/// Takes the step; returns how many records were offered, and how many events a gap told of.
fn take(stream: &mut Stream<Fake>, step: &Step, id: u64) -> (u64, u64) {
    match step {
        Step::Flag => push(stream, &samples::flag(id, listener())),
        Step::Clear => push(stream, &samples::clear(id / 2, listener())),
        Step::Event => push(stream, &samples::event(listener())),
        Step::Gap(count) => {
            push(stream, &samples::gap(*count));
            return (0, *count);
        }
        Step::Read(count) => {
            stream.out.waiting = stream.out.waiting.saturating_sub(*count);
            return (0, 0);
        }
        Step::Settle => {
            stream.settle();
            return (0, 0);
        }
    }
    (1, 0)
}

fn lost(lines: &[Value], stage: &str) -> u64 {
    let gaps = lines.iter().filter(|line| line["record"] == "gap" && line["stage"] == stage);
    gaps.map(|line| line["lost"].as_u64().unwrap()).sum()
}

proptest! {
    #[test]
    fn offered_is_delivered_plus_lost(room in 0..10usize, steps in steps()) {
        let mut stream = stream(room, true);
        push(&mut stream, &samples::start());
        let taken = steps.iter().zip(0..).map(|(step, id)| take(&mut stream, step, id));
        let (offered, ring) = taken.fold((0, 0), |sum, step| (sum.0 + step.0, sum.1 + step.1));
        push(&mut stream, &samples::finish());
        let lines = &stream.out().lines;
        let kinds = BTreeSet::from(["flag", "clear", "event"]);
        let delivered = stream.out().records().iter().filter(|kind| kinds.contains(*kind)).count() as u64;
        prop_assert_eq!(offered, delivered + lost(lines, "stdout"));
        prop_assert_eq!(ring, lost(lines, "ring"));
        prop_assert!(lines.iter().zip(1..).all(|(line, seq): (_, u64)| line["seq"] == seq));
        prop_assert_eq!(&lines[lines.len() - 1]["lost"], 5 + stream.dropped());
    }
}
