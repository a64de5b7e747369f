//! TCP sessions that begin otherwise than by a plain `connect()`.

use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;

use rustix::io::Errno;
use rustix::net::SendFlags;

use super::{RAW_LENGTH, checked, keep, raw, stream};

pub(super) fn fast_open_send(to: SocketAddrV4) -> Result<(), Errno> {
    for _ in 0..2 {
        let (socket, address, bytes) = (stream(to.into())?, raw(to), [b'x'; 20]);
        let flags = libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL;
        // SAFETY: both buffers are alive and as long as is said.
        let sent = unsafe {
            let address = (&raw const address).cast();
            libc::sendto(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags, address, RAW_LENGTH)
        };
        checked(sent as libc::c_long)?;
        keep(socket);
    }
    Ok(())
}

pub(super) fn fast_open_connect(to: SocketAddr) -> Result<(), Errno> {
    let (socket, on) = (stream(to)?, 1_i32);
    // SAFETY: the option is an int.
    let set = unsafe {
        let value = (&raw const on).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, value, 4)
    };
    checked(set.into())?;
    rustix::net::connect(&socket, &to)?;
    rustix::net::send(&socket, b"x", SendFlags::NOSIGNAL)?;
    keep(socket);
    Ok(())
}

pub(super) fn multipath(to: SocketAddr) -> Result<(), Errno> {
    let family = super::family(to);
    let kind = rustix::net::SocketType::STREAM;
    let socket = rustix::net::socket(family, kind, Some(rustix::net::ipproto::MPTCP))?;
    rustix::net::connect(&socket, &to)?;
    keep(socket);
    Ok(())
}

pub(super) fn again(to: SocketAddr) -> Result<(), Errno> {
    let socket = stream(to)?;
    rustix::net::connect(&socket, &to)?;
    rustix::net::connect_unspec(&socket)?;
    rustix::net::connect(&socket, &to)?;
    keep(socket);
    Ok(())
}

pub(super) fn to_itself(at: SocketAddr) -> Result<(), Errno> {
    let socket = stream(at)?;
    rustix::net::bind(&socket, &at)?;
    rustix::net::connect(&socket, &at)?;
    keep(socket);
    Ok(())
}

#[cfg(target_arch = "x86_64")]
pub(super) fn compat(to: SocketAddrV4) -> Result<(), Errno> {
    /// `getpid` and `connect` in the kernel's `syscall_32.tbl`.
    const GETPID: u64 = 20;
    const CONNECT: u64 = 362;
    let there = super::others::survives(|| {
        // SAFETY: getpid takes nothing and touches no memory.
        let pid = unsafe { int80(GETPID, 0, 0, 0) };
        if pid > 0 { Ok(()) } else { Err(Errno::NOSYS) }
    });
    if !there {
        return Err(Errno::NOSYS);
    }
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, which nothing else knows.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, access, flags | libc::MAP_32BIT, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(Errno::NOMEM);
    }
    // SAFETY: the page is new, writable and longer than the address.
    unsafe { page.cast::<libc::sockaddr_in>().write(raw(to)) };
    let socket = stream(to.into())?;
    // SAFETY: the address lies below 4 GiB and is as long as is said.
    let result = unsafe { int80(CONNECT, socket.as_raw_fd() as u64, page as u64, RAW_LENGTH.into()) };
    if result < 0 {
        return Err(Errno::from_raw_os_error(-result as i32));
    }
    keep(socket);
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn compat(_: SocketAddrV4) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}

/// A system call of a 32-bit program.
///
/// # Safety
/// The arguments are what the call wants; pointers are below 4 GiB.
#[cfg(target_arch = "x86_64")]
unsafe fn int80(number: u64, first: u64, second: u64, third: u64) -> i64 {
    let result: i32;
    // SAFETY: the caller vouches for the call; the first argument belongs into rbx, which the compiler keeps
    // for itself and gets back.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {first}",
            "int 0x80",
            "xchg rbx, {first}",
            first = inout(reg) first => _,
            inlateout("eax") number as u32 => result,
            in("rcx") second,
            in("rdx") third,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
        );
    }
    result.into()
}
