//! What one connection costs on its way from the ring to a line: `cargo bench -p tracer --bench speed`.

mod common;

use divan::{AllocProfiler, Bencher, black_box, counter::ItemsCount};
use tracer::{
    bpf::decode::decode,
    engine::Engine,
    model::{change::Change, event::Event, host::Host},
    output::Output,
    sink::{
        json::{Place, Renderer},
        stream::{Format, Stream},
        text::{self, View},
    },
};
use zerocopy::IntoBytes;

use common::{Nowhere, event, internet, loopback, preamble};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

/// Connections of one run.
const BATCH: u64 = 100;

fn main() {
    divan::main();
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Loopback,
    Internet,
}

const KINDS: [Kind; 2] = [Kind::Loopback, Kind::Internet];
/// … with flags alone, or with every event.
const WAYS: [(Kind, bool); 4] =
    [(Kind::Loopback, false), (Kind::Loopback, true), (Kind::Internet, false), (Kind::Internet, true)];

fn events(kind: Kind) -> Vec<Event> {
    let records = |n| match kind {
        Kind::Loopback => loopback(n).to_vec(),
        Kind::Internet => internet(n).to_vec(),
    };
    (0..BATCH).flat_map(records).map(|record| event(&record)).collect()
}

fn engine(all: bool) -> Engine {
    let mut engine = if all { Engine::default() } else { Engine::flags_only() };
    for event in preamble() {
        black_box(engine.step(&event, &mut |_| {}).is_ok());
    }
    engine
}

/// The last record of all, which is of a socket's end, goes to `with`.
fn last_output(kind: Kind, with: impl FnOnce(&Output<'_>)) {
    let (mut engine, mut events) = (engine(true), events(kind));
    let last = events.pop();
    events.iter().for_each(|event| drop(engine.step(event, &mut |_| {})));
    let mut with = Some(with);
    let mut say = |output: &Output<'_>| {
        if let Some(with) = with.take() {
            with(output);
        }
    };
    last.iter().for_each(|event| drop(engine.step(event, &mut say)));
}

#[divan::bench]
fn decode_six_records(bencher: Bencher) {
    let records = loopback(1);
    bencher.bench(|| {
        for record in &records {
            black_box(decode(black_box(record.as_bytes())).is_ok());
        }
    });
}

/// A hundred connections go into the state alone.
#[divan::bench(args = KINDS)]
fn fold(bencher: Bencher, kind: Kind) {
    let events = events(kind);
    let host = || {
        let mut host = Host::default();
        let mut change = Change::default();
        preamble().iter().for_each(|event| host.apply(event, &mut change));
        (host, change)
    };
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(host).bench_local_refs(|(host, change)| {
        for event in &events {
            host.apply(event, change);
            black_box(&*change);
        }
    });
}

/// … and are judged.
#[divan::bench(args = WAYS)]
fn step(bencher: Bencher, (kind, all): (Kind, bool)) {
    let events = events(kind);
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(|| engine(all)).bench_local_refs(|engine| {
        for event in &events {
            let mut say = |output: &Output<'_>| {
                black_box(output);
            };
            black_box(engine.step(event, &mut say).is_ok());
        }
    });
}

/// … and come out as lines, or as none: all of the way but the ring and the writing.
#[divan::bench(args = WAYS)]
fn through(bencher: Bencher, (kind, all): (Kind, bool)) {
    let events = events(kind);
    let inputs = || (engine(all), Stream::new(Nowhere, Format::Json, all));
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(inputs).bench_local_refs(|(engine, stream)| {
        for event in &events {
            black_box(engine.step(event, &mut |output| stream.push(output, 0)).is_ok());
        }
    });
}

/// One line of it.
#[divan::bench(args = KINDS)]
fn json(bencher: Bencher, kind: Kind) {
    let (mut renderer, mut line) = (Renderer::default(), Vec::new());
    last_output(kind, |output| {
        bencher.bench_local(|| {
            line.clear();
            let place = Place { seq: 7, flag_seq: None, clock_offset: 0 };
            black_box(renderer.render(black_box(output), place, &mut line).is_ok())
        });
    });
}

#[divan::bench(args = KINDS)]
fn text(bencher: Bencher, kind: Kind) {
    let mut line = Vec::new();
    last_output(kind, |output| {
        bencher.bench_local(|| {
            line.clear();
            black_box(text::render(black_box(output), View::default(), 0, &mut line).is_ok())
        });
    });
}
