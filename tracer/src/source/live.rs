//! The running kernel as a source of events: drains the ring, adds what /proc and the namespaces
//! tell, reads the sockets at the start and again after losses.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use rustix::time::{ClockId, clock_gettime};
use tracer_common::{AWAITING_ENTRIES, COUNTER_FAULTS, COUNTER_NO_STATE, COUNTER_RING_FULL, Record};

use super::{
    attempts::Attempts,
    baseline::{self, Baseline},
    ends::Ends,
    exits::Exits,
    flows::Flows,
    namespaces::{self, Names},
    processes::{Found, Processes},
    proofs::Proofs,
    selftest::Traffic,
    sockdiag,
    stdio::OnStdio,
};
use crate::{
    bpf::{
        decode::{Decoded, Meaning, Task, decode},
        lives::{self, Life, LifeChange},
        loader::{LoadError, Loaded},
    },
    model::{
        event::{BootNanos, Event, Fact, Lost, LostStage, ProcessId, SocketChange, SocketEvent},
        host::Left,
    },
    research::{
        holders::{self, Search},
        stdio,
    },
};

/// The sockets are read again at most this often, however much is lost: nanoseconds.
const REREAD: BootNanos = 500_000_000;
/// The kernel is asked at most this often for runs that it left out, a system call for each program:
/// nanoseconds.
const ASK_MISSED: BootNanos = 1_000_000_000;
/// Records taken in one go, so that what they give is told in between.
const BATCH: usize = 4096;
/// Sockets whose holders are looked for at once.
const SEARCHED: usize = 65_536;

/// The running kernel.
pub struct Live {
    loaded: Loaded,
    only: Option<u32>,
    /// Only flags are wanted: nothing is told of TCP sessions with a loopback remote, and execs and exits are no events.
    loopback_aside: bool,
    processes: Processes,
    flows: Flows,
    ends: Ends,
    on_stdio: OnStdio,
    exits: Exits,
    /// Nothing where there can be no thread for it.
    search: Option<Search>,
    namespaces: BTreeMap<u32, PathBuf>,
    own: BTreeMap<u32, BTreeSet<IpAddr>>,
    names: Names,
    attempts: Attempts,
    losses: Losses,
    /// Nothing where the self-test cannot have a namespace.
    proofs: Option<Proofs>,
    facts: Vec<Fact>,
    /// The ring was empty at the last look: what a connect became is known as far as it goes.
    drained: bool,
}

/// What a thread of the source's own says.
pub enum Word {
    /// A round of the self-test is over.
    Proof(Traffic),
    /// Something was found out of a process.
    Found(Found),
    /// Who holds sockets was found out.
    Held(holders::Answer),
}

/// A record of the ring.
enum Told {
    Socket(Decoded),
    Life(Life),
}

/// Counters as they stood when they were last told.
struct Losses {
    ring: u64,
    faults: u64,
    state: u64,
    /// Waiting connections for which the kernel had no room.
    unmarked: u64,
    missed: u64,
    pending_missed: u64,
    missed_from: BootNanos,
    asked_at: BootNanos,
    unknown: u64,
    told_unknown: u64,
    since: BootNanos,
    pending: u64,
    pending_from: BootNanos,
    /// A hook that was silent delivers again: what it did not tell is known to no one.
    was_silent: bool,
    reread_at: BootNanos,
}

impl Losses {
    /// Whether the sockets are to be read again.
    fn is_pending(&self) -> bool {
        self.pending + self.pending_missed > 0 || self.was_silent
    }
}

impl Live {
    /// Begins to read a loaded plan, whose hooks the self-test proves; `only` one namespace, and with
    /// `loopback_aside` no TCP session with a loopback remote, and no exec and exit.
    #[must_use]
    pub fn new(loaded: Loaded, only: Option<u32>, loopback_aside: bool, proofs: Option<Proofs>) -> Self {
        let now = boot_now();
        let losses = Losses {
            ring: 0,
            faults: 0,
            state: 0,
            unmarked: 0,
            missed: 0,
            pending_missed: 0,
            missed_from: now,
            asked_at: now,
            unknown: 0,
            told_unknown: 0,
            since: now,
            pending: 0,
            pending_from: now,
            was_silent: false,
            reread_at: 0,
        };
        Self {
            loaded,
            only,
            loopback_aside,
            processes: Processes::researched(),
            flows: Flows::default(),
            ends: Ends::default(),
            on_stdio: OnStdio::default(),
            exits: Exits::default(),
            search: begin_search(),
            namespaces: BTreeMap::new(),
            own: BTreeMap::new(),
            names: Names::default(),
            attempts: Attempts::default(),
            losses,
            proofs,
            facts: Vec::new(),
            drained: true,
        }
    }

