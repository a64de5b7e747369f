//! What the engine says, before it is words: one value for each record of the output stream.
//!
//! Sinks turn these into text or JSON; numbering (`seq`) is the stream's, because only the stream
//! knows what was delivered. What is known already is lent, not copied: there are many records.

use std::{borrow::Cow, collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

use crate::model::{
    address::{BindScope, Direction, RemoteClass, spell},
    event::{Attribution, Degraded, Endpoint, Family, Life, Lost, Process, Protocol, SocketId, Start, State},
};

/// Holders that a record shows; how many there are it says besides.
pub const HOLDERS_SHOWN: usize = 16;

/// One record of the output stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output<'a> {
    /// When the kernel saw it: nanoseconds since 1970-01-01T00:00:00Z.
    pub time: i64,
    /// What is said.
    pub body: Body<'a>,
}

/// The kinds of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// The first record.
    Start {
        /// Version, kernel, plan and coverage.
        start: &'a Start,
        /// Paths of the policy files in force.
        policy: &'a [String],
    },
    /// A socket's verdict became research or suspicious, or changed between them.
    Flag(FlagId, &'a Report<'a>),
    /// A flag no longer holds.
    Clear(FlagId, &'a Report<'a>),
    /// Any other event.
    Event(&'a Report<'a>),
    /// A process became another program, or ended; told where all events are.
    Life(&'a Life),
    /// Events were lost.
    Gap(&'a Lost),
    /// A hook stopped delivering, or delivers again.
    Degraded(&'a Degraded),
    /// The last record.
    End(&'a Totals),
}

/// Names a flag within one run, so that its `clear` can name it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlagId(pub u64);

/// What a socket's rules come to, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Leave it aside.
    Ok,
    /// A policy entry, or the program's provenance, accounts for it.
    Explained,
    /// Unexplained: a person should look.
    Research,
    /// Unexplained, and something about it is wrong.
    Suspicious,
}

impl Verdict {
    /// The name in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Explained => "explained",
            Self::Research => "research",
            Self::Suspicious => "suspicious",
        }
    }

    /// True for the verdicts that a person should see.
    #[must_use]
    pub fn is_flagged(self) -> bool {
        self >= Self::Research
    }
}

/// A rule that spoke, with one sentence of evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// Public id of the rule.
    pub rule: &'static str,
    /// The evidence.
    pub why: Why,
}

/// A sentence. What is said of most sockets of a busy machine is kept as what it is made of, and becomes words where these are
/// written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Any other one; empty where nobody will read it.
    Words(String),
    /// The local end, with this address, is bound to loopback.
    LocalIsLoopback(IpAddr),
    /// The remote, of this class, is this machine.
    RemoteIsHere(IpAddr, RemoteClass),
}

impl Why {
    /// Hands its pieces to `put`, in order. Those of [`Why::Words`] alone may have letters that are not ASCII, or that JSON
    /// escapes.
    pub fn pieces(&self, mut put: impl FnMut(&[u8])) {
        match self {
            Self::Words(words) => put(words.as_bytes()),
            Self::LocalIsLoopback(ip) => {
                spell(*ip, &mut put);
                put(b" is reachable from this machine only");
            }
            Self::RemoteIsHere(ip, class) => {
                put(b"the remote ");
                spell(*ip, &mut put);
                put(b" is this machine itself (");
                put(class.as_str().as_bytes());
                put(b")");
            }
        }
    }
}

impl From<String> for Why {
    fn from(words: String) -> Self {
        Self::Words(words)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::new();
        self.pieces(|piece| bytes.extend_from_slice(piece));
        f.write_str(&String::from_utf8_lossy(&bytes))
    }
}

/// One event of one socket, with its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report<'a> {
    /// Kind of the event.
    pub event: EventKind,
    /// What the rules come to.
    pub verdict: Verdict,
    /// They come to a flag: not where the verdict is a twin's, which is flagged itself.
    pub flagged: bool,
    /// The rules that spoke, worst first.
    pub rules: &'a [Spoken],
    /// Name of the policy entry that explains it, or the package and the unit of the program that do; escaped.
    pub explained_by: Option<String>,
    /// The socket.
    pub socket: SocketView<'a>,
    /// The process that acted.
    pub process: Option<&'a Arc<Process>>,
    /// Why `process`, or a part of it, is not known.
    pub process_unknown: Option<Cow<'a, str>>,
    /// How the process was found.
    pub attribution: Attribution,
    /// The process that opened it, where that is another one.
    pub opener: Option<&'a Process>,
    /// The processes that are known to hold it, in the order of their pids; none where `process` alone is.
    pub holders: &'a [Arc<Process>],
    /// Name of the errno, on a failed connect.
    pub error: Option<String>,
    /// Payload bytes sent, on close.
    pub bytes_sent: Option<u64>,
    /// Payload bytes received, on close.
    pub bytes_received: Option<u64>,
    /// From the first sign of the socket to its close.
    pub duration_ms: Option<u64>,
    /// Datagrams, on udp.
    pub count: Option<u64>,
}

/// The public names of events. Where another socket's change, or time, changed a verdict, it is the
/// event that did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the contract's")]
pub enum EventKind {
    Seen,
    Bind,
    Listen,
    Connect,
    Established,
    Failed,
    Accept,
    Udp,
    Close,
}

impl EventKind {
    /// The name in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Bind => "bind",
            Self::Listen => "listen",
            Self::Connect => "connect",
            Self::Established => "established",
            Self::Failed => "failed",
            Self::Accept => "accept",
            Self::Udp => "udp",
            Self::Close => "close",
        }
    }
}

/// A socket as a record shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketView<'a> {
    /// Identity; written as a string, cookies may pass 2^53.
    pub id: SocketId,
    /// Inode number of its network namespace.
    pub netns: Option<u32>,
    /// What that is called, escaped.
    pub netns_name: Option<&'a str>,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The socket's own family.
    pub family: Family,
    /// State.
    pub state: State,
    /// Local end; a port of 0 is not known and written as null.
    pub local: Endpoint,
    /// Bind scope of the local end.
    pub scope: BindScope,
    /// Remote end.
    pub remote: Option<RemoteView<'a>>,
    /// Who opened the session.
    pub direction: Option<Direction>,
    /// What a UDP socket is.
    pub role: Option<Role>,
}

/// The remote end as a record shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteView<'a> {
    /// Address and port.
    pub end: Endpoint,
    /// Class of the address.
    pub class: RemoteClass,
    /// Registered name of the serving end's port: a hint, not an observation.
    pub service: Option<&'a str>,
}

/// What a UDP socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Bound on purpose.
    Server,
    /// The kernel gave the port at the first send or connect.
    Client,
}

impl Role {
    /// The name in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Socket events, flagged or not.
    pub events: u64,
    /// Flags raised.
    pub flags: u64,
    /// Flags taken back.
    pub clears: u64,
    /// Events lost, at all stages.
    pub lost: u64,
    /// How often each rule was the ground of a flag.
    pub rules: BTreeMap<&'static str, u64>,
}
