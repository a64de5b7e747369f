//! Datagrams sent otherwise than by a plain `sendto()`.

use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{Protocol, SendFlags, SocketType};

use super::{RAW_LENGTH, checked, datagram, keep, raw};
use crate::actor::errno;

const BYTES: [u8; 20] = [b'x'; 20];

pub(super) fn send(to: SocketAddr) -> Result<(), Errno> {
    let socket = datagram(to)?;
    rustix::net::sendto(&socket, &BYTES, SendFlags::empty(), &to)?;
    keep(socket);
    Ok(())
}

pub(super) fn send_three(to: SocketAddrV4) -> Result<(), Errno> {
    let (socket, mut address, mut bytes) = (datagram(to.into())?, raw(to), BYTES);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: a mmsghdr of zeroes is one without name, parts and control data.
    let mut messages: [libc::mmsghdr; 3] = unsafe { std::mem::zeroed() };
    for message in &mut messages {
        message.msg_hdr.msg_name = (&raw mut address).cast();
        message.msg_hdr.msg_namelen = RAW_LENGTH;
        message.msg_hdr.msg_iov = &raw mut part;
        message.msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: three messages, whose parts are alive.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), 3, 0) };
    let sent = checked(sent.into())?;
    keep(socket);
    if sent == 3 { Ok(()) } else { Err(Errno::MSGSIZE) }
}

pub(super) fn connect(to: SocketAddr) -> Result<(), Errno> {
    connected(to).map(keep)
}

pub(super) fn connect_and_write(to: SocketAddr) -> Result<(), Errno> {
    let socket = connected(to)?;
    rustix::io::write(&socket, &BYTES)?;
    keep(socket);
    Ok(())
}

pub(super) fn send_file(to: SocketAddr) -> Result<(), Errno> {
    let socket = connected(to)?;
    let file = std::fs::File::open("/proc/self/exe");
    let file = file.map_err(|error| errno(&error))?;
    rustix::fs::sendfile(&socket, &file, None, BYTES.len())?;
    keep(socket);
    Ok(())
}

pub(super) fn cork(to: SocketAddr) -> Result<(), Errno> {
    let socket = datagram(to)?;
    set_cork(&socket, true)?;
    for _ in 0..2 {
        rustix::net::sendto(&socket, &BYTES, SendFlags::empty(), &to)?;
    }
    set_cork(&socket, false)?;
    keep(socket);
    Ok(())
}

fn set_cork(socket: &OwnedFd, on: bool) -> Result<(), Errno> {
    let on = i32::from(on);
    // SAFETY: the option is an int.
    let set = unsafe {
        let value = (&raw const on).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_UDP, libc::UDP_CORK, value, 4)
    };
    checked(set.into()).map(drop)
}

pub(super) fn lite(to: SocketAddr) -> Result<(), Errno> {
    let protocol = Protocol::from_raw(rustix::net::RawProtocol::new(136).ok_or(Errno::INVAL)?);
    let socket = rustix::net::socket(super::family(to), SocketType::DGRAM, Some(protocol))?;
    rustix::net::sendto(&socket, &BYTES, SendFlags::empty(), &to)?;
    keep(socket);
    Ok(())
}

fn connected(to: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = datagram(to)?;
    rustix::net::connect(&socket, &to)?;
    Ok(socket)
}
