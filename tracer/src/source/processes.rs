//! Processes: what the kernel tells of their lives, and what /proc tells of those that it told nothing of.
//!
//! A process is its pid and start time, so a reused pid is never taken for the one before; the kernel's count of its exec
//! calls tells when it became another program. With hooks, a process is known before it acts: /proc is read at the start,
//! and afterwards only where a record was lost. What its executable is and where it belongs, research finds out on a thread of
//! its own; until then it belongs where the process does that began it.

mod proc;
mod program;
mod table;

use std::{
    collections::{HashMap, VecDeque},
    fs,
    sync::Arc,
};

use foldhash::fast::FixedState;

use self::{
    program::Program,
    table::{Act, Known, Table, Told},
};
use super::passwd::Users;
use crate::{
    bpf::{
        decode::Task,
        lives::{Life, LifeChange},
    },
    model::event::{self, Ancestor, BootNanos, Fact, Process, ProcessId},
    research::{
        Answer, Desk, Order, Research,
        stdio::{self, Watch},
    },
    sink::escape::escape,
};

/// Processes whose acts are remembered; past that the one told longest ago is told anew when it acts again.
const REMEMBERED: usize = 16_384;
/// Executables whose paths are remembered; past that all are forgotten.
const EXECUTABLES: usize = 16_384;
/// Ancestors that are told.
const LINEAGE: usize = 8;

/// Remembers processes, and what was told of which.
pub struct Processes {
    /// Those of the tracer's own root.
    users: Arc<Users>,
    table: Table,
    told: VecDeque<ProcessId>,
    /// Executables as they were found, by file and path as they were called.
    paths: HashMap<Called, (String, (u64, u64)), FixedState>,
    /// Nothing where look-ups are done at once, because nobody waits for the next record.
    research: Option<Research>,
    /// What does them then.
    desk: Desk,
    /// The SHA-256 of whatever runs is wanted.
    hashes_all: bool,
    /// Nothing where nobody tells when a process acts.
    watch: Option<Watch>,
}

/// What was found out of a process on a thread of its own.
pub enum Found {
    /// Of the file that it runs, and where it belongs.
    Program(Box<Answer>),
    /// Of its standard input, output and error.
    Stdio(stdio::Answer),
}

/// An executable as it was called.
type Called = ((u64, u64), Vec<u8>);

impl Processes {
    /// For a reading of /proc: what is known of a process is found out when it is told.
    #[must_use]
    pub fn new() -> Self {
        let users = Users::parse(&fs::read("/etc/passwd").unwrap_or_default());
        Self {
            users: Arc::new(users),
            table: Table::default(),
            told: VecDeque::new(),
            paths: HashMap::default(),
            research: None,
            watch: None,
            desk: Desk::default(),
            hashes_all: false,
        }
    }

    /// The same, with the SHA-256 of whatever they run.
    #[must_use]
    pub fn hashed() -> Self {
        Self { hashes_all: true, ..Self::new() }
    }

    /// Reads what look-ups begin with: takes a fraction of a second that need not be waited for.
    #[must_use]
    pub fn prepared(mut self) -> Self {
        self.desk.prepare();
        self
    }

    /// For a kernel that tells of their lives: executables are looked up by a thread, whose answers [`Processes::answer`]
    /// gives.
    #[must_use]
    pub fn researched() -> Self {
        let research = Research::begin();
        if let Err(error) = &research {
            tracing::warn!("executables are looked up in the reader of the ring: {error}");
        }
        let watch = Watch::begin();
        if let Err(error) = &watch {
            tracing::warn!("nobody looks for sockets that are a process's standard input: {error}");
        }
        Self { research: research.ok(), watch: watch.ok(), ..Self::new() }
    }

    /// Reads the processes that are there: those that are not known yet will be known even when they end before they act,
    /// and those that are gone are ended.
    pub fn read_all(&mut self, now: BootNanos, facts: &mut Vec<Fact>) {
        self.table.read_all(now, facts);
    }

    /// Forgets all of which nothing was told: without hooks nobody tells when they change or end.
    pub fn forget_untold(&mut self) {
        self.table.forget_untold();
    }

    /// Takes in what the kernel told of a process's life.
    pub fn take(&mut self, life: &Life, facts: &mut Vec<Fact>) {
        match &life.change {
            LifeChange::Fork => self.table.born(life),
            LifeChange::Exit => self.table.ended(life, facts),
            LifeChange::Exec(exec) => {
                let mut program = Program::of_exec(exec);
                let is_found = self.find_path(&mut program);
                self.table.runs(life, Arc::new(program));
                self.watch_exec(life);
                if !is_found {
                    self.look_up(life.id, life.uid, life.at, facts);
                }
            }
        }
    }

