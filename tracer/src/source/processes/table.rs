//! The table of processes: those that live, and those that ended and are still referred to.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use foldhash::fast::FixedState;

use super::{
    super::stat::{Stat, TICK},
    LINEAGE, proc,
    program::Program,
};
use crate::{
    bpf::{decode::Task, lives::Life},
    model::event::{BootNanos, Fact, ProcessId},
    research::belongs::Place,
};

/// Processes that ended and are still known, at most: so many of them, and again so many that have children.
const ENDED: usize = 32_768;
/// A process closes its sockets after its end was told: nanoseconds that it stays known for that.
const GRACE: BootNanos = 2_000_000_000;
/// The executable of a process that goes on acting is looked up again after so many nanoseconds: it may have been deleted.
const STALE: BootNanos = 1_000_000_000;
/// One that goes on acting has its descriptors looked at this often, nanoseconds.
const WATCH: BootNanos = 100_000_000;

/// The processes by identity. What /proc told of a process stands under the start that /proc tells, which is rounded down.
#[derive(Default)]
pub(super) struct Table {
    known: HashMap<ProcessId, Known, FixedState>,
    /// Those that live, by number.
    living: HashMap<u32, ProcessId, FixedState>,
    /// Those that ended lately, oldest first.
    ended: VecDeque<(BootNanos, ProcessId)>,
    /// Those that ended and have children, oldest first; some are gone by now.
    parents: VecDeque<ProcessId>,
    dropped: u64,
}

/// What is known of a process.
pub(super) struct Known {
    /// Who began it.
    pub(super) parent: Option<ProcessId>,
    /// What it runs; nothing where that could not be read. Children that did not run exec share it.
    pub(super) program: Option<Arc<Program>>,
    /// Name that it gives itself, NUL padded.
    pub(super) comm: [u8; 16],
    /// Where it belongs, as far as that was looked up, of itself or of one that began it.
    pub(super) place: Option<Place>,
    /// When it was looked up last, or that was ordered.
    pub(super) examined: Option<BootNanos>,
    /// The SHA-256 of what it runs is wanted.
    pub(super) is_to_be_hashed: bool,
    /// When its descriptors were ordered to be looked at last.
    watched: Option<BootNanos>,
    /// What was told of it last.
    told: Option<Told>,
    /// It was told at some time.
    has_acted: bool,
    /// Count of its exec calls, where a record told it.
    exec_id: Option<u32>,
    /// Those that it began and that are still known.
    children: u32,
    is_ended: bool,
    /// It ended a while ago, and stays for its children alone.
    is_kept: bool,
}

/// What a telling depends on, beside the program.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// It was told under this identity.
    pub(super) id: ProcessId,
    pub(super) ppid: u32,
    pub(super) uid: u32,
    exec_id: u32,
    comm: [u8; 16],
}

impl Known {
    /// Under what it was told, as long as that is the program that it was told with.
    pub(super) fn told(&self) -> Option<Told> {
        self.told.filter(|told| self.is_of(told.exec_id))
    }

    /// True when it runs what it ran after so many exec calls.
    pub(super) fn is_of(&self, exec_id: u32) -> bool {
        self.exec_id.is_none_or(|own| own == exec_id)
    }

    /// True when its descriptors are to be looked at because it acted: not when that was so a moment ago.
    pub(super) fn is_to_be_watched(&mut self, at: BootNanos) -> bool {
        let is_due = self.watched.is_none_or(|last| last + WATCH <= at);
        if is_due {
            self.watched = Some(at);
        }
        is_due
    }

    /// Count of its exec calls, where it is known.
    pub(super) fn exec_id(&self) -> u32 {
        self.exec_id.unwrap_or_default()
    }

    /// True when its own root has names for users, and was not asked for this one's.
    pub(super) fn is_another_user(&self, uid: u32) -> bool {
        self.place.as_ref().and_then(|place| place.user.as_ref()).is_some_and(|(of, _)| *of != uid)
    }

    /// Notes where it was found to belong; false where that is nothing new.
    pub(super) fn put(&mut self, place: Option<Place>) -> bool {
        let is_moved = place.is_some() && place != self.place;
        if is_moved {
            self.place = place;
        }
        is_moved
    }

    /// Where a child belongs before it was looked at, and for good where it ends before: fork copies login, cgroup and root.
    fn place_of_child(&self) -> Option<Place> {
        self.place.clone().filter(|place| place.belongs.passes_on())
    }

    /// True when it has acted on a socket, or was found to hold one.
    pub(super) fn has_acted(&self) -> bool {
        self.has_acted
    }

