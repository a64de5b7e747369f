//! What is known not to hold, where, and why. A scenario that is declared here is run all the same: when
//! it holds after all, the declaration is wrong and the run fails, so that this table stays true.

use crate::tracer::Plan;

/// Where the harness runs when nothing else is said: a machine of which nothing is known.
pub const HOST: &str = "host/plain";

/// How a declared scenario ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The tracer does not do what the scenario asks.
    Fails,
    /// The kernel has not what the scenario works with. On a machine of which nothing is known it may.
    Lacks,
    /// It holds or fails by chance, for a reason that lies in the kernel.
    Wavers,
}

/// One declaration.
pub struct Declared {
    /// Cells, as `KERNEL/VARIANT`; `*` stands for any text, also an empty one, and `|` parts patterns.
    pub cell: &'static str,
    /// The plan; None is each of them.
    pub plan: Option<Plan>,
    /// Scenarios, with `*` as in `cell`.
    pub scenario: &'static str,
    /// How it ends.
    pub how: How,
    /// Why.
    pub reason: &'static str,
}

/// All declarations; the first that fits counts.
pub const DECLARED: &[Declared] = &[
    polled("listener-*", LATE),
    polled("same-address-*", LATE),
    polled("outbound-*", MISSED),
    polled("session-*", MISSED),
    polled("close-counts-*", MISSED),
    polled("refused-*", MISSED),
    polled("connect-*", MISSED),
    polled("unanswered-*", MISSED),
    polled("accept-*", MISSED),
    polled("accepts-*", MISSED),
    polled("opener-*", MISSED),
    polled("listeners-*", LATE),
    polled("udp-*", MISSED),
    polled("v4-mapped-*", LATE),
    polled("sockets-opened-before-the-tracer-are-followed", LATE),
    polled("loopback-listener-*", LATE),
    polled("names-that-*", LATE),
    polled("policies-*", LATE),
    polled("hostile-*", LATE),
    polled("netns-restricts-*", LATE),
    polled("sigterm-*", LATE),
    polled("replay-gives-*", MISSED),
    polled("short-connections-*", MISSED),
    polled("processes-*", MISSED),
    polled("programs-whose-*", LATE),
    polled("programs-with-*", LATE),
    polled(
        "sha-256-of-what-is-suspicious-by-what-*",
        "without hooks nobody tells when a process is to be looked at",
    ),
    polled("load-stays-whole", MISSED),
    polled("blocked-stdout-*", MISSED),
    polled("way-*", MISSED),
    polled("masked-*", "nothing is read by BTF"),
    absent("6.12-arm64/*", "way-32-bit-connect", "another processor has no `int 0x80`"),
    absent("5.10/*", "way-multipath-tcp", "Debian's kernel is built without MPTCP"),
    absent("7.x/*", "way-udp-lite", "the kernel has UDP-Lite no more"),
    wavering(LEAVES_OUT, "short-connections-*", LEFT_OUT),
    wavering(LEAVES_OUT, "load-stays-whole", LEFT_OUT),
    wavering(LEAVES_OUT, "sigterm-*", LEFT_OUT),
    wavering(LEAVES_OUT, "accepts-of-64-*", LEFT_OUT),
    wavering(LEAVES_OUT, "blocked-stdout-*", LEFT_OUT),
    Declared {
        cell: "*/confidentiality|*/integrity",
        plan: None,
        scenario: "kprobes-switched-off-*",
        how: How::Fails,
        reason: "lockdown forbids to switch kprobes off",
    },
    Declared {
        cell: "*/confidentiality",
        plan: None,
        scenario: "processes-are-told-*",
        how: How::Fails,
        reason: "the program on exec is refused, as the coverage says: nothing is told when a process begins a program",
    },
    unseen_exec("shell-on-loopback-*", How::Fails),
    unseen_exec("shells-by-an-accepted-*", How::Wavers),
    masked("close-counts-*", "the places of the byte counts are masked"),
    masked(
        "sockets-opened-before-the-tracer-are-seen-with-their-holders",
        "whether a program chose a UDP port itself is masked, and then it counts as a service's",
    ),
    before_6_3("way-udp-connect-and-*"),
    lacking("kprobes-switched-off-*", "all kprobes of a machine are switched off in guests alone"),
    absent("*.*/*", "scripts-*", "the guests have no python"),
    Declared {
        cell: HOST,
        plan: Some(Plan::Poll),
        scenario: "scripts-of-*",
        how: How::Fails,
        reason: "without hooks a process's own /proc names its script, and is not believed",
    },
    lacking("scripts-*", "python, or a package that it is of, may not be there, nor a cgroup be made"),
    absent("*.*/*", "bash-*", "the guests have no bash"),
    lacking("bash-*", "bash may not be installed"),
    lacking("layers-*", "overlayfs may be a module that is not loaded"),
    lacking("way-io-uring-*", "io_uring may be switched off"),
    lacking("way-multipath-tcp", "a kernel may be built without MPTCP"),
    lacking("way-udp-lite", "a kernel may be built without UDP-Lite"),
    lacking("way-32-bit-connect", "a kernel may be built without 32-bit calls"),
];

