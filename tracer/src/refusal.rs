//! Why a plan does not load, in words: the kernel's errno is often the same for very different reasons, so
//! what else is known of the machine is put beside it.

use std::{fs, path::Path};

use crate::{bpf::kernel::KPROBES, privileges};

/// Names the modes, with that in force in brackets; `kernel_lockdown(7)`.
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
/// How the kernel's EPERM is written.
const EPERM: &str = "Operation not permitted";
/// Begins the names of the helpers that read the kernel's memory.
const READ: &str = "bpf_probe_read";

/// What a refusal may come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    kprobes: bool,
    /// The lockdown mode in force; nothing where it cannot be read.
    lockdown: Option<String>,
    /// No capability is missing.
    capable: bool,
}

impl Machine {
    /// Looks at the running one.
    #[must_use]
    pub fn read() -> Self {
        Self {
            kprobes: Path::new(KPROBES).exists(),
            lockdown: fs::read_to_string(LOCKDOWN).ok().as_deref().and_then(mode),
            capable: privileges::missing().is_empty(),
        }
    }

    /// What stands behind `why`, the hook and the kernel's words, for a plan that does not load.
    #[must_use]
    pub fn explain(&self, plan: &str, why: &str) -> String {
        if !self.capable {
            return why.to_owned(); // whatever else there is, capabilities come first
        }
        let reads = plan == "kprobe" || why.contains(READ);
        match plan {
            "kprobe" if !self.kprobes => format!("this kernel has no kprobes (CONFIG_KPROBES); {why}"),
            _ if reads && self.lockdown.as_deref() == Some("confidentiality") => format!(
                "the kernel is locked down (confidentiality), which forbids kprobes and programs that read its \
                 memory; {why}"
            ),
            _ if why.contains(EPERM) => format!("{why}: {}", self.forbidden()),
            _ => why.to_owned(),
        }
    }

    fn forbidden(&self) -> String {
        let mode = self.lockdown.as_ref().map(|mode| format!(" (lockdown: {mode})")).unwrap_or_default();
        format!("no capability is missing, so this kernel's own policy forbids it{mode}")
    }
}

/// `none [integrity] confidentiality` → `integrity`
fn mode(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(mode, _)| mode.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(kprobes: bool, lockdown: &str, capable: bool) -> Machine {
        Machine { kprobes, lockdown: mode(lockdown), capable }
    }

    #[test]
    fn the_mode_in_force_is_the_one_in_brackets() {
        assert_eq!(mode("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
        assert_eq!(mode("none"), None);
    }

    #[test]
    fn a_kernel_without_kprobes_is_named() {
        let why = machine(false, "", true).explain("kprobe", "kprobe tcp_connect: no such file");
        assert!(why.starts_with("this kernel has no kprobes"), "{why}");
    }

    #[test]
    fn lockdown_is_named_where_a_program_reads_memory() {
        let locked = machine(true, "none integrity [confidentiality]", true);
        let helper = "program of this type cannot use helper bpf_probe_read#4";
        for (plan, why) in [("kprobe", "x"), ("fentry", helper)] {
            assert!(locked.explain(plan, why).contains("(confidentiality)"), "{plan}");
        }
        assert_eq!(locked.explain("fentry", "no BTF"), "no BTF");
        assert_eq!(machine(true, "none [integrity]", true).explain("fentry", helper), helper);
    }

    #[test]
    fn eperm_is_the_kernels_policy_only_when_no_capability_is_missing() {
        let eperm = "fentry tcp_connect: Operation not permitted (os error 1)";
        let why = machine(true, "none [integrity]", true).explain("fentry", eperm);
        assert!(why.contains("own policy") && why.contains("integrity"), "{why}");
        assert_eq!(machine(false, "", false).explain("kprobe", eperm), eperm);
    }
}
