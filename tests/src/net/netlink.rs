//! The few rtnetlink requests that the tests need: links, addresses, routes, neighbours.
//!
//! Layouts are those of `include/uapi/linux/{netlink,rtnetlink,if_link,if_addr,neighbour}.h`. Answers
//! other than the acknowledgement are not read.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const HEADER: usize = 16;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;

/// One request under construction.
struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// A request of `kind` (`RTM_*`) that creates its object, refusing one that exists.
    fn create(kind: u16) -> Self {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        Self::with_flags(kind, flags)
    }

    /// A request of `kind` that changes an object.
    fn change(kind: u16) -> Self {
        Self::with_flags(kind, (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16)
    }

    fn with_flags(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self { bytes }
    }

    fn put(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    fn attribute(self, kind: u16, value: &[u8]) -> Self {
        self.nest(kind, |request| request.put(value))
    }

    /// An attribute whose value is written by `fill`; padded to four bytes.
    fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self = self.put(&[0, 0]).put(&kind.to_ne_bytes());
        self = fill(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes
    }
}

/// Where the packets of a route go.
#[derive(Clone, Copy)]
pub(super) enum Towards {
    /// To this neighbour.
    Gateway(IpAddr),
    /// Nowhere; the sender is told "host unreachable" by ICMP.
    Unreachable,
}

/// An rtnetlink socket of the namespace it was opened in.
pub(super) struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    /// Opens the socket in the calling thread's namespace.
    pub(super) fn open() -> Result<Self> {
        // Protocol 0 is NETLINK_ROUTE.
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
                .context("no rtnetlink socket")?;
        Ok(Self { socket })
    }

    /// Makes a veth pair whose second end lies in the namespace `peer_netns`.
    pub(super) fn add_veth(&self, name: &str, peer: &str, peer_netns: BorrowedFd) -> Result<()> {
        let netns = (peer_netns.as_raw_fd() as u32).to_ne_bytes();
        let request =
            Request::create(libc::RTM_NEWLINK).put(&[0; 16]).attribute(libc::IFLA_IFNAME, &zero_ended(name));
        let request = request.nest(libc::IFLA_LINKINFO, |info| {
            info.attribute(IFLA_INFO_KIND, b"veth").nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |end| {
                    end.put(&[0; 16])
                        .attribute(libc::IFLA_IFNAME, &zero_ended(peer))
                        .attribute(libc::IFLA_NET_NS_FD, &netns)
                })
            })
        });
        self.send(request).context("making a veth pair (is the veth module loaded?)")
    }

    /// Sets a link up.
    pub(super) fn set_up(&self, link: &str) -> Result<()> {
        let up = (libc::IFF_UP as u32).to_ne_bytes();
        let index = (self.index(link)?).to_ne_bytes();
        let request = Request::change(libc::RTM_NEWLINK).put(&[0; 4]).put(&index).put(&up).put(&up);
        self.send(request).with_context(|| format!("setting {link} up"))
    }

    /// Gives a link an address, usable at once (no duplicate address detection).
    pub(super) fn add_address(&self, link: &str, address: IpAddr, prefix: u8) -> Result<()> {
        let index = self.index(link)?.to_ne_bytes();
        let nodad = libc::IFA_F_NODAD as u8;
        let octets = octets(address);
        let request = Request::create(libc::RTM_NEWADDR)
            .put(&[family(address), prefix, nodad, 0])
            .put(&index)
            .attribute(libc::IFA_LOCAL, &octets)
            .attribute(libc::IFA_ADDRESS, &octets);
        self.send(request).with_context(|| format!("giving {link} the address {address}"))
    }

    /// Adds a route for `destination`/`prefix` to the main table.
    pub(super) fn add_route(&self, destination: IpAddr, prefix: u8, towards: Towards) -> Result<()> {
        let kind = match towards {
            Towards::Gateway(_) => libc::RTN_UNICAST,
            Towards::Unreachable => libc::RTN_UNREACHABLE,
        };
        let table = libc::RT_TABLE_MAIN;
        let head =
            [family(destination), prefix, 0, 0, table, libc::RTPROT_BOOT, libc::RT_SCOPE_UNIVERSE, kind];
        let mut request = Request::create(libc::RTM_NEWROUTE)
            .put(&head)
            .put(&[0; 4])
            .attribute(libc::RTA_DST, &octets(destination));
        if let Towards::Gateway(gateway) = towards {
            request = request.attribute(libc::RTA_GATEWAY, &octets(gateway));
        }
        self.send(request).with_context(|| format!("routing {destination}/{prefix}"))
    }

    /// Declares for good that `address` has the hardware address `mac`, without ever asking for it.
    pub(super) fn add_neighbour(&self, link: &str, address: IpAddr, mac: [u8; 6]) -> Result<()> {
        let index = self.index(link)?.to_ne_bytes();
        let request = Request::create(libc::RTM_NEWNEIGH)
            .put(&[family(address), 0, 0, 0])
            .put(&index)
            .put(&libc::NUD_PERMANENT.to_ne_bytes())
            .put(&[0, 0])
            .attribute(libc::NDA_DST, &octets(address))
            .attribute(libc::NDA_LLADDR, &mac);
        self.send(request).with_context(|| format!("declaring the neighbour {address}"))
    }

    fn index(&self, link: &str) -> Result<u32> {
        rustix::net::netdevice::name_to_index(&self.socket, link).with_context(|| format!("no link {link}"))
    }

    /// Sends a request and waits for its acknowledgement.
    fn send(&self, request: Request) -> Result<()> {
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.socket, &request.finish(), SendFlags::empty(), &kernel)?;
        let mut answer = [0; 4096];
        let (length, _) = rustix::net::recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
        acknowledged(&answer[..length])
    }
}

