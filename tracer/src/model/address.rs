//! What an IP address means to this host: bind scope, remote class, direction, and whether two bound addresses
//! can receive the same packet.
//!
//! Pure functions over `std::net` types. Kept out: ports, sockets and the reading of this host's own addresses.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// From where a bound local address can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BindScope {
    /// `0.0.0.0` or `::`: through every interface.
    Any,
    /// One address: through the interface that has it.
    Specific,
    /// `127.0.0.0/8` or `::1`: from this machine only.
    Loopback,
}

impl BindScope {
    /// The name used in records and text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Specific => "specific",
            Self::Loopback => "loopback",
        }
    }
}

impl fmt::Display for BindScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Who opened a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The remote opened it; this host accepted.
    Inbound,
    /// This host opened it.
    Outbound,
}

impl Direction {
    /// The name used in records, text and policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a remote address lies, seen from this host, by the IANA special-purpose registries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RemoteClass {
    /// `127.0.0.0/8` or `::1`.
    Loopback,
    /// Another address of this host: a session with itself.
    Own,
    /// `169.254.0.0/16` or `fe80::/10`: the same link.
    LinkLocal,
    /// RFC 1918 and unique local (ULA) addresses: the same site.
    Private,
    /// `100.64.0.0/10`: between a carrier and its customers.
    Shared,
    /// `224.0.0.0/4` or `ff00::/8`: a group of receivers.
    Multicast,
    /// `255.255.255.255`. A subnet's directed broadcast is not told apart: that needs the subnet's mask.
    Broadcast,
    /// Not for use on the Internet: unspecified, documentation, benchmarking, unallocated by protocol.
    Reserved,
    /// Everything else: reachable across the Internet.
    Internet,
}

impl RemoteClass {
    /// All classes, in their order.
    pub const ALL: [Self; 9] = [
        Self::Loopback,
        Self::Own,
        Self::LinkLocal,
        Self::Private,
        Self::Shared,
        Self::Multicast,
        Self::Broadcast,
        Self::Reserved,
        Self::Internet,
    ];

    /// The name used in records, text and policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Own => "own",
            Self::LinkLocal => "link-local",
            Self::Private => "private",
            Self::Shared => "shared",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Reserved => "reserved",
            Self::Internet => "internet",
        }
    }
}

impl fmt::Display for RemoteClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no [`RemoteClass`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownRemoteClass;

impl fmt::Display for UnknownRemoteClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a remote class: expected one of")?;
        RemoteClass::ALL.iter().try_for_each(|class| write!(f, " `{class}`"))
    }
}

impl std::error::Error for UnknownRemoteClass {}

impl FromStr for RemoteClass {
    type Err = UnknownRemoteClass;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|class| class.as_str() == word).ok_or(UnknownRemoteClass)
    }
}

/// The address as records show it: a v4-mapped one (`::ffff:0:0/96`, RFC 4291 section 2.5.5.2) becomes the IPv4
/// address that is on the wire.
pub fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// The scope of a bound local address; v4-mapped forms count as the IPv4 address.
pub fn bind_scope(ip: IpAddr) -> BindScope {
    let ip = canonical(ip);
    if ip.is_unspecified() {
        BindScope::Any
    } else if ip.is_loopback() {
        BindScope::Loopback
    } else {
        BindScope::Specific
    }
}

/// The class of a remote address on a host with the addresses `own`, given in canonical form.
///
/// Loopback comes before own, own before everything else. A v4-mapped address is classed by its IPv4 address
/// throughout. An address behind NAT64 (`64:ff9b::/96`) is classed by the IPv4 address inside as well, but is
/// `reserved` where that one is loopback: such a packet leaves the host, and RFC 6052 section 3.1 forbids it.
pub fn remote_class(ip: IpAddr, own: &BTreeSet<IpAddr>) -> RemoteClass {
    let ip = canonical(ip);
    if ip.is_loopback() {
        RemoteClass::Loopback
    } else if own.contains(&ip) {
        RemoteClass::Own
    } else {
        match ip {
            IpAddr::V4(ip) => class_v4(ip),
            IpAddr::V6(ip) => class_v6(ip),
        }
    }
}

/// One row of a registry: a prefix and the class of its addresses.
struct Block<Addr> {
    prefix: Addr,
    bits: u32,
    class: RemoteClass,
}

const fn v4(prefix: [u8; 4], bits: u32, class: RemoteClass) -> Block<Ipv4Addr> {
    let [a, b, c, d] = prefix;
    Block { prefix: Ipv4Addr::new(a, b, c, d), bits, class }
}

const fn v6(prefix: [u16; 8], bits: u32, class: RemoteClass) -> Block<Ipv6Addr> {
    let [a, b, c, d, e, f, g, h] = prefix;
    Block { prefix: Ipv6Addr::new(a, b, c, d, e, f, g, h), bits, class }
}

