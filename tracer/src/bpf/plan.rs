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
    /// Entry of a kernel function, by kprobe.
    Kprobe(&'static str),
    /// Return of a kernel function, by kretprobe.
    Kretprobe(&'static str),
    /// Return of a kernel function by kretprobe, with the named program at its entry, which remembers the
    /// arguments.
    KprobePair(&'static str, &'static str),
    /// The cgroup v2 root, as a sock_ops program.
    SockOps,
    /// The cgroup v2 root, as a sock_addr program.
    SockAddr,
    /// The cgroup v2 root, as a sock program.
    CgroupSock,
}

/// When a hook belongs to its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// On every kernel.
    Always,
    /// Where tracing programs cannot ask for a socket's cookie.
    NoCookie,
    /// Where some of the plan's programs cannot ask for a socket's cookie.
    NotAllCookies,
    /// Where the named program could not be attached.
    Without(&'static str),
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
    /// Only IPv6 passes it.
    pub v6: bool,
    /// When it is attached.
    pub when: When,
}

impl Hook {
    /// The program that remembers the arguments at the entry of a function whose return is hooked, and that function.
    pub fn entry(&self) -> Option<(&'static str, &'static str)> {
        match self.attach {
            Attach::KprobePair(function, entry) => Some((entry, function)),
            Attach::Tracepoint(_)
            | Attach::Fentry(_)
            | Attach::Fexit(_)
            | Attach::FexitWith(..)
            | Attach::Kprobe(_)
            | Attach::Kretprobe(_)
            | Attach::SockOps
            | Attach::SockAddr
            | Attach::CgroupSock => None,
        }
    }

    /// Its program, after the one at the entry where there is one.
    pub fn programs(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.entry().map(|(program, _)| program).into_iter().chain([self.program])
    }

    const fn v6(self) -> Self {
        Self { v6: true, ..self }
    }

    const fn when(self, when: When) -> Self {
        Self { when, ..self }
    }
}

/// A set of hooks that together see what the tracer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Name on the command line and in records.
    pub name: &'static str,
    /// Its hooks, in the order of attaching: first what a kernel refuses that does not allow the plan.
    pub hooks: &'static [Hook],
    /// It sees accepts by the first use of the connection, not by the call.
    pub accept_by_use: bool,
    /// Most of its programs know sockets by their address alone, and cannot ask for their cookies.
    pub by_probe: bool,
    /// What it cannot see even when every hook attaches, with the reason.
    pub unseen: &'static [(&'static str, &'static str)],
}

impl Plan {
    /// The hooks that see to it that sockets have cookies, none where they need not, and all others. `can_ask` says that
    /// tracing programs can ask for a cookie: asking gives one, so where a connection's change of state is seen, that
    /// names it.
    #[must_use]
    pub fn naming_and_seeing(&self, can_ask: bool) -> (Vec<&Hook>, Vec<&Hook>) {
        let all = can_ask && !self.by_probe;
        let needed = self.hooks.iter().filter(|hook| match hook.when {
            When::NoCookie => !can_ask,
            When::NotAllCookies => !all,
            When::Always | When::Without(_) => true,
        });
        needed.partition(|hook| match hook.when {
            When::NoCookie | When::NotAllCookies => true,
            When::Always | When::Without(_) => can_ask && self.by_probe && hook.attach == STATE.attach,
        })
    }
}

const fn hook(program: &'static str, attach: Attach, covers: &'static [&'static str]) -> Hook {
    Hook { program, attach, required: true, covers, unseen_without: "", v6: false, when: When::Always }
}

const fn optional(
    program: &'static str,
    attach: Attach,
    covers: &'static [&'static str],
    unseen_without: &'static str,
) -> Hook {
    Hook { required: false, unseen_without, ..hook(program, attach, covers) }
}

const STATE: Hook =
    hook("state_change", Attach::Tracepoint("inet_sock_set_state"), &["established", "failed", "close"]);

/// Behind [`STATE`], for changes that interrupt it.
const STATE_INSIDE: Hook = optional(
    "state_change_inside",
    Attach::Tracepoint("inet_sock_set_state"),
    &["established", "failed", "close"],
    "",
);

/// See to it that every socket has a cookie before another hook meets it. They come first, and the sockets
/// that are there already are named by sock_diag before the next hook.
const NAME_SOCKETS: Hook = hook("name_sockets", Attach::CgroupSock, &["identity"]).when(When::NotAllCookies);
const NAME_CONNECTIONS: Hook = hook("name_connections", Attach::SockOps, &["identity"]).when(When::NoCookie);