    /// Tells the kernel side whether the reader sleeps.
    pub fn set_waits(&self, waits: bool) {
        self.loaded.control.set_reader_waits(waits);
    }

    /// The sockets that are there already.
    ///
    /// # Errors
    /// When the iterators fail.
    pub fn baseline(&mut self, out: &mut Vec<Event>) -> Result<(), LoadError> {
        let at = boot_now();
        self.processes.read_all(at, &mut self.facts);
        self.names.read(at, &mut self.facts);
        self.tell_facts(at, out);
        let mut found = self.read_sockets()?;
        self.losses.unknown += found.unknown;
        let at = boot_now();
        for (netns, namespace) in found.namespaces {
            self.namespaces.insert(netns, namespace.path);
            self.tell_addresses(netns, namespace.own, at, out);
        }
        for (decoded, tasks) in &mut found.sockets {
            self.watch_stdio(&mut decoded.event, tasks); // before the many others, for which there may be no room
        }
        for (mut decoded, tasks) in found.sockets {
            if decoded.remnant || self.is_aside(&decoded.event) {
                continue; // nothing will be told of these again: they are only of the picture
            }
            decoded.task = None;
            self.emit_seen(decoded, &tasks, out);
        }
        Ok(())
    }

    /// Has those looked at that a picture shows with a socket as their standard input, output or error: what the looks find is
    /// told, until it is over, and what holds for a moment only is not.
    fn watch_stdio(&mut self, event: &mut SocketEvent, holders: &[Task]) {
        let SocketChange::Seen { stdio, .. } = &mut event.change else { return };
        for user in stdio.take().unwrap_or_default() {
            let task = holders.iter().find(|task| task.id == user.process);
            task.into_iter().for_each(|task| self.processes.watch(task));
        }
    }

    fn is_aside(&self, event: &SocketEvent) -> bool {
        let is_session = !event.protocol.is_datagram();
        self.loopback_aside
            && is_session
            && event.remote.is_some_and(|remote| remote.port != 0 && remote.ip.is_loopback())
    }

    /// By iterators; where they are not to be had, by sock_diag and /proc.
    fn read_sockets(&mut self) -> Result<Baseline, LoadError> {
        if self.loaded.iterators.refused().is_none() {
            return baseline::read(&mut self.loaded.iterators, self.only);
        }
        let (found, unread) = sockdiag::read(self.only);
        for what in unread {
            tracing::warn!("not read: {what}");
        }
        if self.loaded.accept_by_use {
            self.await_accepts(&found);
        }
        Ok(found)
    }

    /// Tells the kernel side which connections wait in a listener's queue, as its iterators do by
    /// themselves: the first use of one of these is its accept.
    fn await_accepts(&mut self, found: &Baseline) {
        for (Decoded { event, .. }, _) in &found.sockets {
            if !found.waiting.contains(&event.id) || self.is_aside(event) {
                continue;
            }
            let place = event.id.0 as u32 & (AWAITING_ENTRIES - 1);
            if let Err(error) = self.loaded.awaiting.set(place, event.id.0, 0) {
                tracing::debug!("socket {} is not awaited: {error}", event.id.0);
                self.losses.unmarked += 1;
            }
        }
    }

    fn emit_seen(&mut self, decoded: Decoded, holders: &[Task], out: &mut Vec<Event>) {
        self.end_before(&decoded, out);
        for task in holders {
            self.processes.tell(task, decoded.at, &mut self.facts);
        }
        self.push(decoded.event, decoded.at, out);
    }

