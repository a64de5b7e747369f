//! What /proc tells about a process, read once for each program that it runs.
//!
//! A process is its pid and start time, so a reused pid is never taken for the one before; the
//! kernel's count of its exec calls tells when it became another program.

use std::{
    collections::{HashMap, VecDeque},
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
};

use foldhash::fast::FixedState;

use super::{
    passwd::Users,
    stat::{Stat, TICK},
};
use crate::{
    bpf::decode::Task,
    model::event::{Ancestor, Fact, Process, ProcessId},
    sink::escape::escape,
};

/// Processes that are remembered; past that the one told longest ago is forgotten.
const REMEMBERED: usize = 16_384;
/// Ancestors that are told.
const LINEAGE: usize = 8;

/// Remembers what was told of which process.
pub struct Processes {
    users: Users,
    told: HashMap<ProcessId, u32, FixedState>,
    order: VecDeque<ProcessId>,
}

impl Processes {
    /// Begins with the users of this machine.
    #[must_use]
    pub fn new() -> Self {
        let users = Users::parse(&fs::read("/etc/passwd").unwrap_or_default());
        Self { users, told: HashMap::default(), order: VecDeque::new() }
    }

    /// Tells a process the first time that it acts, and again after it ran exec.
    pub fn tell(&mut self, task: &Task, facts: &mut Vec<Fact>) {
        let before = self.told.insert(task.id, task.exec_id);
        if before == Some(task.exec_id) {
            return;
        }
        if before.is_none() {
            self.order.push_back(task.id);
        }
        facts.push(Fact::Process(Box::new(self.read(task))));
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.told.remove(&oldest);
            facts.push(Fact::Forget(oldest));
        }
    }

    fn read(&self, task: &Task) -> Process {
        let folder = format!("/proc/{}", task.id.pid);
        let exe = fs::read_link(format!("{folder}/exe")).ok();
        let exe_file = fs::metadata(format!("{folder}/exe")).ok().map(|m| (m.dev(), m.ino()));
        let args = fs::read(format!("{folder}/cmdline")).ok();
        // Read last: when it is still the same process now, all of the above was its own.
        let stat = Stat::read(task.id.pid).filter(|stat| stat.started == task.id.started / TICK);
        let mut process = self.as_kernel_says(task);
        let Some(stat) = stat else {
            process.unknown = Some("the process ended before its files in /proc could be read".to_owned());
            return process;
        };
        process.comm = Some(escape(&stat.comm)); // the process's, not that of the thread that acted
        if exe.is_none() {
            process.unknown =
                Some("it has no executable: a thread of the kernel, or it is ending".to_owned());
        }
        process.exe = exe.map(|path| escape(path.as_os_str().as_bytes()));
        process.exe_file = exe_file;
        process.args = args.map(|bytes| arguments(&bytes));
        process.lineage = lineage(task.ppid);
        process
    }

    /// What the kernel's record itself says, which holds even when the process is gone.
    fn as_kernel_says(&self, task: &Task) -> Process {
        let comm = task.comm.split(|byte| *byte == 0).next().unwrap_or_default();
        Process {
            id: task.id,
            ppid: Some(task.ppid),
            comm: Some(escape(comm)),
            exe: None,
            exe_file: None,
            args: None,
            uid: Some(task.uid),
            user: self.users.name(task.uid).map(|name| escape(name.as_bytes())),
            lineage: Vec::new(),
            unknown: None,
        }
    }
}

impl Default for Processes {
    fn default() -> Self {
        Self::new()
    }
}

/// Splits `/proc/PID/cmdline`: arguments end with NUL each.
fn arguments(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).map(escape).collect()
}

fn lineage(parent: u32) -> Vec<Ancestor> {
    let mut ancestors = Vec::new();
    let mut pid = parent;
    while pid != 0 && ancestors.len() < LINEAGE {
        let Some(stat) = Stat::read(pid) else { break };
        let exe = fs::read_link(format!("/proc/{pid}/exe")).ok();
        let exe = exe.map(|path| escape(OsStr::as_bytes(path.as_os_str())));
        ancestors.push(Ancestor { pid, comm: Some(escape(&stat.comm)), exe });
        pid = stat.ppid;
    }
    ancestors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_end_with_nul_and_may_be_empty() {
        assert_eq!(arguments(b"nc\0\0-l\0"), ["nc", "", "-l"]);
        assert_eq!(arguments(b""), [""; 0]);
    }

    #[test]
    fn this_very_process_is_read_whole() {
        let stat = Stat::read(std::process::id()).unwrap();
        let id = ProcessId { pid: std::process::id(), started: stat.started * TICK };
        let task = Task {
            id,
            tid: id.pid,
            ppid: stat.ppid,
            uid: 0,
            exec_id: 1,
            comm: *b"test\0\0\0\0\0\0\0\0\0\0\0\0",
        };
        let mut facts = Vec::new();
        let mut processes = Processes::new();
        processes.tell(&task, &mut facts);
        processes.tell(&task, &mut facts);
        let [Fact::Process(process)] = facts.as_slice() else { panic!("told once: {facts:?}") };
        assert_eq!(process.unknown, None);
        assert!(process.exe.is_some() && !process.lineage.is_empty());
    }

    #[test]
    fn a_reused_pid_is_not_taken_for_the_process() {
        let id = ProcessId { pid: std::process::id(), started: 1 };
        let task = Task { id, tid: id.pid, ppid: 1, uid: 0, exec_id: 1, comm: [b'x'; 16] };
        let process = Processes::new().read(&task);
        assert_eq!((process.exe, process.comm.as_deref()), (None, Some("xxxxxxxxxxxxxxxx")));
        assert!(process.unknown.is_some());
    }
}
