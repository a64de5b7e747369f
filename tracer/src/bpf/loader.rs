//! Brings a plan into the kernel: its maps, its programs, its links. An optional hook that fails becomes a
//! named gap in the coverage, a required one rejects the plan.

use std::path::PathBuf;

use aya::{
    Ebpf, include_bytes_aligned,
    maps::{Array, Map, MapData, RingBuf},
    programs::links::FdLink,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use thiserror::Error;
use tracer_common::{COUNTER_INSIDE, Settings};

use super::{
    attach::{Loads, Place, attach, describe, is_there, load_together},
    control::Control,
    flows::Flows,
    iterators::Iterators,
    kernel::Kernel,
    missed,
    plan::{Hook, Plan, When},
    proof::Proof,
};
use crate::{model::event::Coverage, source::flows::PERIOD};

/// Events that a plan must see to be a plan.
pub const BASE: &[&str] = &["listen", "bind", "connect", "established", "failed", "accept", "udp", "close"];

/// The kernel programs, as `cargo xtask build-ebpf` left them in the repository.
pub(super) static OBJECT: &[u8] = include_bytes_aligned!(env!("TRACER_BPF_OBJECT"));

/// The large maps, which only a stream of events fills.
const STREAM_MAPS: &[&str] = &["FLOWS", "SOCKETS", "CALLS"];

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

/// The kernel's table of connections that wait to be accepted.
pub type Awaiting = Array<MapData, u64>;

/// A hook that is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Name of its program, which is also the name of its mark in [`Proof`].
    pub program: &'static str,
    /// The hook as people name it: `fentry tcp_connect`.
    pub place: String,
    /// Kinds of events that it sees.
    pub covers: &'static [&'static str],
    /// Only IPv6 passes it.
    pub v6: bool,
}

/// A plan in the kernel: hooks attached. Programs and links go when this goes.
pub struct Loaded {
    /// The plan's name.
    pub plan: &'static str,
    /// It sees accepts by the first use of the connection, not by the call.
    pub accept_by_use: bool,
    /// What is seen and what is not.
    pub coverage: Vec<Coverage>,
    /// What stays unseen because a hook of the plan could not be had.
    pub missing: Vec<String>,
    /// The hooks that are attached.
    pub hooks: Vec<Attached>,
    /// Their marks.
    pub proof: Proof,
    /// The ring.
    pub ring: RingBuf<MapData>,
    /// Reader's flag and counters.
    pub control: Control,
    /// The kernel's table of UDP flows.
    pub flows: Flows,
    /// Connections that wait to be accepted.
    pub awaiting: Awaiting,
    /// Reads the sockets that are there already; holds programs and links.
    pub iterators: Iterators,
    probes: Vec<FdLink>,
}

impl Loaded {
    /// Runs of the programs that the kernel left out so far, as far as it counts them, but for those in
    /// whose place another program ran.
    #[must_use]
    pub fn missed(&self) -> u64 {
        let programs = self.iterators.programs().filter(|(name, _)| *name != "state_change_inside");
        let programs: u64 = programs.map(|(_, fd)| missed::by_program(fd)).sum();
        let probes: u64 = self.probes.iter().map(missed::by_link).sum();
        (programs + probes).saturating_sub(self.control.counter(COUNTER_INSIDE))
    }
}

/// What is asked of the programs, whatever the plan: sockets of one namespace or of all (`None`), the
/// self-test's own namespace, and the time in which a UDP flow is told at most once.
#[must_use]
pub fn settings(only: Option<u32>, proof: Option<u32>) -> Settings {
    Settings {
        own_pid: std::process::id(),
        netns: only.unwrap_or(0),
        udp_period: PERIOD,
        accept_by_use: 0,
        proof_netns: proof.unwrap_or(0),
        reads: 0,
        loopback_aside: 0,
    }
}

/// Loads and attaches a plan. `name_sockets` is called when every new socket is sure to have a cookie, to
/// have one given to those that are there already; only on kernels where the programs cannot do so.
///
/// # Errors
/// The first required hook that fails, or the first event of the base set that no hook sees.
pub fn load(
    kernel: &Kernel,
    plan: &Plan,
    settings: Settings,
    name_sockets: impl Fn(),
) -> Result<Loaded, LoadError> {
    let reads = kernel.reads(Some(plan));
    let settings = Settings { accept_by_use: plan.accept_by_use.into(), reads, ..settings };
    for hook in plan.hooks.iter().filter(|hook| hook.required) {
        is_there(kernel, hook.attach).map_err(|why| LoadError::Hook { hook: describe(hook), why })?;
    }
    let mut ebpf = open(kernel, settings, &[])?;
    let mut hooks = Hooks::new(Place::find(kernel));
    let (naming, seeing) = plan.naming_and_seeing(reads & tracer_common::READS_COOKIE != 0);
    if !naming.is_empty() {
        naming.into_iter().try_for_each(|hook| hooks.add(&mut ebpf, hook))?;
        name_sockets();
    }
    // The first one alone: a kernel that does not allow the plan refuses it.
    let (first, others) = seeing.split_at(1);
    first.iter().try_for_each(|hook| hooks.add(&mut ebpf, hook))?;
    let sure: Vec<&Hook> = others.iter().copied().filter(|hook| hook.when == When::Always).collect();
    hooks.loads = load_together(&mut ebpf, kernel, &sure);
    others.iter().try_for_each(|hook| hooks.add(&mut ebpf, hook))?;
    hooks.must_see_the_base(plan.name)?;
    let missing = hooks.missing();
    hooks.coverage.extend_from_slice(kernel.unseen());
    for (event, why) in plan.unseen {
        hooks.coverage.push(Coverage { event: (*event).to_owned(), by: None, why: Some((*why).to_owned()) });
    }
    let Hooks { mut coverage, attached, probes, .. } = hooks;
    let ring = take(&mut ebpf, "EVENTS", RingBuf::try_from)?;
    let flows = take(&mut ebpf, "FLOWS", Flows::try_from)?;
    let awaiting = take(&mut ebpf, "AWAITING", Array::try_from)?;
    let control = take(&mut ebpf, "CONTROL", Control::try_from)?;
    let proof = take(&mut ebpf, "PROOF", Proof::try_from)?;
    let iterators = Iterators::load(ebpf, &kernel.btf);
    coverage.push(baseline_coverage(&iterators));
    Ok(Loaded {
        plan: plan.name,
        accept_by_use: plan.accept_by_use,
        coverage,
        missing,
        hooks: attached,
        proof,
        ring,
        control,
        flows,
        awaiting,
        iterators,
        probes,
    })
}

