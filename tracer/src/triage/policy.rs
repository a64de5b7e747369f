//! What is expected on this host: named entries that explain a socket, first match wins.
//!
//! Kept out: the TOML that entries are written in ([`parse`]), the reading of files, and what an explained socket's
//! verdict is.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::model::address::{self, Direction, RemoteClass};
use crate::model::belongs::{Container, Runtime};

mod error;
mod parse;
mod value;

#[cfg(test)]
mod tests;

pub use error::PolicyError;
pub use parse::{parse, parse_bytes};

/// The kind of socket that an entry can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// TCP LISTEN.
    Listener,
    /// A TCP session.
    Session,
    /// A UDP port or flow.
    Udp,
}

impl Kind {
    /// All kinds, in their order.
    pub const ALL: [Self; 3] = [Self::Listener, Self::Session, Self::Udp];

    /// The name used in policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::Session => "session",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A socket as a policy sees it; none where a fact is unknown or does not apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The kind of socket.
    pub kind: Kind,
    /// Path of the owner's executable; invalid UTF-8 is replaced as `String::from_utf8_lossy` does.
    pub exe: Option<&'a str>,
    /// The owner's user name.
    pub user: Option<&'a str>,
    /// The owner's user id.
    pub uid: Option<u32>,
    /// The owner's unit of the system's service manager, escaped.
    pub unit: Option<&'a str>,
    /// The owner's unit of a user's service manager, escaped.
    pub user_unit: Option<&'a str>,
    /// The container that the owner is in.
    pub container: Option<&'a Container>,
    /// Who opened it.
    pub direction: Option<Direction>,
    /// The local port, in host byte order.
    pub local_port: u16,
    /// The remote address, its port in host byte order, and the address's class.
    pub remote: Option<(IpAddr, u16, RemoteClass)>,
}

/// A user by name or by id.
#[derive(Clone, Debug, PartialEq, Eq)]
enum User {
    Name(Box<str>),
    Uid(u32),
}

impl User {
    fn is(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Name(name) => subject.user == Some(&**name),
            Self::Uid(uid) => subject.uid == Some(*uid),
        }
    }
}

/// A container by what runs it, or by its name, its id or the first digits of that.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Contained {
    By(Runtime),
    Called(Box<str>),
}

impl Contained {
    fn holds(&self, container: &Container) -> bool {
        match self {
            Self::By(runtime) => container.runtime == Some(*runtime),
            Self::Called(name) => container.is_called(name),
        }
    }
}

/// One thing that an entry asks for: any of the values given for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Criterion {
    Kind(Vec<Kind>),
    Exe(Vec<Box<str>>),
    User(Vec<User>),
    Unit(Vec<Box<str>>),
    UserUnit(Vec<Box<str>>),
    Container(Vec<Contained>),
    Direction(Vec<Direction>),
    LocalPort(Vec<RangeInclusive<u16>>),
    RemoteClass(Vec<RemoteClass>),
    RemoteCidr(Vec<IpNet>),
    RemotePort(Vec<RangeInclusive<u16>>),
}

impl Criterion {
    /// Whether the subject has what is asked for; what it does not have, it does not have.
    fn holds(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Kind(kinds) => kinds.contains(&subject.kind),
            Self::Exe(paths) => names(paths, subject.exe),
            Self::User(users) => users.iter().any(|user| user.is(subject)),
            Self::Unit(units) => names(units, subject.unit),
            Self::UserUnit(units) => names(units, subject.user_unit),
            Self::Container(containers) => subject
                .container
                .is_some_and(|container| containers.iter().any(|contained| contained.holds(container))),
            Self::Direction(ways) => subject.direction.is_some_and(|direction| ways.contains(&direction)),
            Self::LocalPort(ports) => ports.iter().any(|range| range.contains(&subject.local_port)),
            Self::RemoteClass(classes) => {
                subject.remote.is_some_and(|(_, _, class)| classes.contains(&class))
            }
            Self::RemoteCidr(nets) => subject.remote.is_some_and(|(ip, ..)| contain(nets, ip)),
            Self::RemotePort(ports) => {
                subject.remote.is_some_and(|(_, port, _)| ports.iter().any(|range| range.contains(&port)))
            }
        }
    }
}

fn names(all: &[Box<str>], one: Option<&str>) -> bool {
    one.is_some_and(|one| all.iter().any(|name| **name == *one))
}

fn contain(nets: &[IpNet], ip: IpAddr) -> bool {
    let ip = address::canonical(ip);
    nets.iter().any(|net| net.contains(&ip))
}

/// One `[[expect]]` entry, with the place where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    name: Box<str>,
    file: Box<str>,
    line: usize,
    column: usize,
    criteria: Vec<Criterion>,
}

impl Entry {
    /// The name, unique in its policy.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file in which it is written, as it was given to [`parse`].
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line of its name, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Whether everything that the entry asks for holds of the subject.
    fn matches(&self, subject: &Subject<'_>) -> bool {
        self.criteria.iter().all(|criterion| criterion.holds(subject))
    }
}

/// What is expected, in the order in which it was written. The default expects nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    entries: Vec<Entry>,
}

impl Policy {
    /// The name of the first entry that accounts for the subject.
    pub fn explain(&self, subject: &Subject<'_>) -> Option<&str> {
        self.explaining_entry(subject).map(Entry::name)
    }

    /// The first entry that accounts for the subject.
    pub fn explaining_entry(&self, subject: &Subject<'_>) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.matches(subject))
    }

    /// All entries, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Puts the entries of another file behind these.
    ///
    /// # Errors
    ///
    /// One for each name that both have, at its place in the other file; then nothing is changed.
    pub fn extend(&mut self, other: Self) -> Result<(), Vec<PolicyError>> {
        let errors: Vec<_> = other.entries.iter().filter_map(|entry| self.conflict(entry)).collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        self.entries.extend(other.entries);
        Ok(())
    }

    fn conflict(&self, new: &Entry) -> Option<PolicyError> {
        let known = self.entries.iter().find(|entry| entry.name == new.name)?;
        Some(PolicyError {
            file: new.file.to_string(),
            line: new.line,
            column: new.column,
            message: format!("the name `{}` is taken by {}:{}", new.name, known.file, known.line),
        })
    }
}