/// Reads the `nlmsgerr` that ends every acknowledged request.
fn acknowledged(answer: &[u8]) -> Result<()> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let code = answer.get(HEADER..HEADER + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(kind), Some(0)) if i32::from(kind) == libc::NLMSG_ERROR => Ok(()),
        (Some(kind), Some(code)) if i32::from(kind) == libc::NLMSG_ERROR => {
            Err(Errno::from_raw_os_error(-code).into())
        }
        (kind, _) => bail!("rtnetlink answered with a message of type {kind:?}"),
    }
}

fn zero_ended(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    family as u8
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_padded_and_its_length_is_not() {
        let bytes = Request::change(7).attribute(3, b"abcde").finish();
        assert_eq!(bytes.len(), HEADER + 12);
        assert_eq!(bytes[..4], 28_u32.to_ne_bytes());
        assert_eq!(bytes[HEADER..HEADER + 2], 9_u16.to_ne_bytes());
        assert_eq!(bytes[HEADER + 9..], [0, 0, 0]);
    }

    #[test]
    fn a_nested_attribute_counts_what_it_holds() {
        let bytes = Request::change(7).nest(1, |outer| outer.attribute(2, &[1, 2, 3, 4])).finish();
        assert_eq!(bytes[HEADER..HEADER + 2], 12_u16.to_ne_bytes());
        assert_eq!(bytes[HEADER + 4..HEADER + 6], 8_u16.to_ne_bytes());
    }

    #[test]
    fn a_refused_request_is_an_error() {
        let mut answer = vec![0; HEADER + 4];
        answer[4..6].copy_from_slice(&(libc::NLMSG_ERROR as u16).to_ne_bytes());
        assert!(acknowledged(&answer).is_ok());
        answer[HEADER..].copy_from_slice(&(-17_i32).to_ne_bytes());
        assert_eq!(acknowledged(&answer).unwrap_err().downcast::<Errno>().unwrap(), Errno::EXIST);
        assert!(acknowledged(&[]).is_err());
    }
}