const LATE: &str = "without hooks a socket is told as seen, not by what was done with it";
const MISSED: &str = "without hooks an event that leaves nothing behind is missed";

/// Cells where the kernel may leave runs of a hook out.
pub const LEAVES_OUT: &str = "7.x/*";
const LEFT_OUT: &str = "from 7.0 on a task may be preempted in a tracepoint's program, and the kernel does not run a \
    program inside itself: what it leaves out is told as a gap of stage `hook`, and the sockets are read again";

/// What may fail by chance.
const fn wavering(cell: &'static str, scenario: &'static str, reason: &'static str) -> Declared {
    Declared { cell, plan: None, scenario, how: How::Wavers, reason }
}

/// What needs a member that is masked.
const fn masked(scenario: &'static str, reason: &'static str) -> Declared {
    Declared { cell: "*/masked", plan: None, scenario, how: How::Fails, reason }
}

/// A process is not looked at when it becomes another program; it may do something else that is told.
const fn unseen_exec(scenario: &'static str, how: How) -> Declared {
    let reason = "the program on exec is refused, as the coverage says: of a program that only reads from the socket that it was \
        given nothing is told";
    Declared { cell: "*/confidentiality", plan: None, scenario, how, reason }
}

/// What the tracepoint plan sees by the length of what is sent.
const fn before_6_3(scenario: &'static str) -> Declared {
    let reason = "sock_send_length and sock_recv_length came with 6.3: without them a connected UDP socket's datagrams are \
        not told";
    let cell = "5.10/*|6.1/*";
    Declared { cell, plan: Some(Plan::Tracepoint), scenario, how: How::Fails, reason }
}

/// What cannot hold where the sockets are only read again and again.
const fn polled(scenario: &'static str, reason: &'static str) -> Declared {
    Declared { cell: "*", plan: Some(Plan::Poll), scenario, how: How::Fails, reason }
}

/// What a kernel of the matrix does not have.
const fn absent(cell: &'static str, scenario: &'static str, reason: &'static str) -> Declared {
    Declared { cell, plan: None, scenario, how: How::Lacks, reason }
}

/// What a machine of which nothing is known may lack.
const fn lacking(scenario: &'static str, reason: &'static str) -> Declared {
    Declared { cell: HOST, plan: None, scenario, how: How::Lacks, reason }
}

/// What is declared of a scenario under a plan in a cell.
#[must_use]
pub fn of(cell: &str, plan: Plan, scenario: &str) -> Option<&'static Declared> {
    DECLARED.iter().find(|declared| {
        is_cell(declared.cell, cell)
            && declared.plan.is_none_or(|only| only == plan)
            && matches(declared.scenario, scenario)
    })
}

/// Whether `cell` is one of `patterns`, which `|` parts.
#[must_use]
pub fn is_cell(patterns: &str, cell: &str) -> bool {
    patterns.split('|').any(|pattern| matches(pattern, cell))
}

/// Whether `text` is what `pattern` says, where each `*` of it stands for any text.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|left| {
            left.char_indices().any(|(at, _)| matches(rest, &left[at..])) || rest.is_empty()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::chosen;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in
            [("5.10/plain", "5.10/plain"), ("5.10/*", "5.10/"), ("*", ""), ("*/a*", "x/ab")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("5.10/*", "5.1/plain"), ("", "x"), ("a*b", "abc"), ("*/b", "a/bc")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        assert!(matches("a*b", "ab") && matches("a*c", "abc"));
    }

    #[test]
    fn every_declaration_names_a_scenario_and_a_reason() {
        for declared in DECLARED {
            let names = chosen("").any(|scenario| matches(declared.scenario, scenario.name));
            assert!(names && !declared.reason.is_empty(), "{}", declared.scenario);
        }
    }
}
