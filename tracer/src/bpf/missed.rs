//! Runs that the kernel left out: probes that were hit while another was at work on the same CPU, and
//! programs that it would not run inside themselves. Read from its own statistics.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use aya::programs::links::FdLink;

/// `BPF_OBJ_GET_INFO_BY_FD` of `enum bpf_cmd`.
const GET_INFO: libc::c_long = 15;
/// `BPF_LINK_GET_FD_BY_ID` of `enum bpf_cmd`.
const FD_BY_ID: libc::c_long = 30;
/// Bytes that are asked for: all of `struct bpf_prog_info` and `bpf_link_info` as of 6.18.
const SIZE: usize = 232;
/// `bpf_prog_info.recursion_misses`; older kernels (before 5.12) leave it 0.
const RECURSION_MISSES: usize = 208;
/// `bpf_link_info.perf_event.kprobe.missed`; older kernels (before 6.7) leave it 0.
const PROBE_MISSED: usize = 48;

/// `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct Attributes {
    fd: u32,
    length: u32,
    info: u64,
}

/// Runs of a program that were left out since it was loaded.
pub(super) fn by_program(fd: BorrowedFd<'_>) -> u64 {
    field(fd, RECURSION_MISSES)
}

/// Hits of a kprobe's link that were missed since it was attached. aya keeps a link's descriptor to itself,
/// so it is asked for by the link's id.
pub(super) fn by_link(link: &FdLink) -> u64 {
    let Ok(info) = link.info() else { return 0 };
    let id = [info.id(), 0];
    // SAFETY: the kernel reads the id, and the words behind it as 0; what it gives is a descriptor of our own.
    let fd = unsafe {
        let fd = libc::syscall(libc::SYS_bpf, FD_BY_ID, &raw const id, size_of_val(&id));
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as i32))
    };
    fd.map_or(0, |fd| field(fd.as_fd(), PROBE_MISSED))
}

/// A counter of the kernel's description; 0 when it gives none.
fn field(fd: BorrowedFd<'_>, offset: usize) -> u64 {
    let mut info = [0_u64; SIZE / 8];
    let attributes = Attributes {
        fd: fd.as_raw_fd().cast_unsigned(),
        length: SIZE as u32,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: the kernel reads the attributes and writes at most `length` bytes of `info`, which is zeroed
    // and so asks for none of the lists.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, GET_INFO, &raw const attributes, size_of::<Attributes>()) };
    if result == 0 { info[offset / 8] } else { 0 }
}