impl Block<Ipv4Addr> {
    fn contains(&self, ip: Ipv4Addr) -> bool {
        (ip.to_bits() ^ self.prefix.to_bits()).leading_zeros() >= self.bits
    }
}

impl Block<Ipv6Addr> {
    fn contains(&self, ip: Ipv6Addr) -> bool {
        (ip.to_bits() ^ self.prefix.to_bits()).leading_zeros() >= self.bits
    }
}

/// IANA IPv4 Special-Purpose Address Registry (RFC 6890, RFC 8190) and the multicast space; first match wins.
///
/// Entries that the registry calls globally reachable are `internet`, also without a row of their own:
/// 192.31.196.0/24 (AS112, RFC 7535), 192.52.193.0/24 (AMT, RFC 7450), 192.175.48.0/24 (AS112, RFC 7534).
const BLOCKS_V4: &[Block<Ipv4Addr>] = &[
    v4([0, 0, 0, 0], 8, RemoteClass::Reserved), // this network, RFC 791; this host, RFC 1122 section 3.2.1.3
    v4([10, 0, 0, 0], 8, RemoteClass::Private), // RFC 1918
    v4([100, 64, 0, 0], 10, RemoteClass::Shared), // RFC 6598
    v4([127, 0, 0, 0], 8, RemoteClass::Loopback), // RFC 1122 section 3.2.1.3
    v4([169, 254, 0, 0], 16, RemoteClass::LinkLocal), // RFC 3927
    v4([172, 16, 0, 0], 12, RemoteClass::Private), // RFC 1918
    v4([192, 0, 0, 9], 32, RemoteClass::Internet), // Port Control Protocol anycast, RFC 7723: globally reachable
    v4([192, 0, 0, 10], 32, RemoteClass::Internet), // TURN anycast, RFC 8155: globally reachable
    v4([192, 0, 0, 0], 24, RemoteClass::Reserved), // protocol assignments, RFC 6890; DS-Lite, RFC 7335
    v4([192, 0, 2, 0], 24, RemoteClass::Reserved), // documentation, RFC 5737
    v4([192, 88, 99, 2], 32, RemoteClass::Reserved), // 6a44 relay anycast, RFC 6751: not globally reachable
    v4([192, 88, 99, 0], 24, RemoteClass::Internet), // 6to4 relay anycast, deprecated by RFC 7526 but still forwarded
    v4([192, 168, 0, 0], 16, RemoteClass::Private),  // RFC 1918
    v4([198, 18, 0, 0], 15, RemoteClass::Reserved),  // benchmarking, RFC 2544
    v4([198, 51, 100, 0], 24, RemoteClass::Reserved), // documentation, RFC 5737
    v4([203, 0, 113, 0], 24, RemoteClass::Reserved), // documentation, RFC 5737
    v4([224, 0, 0, 0], 4, RemoteClass::Multicast),   // RFC 5771
    v4([255, 255, 255, 255], 32, RemoteClass::Broadcast), // limited broadcast, RFC 919
    v4([240, 0, 0, 0], 4, RemoteClass::Reserved),    // future use, RFC 1112 section 4
];

/// IANA IPv6 Special-Purpose Address Registry (RFC 6890, RFC 8190) within the IPv6 address space of RFC 4291;
/// first match wins. NAT64, 6to4 and Teredo carry an IPv4 address and are taken out before.
///
/// 2620:4f:8000::/48 (AS112, RFC 7534) is globally reachable and lies in 2000::/3.
const BLOCKS_V6: &[Block<Ipv6Addr>] = &[
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, RemoteClass::Loopback), // RFC 4291 section 2.5.3
    v6([0x2001, 1, 0, 0, 0, 0, 0, 1], 128, RemoteClass::Internet), // Port Control Protocol anycast, RFC 7723
    v6([0x2001, 1, 0, 0, 0, 0, 0, 2], 128, RemoteClass::Internet), // TURN anycast, RFC 8155
    v6([0x2001, 1, 0, 0, 0, 0, 0, 3], 128, RemoteClass::Internet), // DNS-SD registration anycast, RFC 9665
    v6([0x2001, 3, 0, 0, 0, 0, 0, 0], 32, RemoteClass::Internet), // AMT, RFC 7450
    v6([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48, RemoteClass::Internet), // AS112, RFC 7535
    v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28, RemoteClass::Internet), // ORCHIDv2, RFC 7343: registered as reachable
    v6([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28, RemoteClass::Internet), // drone remote ID, RFC 9374: as above
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, RemoteClass::Reserved), // RFC 2928; benchmarking, RFC 5180; ORCHID
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, RemoteClass::Reserved), // documentation, RFC 3849
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, RemoteClass::Reserved), // documentation, RFC 9637
    v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3, RemoteClass::Internet),  // global unicast, RFC 4291 section 2.4
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, RemoteClass::Private),   // unique local, RFC 4193
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, RemoteClass::LinkLocal), // RFC 4291 section 2.5.6
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, RemoteClass::Multicast), // RFC 4291 section 2.7
    // What no row above names is held back by IANA: `::` (RFC 4291), local NAT64 64:ff9b:1::/48 (RFC 8215: where
    // its IPv4 address stands is not known here), discard-only 100::/64 (RFC 6666), dummy 100:0:0:1::/64
    // (RFC 9780), SRv6 SIDs 5f00::/16 (RFC 9602), site-local fec0::/10 (deprecated by RFC 3879).
    v6([0, 0, 0, 0, 0, 0, 0, 0], 0, RemoteClass::Reserved),
];

