//! `tracer live`: the one loop.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use tokio::{
    io::unix::AsyncFd,
    signal::unix::{Signal, SignalKind, signal},
    task::yield_now,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Failure, complain, ended, format, only_netns, own_netns,
    pipeline::Pipeline,
    read_policies,
    rung::{Asked, Rung},
};
use crate::{
    bpf::loader::Loaded,
    cli::LiveArgs,
    model::event::{BootNanos, Event, Fact, Start},
    sink::{
        stream::Stream,
        writer::{Ended, Out, Writer},
    },
    source::{
        Source,
        live::{Live, Word, boot_now, clock_offset, kernel_release},
    },
};

/// Bytes that wait for a reader of stdout before records are dropped and counted. Where two processors make 240 MB a second and read
/// it as well, up to 90 MB were seen to wait.
const BUFFER: usize = 128 << 20;
/// Rest between two looks at the ring while there is work: what comes meanwhile costs no wake-up.
const REST: Duration = Duration::from_millis(3);
/// The rest after a look that brought little: on a quiet machine the next connection is to be told at once again.
const SHORT_REST: Duration = Duration::from_micros(400);
/// So many records are not little any more.
const MUCH: usize = 16;
/// Events for which memory is kept from one turn to the next: what a rest brings on a busy machine.
const KEPT: usize = 4096;
/// The sockets that are there at the start are told no faster than they are read, for so long; meanwhile the ring holds
/// what happens.
const PATIENCE: Duration = Duration::from_secs(1);
/// After so many rests without a record the ring is taken to be read to its end.
const QUIET: u32 = 5;
/// While stdout is behind, how often it is asked whether there is room again.
const BEHIND: Duration = Duration::from_millis(20);
/// What is left at the end is read within this time, and written within this time again, or not.
const FAREWELL: Duration = Duration::from_secs(2);
/// A change of the wall clock that is told, nanoseconds.
const CLOCK_STEP: u64 = 10_000_000;

pub(super) fn run(args: &LiveArgs) -> Result<u8, Failure> {
    let policies = read_policies(&args.watch.policy)?;
    let only = only_netns(args.watch.netns.as_ref())?;
    let asked = Asked { only, loopback_aside: leaves_loopback_aside(args), proofs: args.self_test };
    let mut rung = Rung::choose(args.watch.hooks, args.watch.strict, asked)?;
    if args.watch.strict {
        rung.refuse_gaps()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::Unsupported(format!("cannot start: {e}")))?;
    runtime.block_on(stream(args, rung, asked, policies))
}

/// No rule looks at a TCP session with a loopback remote; where only flags are wanted, it is not even told by the
/// kernel.
fn leaves_loopback_aside(args: &LiveArgs) -> bool {
    !args.all && args.watch.record.is_none()
}

async fn stream(
    args: &LiveArgs,
    rung: Rung,
    asked: Asked,
    policies: Vec<crate::model::event::PolicyFile>,
) -> Result<u8, Failure> {
    let system = |e: std::io::Error| Failure::Unsupported(format!("cannot start: {e}"));
    let writer = Writer::stdout(BUFFER).map_err(system)?;
    let start = Start {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: kernel_release(),
        hooks: rung.name().to_owned(),
        netns: own_netns(),
        provenance: !args.watch.no_provenance,
        coverage: rung.coverage().to_vec(),
    };
    let stream = Stream::new(writer, format(args.print), args.all);
    let mut pipeline = Pipeline::new(stream, args.watch.record.as_deref())?;
    pipeline.begin(start, policies)?;
    let (ring, source) = match rung {
        Rung::Hooks(loaded, proofs) => (
            Some(watch_ring(&loaded)?),
            Source::Hooks(Box::new(Live::new(*loaded, asked.only, asked.loopback_aside, proofs))),
        ),
        Rung::Poll(poll) => (None, Source::Poll(poll)),
    };
    let mut run = Run {
        signals: [
            signal(SignalKind::interrupt()).map_err(system)?,
            signal(SignalKind::terminate()).map_err(system)?,
        ],
        ring,
        end: args.duration.map(|duration| Instant::now() + duration),
        source,
        pipeline,
        events: Vec::new(),
    };
    run.baseline()?;
    if let Some(path) = &args.ready_file {
        File::create(path)
            .map_err(|e| Failure::Input(format!("--ready-file {}: {e}", super::shown(path))))?;
    }
    run.watch().await?;
    run.finish()
}

/// Waits on a duplicate of the ring's descriptor.
fn watch_ring(loaded: &Loaded) -> Result<AsyncFd<OwnedFd>, Failure> {
    let system = |e: &dyn std::fmt::Display| Failure::Unsupported(format!("cannot start: {e}"));
    let fd = loaded.ring.as_fd().try_clone_to_owned().map_err(|e| system(&e))?;
    // SAFETY: the descriptor is owned by what waits on it, and stays open as long.
    unsafe { AsyncFd::register(fd) }.map_err(|e| system(&e))
}

/// How long to rest after a look that brought so many records; not at all where there were none.
fn rest(records: usize) -> Option<Duration> {
    match records {
        0 => None,
        1..MUCH => Some(SHORT_REST),
        MUCH.. => Some(REST),
    }
}

struct Run {
    /// Nothing comes by itself without hooks.
    ring: Option<AsyncFd<OwnedFd>>,
    signals: [Signal; 2],
    end: Option<Instant>,
    source: Source,
    pipeline: Pipeline<Writer>,
    events: Vec<Event>,
}

/// Why the loop woke.
enum Wake {
    Work,
    /// One of the source's own threads has something to say.
    Word(Word),
    Stop,
}

