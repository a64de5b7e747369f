//! Records of the lives of processes: born, become another program, ended. They are on the ring with those of sockets, so
//! a process is told before what it does; their sizes tell them apart.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes that are kept of the name of a file that was run.
pub const NAME_BYTES: usize = 256;
/// Room for a program's arguments: a power of two.
pub const ARGS_BYTES: usize = 1024;
/// Bytes that are kept of them, at most.
pub const ARGS_KEPT: usize = ARGS_BYTES - 1;

/// What happened to one process, not to one of its threads.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct ProcessRecord {
    /// `bpf_ktime_get_boot_ns()`: nanoseconds since boot, suspend included.
    pub time: u64,
    /// Start of the process, nanoseconds since boot (`task_struct.start_boottime` of the leader).
    pub start: u64,
    /// Start of its real parent.
    pub parent_start: u64,
    /// Process id (the kernel's tgid) in the initial pid namespace.
    pub pid: u32,
    /// Process id of the real parent.
    pub parent: u32,
    /// Effective user id, initial user namespace.
    pub uid: u32,
    /// Counts its exec calls (low half of `task_struct.self_exec_id`).
    pub exec_id: u32,
    /// Inode number of the network namespace that it is in; 0 when it has left it.
    pub netns: u32,
    /// [`KIND_FORK`], [`KIND_EXEC`] or [`KIND_EXIT`].
    pub kind: u32,
    /// Its name, NUL padded; set by the process itself, never an identity.
    pub comm: [u8; 16],
}

/// An exec, with what was run: a [`ProcessRecord`] comes first.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct ExecRecord {
    /// Who.
    pub process: ProcessRecord,
    /// Inode number of the executable (`mm_struct.exe_file`): of the interpreter, where a script was run.
    pub inode: u64,
    /// Kind of its file system (`super_block.s_magic`, `include/uapi/linux/magic.h`).
    pub magic: u64,
    /// Device of its file system in the kernel's own form (`MKDEV` of `include/linux/kdev_t.h`).
    pub device: u32,
    /// Names that the file has; 0 for one that was deleted, or never had one.
    pub links: u32,
    /// [`EXEC_SCRIPT`] and its neighbours.
    pub flags: u32,
    /// Bytes of `name` that are set, without a NUL.
    pub name_length: u32,
    /// Bytes that the arguments have; `args` holds [`ARGS_KEPT`] of them at most.
    pub args_length: u32,
    /// Keeps the layout free of implicit padding.
    pub reserved: u32,
    /// What was asked to be run, as it stood in the call: `/usr/bin/nc`, `./x.py`, `/dev/fd/5`.
    pub name: [u8; NAME_BYTES],
    /// Arguments, each with its NUL; of a script they begin with the interpreter's path.
    pub args: [u8; ARGS_BYTES],
}

/// A process was born.
pub const KIND_FORK: u32 = 1;
/// A process became another program.
pub const KIND_EXEC: u32 = 2;
/// A process ended: its last thread did.
pub const KIND_EXIT: u32 = 3;

/// The kernel ran an interpreter for what was asked to be run.
pub const EXEC_SCRIPT: u32 = 1;
/// The name could not be read.
pub const EXEC_NO_NAME: u32 = 2;
/// The arguments could not be read.
pub const EXEC_NO_ARGS: u32 = 4;

const _: () = {
    assert!(size_of::<ProcessRecord>() == 64);
    assert!(size_of::<ExecRecord>() == 64 + 40 + NAME_BYTES + ARGS_BYTES);
    assert!(align_of::<ExecRecord>() == 8);
};
