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

    /// Inode number of the network namespace that the task is in; 0 for a task that is already leaving.
    #[inline(always)]
    pub(crate) fn netns_number(self) -> u32 {
        let net = self.net();
        if net.is_null() { 0 } else { load(net, offset!(net_inum)) }
    }

    /// The same with its cookie; where the kernel does not show the cookie it is [`NO_NETNS_COOKIE`].
    #[inline(always)]
    pub(crate) fn netns(self) -> (u32, u64) {
        let net = self.net();
        if net.is_null() {
            return (0, 0);
        }
        let cookie =
            if offset!(net_cookie) == ABSENT { NO_NETNS_COOKIE } else { load(net, offset!(net_cookie)) };
        (load(net, offset!(net_inum)), cookie)
    }

    /// Its `struct net`; null for a task that is already leaving.
    #[inline(always)]
    fn net(self) -> *const u8 {
        let nsproxy: *const u8 = load(self.0, offset!(nsproxy));
        if nsproxy.is_null() { nsproxy } else { load(nsproxy, offset!(net_ns)) }
    }
}

/// A task that a tracepoint hands over: the verifier knows its type on every kernel.
#[derive(Clone, Copy)]
pub(crate) struct GivenTask(*const u8);

/// The file that a process runs.
pub(crate) struct Executable {
    pub(crate) inode: u64,
    pub(crate) magic: u64,
    pub(crate) device: u32,
    pub(crate) links: u32,
}

impl GivenTask {
    #[inline(always)]
    pub(crate) fn at(task: *const u8) -> Self {
        Self(task)
    }

    #[inline(always)]
    fn load<T: Copy>(self, offset: u32) -> T {
        plain(self.0, offset)
    }

    /// True for the first task of a process, which gives it its id.
    #[inline(always)]
    pub(crate) fn is_leader(self) -> bool {
        self.load::<u32>(offset!(tid)) == self.pid()
    }

    /// True for a task that ends and leaves no other of its process.
    #[inline(always)]
    pub(crate) fn is_last_of_process(self) -> bool {
        let signal: *const u8 = self.load(offset!(signal));
        plain::<u32>(signal, offset!(live)) == 0
    }

    /// The process id.
    #[inline(always)]
    pub(crate) fn pid(self) -> u32 {
        self.load(offset!(tgid))
    }

    /// When the process began, nanoseconds since boot.
    #[inline(always)]
    pub(crate) fn start(self) -> u64 {
        let leader: *const u8 = self.load(offset!(group_leader));
        plain(leader, offset!(start_boottime))
    }

    /// Process id and start of the real parent.
    #[inline(always)]
    pub(crate) fn parent(self) -> (u32, u64) {
        let parent = Self(self.load(offset!(real_parent)));
        (parent.pid(), parent.start())
    }

    /// The effective user id.
    #[inline(always)]
    pub(crate) fn uid(self) -> u32 {
        let cred: *const u8 = self.load(offset!(cred));
        plain(cred, offset!(euid))
    }

    /// Low half of the count of its exec calls.
    #[inline(always)]
    pub(crate) fn exec_id(self) -> u32 {
        if offset!(self_exec_id) == ABSENT { 0 } else { self.load::<u64>(offset!(self_exec_id)) as u32 }
    }

    /// Inode number of its network namespace; 0 when it has left it.
    #[inline(always)]
    pub(crate) fn netns_number(self) -> u32 {
        let nsproxy: *const u8 = self.load(offset!(nsproxy));
        if nsproxy.is_null() {
            return 0;
        }
        let net: *const u8 = plain(nsproxy, offset!(net_ns));
        plain(net, offset!(net_inum))
    }

    /// Its name.
    #[inline(always)]
    pub(crate) fn comm(self) -> [u8; 16] {
        let words: [u64; 2] = [self.load(offset!(comm)), self.load(offset!(comm) + 8)];
        // SAFETY: as many bytes, and any are good.
        unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(words) }
    }

    /// What it runs; all zero of a task without memory of its own.
    #[inline(always)]
    pub(crate) fn executable(self) -> Executable {
        let mut executable = Executable { inode: 0, magic: 0, device: 0, links: 0 };
        let mm: *const u8 = self.load(offset!(mm));
        if mm.is_null() {
            return executable;
        }
        let file: *const u8 = plain(mm, offset!(exe_file));
        if file.is_null() {
            return executable;
        }
        let inode: *const u8 = plain(file, offset!(f_inode));
        executable.inode = plain(inode, offset!(i_ino));
        executable.links = plain(inode, offset!(i_nlink));
        let volume: *const u8 = plain(inode, offset!(i_sb));
        executable.device = plain(volume, offset!(s_dev));
        executable.magic = plain(volume, offset!(s_magic));
        executable
    }

    /// Where its arguments are in its own memory, and how many bytes they have.
    #[inline(always)]
    pub(crate) fn args(self) -> (u64, u64) {
        let mm: *const u8 = self.load(offset!(mm));
        if mm.is_null() {
            return (0, 0);
        }
        let (start, end): (u64, u64) = (plain(mm, offset!(arg_start)), plain(mm, offset!(arg_end)));
        (start, end.saturating_sub(start))
    }
}