/// Hooks as they are attached, and what that leaves unseen.
struct Hooks<'a> {
    place: Place<'a>,
    loads: Loads,
    coverage: Vec<Coverage>,
    attached: Vec<Attached>,
    probes: Vec<FdLink>,
}

impl<'a> Hooks<'a> {
    fn new(place: Place<'a>) -> Self {
        Self { place, loads: Loads::new(), coverage: Vec::new(), attached: Vec::new(), probes: Vec::new() }
    }

    fn add(&mut self, ebpf: &mut Ebpf, hook: &Hook) -> Result<(), LoadError> {
        if let When::Without(other) = hook.when
            && self.attached.iter().any(|attached| attached.program == other)
        {
            return Ok(());
        }
        let place = describe(hook);
        match attach(ebpf, &self.place, hook, &self.loads) {
            Ok(probes) => {
                let seen = |event: &&str| Coverage {
                    event: (**event).to_owned(),
                    by: Some(place.clone()),
                    why: None,
                };
                self.coverage.extend(hook.covers.iter().map(seen));
                self.probes.extend(probes);
                self.attached.push(Attached {
                    program: hook.program,
                    place,
                    covers: hook.covers,
                    v6: hook.v6,
                });
                Ok(())
            }
            Err(why) if hook.required => Err(LoadError::Hook { hook: place, why }),
            Err(_) if hook.unseen_without.is_empty() => Ok(()),
            Err(why) => {
                let why = Some(format!("{place}: {why}"));
                self.coverage.push(Coverage { event: hook.unseen_without.to_owned(), by: None, why });
                Ok(())
            }
        }
    }

    fn must_see_the_base(&self, plan: &str) -> Result<(), LoadError> {
        let seen = |event: &str| self.coverage.iter().any(|row| row.by.is_some() && row.event == event);
        match BASE.iter().find(|event| !seen(event)) {
            None => Ok(()),
            Some(event) => {
                let why = format!("no hook that sees `{event}` could be attached");
                Err(LoadError::Hook { hook: plan.to_owned(), why })
            }
        }
    }

    fn missing(&self) -> Vec<String> {
        let unseen = self.coverage.iter().filter(|row| row.by.is_none());
        unseen.map(|row| format!("{} ({})", row.event, row.why.as_deref().unwrap_or("?"))).collect()
    }
}

/// Loads the iterators alone, for a picture without a stream.
///
/// # Errors
/// When the kernel does not take the object.
pub fn load_iterators(kernel: &Kernel, settings: Settings) -> Result<Iterators, LoadError> {
    let settings = Settings { reads: kernel.reads(None), ..settings };
    Ok(Iterators::load(open(kernel, settings, STREAM_MAPS)?, &kernel.btf))
}

/// What reads the sockets that are there already.
fn baseline_coverage(iterators: &Iterators) -> Coverage {
    let by = match iterators.refused() {
        None => "iter task_file, iter tcp, iter udp".to_owned(),
        Some(why) => format!("sock_diag and /proc ({why})"),
    };
    Coverage { event: "seen".to_owned(), by: Some(by), why: None }
}

/// Opens the object for programs that do not use the maps that `unused` names.
pub(super) fn open(
    kernel: &Kernel,
    settings: Settings,
    unused: &'static [&'static str],
) -> Result<Ebpf, LoadError> {
    raise_locked_memory();
    #[cfg_attr(not(feature = "aya-log"), expect(unused_mut, reason = "only logs are taken out"))]
    let mut ebpf = kernel.open(OBJECT, settings, unused)?;
    #[cfg(feature = "aya-log")]
    forward_logs(&mut ebpf);
    Ok(ebpf)
}

/// Kernels before 5.11 count maps and programs as locked memory of the process. Where the limit may not be
/// raised, loading says what is missing.
fn raise_locked_memory() {
    let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
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
