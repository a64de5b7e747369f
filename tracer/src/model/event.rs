//! Every fact that enters the tracer, as one event: kernel records, the baseline, what /proc told,
//! lost events, the passing of time. A recording is a list of these, and the state a fold over it.

use std::{net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{belongs::Belongs, provenance::Provenance};

/// Nanoseconds since boot, suspend included (`CLOCK_BOOTTIME`).
pub type BootNanos = u64;

/// A fact and the moment in which it held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When the kernel saw it.
    pub at: BootNanos,
    /// What it was.
    pub fact: Fact,
}

/// What can be known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// The tracer started; always first.
    Start(Box<Start>),
    /// Wall clock minus boot clock, nanoseconds.
    Clock(i64),
    /// A policy file as it was read.
    Policy(PolicyFile),
    /// The text of a service table that extends the built-in one.
    Services(String),
    /// The addresses that a network namespace itself has.
    Addresses {
        /// Inode number of the namespace.
        netns: u32,
        /// All of its interfaces' addresses.
        own: Vec<IpAddr>,
    },
    /// A network namespace has a name, or another one, or none any more.
    Namespace {
        /// Inode number of the namespace.
        netns: u32,
        /// Its name, escaped.
        name: Option<String>,
    },
    /// What is known of a process; replaces what was known before.
    Process(Box<Process>),
    /// A process became another program, or ended: told for its own sake.
    Life(Box<Life>),
    /// A process will not be spoken of again, or else be told anew.
    Forget(ProcessId),
    /// Something happened to a socket.
    Socket(SocketEvent),
    /// A process has a socket as its standard input, output or error, or has it there no more.
    Stdio(Stdio),
    /// These processes hold a socket that a process of it has left behind.
    Held {
        /// The socket.
        socket: SocketId,
        /// Processes with a descriptor of it, in the order of their pids; never none.
        holders: Vec<ProcessId>,
    },
    /// All sockets were read again: those not seen since `from` are gone.
    Reread {
        /// When the reading began.
        from: BootNanos,
    },
    /// The baseline is whole: from now on nothing is missed.
    Ready,
    /// Events were lost.
    Lost(Lost),
    /// A hook stopped delivering, or delivers again.
    Degraded(Degraded),
    /// Time passed; nothing else happened.
    Tick,
    /// The tracer ended; always last.
    End,
}

/// What the tracer said of itself when it started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Version of the tracer.
    pub version: String,
    /// Release of the kernel, as `uname -r` prints it.
    pub kernel: String,
    /// The hook plan in use.
    pub hooks: String,
    /// Inode number of the network namespace that the tracer itself is in.
    pub netns: Option<u32>,
    /// Whether the provenance of a program explains its ports.
    #[serde(default)]
    pub provenance: bool,
    /// What the plan sees and what it does not.
    pub coverage: Vec<Coverage>,
}

/// One kind of event in a plan's coverage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Kind of event, or a part of one.
    pub event: String,
    /// The hook that sees it; nothing when it stays unseen.
    pub by: Option<String>,
    /// Why it stays unseen.
    pub why: Option<String>,
}

/// A policy file as it was read, so that a recording holds what verdicts depended on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFile {
    /// As the user named it.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Identity of a socket: its cookie, unique until the machine restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SocketId(pub u64);

/// Identity of a process: pids are reused, so the start time belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// When the process was started.
    pub started: BootNanos,
}

impl ProcessId {
    /// With the start as /proc tells it: in hundredths of a second (`USER_HZ`), rounded down.
    #[must_use]
    pub fn rounded(self) -> Self {
        Self { started: self.started / 10_000_000 * 10_000_000, ..self }
    }

    /// True for one and the same process, also where /proc told one of the two.
    #[must_use]
    pub fn is(self, other: Self) -> bool {
        self == other || self.rounded() == other || self == other.rounded()
    }
}

/// What is known of a process. A field that could not be read is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Identity.
    pub id: ProcessId,
    /// Process id of the parent.
    pub ppid: Option<u32>,
    /// Name that the process gives itself, escaped; never an identity.
    pub comm: Option<String>,
    /// Path of the executable, escaped.
    pub exe: Option<String>,
    /// Device and inode of the executable.
    pub exe_file: Option<(u64, u64)>,
    /// Arguments, escaped.
    pub args: Option<Vec<String>>,
    /// Effective user id.
    pub uid: Option<u32>,
    /// Name of that user, escaped: as the process's own root has it, where that root can be believed.
    pub user: Option<String>,
    /// Parent, its parent and so on.
    pub lineage: Vec<Ancestor>,
    /// Why something is missing.
    pub unknown: Option<String>,
    /// What research found out of the executable; nothing before it did.
    #[serde(default)]
    pub provenance: Option<Provenance>,
    /// Where it belongs; nothing before that was looked up. Processes of one login and one cgroup share it.
    #[serde(default)]
    pub belongs: Option<Arc<Belongs>>,
}

impl Process {
    /// True when rules or policies may see another process in it than before.
    #[must_use]
    pub fn is_judged_otherwise(&self, now: &Self) -> bool {
        let (before, now) = (self, now);
        (&before.exe, before.exe_file, before.uid, &before.user)
            != (&now.exe, now.exe_file, now.uid, &now.user)
            || before.provenance != now.provenance
            || before.belongs != now.belongs
    }
}

/// An ancestor of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Process id.
    pub pid: u32,
    /// Name that the process gives itself, escaped.
    pub comm: Option<String>,
    /// Path of the executable, escaped.
    pub exe: Option<String>,
}

/// What happened in the life of a process, beside what it did with sockets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// The process; after an exec as what it is now.
    pub process: Process,
    /// What happened.
    pub change: LifeChange,
}

