//! Reads the acting task.

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_get_current_task_btf};
use tracer_common::{ABSENT, READS_TASK_TYPE, Record};

use crate::{
    maps::{offset, setting},
    sock::{plain, probe},
};

/// No namespace has this cookie: they count up from 1.
pub(crate) const NO_NETNS_COOKIE: u64 = u64::MAX;

/// `THREAD_SIZE` is this or a multiple of it.
const STACK_SIZE: u64 = 16 << 10;

/// Loads a member of a task, or of what it points to: plainly where the verifier knows the type.
#[inline(always)]
fn load<T: Copy>(base: *const u8, offset: u32) -> T {
    if setting!(reads) & READS_TASK_TYPE != 0 { plain(base, offset) } else { probe(base, offset) }
}

/// `struct task_struct`, known to the verifier by its BTF type where the kernel has it (5.11).
#[derive(Clone, Copy)]
pub(crate) struct Task(*const u8);

impl Task {
    /// The task that runs now; in softirq context it is whoever was interrupted.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        if setting!(reads) & READS_TASK_TYPE != 0 {
            // SAFETY: a helper without arguments.
            Self(unsafe { bpf_get_current_task_btf() } as *const u8)
        } else {
            // SAFETY: as above.
            Self(unsafe { bpf_get_current_task() } as *const u8)
        }
    }

    /// A task that an iterator hands over.
    #[inline(always)]
    pub(crate) fn from_ptr(task: *const u8) -> Self {
        Self(task)
    }

    /// The process id.
    #[inline(always)]
    pub(crate) fn pid(self) -> u32 {
        load(self.0, offset!(tgid))
    }

    /// True for the tracer itself.
    #[inline(always)]
    pub(crate) fn is_tracer(self) -> bool {
        self.pid() == setting!(own_pid)
    }

    /// False where the program interrupts the task on another stack. Only where the task's type is known; elsewhere
    /// always true.
    #[inline(always)]
    pub(crate) fn is_on_own_stack(self) -> bool {
        if setting!(reads) & READS_TASK_TYPE == 0 {
            return true;
        }
        let stack: u64 = load(self.0, offset!(stack));
        self.here().wrapping_sub(stack) < STACK_SIZE
    }

    /// An address on the stack that the program runs on.
    #[inline(always)]
    fn here(self) -> u64 {
        let mut distance = 0_u64;
        let place = &raw mut distance;
        // The verifier makes a number of a pointer only by subtracting another one; volatile, so that the compiler
        // does not calculate in another order.
        // SAFETY: a live variable; a helper without arguments.
        unsafe {
            place.write_volatile((place as u64).wrapping_sub(self.0 as u64));
            place.read_volatile().wrapping_add(bpf_get_current_task())
        }
    }

    /// Writes the task into the record, with the evidence that ties it to the socket.
    #[inline(always)]
    pub(crate) fn fill(self, record: &mut Record, how: u8) {
        record.how = how;
        record.pid = self.pid();
        record.tid = load(self.0, offset!(tid));
        let leader: *const u8 = load(self.0, offset!(group_leader));
        record.process_start = load(leader, offset!(start_boottime));
        if offset!(self_exec_id) != ABSENT {
            record.exec_id = load::<u64>(self.0, offset!(self_exec_id)) as u32;
        }
        let parent: *const u8 = load(self.0, offset!(real_parent));
        record.ppid = load(parent, offset!(tgid));
        let cred: *const u8 = load(self.0, offset!(cred));
        record.uid = load(cred, offset!(euid));
        let (first, second): (u64, u64) = (load(self.0, offset!(comm)), load(self.0, offset!(comm) + 8));
        let comm = record.comm.as_mut_ptr().cast::<u64>();
        // SAFETY: comm is 16 bytes at offset 136, aligned to 8.
        unsafe {
            comm.write(first);
            comm.add(1).write(second);
        }
    }

    /// Inode number and cookie of the network namespace that the task is in; where the kernel does not
    /// show the cookie it is [`NO_NETNS_COOKIE`].
    #[inline(always)]
    pub(crate) fn netns(self) -> (u32, u64) {
        let nsproxy: *const u8 = load(self.0, offset!(nsproxy));
        if nsproxy.is_null() {
            return (0, 0); // a task that is already leaving
        }
        let net: *const u8 = load(nsproxy, offset!(net_ns));
        let cookie =
            if offset!(net_cookie) == ABSENT { NO_NETNS_COOKIE } else { load(net, offset!(net_cookie)) };
        (load(net, offset!(net_inum)), cookie)
    }
}
