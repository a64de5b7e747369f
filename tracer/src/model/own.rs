//! The addresses that each namespace itself has.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    address::{RemoteClass, remote_class},
    socket::Socket,
};

/// By inode number of the namespace.
#[derive(Debug, Default)]
pub(super) struct Own(BTreeMap<u32, BTreeSet<IpAddr>>);

impl Own {
    /// Takes the addresses of a namespace; false when they are those that were known.
    pub(super) fn set(&mut self, netns: u32, own: &[IpAddr]) -> bool {
        let own: BTreeSet<IpAddr> = own.iter().copied().collect();
        if self.0.get(&netns) == Some(&own) {
            return false;
        }
        self.0.insert(netns, own);
        true
    }

    /// Class of a remote address, seen from a namespace.
    pub(super) fn class(&self, netns: Option<u32>, ip: IpAddr) -> RemoteClass {
        static NONE: BTreeSet<IpAddr> = BTreeSet::new();
        let own = netns.and_then(|netns| self.0.get(&netns)).unwrap_or(&NONE);
        remote_class(ip, own)
    }

    /// The socket is a session to be judged, with a remote that is not this machine.
    pub(super) fn is_remote(&self, socket: &Socket) -> bool {
        socket.remote.filter(|_| socket.noticed).is_some_and(|end| {
            !matches!(self.class(socket.netns, end.ip), RemoteClass::Loopback | RemoteClass::Own)
        })
    }
}
