//! What is learned once about the running kernel, before any plan is tried: where its structures keep their
//! members, which functions it has, what programs may ask.

use std::{cell::RefCell, collections::BTreeMap, path::Path, thread};

use aya::{Btf, Ebpf, EbpfLoader, Endianness};
use tracer_common::{Offsets, READS_COOKIE, READS_FOR_OTHERS, READS_TASK_TYPE, Settings};
use zerocopy::IntoBytes;

use super::{
    btf::KernelTypes,
    iterators::Iterators,
    layout,
    loader::{self, LoadError, chain},
    plan::{Attach, Hook, PLANS, Plan},
};
use crate::{memory, model::event::Coverage};

/// Names BTF members, separated by commas, that are to count as missing: to try out what that does.
const MASK: &str = "TRACER_MASK_BTF";

/// The running kernel, as its BTF describes it.
pub struct Kernel {
    pub(super) offsets: Offsets,
    /// What programs are attached to, and no other types.
    pub(super) btf: Btf,
    /// One for all plans: making one reads the kernel's types once more.
    loader: RefCell<EbpfLoader<'static>>,
    functions: BTreeMap<&'static str, Option<u32>>,
    /// Its links tell how many probes they missed (6.7 and later).
    pub(super) counts_missed: bool,
    unseen: Vec<Coverage>,
}

/// Exists where the kernel has kprobes.
pub const KPROBES: &str = "/sys/bus/event_source/devices/kprobe";
/// Tells what the kernel says of a link.
const LINK: &str = "bpf_link_info";
/// Exists when tasks have a type for programs.
const TASK_TYPE: &str = "bpf_get_current_task_btf";
/// Exists when tracing programs may ask for a socket's cookie.
const COOKIE: &str = "bpf_get_socket_ptr_cookie";

impl Kernel {
    /// Reads the kernel's BTF.
    ///
    /// # Errors
    /// When there is none, or a member is missing that the programs need.
    pub fn read() -> Result<Self, LoadError> {
        // It reads all the types, asked to or not, which takes longest of what comes before the programs.
        let loader = thread::spawn(EbpfLoader::new);
        let path = Path::new("/sys/kernel/btf/vmlinux");
        let bytes = std::fs::read(path).map_err(|e| LoadError::NoBtf(path.into(), e))?;
        let names = PLANS.iter().flat_map(|plan| plan.hooks).filter_map(|hook| hook.attach.function());
        let names: Vec<&str> = names.chain([TASK_TYPE, COOKIE]).collect();
        let attached = names_in_types();
        let wanted = names.iter().chain(layout::STRUCTURES).chain([&LINK]).copied();
        let types = KernelTypes::parse(&bytes, wanted.chain(attached.iter().map(String::as_str)))?;
        let btf = Btf::parse(&types.attach_points(), Endianness::default());
        let btf = btf.map_err(|e| LoadError::Object(chain(&e)))?;
        let masked = std::env::var(MASK).unwrap_or_default();
        let (offsets, missing) = layout::offsets(&types, &masked);
        let needed: Vec<_> =
            missing.iter().filter(|member| member.unseen().is_none()).map(|member| member.0).collect();
        if !needed.is_empty() {
            return Err(LoadError::Layout(needed.join(", ")));
        }
        let functions = names.into_iter().map(|name| (name, types.parameters(name))).collect();
        let loader = loader.join().map_err(|_| LoadError::Object("reading the types failed".to_owned()))?;
        Ok(Self {
            offsets,
            btf,
            loader: RefCell::new(loader),
            functions,
            counts_missed: types.member(LINK, "perf_event.kprobe.missed").is_some(),
            unseen: missing.iter().filter_map(unseen).collect(),
        })
    }

    /// Creates the maps of the `object` and prepares its programs, which read `settings`. A map that `unused`
    /// names has one entry from now on.
    pub(super) fn open(
        &self,
        object: &[u8],
        settings: Settings,
        unused: &'static [&'static str],
    ) -> Result<Ebpf, LoadError> {
        // The loader keeps what it is given; these are some bytes for each plan that is tried.
        let (offsets, settings) = (Box::leak(Box::new(self.offsets)), Box::leak(Box::new(settings)));
        let mut loader = self.loader.borrow_mut();
        loader.override_global("OFFSETS", offsets.as_bytes(), true).override_global(
            "SETTINGS",
            settings.as_bytes(),
            true,
        );
        for map in unused {
            loader.map_max_entries(map, 1);
        }
        loader.load(object).map_err(|e| LoadError::Object(chain(&e)))
    }

    /// Gives back to the system the memory of its types, and of the programs, which are in the kernel.
    pub fn release(self) {
        drop(self);
        memory::give_back();
        memory::unmap_pages(loader::OBJECT);
    }

    /// Number of parameters of a function that a plan hooks; nothing when the kernel has no such function.
    pub(super) fn parameters(&self, function: &str) -> Option<u32> {
        self.functions.get(function).copied().flatten()
    }

    /// What programs of a plan may use here, as the bits of `Settings::reads`.
    pub(super) fn reads(&self, plan: Option<&Plan>) -> u32 {
        let task = if self.parameters(TASK_TYPE).is_some() { READS_TASK_TYPE } else { 0 };
        let cookie = if self.parameters(COOKIE).is_some() { READS_COOKIE } else { 0 };
        let for_others =
            if plan.is_some_and(|plan| plan.by_probe) && cookie != 0 { READS_FOR_OTHERS } else { 0 };
        task | cookie | for_others
    }

    /// What stays unknown whatever the plan, because the kernel does not show where it is.
    pub(super) fn unseen(&self) -> &[Coverage] {
        &self.unseen
    }
}

/// What the kernel's types call tracepoints and iterators, which programs are attached to by other names.
fn names_in_types() -> Vec<String> {
    let tracepoint = |hook: &Hook| {
        let Attach::Tracepoint(name) = hook.attach else { return None };
        Some(format!("btf_trace_{name}"))
    };
    let tracepoints = PLANS.iter().flat_map(|plan| plan.hooks).filter_map(tracepoint);
    tracepoints.chain(Iterators::NAMES.map(|(_, kind)| format!("bpf_iter_{kind}"))).collect()
}

fn unseen(member: &layout::Missing) -> Option<Coverage> {
    let event = member.unseen()?.to_owned();
    Some(Coverage { event, by: None, why: Some(format!("the kernel's BTF lacks {}", member.0)) })
}

impl Attach {
    /// The kernel function that is hooked, if it is one.
    fn function(self) -> Option<&'static str> {
        match self {
            Self::Fentry(name)
            | Self::Fexit(name)
            | Self::FexitWith(name, _)
            | Self::Kprobe(name)
            | Self::Kretprobe(name)
            | Self::KprobePair(name, _) => Some(name),
            Self::Tracepoint(_) | Self::SockOps | Self::SockAddr | Self::CgroupSock => None,
        }
    }
}