/// The lives of processes: what they run and who began them is known when a socket tells of them, however short they live.
const FORK: Hook = hook("fork", Attach::Tracepoint("sched_process_fork"), &["fork"]);
/// aya takes a kernel that forbids to read its memory (lockdown, confidentiality) for one too old to tell it from a
/// program's, and has the program read by a helper that is forbidden too.
const EXEC: Hook = optional(
    "exec",
    Attach::Tracepoint("sched_process_exec"),
    &["exec"],
    "what processes run that end before /proc is read",
);
const EXIT: Hook = hook("exit", Attach::Tracepoint("sched_process_exit"), &["exit"]);

/// Trampolines on kernel functions.
pub const FENTRY: Plan = Plan {
    name: "fentry",
    accept_by_use: false,
    by_probe: false,
    hooks: &[
        NAME_SOCKETS,
        NAME_CONNECTIONS,
        hook("tcp_connect", Attach::Fentry("tcp_connect"), &["connect"]),
        STATE,
        STATE_INSIDE,
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
        )
        .v6(),
        hook("inet_bind", Attach::Fexit("inet_bind"), &["bind"]),
        optional("inet6_bind", Attach::Fexit("inet6_bind"), &["bind"], "bind of IPv6 UDP sockets").v6(),
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
        )
        .v6(),
        hook("udp_sendmsg", Attach::Fentry("udp_sendmsg"), &["udp"]),
        optional("udpv6_sendmsg", Attach::Fentry("udpv6_sendmsg"), &["udp"], "datagrams sent over IPv6").v6(),
        optional("udp_consume", Attach::Fentry("skb_consume_udp"), &["udp"], "datagrams received"),
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
        )
        .v6(),
        FORK,
        EXEC,
        EXIT,
    ],
    unseen: &[OTHER_FAMILIES],
};

/// Breakpoints on kernel functions, for kernels without trampolines. Sockets are known by their address
/// alone, so their cookies are seen to by cgroup programs.
pub const KPROBE: Plan = Plan {
    name: "kprobe",
    accept_by_use: false,
    by_probe: true,
    hooks: &[
        NAME_SOCKETS,
        NAME_CONNECTIONS,
        hook("k_tcp_connect", Attach::Kprobe("tcp_connect"), &["connect"]),
        STATE,
        STATE_INSIDE,
        hook("k_hash", Attach::Kprobe("inet_hash"), &["listen"]),
        optional("k_hash6", Attach::Kprobe("inet6_hash"), &["listen"], "IPv6 listeners").v6(),
        optional("k_sock_graft", Attach::Kprobe("security_sock_graft"), &["accept"], ""),
        optional(
            "k_accept_return",
            Attach::Kretprobe("inet_csk_accept"),
            &["accept"],
            "accepts of servers that waited in accept() before the tracer started, and while more processes wait in accept() than a kretprobe has slots",
        )
        .when(When::Without("k_sock_graft")),
        optional(
            "k_tcp_v4_connect",
            Attach::KprobePair("tcp_v4_connect", "k_tcp_v4_connect_entry"),
            &["failed"],
            "IPv4 connects that fail before a packet is sent",
        ),
        optional(
            "k_tcp_v6_connect",
            Attach::KprobePair("tcp_v6_connect", "k_tcp_v6_connect_entry"),
            &["failed"],
            "IPv6 connects that fail before a packet is sent",
        )
        .v6(),
        hook("k_inet_bind", Attach::KprobePair("inet_bind", "k_inet_bind_entry"), &["bind"]),
        optional(
            "k_inet6_bind",
            Attach::KprobePair("inet6_bind", "k_inet6_bind_entry"),
            &["bind"],
            "bind of IPv6 UDP sockets",
        )
        .v6(),
        optional(
            "k_udp_connect",
            Attach::KprobePair("__ip4_datagram_connect", "k_udp_connect_entry"),
            &["connect (udp)"],
            "connect of IPv4 UDP sockets, until their first datagram",
        ),
        optional(
            "k_udp6_connect",
            Attach::KprobePair("__ip6_datagram_connect", "k_udp6_connect_entry"),
            &["connect (udp)"],
            "connect of IPv6 UDP sockets, until their first datagram",
        )
        .v6(),
        hook("k_udp_sendmsg", Attach::Kprobe("udp_sendmsg"), &["udp"]),
        optional("k_udpv6_sendmsg", Attach::Kprobe("udpv6_sendmsg"), &["udp"], "datagrams sent over IPv6").v6(),
        optional("k_udp_consume", Attach::Kprobe("skb_consume_udp"), &["udp"], "datagrams received"),
        optional(
            "k_udp_destroy",
            Attach::Kprobe("udp_destroy_sock"),
            &["close (udp)"],
            "close of IPv4 UDP sockets",
        ),
        optional(
            "k_udpv6_destroy",
            Attach::Kprobe("udpv6_destroy_sock"),
            &["close (udp)"],
            "close of IPv6 UDP sockets",
        )
        .v6(),
        FORK,
        EXEC,
        EXIT,
    ],
    unseen: &[OTHER_FAMILIES],
};