    /// Processes that were dropped for want of room while others still referred to them, since this was asked last.
    pub fn take_dropped(&mut self) -> u64 {
        self.table.take_dropped()
    }

    /// Look-ups that were left out because too many waited, since this was asked last.
    pub fn take_overflow(&mut self) -> u64 {
        let looked_up = self.research.as_mut().map_or(0, Research::take_overflow);
        looked_up + self.watch.as_mut().map_or(0, Watch::take_overflow)
    }

    /// Tells a process the first time that it acts, and again when it has become another program, user or name.
    pub fn tell(&mut self, task: &Task, at: BootNanos, facts: &mut Vec<Fact>) {
        let (act, is_to_be_watched) = self.table.act(task, at);
        if is_to_be_watched {
            self.watch(task);
        }
        self.tell_act(task.id, task.uid, act, at, facts);
    }

    /// Has the descriptors of a process looked at.
    pub fn watch(&mut self, task: &Task) {
        if let Some(watch) = &mut self.watch {
            watch.order(stdio::Order { id: task.id, exec_id: task.exec_id });
        }
    }

    /// Tells a process that /proc showed to have a descriptor of a socket, unless it was told before. Gives the identity
    /// under which it is told; nothing when it is gone.
    pub fn tell_holder(&mut self, task: &Task, at: BootNanos, facts: &mut Vec<Fact>) -> Option<ProcessId> {
        let (id, act) = self.table.hold(task)?;
        self.tell_act(id, task.uid, act, at, facts);
        Some(id)
    }

    /// Has what a process runs hashed, because it is suspicious; once, until it runs something else.
    pub fn hash(&mut self, id: ProcessId, at: BootNanos, facts: &mut Vec<Fact>) {
        let known = self.table.find_mut(id).filter(|known| !known.is_to_be_hashed);
        let Some((known, told)) = known.and_then(|known| known.told().map(|told| (known, told))) else {
            return;
        };
        known.is_to_be_hashed = true;
        self.look_up(id, told.uid, at, facts);
    }

    /// True when a process has acted on a socket, or was found to hold one.
    #[must_use]
    pub fn has_acted(&self, id: ProcessId) -> bool {
        self.table.find(id).is_some_and(Known::has_acted)
    }

    fn tell_act(&mut self, id: ProcessId, uid: u32, act: Act, at: BootNanos, facts: &mut Vec<Fact>) {
        match act {
            Act::Same => return,
            Act::Stale => return self.look_up(id, uid, at, facts),
            Act::Changed => {}
            Act::First => self.told.push_back(id),
        }
        let known = self.table.find(id);
        if known.is_some_and(|known| known.examined.is_none() || known.is_another_user(uid)) {
            self.look_up(id, uid, at, &mut Vec::new());
        }
        facts.extend(self.table.find(id).and_then(|known| self.describe(known)));
        if self.told.len() > REMEMBERED
            && let Some(oldest) = self.told.pop_front()
        {
            self.table.forget_told(oldest);
            facts.push(Fact::Forget(oldest));
        }
    }

    /// Has the descriptors looked at of a process that ran exec, and of the one that began it: that may have put a terminal
    /// between itself and the shell.
    fn watch_exec(&mut self, life: &Life) {
        let Some(watch) = &mut self.watch else { return };
        let parent = self.table.find(life.id).and_then(|known| known.parent);
        // The self-test runs the tracer, whose own descriptors are nobody's business.
        for id in [Some(life.id), parent].into_iter().flatten().filter(|id| id.pid != std::process::id()) {
            if let Some(known) = self.table.find_mut(id)
                && (id == life.id || known.is_to_be_watched(life.at))
            {
                watch.order(stdio::Order { id, exec_id: known.exec_id() });
            }
        }
    }

