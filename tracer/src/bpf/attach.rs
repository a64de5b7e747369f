//! Loads one program into the kernel and attaches it where its hook says; keeps what the kernel says
//! when it will not.

use std::{
    collections::BTreeMap,
    fs::File,
    num::NonZero,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
};

use aya::{
    Btf, Ebpf,
    programs::{CgroupAttachMode, KProbe, Program, ProgramError, links::FdLink},
};
use tracing::debug;

use super::{
    kernel::{KPROBES, Kernel},
    loader::chain,
    plan::{Attach, Hook},
};

/// Programs that are loaded at the same time, at most.
const LOADERS: usize = 4;

/// What programs are attached to, and with.
pub(super) struct Place<'a> {
    pub(super) kernel: &'a Kernel,
    /// The root of the cgroup v2 hierarchy, where one is mounted.
    pub(super) cgroup: Option<PathBuf>,
}

impl<'a> Place<'a> {
    pub(super) fn find(kernel: &'a Kernel) -> Self {
        Self { kernel, cgroup: cgroup_root() }
    }
}

/// A hook as people name it: `fentry tcp_connect`, `cgroup connect4`.
pub(super) fn describe(hook: &Hook) -> String {
    match hook.attach {
        Attach::Tracepoint(name) => format!("tp_btf {name}"),
        Attach::Fentry(name) => format!("fentry {name}"),
        Attach::Fexit(name) | Attach::FexitWith(name, _) => format!("fexit {name}"),
        Attach::Kprobe(name) => format!("kprobe {name}"),
        Attach::Kretprobe(name) | Attach::KprobePair(name, _) => format!("kretprobe {name}"),
        Attach::SockOps => "cgroup sock_ops".to_owned(),
        Attach::SockAddr | Attach::CgroupSock => format!("cgroup {}", hook.program),
    }
}

/// Programs that were loaded beforehand, by name, and what the kernel said of each.
pub(super) type Loads = BTreeMap<String, Result<(), String>>;

/// Loads the programs of hooks, several at a time: the verifier takes most of the time that a start takes, and works
/// on as many programs at once as there are processors.
pub(super) fn load_together(ebpf: &mut Ebpf, kernel: &Kernel, hooks: &[&Hook]) -> Loads {
    let hook_of =
        |program: &str| hooks.iter().find(|hook| hook.programs().any(|name| name == program)).copied();
    let programs =
        ebpf.programs_mut().filter_map(|(name, program)| Some((name, program, hook_of(name)?.attach)));
    let queue =
        Mutex::new(programs.filter(|(.., attach)| is_there(kernel, *attach).is_ok()).collect::<Vec<_>>());
    let loads = Mutex::new(Loads::new());
    let (btf, workers) = (&kernel.btf, thread::available_parallelism().map_or(1, NonZero::get).min(LOADERS));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((name, program, attach)) = take_last(&queue) {
                    let loaded = verify(program, attach, btf);
                    loads.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), loaded);
                }
            });
        }
    });
    loads.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn take_last<T>(queue: &Mutex<Vec<T>>) -> Option<T> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

/// Attaches the program of a hook, which it loads unless that was done; gives the links that can tell how many probes they
/// missed.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    place: &Place<'_>,
    hook: &Hook,
    loads: &Loads,
) -> Result<Vec<FdLink>, String> {
    let loaded = hook.programs().try_for_each(|name| match loads.get(name) {
        Some(loaded) => loaded.clone(),
        None => load_one(ebpf, place.kernel, hook, name),
    });
    let outcome = loaded.and_then(|()| link(ebpf, place, hook));
    debug!(hook = describe(hook), failed = outcome.as_ref().err(), "attach");
    outcome
}

/// Loads the programs of a hook without attaching them.
pub(super) fn load(ebpf: &mut Ebpf, kernel: &Kernel, hook: &Hook) -> Result<(), String> {
    hook.programs().try_for_each(|name| load_one(ebpf, kernel, hook, name))
}

fn load_one(ebpf: &mut Ebpf, kernel: &Kernel, hook: &Hook, name: &str) -> Result<(), String> {
    is_there(kernel, hook.attach)?;
    verify(program(ebpf, name)?, hook.attach, &kernel.btf)
}