/// BTF tracepoints and cgroup programs, for kernels that allow neither fentry nor kprobes.
pub const TRACEPOINT: Plan = Plan {
    name: "tracepoint",
    accept_by_use: true,
    by_probe: false,
    hooks: &[
        STATE,
        STATE_INSIDE,
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
        )
        .v6(),
        optional(
            "send_length",
            Attach::Tracepoint("sock_send_length"),
            &["accept", "udp"],
            "datagrams sent by connected UDP sockets",
        ),
        optional(
            "recv_length",
            Attach::Tracepoint("sock_recv_length"),
            &["accept", "udp"],
            "datagrams received by connected UDP sockets",
        ),
        optional(
            "first_packet",
            Attach::Tracepoint("net_dev_queue"),
            &["accept"],
            "the worker that accepted without asking for the peer's address, until it reads or closes",
        )
        .when(When::Without("send_length")),
        optional(
            "first_read",
            Attach::Tracepoint("tcp_rcv_space_adjust"),
            &["accept"],
            "the worker that accepted without asking for the peer's address, until it writes or closes",
        )
        .when(When::Without("recv_length")),
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
        )
        .v6(),
        optional("bind4", Attach::SockAddr, &["bind"], "whether an IPv4 program chose its UDP port itself"),
        optional("bind6", Attach::SockAddr, &["bind"], "whether an IPv6 program chose its UDP port itself")
            .v6(),
        hook("post_bind4", Attach::CgroupSock, &["bind"]),
        optional("post_bind6", Attach::CgroupSock, &["bind"], "bind of IPv6 UDP sockets").v6(),
        hook("sendmsg4", Attach::SockAddr, &["udp"]),
        optional("sendmsg6", Attach::SockAddr, &["udp"], "datagrams sent over IPv6 by unconnected sockets")
            .v6(),
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
        )
        .v6(),
        FORK,
        EXEC,
        EXIT,
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
pub const PLANS: &[Plan] = &[FENTRY, KPROBE, TRACEPOINT];

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
    fn sockets_are_named_first_where_a_program_cannot_ask_for_their_cookie() {
        let naming = |plan: &Plan, can_ask| {
            let (naming, seeing) = plan.naming_and_seeing(can_ask);
            assert!(seeing.iter().all(|hook| !hook.program.starts_with("name_")));
            naming.iter().map(|hook| hook.program).collect::<Vec<_>>()
        };
        assert_eq!(naming(&FENTRY, true), [""; 0]);
        assert_eq!(naming(&FENTRY, false), ["name_sockets", "name_connections"]);
        assert_eq!(naming(&KPROBE, true), ["name_sockets", "state_change", "state_change_inside"]);
        assert_eq!(naming(&KPROBE, false), ["name_sockets", "name_connections"]);
    }

    #[test]
    fn the_first_plan_that_loads_is_taken_and_every_failure_is_kept() {
        let load = |plan: &Plan| if plan.name == "fentry" { Err("EPERM".to_owned()) } else { Ok(plan.name) };
        let (taken, rejected) = choose(PLANS, load).unwrap();
        assert_eq!(taken, "kprobe");
        assert_eq!(rejected, [Rejected { plan: "fentry", why: "EPERM".to_owned() }]);
    }

    #[test]
    fn with_no_plan_all_reasons_come_back() {
        let rejected = choose(PLANS, |_| Err::<(), _>("no".to_owned())).unwrap_err();
        assert_eq!(rejected.iter().map(|r| r.plan).collect::<Vec<_>>(), ["fentry", "kprobe", "tracepoint"]);
    }

    #[test]
    fn every_program_has_a_slot_for_its_mark() {
        for hook in PLANS.iter().flat_map(|plan| plan.hooks) {
            assert!(tracer_common::PROGRAMS.contains(&hook.program), "{}", hook.program);
        }
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
