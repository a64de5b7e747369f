//! Iterators: the sockets and descriptors that are there already.
//!
//! aya-ebpf has no macro for them. Contexts are the `bpf_iter__*` structures of the kernel:
//! a pointer to the metadata first, then the object.

use core::ffi::c_void;

use crate::{handlers::seen, sock::plain, task::Task};

/// `struct bpf_iter__tcp { meta; sk_common; uid }`
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub(crate) extern "C" fn seen_tcp(ctx: *mut c_void) -> i32 {
    seen::tcp(seq_file(ctx), member(ctx, 8));
    0
}

/// `struct bpf_iter__udp { meta; udp_sk; uid; bucket }`
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/udp")]
pub(crate) extern "C" fn seen_udp(ctx: *mut c_void) -> i32 {
    seen::udp(seq_file(ctx), member(ctx, 8));
    0
}

/// `struct bpf_iter__task_file { meta; task; fd; file }`
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub(crate) extern "C" fn held(ctx: *mut c_void) -> i32 {
    let task: *const u8 = member(ctx, 8);
    let file: *const u8 = member(ctx, 24);
    if !task.is_null() && !file.is_null() {
        seen::held(seq_file(ctx), Task::from_ptr(task), plain(ctx.cast(), 16), file);
    }
    0
}

#[inline(always)]
fn member(ctx: *mut c_void, offset: u32) -> *const u8 {
    plain(ctx.cast(), offset)
}

/// `meta->seq`
#[inline(always)]
fn seq_file(ctx: *mut c_void) -> *const u8 {
    plain(member(ctx, 0), 0)
}
