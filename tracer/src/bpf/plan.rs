//! The hook plans as tables: what each hook is, where it attaches, what it covers, and what stays
//! unseen without it. Choosing among plans is a pure function.

/// Where a program attaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// A BTF tracepoint.
    Tracepoint(&'static str),
    /// Entry of a kernel function.
    Fentry(&'static str),
    /// Return of a kernel function.
    Fexit(&'static str),
    /// Return of a kernel function that has, on this kernel, that many parameters: the return value
    /// is the argument behind the last one.
    FexitWith(&'static str, u32),
    /// The cgroup v2 root, as a sock_ops program.
    SockOps,
    /// The cgroup v2 root, as a sock_addr program.
    SockAddr,
    /// The cgroup v2 root, as a sock program.
    CgroupSock,
}

/// One program of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Name of the program in the object.
    pub program: &'static str,
    /// Where it goes.
    pub attach: Attach,
    /// A plan without it is no plan.
    pub required: bool,
    /// Kinds of events that it sees.
    pub covers: &'static [&'static str],
    /// What stays unseen when it cannot be had; empty when another hook sees the same.
    pub unseen_without: &'static str,
}

/// A set of hooks that together see what the tracer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Name on the command line and in records.
    pub name: &'static str,
    /// Its hooks, in the order of attaching.
    pub hooks: &'static [Hook],
    /// It sees accepts by the first use of the connection, not by the call.
    pub accept_by_use: bool,
    /// What it cannot see even when every hook attaches, with the reason.
    pub unseen: &'static [(&'static str, &'static str)],
}

const STATE: Hook = Hook {
    program: "state_change",
    attach: Attach::Tracepoint("inet_sock_set_state"),
    required: true,
    covers: &["established", "failed", "close"],
    unseen_without: "",
};

const fn hook(program: &'static str, attach: Attach, covers: &'static [&'static str]) -> Hook {
    Hook { program, attach, required: true, covers, unseen_without: "" }
}

const fn optional(
    program: &'static str,
    attach: Attach,
    covers: &'static [&'static str],
    unseen_without: &'static str,
) -> Hook {
    Hook { program, attach, required: false, covers, unseen_without }
}

/// Trampolines on kernel functions.
pub const FENTRY: Plan = Plan {
    name: "fentry",
    accept_by_use: false,
    hooks: &[
        STATE,
        hook("tcp_connect", Attach::Fentry("tcp_connect"), &["connect"]),
        hook("listen_start", Attach::Fexit("inet_csk_listen_start"), &["listen"]),
        optional(
            "sock_graft",
            Attach::Fentry("security_sock_graft"),
            &["accept"],
            "accepts of servers that waited in accept() before the tracer started",
        ),
        optional("accept_return_2", Attach::FexitWith("inet_csk_accept", 2), &["accept"], ""),
        optional("accept_return_4", Attach::FexitWith("inet_csk_accept", 4), &["accept"], ""),
        optional(
            "tcp_v4_connect",
            Attach::Fexit("tcp_v4_connect"),
            &["failed"],
            "IPv4 connects that fail before a packet is sent",
        ),
        optional(
            "tcp_v6_connect",
            Attach::Fexit("tcp_v6_connect"),
            &["failed"],
            "IPv6 connects that fail before a packet is sent",
        ),
        hook("inet_bind", Attach::Fexit("inet_bind"), &["bind"]),
        optional("inet6_bind", Attach::Fexit("inet6_bind"), &["bind"], "bind of IPv6 UDP sockets"),
        optional(
            "udp_connect",
            Attach::Fexit("__ip4_datagram_connect"),
            &["connect (udp)"],
            "connect of IPv4 UDP sockets, until their first datagram",
        ),
        optional(
            "udp6_connect",
            Attach::Fexit("__ip6_datagram_connect"),
            &["connect (udp)"],
            "connect of IPv6 UDP sockets, until their first datagram",
        ),
        hook("udp_sendmsg", Attach::Fentry("udp_sendmsg"), &["udp"]),
        optional("udpv6_sendmsg", Attach::Fentry("udpv6_sendmsg"), &["udp"], "datagrams sent over IPv6"),
        optional(
            "udp_recvmsg",
            Attach::FexitWith("udp_recvmsg", 5),
            &["udp"],
            "datagrams received over IPv4",
        ),
        optional(
            "udpv6_recvmsg",
            Attach::FexitWith("udpv6_recvmsg", 5),
            &["udp"],
            "datagrams received over IPv6",
        ),
        optional(
            "udp_destroy",
            Attach::Fentry("udp_destroy_sock"),
            &["close (udp)"],
            "close of IPv4 UDP sockets",
        ),
        optional(
            "udpv6_destroy",
            Attach::Fentry("udpv6_destroy_sock"),
            &["close (udp)"],
            "close of IPv6 UDP sockets",
        ),
    ],
    unseen: &[NO_PEER, OTHER_FAMILIES],
};