/// Has the kernel verify a program.
fn verify(program: &mut Program, attach: Attach, btf: &Btf) -> Result<(), String> {
    let loaded = match (program, attach) {
        (Program::BtfTracePoint(p), Attach::Tracepoint(name)) => p.load(name, btf),
        (Program::FEntry(p), Attach::Fentry(name)) => p.load(name, btf),
        (Program::FExit(p), Attach::Fexit(name) | Attach::FexitWith(name, _)) => p.load(name, btf),
        (Program::KProbe(p), Attach::Kprobe(_) | Attach::Kretprobe(_) | Attach::KprobePair(..)) => p.load(),
        (Program::SockOps(p), Attach::SockOps) => p.load(),
        (Program::CgroupSockAddr(p), Attach::SockAddr) => p.load(),
        (Program::CgroupSock(p), Attach::CgroupSock) => p.load(),
        (_, _) => return Err("the program is of another type than its plan says".to_owned()),
    };
    loaded.map_err(|e| explain(&e))
}

/// What can be known before anything is loaded: whether the kernel has kprobes, and by the prototype which program
/// fits a function.
pub(super) fn is_there(kernel: &Kernel, attach: Attach) -> Result<(), String> {
    match attach {
        Attach::FexitWith(function, parameters) => match kernel.parameters(function) {
            Some(count) if count == parameters => Ok(()),
            Some(count) => Err(format!("{function} has {count} parameters here, not {parameters}")),
            None => Err(format!("this kernel has no {function}")),
        },
        Attach::Kprobe(_) | Attach::Kretprobe(_) | Attach::KprobePair(..) if !Path::new(KPROBES).exists() => {
            Err(format!("{KPROBES} does not exist"))
        }
        Attach::Kprobe(_)
        | Attach::Kretprobe(_)
        | Attach::KprobePair(..)
        | Attach::Tracepoint(_)
        | Attach::Fentry(_)
        | Attach::Fexit(_)
        | Attach::SockOps
        | Attach::SockAddr
        | Attach::CgroupSock => Ok(()),
    }
}

fn link(ebpf: &mut Ebpf, place: &Place<'_>, hook: &Hook) -> Result<Vec<FdLink>, String> {
    let mode = CgroupAttachMode::Single;
    let attached = match (program(ebpf, hook.program)?, hook.attach) {
        (Program::BtfTracePoint(p), _) => p.attach().map(drop),
        (Program::FEntry(p), _) => p.attach().map(drop),
        (Program::FExit(p), _) => p.attach().map(drop),
        (Program::SockOps(p), _) => p.attach(root(place)?, mode).map(drop),
        (Program::CgroupSockAddr(p), _) => p.attach(root(place)?, mode).map(drop),
        (Program::CgroupSock(p), _) => p.attach(root(place)?, mode).map(drop),
        (Program::KProbe(_), Attach::KprobePair(function, entry)) => {
            // The entry first: a return without its entry is passed over.
            let mut links = probe(ebpf, place.kernel, entry, function)?;
            links.extend(probe(ebpf, place.kernel, hook.program, function)?);
            return Ok(links);
        }
        (Program::KProbe(_), Attach::Kprobe(function) | Attach::Kretprobe(function)) => {
            return probe(ebpf, place.kernel, hook.program, function);
        }
        (_, _) => return Err("the program is of another type than its plan says".to_owned()),
    };
    attached.map(|()| Vec::new()).map_err(|e| explain(&e))
}

fn probe(ebpf: &mut Ebpf, kernel: &Kernel, name: &str, function: &str) -> Result<Vec<FdLink>, String> {
    let program = kprobe(ebpf, name)?;
    let id = program.attach(function, 0).map_err(|e| explain(&e))?;
    if !kernel.counts_missed {
        return Ok(Vec::new());
    }
    let link = program.take_link(id).map_err(|e| explain(&e))?;
    FdLink::try_from(link).map(|link| vec![link]).map_err(|e| e.to_string())
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, String> {
    ebpf.program_mut(name).ok_or_else(|| "not in the object".to_owned())
}

fn kprobe<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut KProbe, String> {
    program(ebpf, name)?.try_into().map_err(|e: ProgramError| chain(&e))
}

fn root(place: &Place<'_>) -> Result<File, String> {
    let path = place.cgroup.as_deref().ok_or("no cgroup v2 hierarchy is mounted")?;
    File::open(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// What the kernel said, in one line: the error and, where the verifier spoke, its last words.
pub(super) fn explain(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        debug!("verifier: {log}");
        let closing = ["processed ", "stack depth ", "verification time "];
        let last = log.lines().rfind(|line| !line.is_empty() && !closing.iter().any(|c| line.starts_with(c)));
        return match last {
            Some(line) => format!("{io_error}; verifier: {line}"),
            None => io_error.to_string(),
        };
    }
    chain(error)
}

/// The root of the cgroup v2 hierarchy, from the mount table.
fn cgroup_root() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (path, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "cgroup2").then(|| Path::new(path).to_path_buf())
    })
}
