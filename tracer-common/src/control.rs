//! The memory-mapped control page: who waits, and what was dropped.

/// Slots of the control array that one CPU has for itself, so that plain additions do not race
/// between CPUs (the target has no fetching atomics on every kernel that is supported).
pub const CPU_SLOTS: u32 = 8;
/// CPUs that have counters of their own; higher ones share by remainder.
pub const CPUS: u32 = 512;
/// Entries of the control array: one row for the reader, one for each CPU.
pub const CONTROL_ENTRIES: u32 = CPU_SLOTS * (CPUS + 1);

/// Slot in row 0: not 0 when the reader sleeps and wants to be woken.
pub const CONTROL_READER_WAITS: u32 = 0;

/// Slot in a CPU's row: records that found the ring full.
pub const COUNTER_RING_FULL: u32 = 0;
/// Slot in a CPU's row: records in which something could not be read.
pub const COUNTER_FAULTS: u32 = 1;
/// Slot in a CPU's row: sockets for which there was no room to keep what is remembered of them.
pub const COUNTER_NO_STATE: u32 = 2;
/// Slot in a CPU's row: changes of state that only the second program met, because the first was at
/// work.
pub const COUNTER_INSIDE: u32 = 3;

/// Entries of the map of connections that wait to be accepted: a power of two. A connection's place is its cookie modulo
/// this. Cookies are given one after the other, so neighbours in time are neighbours in memory, and a connection loses
/// its place only when it waits while so many sockets are made.
pub const AWAITING_ENTRIES: u32 = 1 << 17;
