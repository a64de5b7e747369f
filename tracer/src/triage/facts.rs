//! What a rule may know of the socket that it judges: gathered once, so that each rule is a few
//! lines.

use super::{
    policy::{Kind, Policy, Subject},
    provenance,
    services::{ServiceProtocol, Services},
};
use crate::{
    model::{
        address::{BindScope, Direction, RemoteClass},
        event::{Endpoint, Process, Protocol},
        host::Host,
        socket::Socket,
    },
    output::{Verdict, Why},
};

/// A rule's word on a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What the rule alone would come to; nothing when it only adds to what others say.
    pub verdict: Option<Verdict>,
    /// Makes what the others say research suspicious.
    pub raises: bool,
    /// One sentence, see [`Facts::says`].
    pub why: Why,
}

impl Evidence {
    /// A word that leads to a verdict.
    #[must_use]
    pub fn leads_to(verdict: Verdict, why: impl Into<Why>) -> Self {
        Self { verdict: Some(verdict), raises: false, why: why.into() }
    }

    /// A word that only adds to what others say.
    #[must_use]
    pub fn adds(why: String) -> Self {
        Self { verdict: None, raises: false, why: why.into() }
    }

    /// A word that makes research suspicious, and alone comes to nothing.
    #[must_use]
    pub fn raises(why: String) -> Self {
        Self { verdict: None, raises: true, why: why.into() }
    }
}

/// What accounts for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason<'a> {
    /// The policy entry of this name.
    Entry(&'a str),
    /// The program is an intact one of an installed package, and a service of this system runs it; both names are escaped.
    Provenance {
        /// The package.
        package: &'a str,
        /// The service's unit.
        unit: &'a str,
    },
}

/// A session or flow with one remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session<'a> {
    /// The remote end.
    pub remote: Endpoint,
    /// Class of its address.
    pub class: RemoteClass,
    /// Who opened it; nothing when that is not known.
    pub direction: Option<Direction>,
    /// The policy entry that explains it.
    pub explained: Option<&'a str>,
    /// Datagrams exchanged, in a UDP flow.
    pub datagrams: Option<u64>,
}

impl Session<'_> {
    /// A remote that the article says to look at.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        !matches!(self.class, RemoteClass::Loopback | RemoteClass::Own)
    }
}

/// The TCP listener on a UDP socket's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twin<'a> {
    /// The listener.
    pub listener: &'a Socket,
    /// Same process, or same executable and user; nothing when an owner is not known.
    pub same_owner: Option<bool>,
}

/// Everything a rule may look at.
pub struct Facts<'a> {
    /// The socket.
    pub socket: &'a Socket,
    /// Bind scope of its local end.
    pub scope: BindScope,
    /// The process that has it.
    pub owner: Option<&'a Process>,
    /// Its TCP session, or the UDP flow that most asks for a look.
    pub session: Option<Session<'a>>,
    /// What explains it as a listener or UDP server.
    pub explained: Option<Reason<'a>>,
    /// The TCP listener on its port, for a UDP server; one of the same owner first.
    pub twin: Option<Twin<'a>>,
    /// A session with a real remote that the owner of this loopback listener holds.
    pub relayed: Option<&'a Socket>,
    services: &'a Services,
    in_words: bool,
}

impl<'a> Facts<'a> {
    /// Gathers what is known; `in_words` where it is to be told to somebody, so that rules give their sentences.
    #[must_use]
    pub fn gather(
        socket: &'a Socket,
        host: &'a Host,
        expected: Expected<'a>,
        services: &'a Services,
        in_words: bool,
    ) -> Self {
        let owner = socket.owner.as_deref();
        let context = Context { socket, owner, host, expected };
        let explained = if socket.is_listener() {
            context.explain_port(Kind::Listener)
        } else if socket.is_udp_server() {
            context.explain_port(Kind::Udp)
        } else {
            None
        };
        let loopback_listener = socket.is_listener() && socket.scope() == BindScope::Loopback;
        Self {
            socket,
            scope: socket.scope(),
            owner,
            session: context.session(),
            explained,
            twin: if socket.is_udp_server() { context.twin() } else { None },
            relayed: if loopback_listener { host.relayed_session(socket) } else { None },
            services,
            in_words,
        }
    }

    /// A rule's sentence, made only where somebody will read it: most verdicts are weighed and not told.
    pub fn says(&self, why: impl FnOnce() -> String) -> String {
        if self.in_words { why() } else { String::new() }
    }

    /// Registered name of a port of this socket's protocol.
    #[must_use]
    pub fn service(&self, port: u16) -> Option<&'a str> {
        self.services.name(service_protocol(self.socket.protocol), port)
    }

    /// Registered name of its local port.
    #[must_use]
    pub fn local_service(&self) -> Option<&'a str> {
        self.service(self.socket.local.port)
    }

    /// Registered name of the port at the serving end of its session.
    #[must_use]
    pub fn session_service(&self, session: &Session<'_>) -> Option<&'a str> {
        self.service(serving_port(session.direction, self.socket.local.port, session.remote.port))
    }
}