    /// Notes that /proc showed it to hold a socket, which is no news of what was told already; `key` is its identity where
    /// it was not told.
    fn hold(&mut self, key: ProcessId, task: &Task) -> (ProcessId, Act) {
        if let Some(told) = self.told() {
            return (told.id, Act::Same);
        }
        self.has_acted = true;
        let exec_id = self.exec_id();
        let told = Told { id: key, ppid: task.ppid, uid: task.uid, exec_id, comm: self.comm };
        let act = if self.told.replace(told).is_some() { Act::Changed } else { Act::First };
        (key, act)
    }

    /// Notes an act; nothing where an exec was not told, so that what it runs must be found out again.
    fn act(&mut self, task: &Task, at: BootNanos) -> Option<Act> {
        if !self.is_of(task.exec_id) {
            return None;
        }
        self.exec_id = Some(task.exec_id);
        self.has_acted = true;
        if task.tid == task.id.pid {
            self.comm = task.comm; // a thread's name is not the process's
        }
        let now =
            Told { id: task.id, ppid: task.ppid, uid: task.uid, exec_id: task.exec_id, comm: self.comm };
        Some(match self.told.replace(now) {
            None => Act::First,
            Some(told) if told == now && self.examined.is_some_and(|last| last + STALE < at) => Act::Stale,
            Some(told) if told == now => Act::Same,
            Some(_) => Act::Changed,
        })
    }
}

/// What an act says of its process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing was told of it.
    First,
    /// Something is new since it was told last.
    Changed,
    /// Nothing is new, but it is a while ago that its executable was looked up.
    Stale,
    /// Nothing is new.
    Same,
}

impl Table {
    /// The key under which a process is known.
    fn key(&self, id: ProcessId) -> Option<ProcessId> {
        [id, id.rounded()].into_iter().find(|id| self.known.contains_key(id))
    }

    pub(super) fn find(&self, id: ProcessId) -> Option<&Known> {
        self.known.get(&id).or_else(|| self.known.get(&id.rounded()))
    }

    pub(super) fn find_mut(&mut self, id: ProcessId) -> Option<&mut Known> {
        let key = if self.known.contains_key(&id) { id } else { id.rounded() };
        self.known.get_mut(&key)
    }

    /// Notes an act of a process, which is found out about where it must be; beside it, whether its descriptors are to be
    /// looked at.
    pub(super) fn act(&mut self, task: &Task, at: BootNanos) -> (Act, bool) {
        let note = |table: &mut Self| {
            let known = table.find_mut(task.id)?;
            Some((known.act(task, at)?, known.is_to_be_watched(at)))
        };
        note(self).unwrap_or_else(|| {
            self.find_out_task(task);
            note(self).unwrap_or((Act::Same, false))
        })
    }

    /// Notes that /proc showed a process to hold a socket, and gives under which identity it is told; nothing when it is
    /// gone. /proc knows no more of it than number, rounded start and user.
    pub(super) fn hold(&mut self, task: &Task) -> Option<(ProcessId, Act)> {
        let is_it = |key: &ProcessId| key.rounded() == task.id.rounded();
        let living = self.living.get(&task.id.pid).copied().filter(is_it);
        let key = living.or_else(|| self.find_out(task.id.pid, 0)).filter(is_it)?;
        Some(self.known.get_mut(&key)?.hold(key, task))
    }

    /// A process was born: it runs what its parent runs, and belongs where that belongs. What /proc told of it meanwhile is newer.
    pub(super) fn born(&mut self, life: &Life) {
        if self.find(life.id).is_some_and(|known| !known.is_ended) {
            return;
        }
        let parent = self.find(life.parent);
        let program = parent.and_then(|parent| parent.program.clone());
        let place = parent.and_then(Known::place_of_child);
        self.add(life.id, Some(life.parent), life.comm, program, Some(life.exec_id));
        if let Some(known) = self.find_mut(life.id) {
            known.place = place;
        }
    }

    /// A process runs another program.
    pub(super) fn runs(&mut self, life: &Life, program: Arc<Program>) {
        match self.find_mut(life.id) {
            Some(known) => {
                known.program = Some(program);
                (known.examined, known.is_to_be_hashed) = (None, false);
                known.comm = life.comm;
                known.exec_id = Some(life.exec_id);
            }
            None => self.add(life.id, Some(life.parent), life.comm, Some(program), Some(life.exec_id)),
        }
    }

    /// Reads all processes: enters those that are not known, and ends those that are gone.
    pub(super) fn read_all(&mut self, now: BootNanos, facts: &mut Vec<Fact>) {
        let there: HashSet<ProcessId, FixedState> =
            proc::all().filter_map(|pid| self.find_out(pid, 0)).collect();
        let gone = self.known.iter().filter(|(id, known)| !known.is_ended && !there.contains(id));
        let mut gone: Vec<ProcessId> = gone.map(|(id, _)| *id).collect();
        gone.sort_unstable();
        gone.into_iter().for_each(|id| self.end(id, now, facts));
    }