impl Run {
    fn baseline(&mut self) -> Result<(), Failure> {
        self.source.baseline(&mut self.events).map_err(|e| Failure::Unsupported(e.to_string()))?;
        self.events.push(Event { at: boot_now(), fact: Fact::Ready });
        self.pipeline.patience = Some(std::time::Instant::now() + PATIENCE);
        std::mem::take(&mut self.events).iter().try_for_each(|event| self.pipeline.take(event))?;
        self.pipeline.patience = None;
        self.pipeline.stream.flush();
        self.pipeline.flush()
    }

    async fn watch(&mut self) -> Result<(), Failure> {
        loop {
            let mut taken = self.turn()?;
            if taken == 0 {
                self.pipeline.flush()?;
                self.source.set_waits(true);
                // What was committed before the kernel side could see the flag woke nobody.
                taken = self.turn()?;
            }
            if taken > 0 {
                self.source.set_waits(false);
            }
            let wake = self.wait(rest(taken)).await;
            match wake {
                Wake::Work => {}
                Wake::Word(word) => self.source.heed(word, &mut self.events),
                Wake::Stop => return Ok(()),
            }
            if self.pipeline.stream.out().ended().is_some() {
                return Ok(());
            }
        }
    }

    /// Takes what is there; gives how many records it were.
    fn turn(&mut self) -> Result<usize, Failure> {
        let taken = self.source.drain(&mut self.events);
        self.look_around(false)?;
        Ok(taken)
    }

    fn look_around(&mut self, last: bool) -> Result<(), Failure> {
        let now = boot_now();
        self.source.tick(now, &mut self.events);
        if last {
            self.source.conclude(now, &mut self.events);
        }
        let told = self.source.tell_losses(now, last, &mut self.events);
        told.map_err(|e| Failure::Unsupported(e.to_string()))?;
        let offset = clock_offset();
        if offset.abs_diff(self.pipeline.engine.clock_offset()) > CLOCK_STEP {
            self.events.push(Event { at: now, fact: Fact::Clock(offset) });
        }
        self.deliver()?;
        if !last {
            self.follow(now);
            self.hash_suspects(now);
        }
        if self.pipeline.engine.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.pipeline.take(&Event { at: now, fact: Fact::Tick })?;
        }
        self.pipeline.stream.flush();
        Ok(())
    }

    /// Has looked for who holds what processes that ended have left behind: only the picture knows that.
    fn follow(&mut self, now: BootNanos) {
        let ended = self.source.ended(now);
        if !ended.is_empty() {
            self.source.find_holders(self.pipeline.engine.left_by(&ended));
        }
    }

    /// Has hashed what became suspicious: only the verdict tells that. Its flag does not wait; later records have the digest.
    fn hash_suspects(&mut self, now: BootNanos) {
        for id in self.pipeline.take_suspects() {
            self.source.hash(id, now, &mut self.events);
        }
    }

    fn deliver(&mut self) -> Result<(), Failure> {
        let mut events = std::mem::take(&mut self.events);
        let delivered = events.drain(..).try_for_each(|event| self.pipeline.take(&event));
        // A reading of all sockets must not leave its large buffer behind.
        if events.capacity() <= KEPT {
            self.events = events;
        }
        delivered
    }

    /// Rests while there is work, sleeps when there is none.
    async fn wait(&mut self, rest: Option<Duration>) -> Wake {
        let until = self.until();
        let due = async {
            match (rest, until) {
                (Some(rest), _) => {
                    // A timer of the runtime would round up to a millisecond.
                    std::thread::sleep(rest);
                    yield_now().await;
                }
                (None, Some(duration)) => sleep(duration).await,
                (None, None) => std::future::pending().await,
            }
        };
        let end = async {
            match self.end {
                Some(end) => sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        let [interrupt, terminate] = &mut self.signals;
        let ring = async {
            match &self.ring {
                Some(ring) => ring.readable().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = interrupt.recv() => Wake::Stop,
            _ = terminate.recv() => Wake::Stop,
            _ = self.pipeline.stream.out().wait_ended() => Wake::Stop,
            () = end => Wake::Stop,
            word = self.source.word() => Wake::Word(word),
            () = due => Wake::Work,
            ready = ring, if rest.is_none() => {
                if let Ok(mut guard) = ready {
                    guard.clear_ready();
                }
                Wake::Work
            }
        }
    }

    /// How long to sleep at most.
    fn until(&self) -> Option<Duration> {
        let now = boot_now();
        let deadlines = [self.source.next_due(), self.pipeline.engine.next_deadline()];
        let next: Option<BootNanos> = deadlines.into_iter().flatten().min();
        let due = next.map(|at| Duration::from_nanos(at.saturating_sub(now)));
        let behind = self.pipeline.stream.is_behind().then_some(BEHIND);
        [due, behind].into_iter().flatten().min()
    }

    /// Tells what is still on the ring, and the end. A machine that never rests fills the ring as fast as it is read: what
    /// happens after [`FAREWELL`] is not waited for.
    fn finish(mut self) -> Result<u8, Failure> {
        let until = Instant::now() + FAREWELL;
        let mut quiet = 0;
        while self.pipeline.stream.out().ended().is_none() && quiet < QUIET && Instant::now() < until {
            let taken = self.source.drain(&mut self.events);
            self.deliver()?;
            if taken == 0 {
                // A record that another CPU has not committed yet stops the reading before those behind it.
                std::thread::sleep(REST);
                quiet += 1;
            } else {
                quiet = 0;
            }
        }
        self.look_around(true)?;
        let delivery = self.pipeline.end()?.finish(FAREWELL);
        if delivery.undelivered > 0 && delivery.ended != Some(Ended::Closed) {
            complain(&format!("{} records were not read from standard output in time", delivery.undelivered));
        }
        ended(delivery.ended).map(|_| 0)
    }
}
