//! Bytes of heap for each thing that is remembered, and allocations for each connection:
//! `cargo bench -p tracer --bench memory`.
//!
//! With `connections N [all]` as arguments N connections go all the way to lines and nothing else is done: to
//! count instructions under `valgrind --tool=callgrind`.

mod common;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

use tracer::{
    engine::Engine,
    model::event::{Event, Fact, ProcessId},
    sink::stream::{Format, Stream},
};
use tracer_common::Record;

use common::{Nowhere, event, internet, loopback, preamble, process};

const COUNT: u64 = 100_000;

/// Counts what lies on the heap, and how often something was put there.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that the system asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOC: Counting = Counting;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["connections", count, rest @ ..] => {
            run(count.parse().unwrap_or(COUNT), rest.contains(&"all"));
        }
        _ => report(),
    }
}

fn report() {
    println!("heap, bytes each, of {COUNT}:");
    println!("  session over loopback, both ends  {}", sockets(|n| loopback(n)[..4].to_vec()));
    println!("  session with the Internet         {}", sockets(|n| internet(n)[..2].to_vec()));
    println!("  process                           {}", processes());
    println!("allocations for each connection over loopback, from record to line:");
    println!("  flags only                        {}", allocations(false));
    println!("  every event as JSON               {}", allocations(true));
}

fn engine(all: bool) -> Engine {
    let mut engine = if all { Engine::default() } else { Engine::flags_only() };
    preamble().iter().for_each(|event| drop(engine.step(event, &mut |_| {})));
    engine
}

/// Bytes that an engine keeps for each of many sessions.
fn sockets(records: impl Fn(u64) -> Vec<Record>) -> usize {
    let mut engine = engine(false);
    let before = BYTES.load(Ordering::Relaxed);
    for n in 0..COUNT {
        for record in records(n) {
            drop(engine.step(&event(&record), &mut |_| {}));
        }
        // What waits for its time alone is not of the socket.
        drop(engine.step(&Event { at: u64::MAX / 4, fact: Fact::Tick }, &mut |_| {}));
    }
    (BYTES.load(Ordering::Relaxed) - before) / COUNT as usize
}

fn processes() -> usize {
    let mut engine = engine(false);
    let before = BYTES.load(Ordering::Relaxed);
    for n in 0..COUNT {
        let mut process = process(1_000);
        process.id = ProcessId { pid: 1_000, started: n };
        drop(engine.step(&Event { at: 1, fact: Fact::Process(Box::new(process)) }, &mut |_| {}));
    }
    (BYTES.load(Ordering::Relaxed) - before) / COUNT as usize
}

fn allocations(all: bool) -> f64 {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    run(COUNT, all);
    (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / COUNT as f64
}

fn run(count: u64, all: bool) {
    let mut engine = engine(all);
    let mut stream = Stream::new(Nowhere, Format::Json, all);
    for n in 0..count {
        for record in &loopback(n) {
            drop(engine.step(&event(record), &mut |output| stream.push(output, 0)));
        }
        if n % 50 == 0 {
            drop(engine.step(&Event { at: 1_000_000 + n * 1_000, fact: Fact::Tick }, &mut |_| {}));
        }
    }
}
