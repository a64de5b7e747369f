//! Loads a plan's programs into the kernel and attaches them; an optional hook that fails becomes a
//! named gap in the coverage, a required one rejects the plan.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use aya::{
    Btf, Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{HashMap as BpfHashMap, Map, MapData, RingBuf},
    programs::{CgroupAttachMode, Program, ProgramError},
};
use thiserror::Error;
use tracer_common::{FlowKey, Offsets, Settings};
use tracing::debug;
use zerocopy::IntoBytes;

use super::{
    btf::KernelTypes,
    control::Control,
    iterators::Iterators,
    layout::{self, Missing},
    plan::{Attach, Hook, Plan},
};
use crate::{model::event::Coverage, source::flows::PERIOD};

/// Events that a plan must see to be a plan.
const BASE: &[&str] = &["listen", "bind", "connect", "established", "failed", "accept", "udp", "close"];

/// The kernel programs, as `cargo xtask build-ebpf` left them in the repository.
static OBJECT: &[u8] = include_bytes_aligned!(env!("TRACER_BPF_OBJECT"));

/// Why nothing can be loaded at all, whatever the plan.
#[derive(Debug, Error)]
pub enum LoadError {
    /// No BTF: neither offsets nor typed programs.
    #[error("{0}: {1}; the tracer needs a kernel with BTF (CONFIG_DEBUG_INFO_BTF)")]
    NoBtf(PathBuf, std::io::Error),
    /// The kernel's types could not be read.
    #[error(transparent)]
    Btf(#[from] super::btf::BtfError),
    /// A structure member that everything needs is missing.
    #[error("the kernel's BTF lacks {0}")]
    Layout(String),
    /// aya could not read the kernel's types or create the maps.
    #[error("{0}")]
    Object(String),
    /// A hook of the plan could not be had.
    #[error("{hook}: {why}")]
    Hook {
        /// Program and attach point.
        hook: String,
        /// What the kernel said.
        why: String,
    },
}

/// What is learned once about the kernel, before any plan is tried.
pub struct Kernel {
    offsets: Offsets,
    btf: Btf,
    parameters: Vec<(&'static str, Option<u32>)>,
}

impl Kernel {
    /// Reads the kernel's BTF.
    ///
    /// # Errors
    /// When there is none, or a member is missing that the programs need.
    pub fn read() -> Result<Self, LoadError> {
        let path = Path::new("/sys/kernel/btf/vmlinux");
        let bytes = std::fs::read(path).map_err(|e| LoadError::NoBtf(path.into(), e))?;
        let types = KernelTypes::parse(&bytes)?;
        let (offsets, missing) = layout::offsets(&types);
        if !missing.is_empty() {
            let names: Vec<_> = missing.iter().map(|Missing(name)| *name).collect();
            return Err(LoadError::Layout(names.join(", ")));
        }
        let functions = super::plan::PLANS.iter().flat_map(|plan| plan.hooks).filter_map(|hook| {
            if let Attach::FexitWith(function, _) = hook.attach { Some(function) } else { None }
        });
        let parameters = functions.map(|name| (name, types.parameters(name))).collect();
        let btf = Btf::from_sys_fs().map_err(|e| LoadError::Object(chain(&e)))?;
        Ok(Self { offsets, btf, parameters })
    }