    /// The next answer to a look-up or a look at descriptors; never, where none is waited for.
    pub async fn answer(&mut self) -> Found {
        let Self { research, watch, .. } = self;
        let examined = async {
            match research {
                Some(research) => research.answer().await,
                None => std::future::pending().await,
            }
        };
        let watched = async {
            match watch {
                Some(watch) => watch.answer().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            answer = examined => Found::Program(Box::new(answer)),
            answer = watched => Found::Stdio(answer),
        }
    }

    /// Takes in what was found out of a process; tells it anew where that says something new.
    pub fn found(&mut self, answer: Answer, facts: &mut Vec<Fact>) {
        let Answer { order, examined, place, users } = answer;
        if let Some(users) = users {
            self.users = users;
        }
        let known = self.table.find_mut(order.id).filter(|known| known.is_of(order.exec_id));
        let Some(known) = known else { return };
        let is_moved = known.put(place);
        let Some(program) = known.program.as_mut() else { return };
        let called = order.started.file.zip(order.started.path);
        let found = examined.path.clone().zip(examined.file);
        let examined = program.examined(examined);
        if examined == **program && !is_moved {
            return;
        }
        *program = Arc::new(examined);
        if let (Some(called), Some(found)) = (called, found) {
            if self.paths.len() >= EXECUTABLES {
                self.paths.clear();
            }
            self.paths.insert(called, found);
        }
        facts.extend(self.table.find(order.id).and_then(|known| self.describe(known)));
    }

    /// Has the path of an executable that was looked up before be the file's own.
    fn find_path(&self, program: &mut Program) -> bool {
        let called = program.started.file.zip(program.started.path.clone());
        let Some((path, file)) = called.and_then(|called| self.paths.get(&called)) else { return false };
        (program.exe, program.file) = (Some(path.clone()), Some(*file));
        true
    }

    fn look_up(&mut self, id: ProcessId, uid: u32, at: BootNanos, facts: &mut Vec<Fact>) {
        let Some(known) = self.table.find_mut(id) else { return };
        known.examined = Some(at);
        let Some(program) = &known.program else { return };
        let parent = known.parent.filter(|_| known.place.is_none());
        let order = Order {
            id,
            exec_id: known.exec_id(),
            started: program.started.clone(),
            uid,
            parent,
            hash: self.hashes_all || known.is_to_be_hashed,
        };
        if let Some(research) = &mut self.research {
            return research.order(order);
        }
        let answer = self.desk.look_up(order);
        self.found(answer, facts);
    }

    /// An exec or an exit as an event of its own. The self-test's processes, which the tracer starts, are nobody's business.
    #[must_use]
    pub fn life(&self, life: &Life) -> Option<Fact> {
        let change = match life.change {
            LifeChange::Fork => return None,
            LifeChange::Exec(_) => event::LifeChange::Exec,
            LifeChange::Exit => event::LifeChange::Exit,
        };
        let known = self.table.find(life.id).filter(|_| life.parent.pid != std::process::id())?;
        let process = self.process(known, life.id, life.parent.pid, life.uid);
        Some(Fact::Life(Box::new(event::Life { process, change })))
    }

    /// The process as it was told to act; nothing of one that was not.
    fn describe(&self, known: &Known) -> Option<Fact> {
        let Told { id, ppid, uid, .. } = known.told()?;
        Some(Fact::Process(Box::new(self.process(known, id, ppid, uid))))
    }

    fn process(&self, known: &Known, id: ProcessId, ppid: u32, uid: u32) -> Process {
        let program = known.program.as_deref().cloned().unwrap_or_else(|| Program {
            unknown: Some("the process ended before its files in /proc could be read".to_owned()),
            ..Program::default()
        });
        Process {
            id,
            ppid: Some(ppid),
            comm: Some(name(&known.comm)),
            exe: program.exe,
            exe_file: program.file,
            args: program.args,
            uid: Some(uid),
            user: self.user(known, uid),
            lineage: self.lineage(known),
            unknown: program.unknown,
            provenance: program.provenance,
            belongs: known.place.as_ref().map(|place| Arc::clone(&place.belongs)),
        }
    }

    /// Name of a user, by the root of the process where that is another than the tracer's.
    fn user(&self, known: &Known, uid: u32) -> Option<String> {
        match known.place.as_ref().and_then(|place| place.user.as_ref()) {
            Some((of, name)) => name.as_deref().filter(|_| *of == uid).map(str::to_owned),
            None => self.users.name(uid).map(|name| escape(name.as_bytes())),
        }
    }

    /// Who began it, who began that one, and so on, whether they are still there or not.
    fn lineage(&self, known: &Known) -> Vec<Ancestor> {
        let mut ancestors = Vec::new();
        let mut next = known.parent;
        while let Some(id) = next.filter(|id| id.pid != 0 && ancestors.len() < LINEAGE) {
            let Some(known) = self.table.find(id) else { break };
            let exe = known.program.as_deref().and_then(|program| program.exe.clone());
            ancestors.push(Ancestor { pid: id.pid, comm: Some(name(&known.comm)), exe });
            next = known.parent;
        }
        ancestors
    }
}

impl Default for Processes {
    fn default() -> Self {
        Self::new()
    }
}

/// A task's name without its padding, escaped.
fn name(comm: &[u8; 16]) -> String {
    escape(comm.split(|byte| *byte == 0).next().unwrap_or_default())
}

#[cfg(test)]
mod tests;
