//! What this process may do, and what it would need: named capabilities instead of "be root".

use std::fs;

/// A capability that the tracer needs, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Name, as `capabilities(7)` has it.
    pub name: &'static str,
    /// Bit number, `include/uapi/linux/capability.h`.
    bit: u32,
    /// What it is needed for.
    pub purpose: &'static str,
}

/// Everything that `live` and `list` need.
pub const NEEDS: &[Need] = &[
    Need { name: "CAP_BPF", bit: 39, purpose: "to load programs and maps" },
    Need { name: "CAP_PERFMON", bit: 38, purpose: "to let programs read kernel structures" },
    Need { name: "CAP_NET_ADMIN", bit: 12, purpose: "to attach programs to the cgroup root" },
    Need {
        name: "CAP_SYS_ADMIN",
        bit: 21,
        purpose: "to read the sockets of every network namespace, and to have one of its own for the self-test",
    },
    Need { name: "CAP_SYS_PTRACE", bit: 19, purpose: "to read the executables of other users' processes" },
    Need { name: "CAP_DAC_READ_SEARCH", bit: 2, purpose: "to read files whatever their owner" },
];

/// The needs that the calling process does not have.
#[must_use]
pub fn missing() -> Vec<Need> {
    let effective = effective();
    NEEDS.iter().copied().filter(|need| effective & (1 << need.bit) == 0).collect()
}

/// One sentence on what is missing and what to do; nothing when nothing is.
#[must_use]
pub fn advice() -> Option<String> {
    let missing = missing();
    let names: Vec<_> = missing.iter().map(|need| need.name).collect();
    (!names.is_empty())
        .then(|| format!("run it as root (for example with sudo), or give it {}", names.join(", ")))
}

/// The effective set of `/proc/self/status`; empty when it cannot be read.
fn effective() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}