    fn parameters(&self, function: &str) -> Option<u32> {
        self.parameters.iter().find(|(name, _)| *name == function).and_then(|(_, count)| *count)
    }
}

/// The kernel's table of UDP flows: keys are the bytes of a `FlowKey`, values the words of a `Flow`.
pub type Flows = BpfHashMap<MapData, [u8; size_of::<FlowKey>()], [u64; 3]>;

/// A plan in the kernel: hooks attached. Programs and links go when this goes.
pub struct Loaded {
    /// The plan's name.
    pub plan: &'static str,
    /// What is seen and what is not.
    pub coverage: Vec<Coverage>,
    /// What stays unseen because a hook of the plan could not be had.
    pub missing: Vec<String>,
    /// The ring.
    pub ring: RingBuf<MapData>,
    /// Reader's flag and counters.
    pub control: Control,
    /// The kernel's table of UDP flows.
    pub flows: Flows,
    /// Reads the sockets that are there already; holds programs and links.
    pub iterators: Iterators,
}

/// What is asked of the programs, whatever the plan: sockets of one namespace or of all (`None`), and
/// the time in which a UDP flow is told at most once.
#[must_use]
pub fn settings(only: Option<u32>) -> Settings {
    let netns = only.unwrap_or(0);
    Settings { own_pid: std::process::id(), netns, udp_period: PERIOD, accept_by_use: 0, reserved: 0 }
}

/// Loads and attaches a plan.
///
/// # Errors
/// The first required hook that fails, or the first event of the base set that no hook sees.
pub fn load(kernel: &Kernel, plan: &Plan, settings: Settings) -> Result<Loaded, LoadError> {
    let mut ebpf = open(kernel, Settings { accept_by_use: plan.accept_by_use.into(), ..settings })?;
    let mut coverage = Vec::new();
    let cgroup = cgroup_root();
    for hook in plan.hooks {
        attach_hook(&mut ebpf, kernel, hook, cgroup.as_deref(), &mut coverage)?;
    }
    for event in BASE {
        if !coverage.iter().any(|row: &Coverage| row.by.is_some() && row.event == *event) {
            let why = format!("no hook that sees `{event}` could be attached");
            return Err(LoadError::Hook { hook: plan.name.to_owned(), why });
        }
    }
    let unseen = coverage.iter().filter(|row| row.by.is_none());
    let missing =
        unseen.map(|row| format!("{} ({})", row.event, row.why.as_deref().unwrap_or("?"))).collect();
    for (event, why) in plan.unseen {
        coverage.push(Coverage { event: (*event).to_owned(), by: None, why: Some((*why).to_owned()) });
    }
    let ring = take(&mut ebpf, "EVENTS", RingBuf::try_from)?;
    let flows = take(&mut ebpf, "FLOWS", BpfHashMap::try_from)?;
    let control = take(&mut ebpf, "CONTROL", Control::try_from)?;
    let iterators = Iterators::load(ebpf, &kernel.btf);
    coverage.push(baseline_coverage(&iterators));
    Ok(Loaded { plan: plan.name, coverage, missing, ring, control, flows, iterators })
}

/// Loads the iterators alone, for a picture without a stream.
///
/// # Errors
/// When the kernel does not take the object.
pub fn load_iterators(kernel: &Kernel, settings: Settings) -> Result<Iterators, LoadError> {
    Ok(Iterators::load(open(kernel, settings)?, &kernel.btf))
}

/// What reads the sockets that are there already.
fn baseline_coverage(iterators: &Iterators) -> Coverage {
    let by = match iterators.refused() {
        None => "iter task_file, iter tcp, iter udp".to_owned(),
        Some(why) => format!("sock_diag and /proc ({why})"),
    };
    Coverage { event: "seen".to_owned(), by: Some(by), why: None }
}

fn open(kernel: &Kernel, settings: Settings) -> Result<Ebpf, LoadError> {
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(&kernel.btf))
        .override_global("OFFSETS", kernel.offsets.as_bytes(), true)
        .override_global("SETTINGS", settings.as_bytes(), true);
    #[cfg_attr(not(feature = "aya-log"), expect(unused_mut, reason = "only logs are taken out"))]
    let mut ebpf = loader.load(OBJECT).map_err(|e| LoadError::Object(chain(&e)))?;
    #[cfg(feature = "aya-log")]
    forward_logs(&mut ebpf);
    Ok(ebpf)
}

/// Passes on what the programs of a development object log; a released object logs nothing.
#[cfg(feature = "aya-log")]
fn forward_logs(ebpf: &mut Ebpf) {
    match aya_log::EbpfLogger::init(ebpf) {
        Ok(mut logger) => {
            std::thread::spawn(move || {
                loop {
                    logger.flush();
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
            });
        }
        Err(error) => tracing::warn!("no logs of the kernel programs: {error}"),
    }
}

fn take<T, E: std::error::Error>(
    ebpf: &mut Ebpf,
    name: &str,
    convert: impl FnOnce(Map) -> Result<T, E>,
) -> Result<T, LoadError> {
    let map =
        ebpf.take_map(name).ok_or_else(|| LoadError::Object(format!("the object has no map {name}")))?;
    convert(map).map_err(|e| LoadError::Object(format!("{name}: {}", chain(&e))))
}

fn attach_hook(
    ebpf: &mut Ebpf,
    kernel: &Kernel,
    hook: &Hook,
    cgroup: Option<&Path>,
    coverage: &mut Vec<Coverage>,
) -> Result<(), LoadError> {
    let place = describe(hook);
    let outcome = attach(ebpf, kernel, hook, cgroup);
    debug!(hook = place, failed = outcome.as_ref().err(), "attach");
    match outcome {
        Ok(()) => {
            let seen =
                |event: &&str| Coverage { event: (**event).to_owned(), by: Some(place.clone()), why: None };
            coverage.extend(hook.covers.iter().map(seen));
            Ok(())
        }
        Err(why) if hook.required => Err(LoadError::Hook { hook: place, why }),
        Err(_) if hook.unseen_without.is_empty() => Ok(()),
        Err(why) => {
            let why = Some(format!("{place}: {why}"));
            coverage.push(Coverage { event: hook.unseen_without.to_owned(), by: None, why });
            Ok(())
        }
    }
}

/// A hook as people name it: `fentry tcp_connect`, `cgroup connect4`.
fn describe(hook: &Hook) -> String {
    match hook.attach {
        Attach::Tracepoint(name) => format!("tp_btf {name}"),
        Attach::Fentry(name) => format!("fentry {name}"),
        Attach::Fexit(name) | Attach::FexitWith(name, _) => format!("fexit {name}"),
        Attach::SockOps => "cgroup sock_ops".to_owned(),
        Attach::SockAddr | Attach::CgroupSock => format!("cgroup {}", hook.program),
    }
}

fn attach(ebpf: &mut Ebpf, kernel: &Kernel, hook: &Hook, cgroup: Option<&Path>) -> Result<(), String> {
    if let Attach::FexitWith(function, parameters) = hook.attach {
        match kernel.parameters(function) {
            Some(count) if count == parameters => {}
            Some(count) => return Err(format!("{function} has {count} parameters here, not {parameters}")),
            None => return Err(format!("this kernel has no {function}")),
        }
    }
    let program = ebpf.program_mut(hook.program).ok_or("not in the object")?;
    let cgroup = || {
        let path = cgroup.ok_or("no cgroup v2 hierarchy is mounted")?;
        File::open(path).map_err(|e| format!("{}: {e}", path.display()))
    };
    match (program, hook.attach) {
        (Program::BtfTracePoint(p), Attach::Tracepoint(name)) => {
            p.load(name, &kernel.btf).and_then(|()| p.attach().map(drop)).map_err(|e| explain(&e))
        }
        (Program::FEntry(p), Attach::Fentry(name)) => {
            p.load(name, &kernel.btf).and_then(|()| p.attach().map(drop)).map_err(|e| explain(&e))
        }
        (Program::FExit(p), Attach::Fexit(name) | Attach::FexitWith(name, _)) => {
            p.load(name, &kernel.btf).and_then(|()| p.attach().map(drop)).map_err(|e| explain(&e))
        }
        (Program::SockOps(p), Attach::SockOps) => {
            let root = cgroup()?;
            p.load()
                .and_then(|()| p.attach(root, CgroupAttachMode::Single).map(drop))
                .map_err(|e| explain(&e))
        }
        (Program::CgroupSockAddr(p), Attach::SockAddr) => {
            let root = cgroup()?;
            p.load()
                .and_then(|()| p.attach(root, CgroupAttachMode::Single).map(drop))
                .map_err(|e| explain(&e))
        }
        (Program::CgroupSock(p), Attach::CgroupSock) => {
            let root = cgroup()?;
            p.load()
                .and_then(|()| p.attach(root, CgroupAttachMode::Single).map(drop))
                .map_err(|e| explain(&e))
        }
        (_, _) => Err("the program is of another type than its plan says".to_owned()),
    }
}

/// What the kernel said, in one line: the error and, where the verifier spoke, its last words.
fn explain(error: &ProgramError) -> String {
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

/// An error and its causes, each once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// The root of the cgroup v2 hierarchy, from the mount table.
fn cgroup_root() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (path, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}