    /// Takes what is on the ring, at most a batch; gives how many records it were.
    pub fn drain(&mut self, out: &mut Vec<Event>) -> usize {
        let mut records = 0;
        while records < BATCH {
            let Some(bytes) = self.loaded.ring.next() else { break };
            let read = if bytes.len() == size_of::<Record>() {
                decode(&bytes).map(Told::Socket)
            } else {
                lives::decode(&bytes).map(Told::Life)
            };
            drop(bytes);
            records += 1;
            match read {
                Ok(Told::Socket(decoded)) => self.take(decoded, out),
                Ok(Told::Life(life)) => self.take_life(&life, out),
                Err(error) => {
                    tracing::debug!("{error}");
                    self.losses.unknown += 1;
                }
            }
        }
        self.drained = records < BATCH;
        records
    }

    fn take_life(&mut self, life: &Life, out: &mut Vec<Event>) {
        let is_told = !self.loopback_aside && self.only.is_none_or(|only| life.netns == Some(only));
        let is_end = matches!(life.change, LifeChange::Exit);
        if is_end && self.search.is_some() && self.processes.has_acted(life.id) {
            self.exits.add(life.at, life.id);
        }
        if is_told && is_end {
            self.facts.extend(self.processes.life(life)); // it may be forgotten at its end
        }
        self.processes.take(life, &mut self.facts);
        if is_told && !is_end {
            self.facts.extend(self.processes.life(life));
        }
        self.tell_facts(life.at, out);
    }

    fn take(&mut self, decoded: Decoded, out: &mut Vec<Event>) {
        if let Meaning::Attempt = decoded.meaning {
            self.attempts.add(decoded);
            return;
        }
        self.end_before(&decoded, out);
        let Decoded { at, event, meaning, task, .. } = decoded;
        if !event.protocol.is_datagram() {
            self.attempts.went_on(event.id);
        }
        self.introduce(&event, task.as_ref(), at, out);
        match meaning {
            Meaning::Flow(key, total) => {
                if let Some(event) = self.flows.take(key, total, event, at) {
                    self.push(event, at, out);
                }
            }
            Meaning::Event => {
                if matches!(event.change, SocketChange::Close { .. }) {
                    self.close(event, at, out);
                } else {
                    self.push(event, at, out);
                }
            }
            Meaning::Attempt | Meaning::Seen | Meaning::Held(_) => {}
        }
    }

    /// Tells that the socket is gone that lay where the record's does, if no record said so.
    fn end_before(&mut self, decoded: &Decoded, out: &mut Vec<Event>) {
        if let Some(end) = self.ends.take(decoded) {
            self.end(end, decoded.at, out);
        }
    }

    /// Tells ends of sockets whose place nobody took: those that a last reading does not show, and no record that came meanwhile.
    fn end_unseen(&mut self, out: &mut Vec<Event>) {
        if self.loaded.iterators.refused().is_some() {
            return; // sock_diag may leave out what changes while it reads
        }
        let from = boot_now();
        match baseline::read(&mut self.loaded.iterators, self.only) {
            Ok(shown) => {
                self.drain(out);
                let at = boot_now();
                self.ends.unseen(from, &shown).into_iter().for_each(|end| self.end(end, at, out));
            }
            Err(error) => tracing::warn!("whether sockets ended without a hook's word is not known: {error}"),
        }
    }

    fn end(&mut self, end: SocketEvent, at: BootNanos, out: &mut Vec<Event>) {
        tracing::debug!("socket {} has ended, which no hook told", end.id.0);
        self.close(end, at, out);
    }

    fn close(&mut self, event: SocketEvent, at: BootNanos, out: &mut Vec<Event>) {
        if event.protocol.is_datagram() {
            for rest in self.flows.close(&self.loaded.flows, event.id.0, at) {
                self.push(rest, at, out);
            }
        }
        self.push(event, at, out);
    }

    /// Tells process, namespace and its name of an event before the event itself.
    fn introduce(&mut self, event: &SocketEvent, task: Option<&Task>, at: BootNanos, out: &mut Vec<Event>) {
        if let Some(task) = task {
            self.processes.tell(task, at, &mut self.facts);
        }
        let Some(netns) = event.netns else { return };
        if !self.own.contains_key(&netns) || self.names.is_due(at) {
            self.names.read(at, &mut self.facts);
        }
        let local = event.local.map(|local| local.ip);
        let new_address = local.filter(|ip| !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast());
        let known = self.own.get(&netns);
        if known.is_some_and(|own| new_address.is_none_or(|ip| own.contains(&ip))) {
            return;
        }
        let mut own = self.read_addresses(netns, task);
        own.extend(new_address); // a local address is the namespace's own, whatever could be read
        self.tell_addresses(netns, own, at, out);
    }

