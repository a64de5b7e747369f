//! The two namespaces of every scenario, joined by one cable.
//!
//! ```text
//!  A  9.1.1.1/24  2a00:1::1/64 ──veth── 9.1.1.2/24  2a00:1::2/64  B
//! ```
//! All addresses are global unicast and in no IANA special-purpose registry, so that the tracer takes
//! them for the Internet; nothing leaves the two namespaces. Both have 9.7.7.7 on their loopback device.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use anyhow::Result;

use super::netlink::{Netlink, Towards};
use super::netns::{Netns, sysctl};

/// A's IPv4 address.
pub const A4: IpAddr = v4(9, 1, 1, 1);
/// B's IPv4 address.
pub const B4: IpAddr = v4(9, 1, 1, 2);
/// A's IPv6 address.
pub const A6: IpAddr = v6(0x2a00, 1, 0, 1);
/// B's IPv6 address.
pub const B6: IpAddr = v6(0x2a00, 1, 0, 2);
/// An address that each of the two namespaces has for itself.
pub const BOTH4: IpAddr = v4(9, 7, 7, 7);
/// A neighbour of A that never answers: packets to it vanish.
pub const SILENT4: IpAddr = v4(9, 1, 1, 99);
/// The same over IPv6.
pub const SILENT6: IpAddr = v6(0x2a00, 1, 0, 0x99);
/// No route of A leads here: connect() fails at once with ENETUNREACH.
pub const NO_ROUTE4: IpAddr = v4(11, 3, 3, 3);
/// A sends this through B, which answers "host unreachable" (RFC 792).
pub const UNREACHABLE4: IpAddr = v4(12, 1, 1, 1);
/// The same over IPv6, where B's answer is "no route" (RFC 4443, type 1 code 0): ENETUNREACH, but told by a router.
pub const UNREACHABLE6: IpAddr = v6(0x2a00, 2, 0, 1);

const SILENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x99];

/// Two namespaces and the cable between them.
pub struct Network {
    /// The side that most scenarios connect from.
    pub a: Netns,
    /// The side that serves, and that routes for A.
    pub b: Netns,
}

impl Network {
    /// Makes both namespaces, their addresses and routes.
    ///
    /// # Errors
    /// Without root, or on a kernel without veth.
    pub fn new() -> Result<Self> {
        let network = Self { a: Netns::new()?, b: Netns::new()? };
        network.b.enter(quicken_router)?;
        network.a.enter(|| {
            quicken()?;
            let netlink = Netlink::open()?;
            netlink.add_veth("cable", "cable", network.b.as_fd())?;
            set_up(&netlink)
        })?;
        network.b.enter(|| {
            let netlink = Netlink::open()?;
            set_up(&netlink)?;
            dress(&netlink, B4, B6)?;
            routes_of_b(&netlink)
        })?;
        network.a.enter(|| {
            let netlink = Netlink::open()?;
            dress(&netlink, A4, A6)?;
            routes_of_a(&netlink)
        })?;
        Ok(network)
    }

    /// A and B, by the numbers that the tracer gives for them.
    #[must_use]
    pub fn inodes(&self) -> [u32; 2] {
        [self.a.inode(), self.b.inode()]
    }
}

/// One SYN again after 1 s, and the connect gives up after 3 s; no IPv6 probing. A socket whose FIN is acknowledged in the
/// moment between the two looks of close(), which a busy machine makes longer, is closed after 5 s, not 60 (`__tcp_close` of
/// net/ipv4/tcp.c, TCP_FIN_WAIT1 in net/ipv4/tcp_input.c).
fn quicken() -> Result<()> {
    sysctl("ipv4/tcp_syn_retries", "1")?;
    sysctl("ipv4/tcp_fin_timeout", "5")?;
    sysctl("ipv6/conf/default/accept_ra", "0")?;
    sysctl("ipv6/conf/default/accept_dad", "0")?;
    sysctl("ipv6/icmp/ratelimit", "0")
}

/// The same of B, which routes.
fn quicken_router() -> Result<()> {
    quicken()?;
    sysctl("ipv4/ip_forward", "1")?;
    sysctl("ipv6/conf/all/forwarding", "1")
}

/// Both ends are up before the first address, so that IPv6 finds its carrier.
fn set_up(netlink: &Netlink) -> Result<()> {
    netlink.set_up("lo")?;
    netlink.set_up("cable")
}

fn dress(netlink: &Netlink, address4: IpAddr, address6: IpAddr) -> Result<()> {
    netlink.add_address("lo", BOTH4, 32)?;
    netlink.add_address("cable", address4, 24)?;
    netlink.add_address("cable", address6, 64)
}

fn routes_of_a(netlink: &Netlink) -> Result<()> {
    netlink.add_neighbour("cable", SILENT4, SILENT_MAC)?;
    netlink.add_neighbour("cable", SILENT6, SILENT_MAC)?;
    netlink.add_route(UNREACHABLE4, 32, Towards::Gateway(B4))?;
    netlink.add_route(UNREACHABLE6, 128, Towards::Gateway(B6))
}

fn routes_of_b(netlink: &Netlink) -> Result<()> {
    netlink.add_route(UNREACHABLE4, 32, Towards::Unreachable)?;
    netlink.add_route(UNREACHABLE6, 128, Towards::Unreachable)
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(a: u16, b: u16, c: u16, d: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, d))
}
