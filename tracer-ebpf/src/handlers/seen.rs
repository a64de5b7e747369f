//! What the iterators find: every socket of a namespace, and every descriptor of every task.

use aya_ebpf::helpers::generated::{
    bpf_seq_write, bpf_skc_to_tcp_sock, bpf_skc_to_tcp_timewait_sock, bpf_sock_from_file,
};
use tracer_common::{ABSENT, FLAG_REMNANT, HOW_HELD, KIND_HELD, KIND_SEEN, Record};

use super::tcp::await_accept;
use crate::{
    emit::{now, zeroed},
    maps::offset,
    sock::{ESTABLISHED, Sock, TCP, Typed, plain},
    task::Task,
};

/// A TCP socket of any kind: full, request or time-wait.
#[inline(always)]
pub(crate) fn tcp(seq: *const u8, sk: *const u8) {
    if sk.is_null() {
        return;
    }
    let sk = Sock::at(sk, Typed);
    if !sk.is_inet() {
        return;
    }
    // SAFETY: the verifier checks that the pointer is a socket; null for request and time-wait ones.
    let full = sk.seen_at(unsafe { bpf_skc_to_tcp_sock(sk.at as *mut _) } as *const u8);
    // SAFETY: as above; null for all but time-wait ones.
    let remnant = unsafe { bpf_skc_to_tcp_timewait_sock(sk.at as *mut _) } as *const u8;
    write(seq, KIND_SEEN, |record| {
        sk.fill_common(record, sk.cookie());
        record.protocol = TCP;
        if full.at.is_null() {
            record.flags |= FLAG_REMNANT;
        }
        if !remnant.is_null() && offset!(tw_substate) != ABSENT {
            // The state of the connection; the structure's own is always time-wait.
            record.state = plain(remnant, offset!(tw_substate));
        }
    });
    if !full.at.is_null() && full.state() == ESTABLISHED && full.is_unowned() && !full.is_aside() {
        await_accept(full.cookie()); // it waits in a listener's queue
    }
}

/// A UDP socket.
#[inline(always)]
pub(crate) fn udp(seq: *const u8, sk: *const u8) {
    if sk.is_null() {
        return;
    }
    let sk = Sock::at(sk, Typed);
    if !sk.is_inet() {
        return;
    }
    write(seq, KIND_SEEN, |record| sk.fill(record));
}

/// A descriptor of a task.
#[inline(always)]
pub(crate) fn held(seq: *const u8, task: Task, fd: u32, file: *const u8) {
    // SAFETY: the verifier checks that the pointer is a file.
    let socket = unsafe { bpf_sock_from_file(file as *mut _) } as *const u8;
    if socket.is_null() {
        return;
    }
    let sk: *const u8 = plain(socket, offset!(socket_sk));
    if sk.is_null() {
        return;
    }
    let sk = Sock::at(sk, Typed);
    if !(sk.is_tcp() || sk.is_udp()) {
        return;
    }
    write(seq, KIND_HELD, |record| {
        sk.fill(record);
        task.fill(record, HOW_HELD);
        record.fd = fd;
    });
}

#[inline(always)]
fn write(seq: *const u8, kind: u8, fill: impl FnOnce(&mut Record)) {
    let mut place = core::mem::MaybeUninit::<Record>::uninit();
    let record = zeroed(&mut place);
    record.time = now();
    record.kind = kind;
    fill(record);
    let bytes = (&raw mut *record).cast();
    // SAFETY: the record lives on the stack for the call; a full buffer makes the kernel call the
    // program again for the same socket.
    unsafe { bpf_seq_write(seq as *mut _, bytes, size_of::<Record>() as u32) };
}