/// BTF tracepoints and cgroup programs, for kernels that allow neither fentry nor kprobes.
pub const TRACEPOINT: Plan = Plan {
    name: "tracepoint",
    accept_by_use: true,
    hooks: &[
        STATE,
        hook("tcp_calls", Attach::SockOps, &["connect", "listen"]),
        optional(
            "getpeername4",
            Attach::SockAddr,
            &["accept"],
            "the exact moment of IPv4 accepts: the first use of the connection is told instead",
        ),
        optional(
            "getpeername6",
            Attach::SockAddr,
            &["accept"],
            "the exact moment of IPv6 accepts: the first use of the connection is told instead",
        ),
        optional(
            "send_length",
            Attach::Tracepoint("sock_send_length"),
            &["accept", "udp"],
            "connected UDP sockets' datagrams; the worker that accepted without asking for the peer's address",
        ),
        optional(
            "recv_length",
            Attach::Tracepoint("sock_recv_length"),
            &["accept", "udp"],
            "datagrams received by connected UDP sockets",
        ),
        optional("sock_release", Attach::CgroupSock, &["accept", "close (udp)"], "close of UDP sockets"),
        optional(
            "connect4",
            Attach::SockAddr,
            &["connect (udp)", "failed"],
            "connect of IPv4 UDP sockets; IPv4 connects that fail before a packet is sent",
        ),
        optional(
            "connect6",
            Attach::SockAddr,
            &["connect (udp)", "failed"],
            "connect of IPv6 UDP sockets; IPv6 connects that fail before a packet is sent",
        ),
        optional("bind4", Attach::SockAddr, &["bind"], "whether an IPv4 program chose its UDP port itself"),
        optional("bind6", Attach::SockAddr, &["bind"], "whether an IPv6 program chose its UDP port itself"),
        hook("post_bind4", Attach::CgroupSock, &["bind"]),
        optional("post_bind6", Attach::CgroupSock, &["bind"], "bind of IPv6 UDP sockets"),
        hook("sendmsg4", Attach::SockAddr, &["udp"]),
        optional("sendmsg6", Attach::SockAddr, &["udp"], "datagrams sent over IPv6 by unconnected sockets"),
        optional(
            "recvmsg4",
            Attach::SockAddr,
            &["udp"],
            "datagrams received over IPv4 by unconnected sockets",
        ),
        optional(
            "recvmsg6",
            Attach::SockAddr,
            &["udp"],
            "datagrams received over IPv6 by unconnected sockets",
        ),
    ],
    unseen: &[
        NO_PEER,
        (
            "accept (worker, before its first use)",
            "accept() without a place for the peer's address runs no hook here: until the connection is first used, the listener's holder is named and attribution says `listener`",
        ),
        (
            "connect (udp): the local end",
            "the cgroup hook runs before the kernel chooses it; the first datagram shows it",
        ),
        (
            "failed (errno of a connect that sent no packet)",
            "no hook sees it here: the route is asked afterwards",
        ),
        OTHER_FAMILIES,
    ],
};

const NO_PEER: (&str, &str) = (
    "udp (peer of a datagram)",
    "a program that reads datagrams without asking for the sender's address leaves no trace of the sender",
);
const OTHER_FAMILIES: (&str, &str) =
    ("packet, raw, ICMP, SCTP and vsock sockets", "this version hooks TCP and UDP only");

/// The plans that `auto` tries, best first.
pub const PLANS: &[Plan] = &[FENTRY, TRACEPOINT];

/// A plan that could not be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Name of the plan.
    pub plan: &'static str,
    /// The hook that failed and what the kernel said.
    pub why: String,
}

/// Takes the first plan that `load` can load; keeps the reason for every one that it cannot.
///
/// # Errors
/// All rejections, when none can be loaded.
pub fn choose<T>(
    plans: &[Plan],
    mut load: impl FnMut(&Plan) -> Result<T, String>,
) -> Result<(T, Vec<Rejected>), Vec<Rejected>> {
    let mut rejected = Vec::new();
    for plan in plans {
        match load(plan) {
            Ok(loaded) => return Ok((loaded, rejected)),
            Err(why) => rejected.push(Rejected { plan: plan.name, why }),
        }
    }
    Err(rejected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_plan_that_loads_is_taken_and_every_failure_is_kept() {
        let load = |plan: &Plan| if plan.name == "fentry" { Err("EPERM".to_owned()) } else { Ok(plan.name) };
        let (taken, rejected) = choose(PLANS, load).unwrap();
        assert_eq!(taken, "tracepoint");
        assert_eq!(rejected, [Rejected { plan: "fentry", why: "EPERM".to_owned() }]);
    }

    #[test]
    fn with_no_plan_all_reasons_come_back() {
        let rejected = choose(PLANS, |_| Err::<(), _>("no".to_owned())).unwrap_err();
        assert_eq!(rejected.iter().map(|r| r.plan).collect::<Vec<_>>(), ["fentry", "tracepoint"]);
    }

    #[test]
    fn every_optional_hook_names_its_consequence_or_has_a_twin() {
        for plan in PLANS {
            for hook in plan.hooks.iter().filter(|hook| !hook.required && hook.unseen_without.is_empty()) {
                let twins = plan.hooks.iter().filter(|other| other.covers == hook.covers).count();
                assert!(twins > 1, "{} of {}", hook.program, plan.name);
            }
        }
    }
}