/// What is expected on this host.
#[derive(Clone, Copy)]
pub struct Expected<'a> {
    /// By name.
    pub policy: &'a Policy,
    /// Also the ports of programs by their provenance.
    pub provenance: bool,
}

/// What gathering needs at hand.
struct Context<'a> {
    socket: &'a Socket,
    owner: Option<&'a Process>,
    host: &'a Host,
    expected: Expected<'a>,
}

impl<'a> Context<'a> {
    /// A policy entry comes first.
    fn explain_port(&self, kind: Kind) -> Option<Reason<'a>> {
        let entry = self.explain(kind, None).map(Reason::Entry);
        let owner = self.owner.filter(|_| self.expected.provenance);
        entry.or_else(|| provenance::explain(owner?))
    }

    fn explain(
        &self,
        kind: Kind,
        session: Option<(Option<Direction>, Endpoint, RemoteClass)>,
    ) -> Option<&'a str> {
        let belongs = self.owner.and_then(|owner| owner.belongs.as_deref());
        self.expected.policy.explain(&Subject {
            kind,
            exe: self.owner.and_then(|owner| owner.exe.as_deref()),
            user: self.owner.and_then(|owner| owner.user.as_deref()),
            uid: self.owner.and_then(|owner| owner.uid),
            unit: belongs.and_then(|belongs| belongs.unit.as_deref()),
            user_unit: belongs.and_then(|belongs| belongs.user_unit.as_deref()),
            container: belongs.and_then(|belongs| belongs.container.as_ref()),
            direction: session.and_then(|(direction, ..)| direction),
            local_port: self.socket.local.port,
            remote: session.map(|(_, remote, class)| (remote.ip, remote.port, class)),
        })
    }

    fn session(&self) -> Option<Session<'a>> {
        let socket = self.socket;
        if socket.is_active_session() {
            return socket.remote.map(|remote| self.describe(remote, socket.direction, None));
        }
        if !socket.protocol.is_datagram() {
            return None;
        }
        let connected = socket.remote.map(|remote| {
            let exchanged = socket.datagrams.peers.get(&remote).map_or(0, |e| e.sent + e.received);
            self.describe(remote, socket.direction, Some(exchanged))
        });
        let repeated = socket.datagrams.peers.iter().filter(|(_, exchange)| exchange.is_repeated());
        let flows = repeated.map(|(peer, exchange)| {
            self.describe(*peer, Some(exchange.direction()), Some(exchange.sent + exchange.received))
        });
        connected.into_iter().chain(flows).min_by_key(|flow| {
            (flow.explained.is_some() || !flow.is_remote(), flow.class != RemoteClass::Internet, flow.remote)
        })
    }

    fn describe(
        &self,
        remote: Endpoint,
        direction: Option<Direction>,
        datagrams: Option<u64>,
    ) -> Session<'a> {
        let class = self.host.class(self.socket.netns, remote.ip);
        Session {
            remote,
            class,
            direction,
            explained: self.explain(Kind::Session, Some((direction, remote, class))),
            datagrams,
        }
    }

    /// The twin of the same owner, else any.
    fn twin(&self) -> Option<Twin<'a>> {
        let twins = self
            .host
            .twins(self.socket)
            .map(|listener| Twin { listener, same_owner: same_owner(self.socket, listener) });
        twins.min_by_key(|twin| match twin.same_owner {
            Some(true) => (0, twin.listener.id),
            Some(false) => (1, twin.listener.id),
            None => (2, twin.listener.id),
        })
    }
}

/// The port of the end that serves: the local one of an inbound session, else the remote one.
#[must_use]
pub fn serving_port(direction: Option<Direction>, local: u16, remote: u16) -> u16 {
    match direction {
        Some(Direction::Inbound) => local,
        Some(Direction::Outbound) | None => remote,
    }
}

/// The table in which a protocol's ports are named.
#[must_use]
pub fn service_protocol(protocol: Protocol) -> ServiceProtocol {
    match protocol {
        Protocol::Tcp => ServiceProtocol::Tcp,
        Protocol::Udp | Protocol::UdpLite => ServiceProtocol::Udp,
    }
}

/// Same process, or same executable (path, device and inode) and user. Never by comm, which a
/// process sets itself.
fn same_owner(a: &Socket, b: &Socket) -> Option<bool> {
    if a.holders.iter().any(|holder| b.is_held_by(holder.id)) {
        return Some(true);
    }
    let (a, b) = (a.owner.as_deref()?, b.owner.as_deref()?);
    if a.id == b.id {
        return Some(true);
    }
    let same_exe = a.exe_file.is_some() && a.exe_file == b.exe_file && a.exe == b.exe;
    Some(same_exe && a.uid == b.uid)
}