    fn read_addresses(&mut self, netns: u32, task: Option<&Task>) -> BTreeSet<IpAddr> {
        self.reach(netns, task).map(|path| baseline::own_addresses(&path)).unwrap_or_default()
    }

    /// A path that names the namespace now: one that was good before may have gone with its process, or
    /// name another namespace.
    fn reach(&mut self, netns: u32, task: Option<&Task>) -> Option<PathBuf> {
        let by_task =
            task.map(|task| PathBuf::from(format!("/proc/{}/task/{}/ns/net", task.id.pid, task.tid)));
        let paths = self.namespaces.get(&netns).cloned().into_iter().chain(by_task);
        let path = paths.into_iter().find(|path| namespaces::inode(path).is_ok_and(|number| number == netns));
        let path = path.or_else(|| namespaces::reachable().remove(&netns))?;
        self.namespaces.insert(netns, path.clone());
        Some(path)
    }

    fn tell_addresses(&mut self, netns: u32, own: BTreeSet<IpAddr>, at: BootNanos, out: &mut Vec<Event>) {
        if self.own.get(&netns) != Some(&own) {
            let fact = Fact::Addresses { netns, own: own.iter().copied().collect() };
            out.push(Event { at, fact });
            self.own.insert(netns, own);
        }
    }

    /// Tells what is known and not told yet.
    fn tell_facts(&mut self, at: BootNanos, out: &mut Vec<Event>) {
        out.extend(self.facts.drain(..).map(|fact| Event { at, fact }));
    }

    fn push(&mut self, event: SocketEvent, at: BootNanos, out: &mut Vec<Event>) {
        self.tell_facts(at, out);
        out.push(Event { at, fact: Fact::Socket(event) });
    }

    /// What the passing of time brings: flows whose period is over, connects that got nowhere, proofs that
    /// are due.
    pub fn tick(&mut self, now: BootNanos, out: &mut Vec<Event>) {
        if let Some(proofs) = &mut self.proofs
            && proofs.next_due().is_some_and(|due| due <= now)
        {
            proofs.begin(&mut self.loaded.proof);
        }
        for event in self.flows.check(&self.loaded.flows, now) {
            self.push(event, now, out);
        }
        if self.drained {
            self.settle_attempts(now, out);
        }
    }

    /// Processes that ended a while ago and had sockets, where it is time to look at what is left of these and all that the
    /// kernel told of them was taken in.
    pub fn ended(&mut self, now: BootNanos) -> Vec<ProcessId> {
        if self.drained { self.exits.due(now) } else { Vec::new() }
    }

    /// Has looked for those who hold sockets that processes have left behind.
    pub fn find_holders(&mut self, mut left: Vec<Left>) {
        let Some(search) = self.search.as_ref().filter(|_| !left.is_empty()) else { return };
        self.exits.give_up(left.len().saturating_sub(SEARCHED));
        left.truncate(SEARCHED);
        let count = left.len();
        let paths = left.iter().filter_map(|socket| self.namespaces.get_key_value(&socket.netns));
        let namespaces = paths.map(|(netns, path)| (*netns, path.clone())).collect();
        if search.order(holders::Order { sockets: left, namespaces }) {
            self.exits.ask();
        } else {
            self.exits.give_up(count);
        }
    }

    /// Has what a process runs hashed.
    pub fn hash(&mut self, id: ProcessId, now: BootNanos, out: &mut Vec<Event>) {
        self.processes.hash(id, now, &mut self.facts);
        self.tell_facts(now, out);
    }

    /// Tells what time would still have brought: no later [`Live::tick`] comes.
    pub fn conclude(&mut self, now: BootNanos, out: &mut Vec<Event>) {
        self.end_unseen(out);
        for event in self.flows.conclude(&self.loaded.flows, now) {
            self.push(event, now, out);
        }
        self.settle_attempts(BootNanos::MAX, out);
    }

