//! One table of the kernel's by `inet_diag` (`sock_diag(7)`, `include/uapi/linux/inet_diag.h`): the
//! question, and the answer's bytes. Never panics, whatever the bytes.
//!
//! One question and one kind of answer: with `zerocopy` that is shorter than the glue to a netlink
//! library would be.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with, sockopt,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, network_endian::U16};

use crate::model::{
    address::canonical,
    event::{Endpoint, Family, Protocol, SocketId, State},
};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`
const REQUEST_DUMP: u16 = 0x301;
const NLM_F_DUMP_INTR: u16 = 0x10;
const INET_DIAG_SKV6ONLY: u16 = 11;
/// `TCP_SYN_RECV`
const SYN_RECV: u8 = 3;
/// States 1 to 12 of `tcp_states.h`; those past them are sockets without a port.
const ALL_STATES: u32 = 0x1ffe;
/// The kernel fills at most 32 KiB of an answer at once (`netlink_dump`, net/netlink/af_netlink.c).
const ROOM: usize = 64 * 1024;
/// The kernel answers within the call; this only keeps a broken one from being waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// `struct nlmsghdr`
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
}

/// `struct inet_diag_sockid`
#[derive(Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Ends {
    local_port: U16,
    remote_port: U16,
    local: [u8; 16],
    remote: [u8; 16],
    interface: u32,
    cookie: [u32; 2],
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Request {
    header: Header,
    family: u8,
    protocol: u8,
    extensions: u8,
    padding: u8,
    states: u32,
    ends: Ends,
}

/// `struct inet_diag_msg`
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Message {
    family: u8,
    state: u8,
    timer_and_retransmits: [u8; 2],
    ends: Ends,
    expiry_queues_and_uid: [u32; 4],
    inode: u32,
}

/// `struct nlattr`
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Attribute {
    length: u16,
    kind: u16,
}

/// One socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: SocketId,
    /// Of its descriptors' links; 0 when no descriptor leads to it.
    pub(super) inode: u32,
    pub(super) family: Family,
    pub(super) state: State,
    pub(super) local: Endpoint,
    pub(super) remote: Option<Endpoint>,
    pub(super) v6only: bool,
}

/// What was read so far.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) entries: Vec<Entry>,
    /// Messages that were not understood.
    pub(super) unknown: u64,
    /// The table changed under the reading.
    pub(super) interrupted: bool,
    done: bool,
}

/// All sockets of one table of the calling thread's namespace; read once more when it changed meanwhile.
///
/// # Errors
/// What the kernel says: `NotFound` when it does not have the protocol or `inet_diag` for it;
/// `InvalidData` when the answer is not well-formed.
pub(super) fn dump(protocol: Protocol, family: Family) -> io::Result<Answer> {
    let first = dump_once(protocol, family)?;
    if first.interrupted { dump_once(protocol, family) } else { Ok(first) }
}

fn dump_once(protocol: Protocol, family: Family) -> io::Result<Answer> {
    let kernel = Some(netlink::SOCK_DIAG);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, kernel)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    send(&socket, request(protocol, family).as_bytes(), SendFlags::empty())?;
    let mut bytes = vec![0; ROOM];
    let mut answer = Answer::default();
    while !answer.done {
        let (_, length) = recv(&socket, bytes.as_mut_slice(), RecvFlags::TRUNC)?;
        answer.take(bytes.get(..length).filter(|datagram| !datagram.is_empty()).ok_or_else(malformed)?)?;
    }
    Ok(answer)
}

fn request(protocol: Protocol, family: Family) -> Request {
    let length = size_of::<Request>() as u32;
    let header = Header { length, kind: SOCK_DIAG_BY_FAMILY, flags: REQUEST_DUMP, sequence: 1, port: 0 };
    Request {
        header,
        family: match family {
            Family::Ipv4 => 2,
            Family::Ipv6 => 10,
        },
        protocol: match protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::UdpLite => 136,
        },
        extensions: 0,
        padding: 0,
        states: ALL_STATES,
        ends: Ends::default(),
    }
}

impl Answer {
    /// Takes one datagram, which holds any number of messages.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() && !self.done {
            let (header, _) = Header::read_from_prefix(bytes).map_err(|_| malformed())?;
            let length = usize::try_from(header.length).map_err(|_| malformed())?;
            let body = bytes.get(size_of::<Header>()..length).ok_or_else(malformed)?;
            self.interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
            match header.kind {
                SOCK_DIAG_BY_FAMILY => match entry(body) {
                    Some(entry) => self.entries.push(entry),
                    None => self.unknown += 1,
                },
                NLMSG_ERROR | NLMSG_DONE => {
                    refusal(body)?;
                    self.done = true;
                }
                _ => {}
            }
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

/// An error's message begins with the negative errno, that of the end too; 0 is none.
fn refusal(body: &[u8]) -> io::Result<()> {
    match i32::read_from_prefix(body) {
        Ok((0, _)) => Ok(()),
        Ok((errno, _)) => Err(io::Error::from_raw_os_error(errno.checked_neg().ok_or_else(malformed)?)),
        Err(_) => Err(malformed()),
    }
}

fn entry(body: &[u8]) -> Option<Entry> {
    let (message, attributes) = Message::read_from_prefix(body).ok()?;
    let Message { ends, inode, .. } = message;
    let family = match message.family {
        2 => Family::Ipv4,
        10 => Family::Ipv6,
        _ => return None,
    };
    // inet_diag gives a connection request as SYN_RECV; unlike a socket, no descriptor leads to it.
    let request = message.state == SYN_RECV && inode == 0;
    let state = if request { State::NewSynRecv } else { State::from_kernel(message.state)? };
    let [low, high] = ends.cookie.map(u64::from);
    let remote = Endpoint { ip: address(family, ends.remote), port: ends.remote_port.get() };
    Some(Entry {
        id: SocketId(low | high << 32),
        inode,
        family,
        state,
        local: Endpoint { ip: address(family, ends.local), port: ends.local_port.get() },
        remote: (remote.port != 0 || !remote.ip.is_unspecified()).then_some(remote),
        // Told of listeners and unconnected sockets, the only ones where it matters.
        v6only: attribute(attributes, INET_DIAG_SKV6ONLY).is_some_and(|value| value.first() == Some(&1)),
    })
}

fn address(family: Family, bytes: [u8; 16]) -> IpAddr {
    let [a, b, c, d, ..] = bytes;
    match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        Family::Ipv6 => canonical(IpAddr::V6(Ipv6Addr::from(bytes))),
    }
}

fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (Attribute { length, kind }, _) = Attribute::read_from_prefix(bytes).ok()?;
        let value = bytes.get(size_of::<Attribute>()..length.into())?;
        if kind == wanted {
            return Some(value);
        }
        bytes = bytes.get(usize::from(length).next_multiple_of(4)..)?;
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is not well-formed")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let length = (size_of::<Header>() + body.len()) as u32;
        let header = Header { length, kind, flags, sequence: 1, port: 0 };
        let mut bytes = [header.as_bytes(), body].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn socket(family: u8, state: u8, attributes: &[u8]) -> Vec<u8> {
        let mut mapped = [0; 16];
        mapped[10..].copy_from_slice(&[0xff, 0xff, 9, 1, 1, 1]);
        let ends = Ends { local_port: U16::new(4444), local: mapped, cookie: [7, 1], ..Ends::default() };
        let (timer_and_retransmits, expiry_queues_and_uid) = ([0; 2], [0; 4]);
        let message = Message { family, state, timer_and_retransmits, ends, expiry_queues_and_uid, inode: 0 };
        [message.as_bytes(), attributes].concat()
    }

    fn taken(bytes: &[u8]) -> io::Result<Answer> {
        let mut answer = Answer::default();
        answer.take(bytes).map(|()| answer)
    }

    #[test]
    fn the_structures_have_the_sizes_of_the_kernel() {
        assert_eq!((size_of::<Request>(), size_of::<Message>()), (16 + 56, 72));
    }

    #[test]
    fn a_socket_is_read_with_cookie_mapped_address_and_attribute() {
        let attributes = [5, 0, 8, 0, 1, 0, 0, 0, 5, 0, 11, 0, 1, 0, 0, 0];
        let body = socket(10, 10, &attributes);
        let answer = taken(&[message(20, 0, &body), message(3, 0, &[0; 4])].concat()).unwrap();
        let local = Endpoint { ip: IpAddr::from([9, 1, 1, 1]), port: 4444 };
        let (id, family, state) = (SocketId(7 | 1 << 32), Family::Ipv6, State::Listen);
        let wanted = Entry { id, inode: 0, family, state, local, remote: None, v6only: true };
        assert_eq!((answer.entries, answer.done, answer.unknown), (vec![wanted], true, 0));
    }

    #[test]
    fn a_request_is_not_taken_for_a_connection() {
        let answer = taken(&message(20, 0, &socket(10, 3, &[]))).unwrap();
        assert_eq!(answer.entries[0].state, State::NewSynRecv);
    }

    #[test]
    fn an_unknown_state_or_family_is_counted() {
        let bodies = [socket(10, 99, &[]), socket(1, 10, &[]), vec![0; 71]];
        let answer = taken(&bodies.map(|body| message(20, 0, &body)).concat()).unwrap();
        assert_eq!((answer.entries.len(), answer.unknown, answer.done), (0, 3, false));
    }

    #[test]
    fn errors_and_interruption_are_told() {
        for kind in [2, 3] {
            let error = taken(&message(kind, 0, &(-13_i32).to_ne_bytes())).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(13));
        }
        assert!(taken(&message(3, 0x10, &[0; 4])).unwrap().interrupted);
        assert_eq!(taken(&[0; 16]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = taken(&bytes);
        }

        #[test]
        fn no_body_makes_it_panic(
            kind in prop_oneof![Just(2_u16), Just(3), Just(20)],
            body in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = taken(&message(kind, 0, &body));
        }

        #[test]
        fn no_attributes_make_it_panic(attributes in proptest::collection::vec(0_u8..16, 0..100)) {
            let answer = taken(&message(20, 0, &socket(10, 10, &attributes))).unwrap();
            prop_assert_eq!(answer.entries.len(), 1);
        }
    }
}