/// The kinds of what can happen in the life of a process that are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LifeChange {
    /// It became another program.
    Exec,
    /// It ended: its last thread did.
    Exit,
}

impl LifeChange {
    /// The name in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Exit => "exit",
        }
    }
}

/// How the acting process was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attribution {
    /// The kernel ran the call in its context.
    Exact,
    /// It holds, or was the first to use, the socket.
    Holder,
    /// It holds the listener that the connection came to.
    Listener,
    /// Not known.
    Unknown,
}

/// Transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, RFC 9293.
    Tcp,
    /// UDP, RFC 768.
    Udp,
    /// UDP-Lite, RFC 3828.
    UdpLite,
}

impl Protocol {
    /// The name in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::UdpLite => "udplite",
        }
    }

    /// True for UDP and UDP-Lite.
    #[must_use]
    pub fn is_datagram(self) -> bool {
        match self {
            Self::Tcp => false,
            Self::Udp | Self::UdpLite => true,
        }
    }
}

/// The socket's own address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// `AF_INET`
    Ipv4,
    /// `AF_INET6`, v4-mapped peers included
    Ipv6,
}

impl Family {
    /// The name in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

/// TCP state (`include/net/tcp_states.h`); a UDP socket is `Established` when connected, else `Close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub enum State {
    Established,
    SynSent,
    SynRecv,
    FinWait1,
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    NewSynRecv,
}

impl State {
    /// The name in records, as in `tcp_states.h` without `TCP_`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait1 => "FIN_WAIT1",
            Self::FinWait2 => "FIN_WAIT2",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
            Self::NewSynRecv => "NEW_SYN_RECV",
        }
    }

    /// The state with the kernel's number.
    #[must_use]
    pub fn from_kernel(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 => Self::SynRecv,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            12 => Self::NewSynRecv,
            _ => return None,
        })
    }
}

/// Address and port; the address is canonical (v4-mapped ones are IPv4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Address.
    pub ip: IpAddr,
    /// Port; 0 when there is none yet.
    pub port: u16,
}

/// What happened to one socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketEvent {
    /// Which socket.
    pub id: SocketId,
    /// What happened.
    pub change: SocketChange,
    /// Inode number of its network namespace; nothing when the hook could not see it.
    pub netns: Option<u32>,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The socket's own family.
    pub family: Family,
    /// State after the event.
    pub state: State,
    /// Local end; nothing when the hook could not see it.
    pub local: Option<Endpoint>,
    /// Remote end, where there is one.
    pub remote: Option<Endpoint>,
    /// `IPV6_V6ONLY`
    pub v6only: bool,
    /// The program chose the port itself, in `bind()`; false also when the hook cannot tell.
    pub port_bound: bool,
    /// The process that acted, and how it was found.
    pub process: Option<(ProcessId, Attribution)>,
}

/// Which of the descriptors 0, 1 and 2 of a process lead to a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stdio {
    /// The socket.
    pub socket: SocketId,
    /// The process.
    pub process: ProcessId,
    /// The descriptors; none any more when it is empty.
    pub descriptors: Vec<u8>,
}

/// The kinds of what can happen to a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SocketChange {
    /// It was there already, held by these processes.
    Seen {
        /// Processes with a descriptor of it, in the order of their pids.
        holders: Vec<ProcessId>,
        /// Those of them that have it as their standard input, output or error; nothing where [`Fact::Stdio`] tells that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stdio: Option<Vec<Stdio>>,
    },
    /// A UDP socket was bound.
    Bind,
    /// A TCP socket listens.
    Listen,
    /// A SYN leaves, or a UDP socket got its peer.
    Connect,
    /// An outbound connection is established.
    Established,
    /// An inbound connection is established and waits for its process.
    Incoming,
    /// A connect ended without a connection.
    Failed {
        /// Positive errno; nothing when it could not be known.
        errno: Option<u32>,
    },
    /// A process has taken an inbound connection.
    Accept,
    /// Datagrams were exchanged with the remote of this event.
    Datagrams {
        /// True when the socket sent them.
        sent: bool,
        /// How many since the last event of this flow.
        count: u64,
    },
    /// It is closed.
    Close {
        /// Payload bytes sent.
        sent: Option<u64>,
        /// Payload bytes received.
        received: Option<u64>,
    },
}

/// What a proof of the hooks changed: one that went quiet, or came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degraded {
    /// The hook as people name it, such as `cgroup connect4`; `self-test` when the proof itself fails.
    pub hook: String,
    /// Kinds of events that it sees, and that may be missed while it is quiet; empty when it is back.
    pub unseen: Vec<String>,
    /// Why it counts as quiet; that it delivers again.
    pub why: String,
    /// It delivers again.
    pub delivers: bool,
}

/// Where and how many events were lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Where.
    pub stage: LostStage,
    /// How many.
    pub count: u64,
    /// Not before.
    pub from: BootNanos,
    /// Not after.
    pub to: BootNanos,
    /// The sockets were read again since, so the picture is whole.
    pub resynced: bool,
}

/// Where events can be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LostStage {
    /// The kernel did not run a program that it was to run.
    Hook,
    /// The ring was full.
    Ring,
    /// A field of a record could not be read in the kernel.
    Field,
    /// A record was of a kind, state or size that is not known.
    Record,
    /// The kernel had no memory for a socket's state.
    State,
    /// There was no room to keep a process that had ended, and that its children name as their ancestor.
    Process,
    /// Too many look-ups waited: of executables, or of who holds a socket.
    Research,
    /// Standard output did not drain.
    Stdout,
}

impl LostStage {
    /// The name in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hook => "hook",
            Self::Ring => "ring",
            Self::Field => "field",
            Self::Record => "record",
            Self::State => "state",
            Self::Process => "process",
            Self::Research => "research",
            Self::Stdout => "stdout",
        }
    }
}