    /// Connects that sent no packet: without a route one has failed, with one it is waited for, and told in the end: it is
    /// put off (a fast open without data) or failed for a reason that cannot be seen from here.
    fn settle_attempts(&mut self, now: BootNanos, out: &mut Vec<Event>) {
        while let Some(mut attempt) = self.attempts.unasked(now) {
            if let Some(errno) = self.route_error(&attempt.event, attempt.task.as_ref()) {
                attempt.event.change = SocketChange::Failed { errno: Some(errno) };
                self.tell_attempt(attempt, out);
            } else if let Some(oldest) = self.attempts.put_off(attempt) {
                self.tell_attempt(oldest, out);
            }
        }
        while let Some(attempt) = self.attempts.given_up(now) {
            self.tell_attempt(attempt, out);
        }
    }

    fn tell_attempt(&mut self, attempt: Decoded, out: &mut Vec<Event>) {
        let Decoded { at, event, task, .. } = attempt;
        self.introduce(&event, task.as_ref(), at, out);
        self.push(event, at, out);
    }

    fn route_error(&mut self, event: &SocketEvent, task: Option<&Task>) -> Option<u32> {
        let remote = event.remote?;
        let remote = SocketAddr::new(remote.ip, remote.port);
        let netns = event.netns?;
        let path = self.reach(netns, task)?;
        namespaces::inside(&path, || Ok(namespaces::route_error(remote))).ok().flatten()
    }