    /// Enters a process that acted and of which nothing was told, or not what it runs now.
    fn find_out_task(&mut self, task: &Task) {
        let found = proc::read(task.id.pid).filter(|found| found.id == task.id.rounded());
        let (comm, program) = match found {
            Some(found) => (found.comm, Some(Arc::new(found.program))),
            None => (task.comm, None),
        };
        if let Some(known) = self.find_mut(task.id) {
            (known.comm, known.program, known.exec_id) = (comm, program, Some(task.exec_id));
            (known.examined, known.is_to_be_hashed) = (None, false);
            return;
        }
        let parent = self.find_out(task.ppid, 1);
        self.add(task.id, parent, comm, program, Some(task.exec_id));
    }

    /// Finds a process that lives by its number alone, and enters it and those that began it where they are not known; so many
    /// generations were asked for before.
    fn find_out(&mut self, pid: u32, generation: usize) -> Option<ProcessId> {
        if pid == 0 || generation > LINEAGE {
            return None;
        }
        let stat = Stat::read(pid)?;
        let id = ProcessId { pid, started: stat.started * TICK };
        if let Some(key) = self.living.get(&pid).filter(|key| key.rounded() == id) {
            return Some(*key);
        }
        let found = proc::read(pid).filter(|found| found.id == id)?;
        let parent = self.find_out(stat.ppid, generation + 1);
        self.add(id, parent, found.comm, Some(Arc::new(found.program)), None);
        Some(id)
    }

    fn add(
        &mut self,
        id: ProcessId,
        parent: Option<ProcessId>,
        comm: [u8; 16],
        program: Option<Arc<Program>>,
        exec_id: Option<u32>,
    ) {
        let parent = parent.and_then(|id| self.key(id));
        if let Some(parent) = parent.and_then(|id| self.known.get_mut(&id)) {
            parent.children += 1;
        }
        let known = Known {
            parent,
            program,
            comm,
            place: None,
            examined: None,
            is_to_be_hashed: false,
            watched: None,
            told: None,
            has_acted: false,
            exec_id,
            children: 0,
            is_ended: false,
            is_kept: false,
        };
        self.known.insert(id, known);
        self.living.insert(id.pid, id);
    }

    /// A process ended; it stays for what its sockets and its children still tell.
    pub(super) fn ended(&mut self, life: &Life, facts: &mut Vec<Fact>) {
        if let Some(key) = self.key(life.id) {
            self.end(key, life.at, facts);
        }
    }

    fn end(&mut self, key: ProcessId, at: BootNanos, facts: &mut Vec<Fact>) {
        let Some(known) = self.known.get_mut(&key).filter(|known| !known.is_ended) else { return };
        known.is_ended = true;
        if self.living.get(&key.pid) == Some(&key) {
            self.living.remove(&key.pid);
        }
        self.ended.push_back((at, key));
        while let Some((ended, key)) = self.ended.front().copied()
            && (self.ended.len() > ENDED || ended + GRACE < at)
        {
            self.ended.pop_front();
            let Some(known) = self.known.get(&key) else { continue };
            if known.children > 0 {
                self.keep_parent(key, facts);
            } else {
                self.remove(key, facts);
            }
        }
    }

    fn keep_parent(&mut self, key: ProcessId, facts: &mut Vec<Fact>) {
        if let Some(known) = self.known.get_mut(&key) {
            known.is_kept = true;
        }
        self.parents.push_back(key);
        if self.parents.len() <= ENDED {
            return;
        }
        self.parents.retain(|key| self.known.contains_key(key));
        if self.parents.len() > ENDED
            && let Some(oldest) = self.parents.pop_front()
        {
            self.dropped += 1;
            self.remove(oldest, facts);
        }
    }

    /// Removes a process, and those that ended before it and that nobody else refers to.
    fn remove(&mut self, key: ProcessId, facts: &mut Vec<Fact>) {
        let mut next = Some(key);
        while let Some(known) = next.and_then(|key| self.known.remove(&key)) {
            facts.extend(known.told.map(|told| Fact::Forget(told.id)));
            next = known.parent.filter(|parent| {
                self.known.get_mut(parent).is_some_and(|parent| {
                    parent.children = parent.children.saturating_sub(1);
                    parent.is_kept && parent.children == 0
                })
            });
        }
    }

    /// What was told of a process is forgotten, and will be told again when it acts.
    pub(super) fn forget_told(&mut self, id: ProcessId) {
        if let Some(known) = self.find_mut(id) {
            known.told = None;
        }
    }

    /// Forgets all processes of which nothing was told: without hooks nobody tells when they change or end.
    pub(super) fn forget_untold(&mut self) {
        self.known.retain(|_, known| known.told.is_some());
        self.living.retain(|_, key| self.known.contains_key(key));
        self.known.values_mut().for_each(|known| known.children = 0);
    }

    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}
