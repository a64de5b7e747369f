//! The other end of a call or of a datagram, as it stands in kernel memory: the address beside a message,
//! the headers of a packet.

use crate::{
    maps::offset,
    sock::{ESTABLISHED, INET, INET6, Reads, Sock, is_loopback, probe, put_v4},
};

/// `ETH_P_IP` and `ETH_P_IPV6` of `include/uapi/linux/if_ether.h`
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

/// An address with its port.
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    /// Address in v4-mapped form.
    pub(crate) address: [u8; 16],
    /// Port, host order.
    pub(crate) port: u16,
    /// False where nothing told it: the rest is then zero. Not an `Option`: the compiler copies what that leaves unwritten,
    /// which the verifier refuses.
    pub(crate) known: bool,
}

impl Peer {
    const UNKNOWN: Self = Self { address: [0; 16], port: 0, known: false };

    /// An IPv6 peer; port in host order.
    #[inline(always)]
    pub(crate) fn v6(address: [u8; 16], port: u16) -> Self {
        Self { address, port, known: true }
    }

    /// An IPv4 peer; address in network order, port in host order.
    #[inline(always)]
    pub(crate) fn v4(address: u32, port: u16) -> Self {
        let mut peer = Self::v6([0; 16], port);
        put_v4(&mut peer.address, address);
        peer
    }

    /// True for loopback in every form.
    #[inline(always)]
    pub(crate) fn is_loopback(&self) -> bool {
        let words = self.address.as_ptr().cast::<u64>();
        // SAFETY: 16 bytes.
        let (high, low) = unsafe { (words.read_unaligned(), words.add(1).read_unaligned()) };
        is_loopback(high, low)
    }

    /// The peer that a connected socket has.
    #[inline(always)]
    pub(crate) fn connected<R: Reads>(sk: Sock<R>) -> Self {
        let mut peer = Self::v6([0; 16], sk.remote_port());
        if sk.family() == INET6 {
            sk.copy_remote_v6(&mut peer.address);
        } else {
            put_v4(&mut peer.address, sk.remote_v4());
        }
        peer
    }
}

/// Whom a message goes to: the address that goes with it, else the socket's own peer.
#[inline(always)]
pub(crate) fn named<R: Reads>(sk: Sock<R>, message: *const u8) -> Peer {
    let name: *const u8 = R::load(message, offset!(msg_name));
    if !name.is_null() {
        socket_address(name)
    } else if sk.state() == ESTABLISHED {
        Peer::connected(sk)
    } else {
        Peer::UNKNOWN
    }
}

/// Reads a `struct sockaddr_in` or `sockaddr_in6`; not known of another family, or when it cannot be read.
#[inline(always)]
pub(crate) fn socket_address(name: *const u8) -> Peer {
    let family: u16 = probe(name, 0);
    let port = u16::from_be(probe(name, 2));
    if family == INET {
        Peer::v4(probe(name, 4), port) // sin_addr
    } else if family == INET6 {
        Peer::v6(probe(name, 8), port) // sin6_addr
    } else {
        Peer::UNKNOWN
    }
}

/// Who sent a packet (`struct sk_buff`), by its IP and UDP headers.
#[inline(always)]
pub(crate) fn sender<R: Reads>(packet: *const u8) -> Peer {
    let head: *const u8 = R::load(packet, offset!(skb_head));
    let network: u16 = R::load(packet, offset!(network_header));
    let transport: u16 = R::load(packet, offset!(transport_header));
    let protocol = u16::from_be(R::load(packet, offset!(skb_protocol)));
    let port = u16::from_be(probe(head, transport.into()));
    if protocol == ETH_P_IP {
        Peer::v4(probe(head, u32::from(network) + 12), port) // saddr
    } else if protocol == ETH_P_IPV6 {
        Peer::v6(probe(head, u32::from(network) + 8), port) // saddr
    } else {
        Peer::UNKNOWN
    }
}

/// True for an IPv4 address in its v4-mapped form.
#[inline(always)]
pub(crate) fn is_v4_mapped(peer: &Peer) -> bool {
    let mut prefix = [0u8; 16];
    put_v4(&mut prefix, 0);
    let mut i = 0;
    while i < 12 {
        if peer.address[i] != prefix[i] {
            return false;
        }
        i += 1;
    }
    true
}