    /// When [`Live::tick`] has something to do next.
    #[must_use]
    pub fn next_due(&self) -> Option<BootNanos> {
        let reread = self.losses.is_pending().then_some(self.losses.reread_at + REREAD);
        let proof = self.proofs.as_ref().and_then(Proofs::next_due);
        [self.attempts.next_due(), self.flows.next_due(), reread, proof, self.exits.next_due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// What comes from the source's own threads next; never, where there are none.
    pub async fn word(&mut self) -> Word {
        let Self { proofs, processes, search, .. } = self;
        let proof = async {
            match proofs {
                Some(proofs) => proofs.report().await,
                None => std::future::pending().await,
            }
        };
        let held = async {
            match search {
                Some(search) => search.answer().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            traffic = proof => Word::Proof(traffic),
            answer = processes.answer() => Word::Found(answer),
            answer = held => Word::Held(answer),
        }
    }

    /// Takes in what came from a thread of its own.
    pub fn heed(&mut self, word: Word, out: &mut Vec<Event>) {
        match word {
            Word::Proof(traffic) => self.judge(&traffic, out),
            Word::Found(found) => match found {
                Found::Program(answer) => {
                    self.processes.found(*answer, &mut self.facts);
                    let at = boot_now();
                    self.tell_facts(at, out);
                }
                Found::Stdio(answer) => self.take_stdio(answer, out),
            },
            Word::Held(answer) => self.take_held(answer, out),
        }
    }

    /// Tells that a process has a socket as its standard input, output or error, or has it there no more.
    fn take_stdio(&mut self, answer: stdio::Answer, out: &mut Vec<Event>) {
        let event = &answer.socket().event;
        if self.only.is_some_and(|only| event.netns != Some(only)) {
            return;
        }
        let (at, aside) = (boot_now(), self.is_aside(event));
        if let stdio::Answer::Found { task, .. } = &answer {
            self.processes.tell(task, at, &mut self.facts);
        }
        self.facts.extend(self.on_stdio.take(answer, aside));
        self.tell_facts(at, out);
    }

    /// Tells who holds sockets, and the holders before.
    fn take_held(&mut self, answer: holders::Answer, out: &mut Vec<Event>) {
        let at = boot_now();
        self.exits.answered(at, answer.took);
        for (socket, tasks) in answer.held {
            let mut holders = Vec::new();
            for task in &tasks {
                holders.extend(self.processes.tell_holder(task, at, &mut self.facts));
            }
            if !holders.is_empty() {
                self.facts.push(Fact::Held { socket, holders });
            }
        }
        self.tell_facts(at, out);
    }

    /// Tells what a round of the self-test changed.
    fn judge(&mut self, traffic: &Traffic, out: &mut Vec<Event>) {
        let Some(proofs) = &mut self.proofs else { return };
        let told = proofs.judge(traffic, &self.loaded.hooks, &self.loaded.proof);
        self.losses.was_silent |= told.iter().any(|told| told.delivers);
        let at = boot_now();
        out.extend(told.into_iter().map(|told| Event { at, fact: Fact::Degraded(told) }));
    }

    /// Tells what was lost since the last time; after lost records, and where a hook delivers again, the sockets are read again.
    ///
    /// # Errors
    /// When the iterators fail.
    pub fn tell_losses(&mut self, now: BootNanos, last: bool, out: &mut Vec<Event>) -> Result<(), LoadError> {
        let ring = self.loaded.control.counter(COUNTER_RING_FULL);
        if ring > self.losses.ring {
            if self.losses.pending == 0 {
                self.losses.pending_from = self.losses.since;
            }
            self.losses.pending += ring - self.losses.ring;
            self.losses.ring = ring;
        }
        let missed = self.missed(now, last);
        if missed > self.losses.missed {
            if self.losses.pending_missed == 0 {
                self.losses.missed_from = self.losses.since;
            }
            self.losses.pending_missed += missed - self.losses.missed;
            self.losses.missed = missed;
        }
        if self.losses.is_pending() && (last || now >= self.losses.reread_at + REREAD) {
            self.resync(now, out)?;
        }
        let faults = self.loaded.control.counter(COUNTER_FAULTS);
        let state = self.loaded.control.counter(COUNTER_NO_STATE) + self.losses.unmarked;
        let counts = [
            (LostStage::Field, faults - self.losses.faults),
            (LostStage::State, state - self.losses.state),
            (LostStage::Record, self.losses.unknown - self.losses.told_unknown),
            (LostStage::Process, self.processes.take_dropped()),
            (LostStage::Research, self.processes.take_overflow() + self.exits.take_dropped()),
        ];
        for (stage, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            let lost = Lost { stage, count, from: self.losses.since, to: now, resynced: false };
            out.push(Event { at: now, fact: Fact::Lost(lost) });
        }
        (self.losses.faults, self.losses.state) = (faults, state);
        self.losses.told_unknown = self.losses.unknown;
        self.losses.since = now;
        Ok(())
    }

    /// Runs that the kernel left out so far, as it said when it was asked last.
    fn missed(&mut self, now: BootNanos, last: bool) -> u64 {
        if !last && now < self.losses.asked_at + ASK_MISSED {
            return self.losses.missed;
        }
        self.losses.asked_at = now;
        self.loaded.missed().max(self.losses.missed)
    }

    fn resync(&mut self, now: BootNanos, out: &mut Vec<Event>) -> Result<(), LoadError> {
        let from = boot_now();
        self.baseline(out)?;
        let to = boot_now();
        out.push(Event { at: to, fact: Fact::Reread { from } });
        let losses = [
            (LostStage::Ring, std::mem::take(&mut self.losses.pending), self.losses.pending_from),
            (LostStage::Hook, std::mem::take(&mut self.losses.pending_missed), self.losses.missed_from),
        ];
        for (stage, count, from) in losses.into_iter().filter(|(_, count, _)| *count > 0) {
            let lost = Lost { stage, count, from, to: now, resynced: true };
            out.push(Event { at: to, fact: Fact::Lost(lost) });
        }
        self.losses.was_silent = false;
        self.losses.reread_at = to;
        Ok(())
    }
}

fn begin_search() -> Option<Search> {
    Search::begin()
        .map_err(|error| tracing::warn!("nobody looks for who holds inherited sockets: {error}"))
        .ok()
}

/// Nanoseconds since boot, suspend included.
#[must_use]
pub fn boot_now() -> BootNanos {
    nanos(ClockId::Boottime)
}

/// Wall clock minus boot clock, nanoseconds.
#[must_use]
pub fn clock_offset() -> i64 {
    let wall = i64::try_from(nanos(ClockId::Realtime)).unwrap_or(i64::MAX);
    wall.saturating_sub(i64::try_from(boot_now()).unwrap_or(i64::MAX))
}

/// Processor time that this process has used, nanoseconds.
pub(super) fn cpu_time() -> u64 {
    nanos(ClockId::ProcessCPUTime)
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Release of the running kernel.
#[must_use]
pub fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}
