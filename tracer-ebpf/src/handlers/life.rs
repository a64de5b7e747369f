//! Processes are born, become another program, and end.

use core::{arch::asm, mem::MaybeUninit};

use aya_ebpf::helpers::generated::{bpf_probe_read_user, bpf_probe_read_user_str};
use tracer_common::{
    ARGS_KEPT, EXEC_NO_ARGS, EXEC_NO_NAME, EXEC_SCRIPT, ExecRecord, KIND_EXEC, KIND_EXIT, KIND_FORK,
    NAME_BYTES, ProcessRecord,
};

use crate::{
    emit::{Wake, now, put},
    maps::{offset, setting},
    sock::plain,
    task::GivenTask,
};

/// A task was made: told when it is a process, not when it is a thread.
#[inline(always)]
pub(crate) fn fork(child: GivenTask) {
    if child.is_leader() {
        tell(child, KIND_FORK, Wake::WhenMuch);
    }
}

/// A task ends: told when it was the last of its process.
#[inline(always)]
pub(crate) fn exit(task: GivenTask) {
    if task.is_last_of_process() {
        let wake = if setting!(loopback_aside) == 0 { Wake::Always } else { Wake::WhenMuch };
        tell(task, KIND_EXIT, wake);
    }
}

#[inline(always)]
fn tell(task: GivenTask, kind: u32, wake: Wake) {
    put(wake, |place: &mut MaybeUninit<ProcessRecord>| {
        place.write(describe(task, kind));
    });
}

#[inline(always)]
fn describe(task: GivenTask, kind: u32) -> ProcessRecord {
    let (parent, parent_start) = task.parent();
    ProcessRecord {
        time: now(),
        start: task.start(),
        parent_start,
        pid: task.pid(),
        parent,
        uid: task.uid(),
        exec_id: task.exec_id(),
        netns: task.netns_number(),
        kind,
        comm: task.comm(),
    }
}

/// A process runs a program: its new memory is made, and nothing of it ran yet. `call` is the kernel's `struct linux_binprm`.
#[inline(always)]
pub(crate) fn exec(task: GivenTask, call: *const u8) {
    let (asked, run): (u64, u64) = (plain(call, offset!(bprm_filename)), plain(call, offset!(bprm_interp)));
    let script = if asked == run { 0 } else { EXEC_SCRIPT };
    // The name stands in the kernel too, where lockdown may forbid to read it; this is the copy on the new program's stack.
    let name: u64 = plain(call, offset!(bprm_exec));
    put(Wake::Always, |place: &mut MaybeUninit<ExecRecord>| {
        let record = place.as_mut_ptr();
        let file = task.executable();
        // SAFETY: the ring's memory, of which every member is written here but for the bytes that the lengths leave out; any
        // bytes are a record.
        unsafe {
            (&raw mut (*record).process).write(describe(task, KIND_EXEC));
            (&raw mut (*record).inode).write(file.inode);
            (&raw mut (*record).magic).write(file.magic);
            (&raw mut (*record).device).write(file.device);
            (&raw mut (*record).links).write(file.links);
            (&raw mut (*record).reserved).write(0);
            let (name_length, name_fault) = copy_name(name, (&raw mut (*record).name).cast());
            (&raw mut (*record).name_length).write(name_length);
            let (args_length, args_fault) = copy_args(task, (&raw mut (*record).args).cast());
            (&raw mut (*record).args_length).write(args_length);
            (&raw mut (*record).flags).write(script | name_fault | args_fault);
        }
    });
}

/// Gives its length without the NUL, and what went wrong. `to` has [`NAME_BYTES`].
#[inline(always)]
fn copy_name(from: u64, to: *mut u8) -> (u32, u32) {
    // SAFETY: so many bytes are there; the helper survives any address to read from.
    let length = unsafe { bpf_probe_read_user_str(to.cast(), NAME_BYTES as u32, from as *const _) };
    if length > 0 { (length as u32 - 1, 0) } else { (0, EXEC_NO_NAME) }
}

/// Gives how many bytes there are, of which as many are copied as there is room for, and what went wrong. `to` has
/// [`ARGS_BYTES`](tracer_common::ARGS_BYTES).
#[inline(always)]
fn copy_args(task: GivenTask, to: *mut u8) -> (u32, u32) {
    let (from, length) = task.args();
    let mut size = if length < ARGS_KEPT as u64 { length } else { ARGS_KEPT as u64 };
    // SAFETY: changes nothing, but the verifier of older kernels sees a bound only in this.
    unsafe { asm!("{size} &= {most}", size = inout(reg) size, most = const ARGS_KEPT) };
    // SAFETY: as in `copy_name`.
    let failed = unsafe { bpf_probe_read_user(to.cast(), size as u32, from as *const _) } != 0;
    if failed {
        return (0, EXEC_NO_ARGS);
    }
    (if length > u64::from(u32::MAX) { u32::MAX } else { length as u32 }, 0)
}