fn class_v4(ip: Ipv4Addr) -> RemoteClass {
    BLOCKS_V4.iter().find(|block| block.contains(ip)).map_or(RemoteClass::Internet, |block| block.class)
}

fn class_v6(ip: Ipv6Addr) -> RemoteClass {
    if let Some(inside) = nat64(ip) {
        return if inside.is_loopback() { RemoteClass::Reserved } else { class_v4(inside) };
    }
    if let Some(inside) = tunnelled(ip) {
        let class = class_v4(inside);
        return if class == RemoteClass::Internet { class } else { RemoteClass::Reserved };
    }
    BLOCKS_V6.iter().find(|block| block.contains(ip)).map_or(RemoteClass::Reserved, |block| block.class)
}

/// The IPv4 address behind the well-known NAT64 prefix, RFC 6052 section 2.1.
fn nat64(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        _ => None,
    }
}

/// The IPv4 address to which an automatic tunnel sends: 6to4 (2002::/16, RFC 3056 section 2) or Teredo
/// (2001::/32, RFC 4380 section 4, where it is stored inverted). Neither is valid unless it is a global one.
fn tunnelled(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    match ip.segments() {
        [0x2002, high, low, ..] => Some(join(high, low)),
        [0x2001, 0, _, _, _, _, high, low] => Some(join(!high, !low)),
        _ => None,
    }
}

fn join(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

/// Whether two bound addresses can receive the same packet; each with its socket's IPV6_V6ONLY.
///
/// `0.0.0.0` takes all of IPv4; `::` all of IPv6 and, with IPV6_V6ONLY off, all of IPv4 too (ipv6(7)). A v4-mapped
/// address is its IPv4 address. IPV6_V6ONLY says nothing of an IPv4 socket. Interfaces and zones are not compared.
pub fn scopes_overlap(a: (IpAddr, bool), b: (IpAddr, bool)) -> bool {
    let (a_ip, b_ip) = (canonical(a.0), canonical(b.0));
    match (a_ip.is_unspecified(), b_ip.is_unspecified()) {
        (false, false) => a_ip == b_ip,
        (true, false) => takes_family(a_ip, a.1, b_ip),
        (false, true) => takes_family(b_ip, b.1, a_ip),
        (true, true) => takes_family(a_ip, a.1, b_ip) || takes_family(b_ip, b.1, a_ip),
    }
}

/// Whether a socket bound to the unspecified address `any` receives packets of `other`'s family.
fn takes_family(any: IpAddr, v6only: bool, other: IpAddr) -> bool {
    any.is_ipv4() == other.is_ipv4() || (any.is_ipv6() && !v6only)
}

/// Hands the text of an address, which is ASCII, to `put`: what `Display` writes, which takes ten times as long for
/// IPv4.
pub fn spell(ip: IpAddr, put: impl FnOnce(&[u8])) {
    match ip {
        IpAddr::V4(ip) => {
            // Each octet is written with its dot as four bytes, of which the next one covers what is too much.
            let (mut text, mut end) = ([0; 4 * 4], 0);
            for octet in ip.octets() {
                let (word, length) = OCTETS[usize::from(octet)];
                text[end..end + 4].copy_from_slice(&word);
                end += usize::from(length);
            }
            put(&text[..end - 1]); // without the last dot
        }
        IpAddr::V6(ip) => put(ip.to_string().as_bytes()),
    }
}

/// Every octet in decimal with a dot after it, and how long that is.
static OCTETS: [([u8; 4], u8); 256] = octets();

const fn octets() -> [([u8; 4], u8); 256] {
    let mut table = [([0; 4], 0); 256];
    let mut octet = 0;
    while octet < table.len() {
        let [hundreds, tens, ones] = [octet / 100, octet / 10 % 10, octet % 10];
        let [hundreds, tens, ones] = [b'0' + hundreds as u8, b'0' + tens as u8, b'0' + ones as u8];
        table[octet] = match octet {
            0..10 => ([ones, b'.', 0, 0], 2),
            10..100 => ([tens, ones, b'.', 0], 3),
            _ => ([hundreds, tens, ones, b'.'], 4),
        };
        octet += 1;
    }
    table
}
