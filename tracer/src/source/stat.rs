//! `/proc/PID/stat`, who a process is in one line, and other lines of /proc/PID.

use crate::model::event::ProcessId;

/// Unit of the start time: `USER_HZ` is 100 on every architecture that is supported; nanoseconds.
pub(crate) const TICK: u64 = 10_000_000;

/// The fields that are used here.
pub(crate) struct Stat {
    /// Name that the process gives itself, as its bytes are.
    pub(crate) comm: Vec<u8>,
    /// Process id of the parent.
    pub(crate) ppid: u32,
    /// `PF_*` flags of `include/linux/sched.h`.
    pub(crate) flags: u32,
    /// Start time, in [`TICK`]s since boot.
    pub(crate) started: u64,
}

impl Stat {
    pub(crate) fn read(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// That of a process, as long as the number is still its own.
    pub(crate) fn of(id: ProcessId) -> Option<Self> {
        Self::read(id.pid).filter(|stat| stat.started == id.started / TICK)
    }

    /// The name stands in parentheses and may itself hold any byte, parentheses too.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let open = bytes.iter().position(|byte| *byte == b'(')?;
        let close = bytes.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        Some(Self {
            comm: bytes.get(open + 1..close)?.to_vec(),
            ppid: fields.nth(1)?.parse().ok()?,
            flags: fields.nth(4)?.parse().ok()?,
            started: fields.nth(12)?.parse().ok()?,
        })
    }
}

/// The name as the kernel's records show it: NUL padded.
pub(crate) fn padded(name: &[u8]) -> [u8; 16] {
    let mut comm = [0; 16];
    comm.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
    comm
}

/// The second number of `Uid:` in `/proc/PID/status`.
pub(crate) fn effective_user(status: &[u8]) -> Option<u32> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The inode that a link of `/proc/PID/fd` to a socket names: `socket:[INODE]`.
pub(crate) fn socket_inode(link: &[u8]) -> Option<u32> {
    std::str::from_utf8(link).ok()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = b"42 (a) b (c) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat.comm, b"a) b (c");
        assert_eq!((stat.ppid, stat.flags, stat.started), (7, 4_194_560, 12345));
    }

    #[test]
    fn the_effective_user_is_the_second_number() {
        assert_eq!(effective_user(b"Name:\t\xff\nUid:\t1\t2\t3\t4\n"), Some(2));
        assert_eq!(effective_user(b"Name:\tx\n"), None);
    }

    #[test]
    fn only_links_to_sockets_have_an_inode() {
        assert_eq!(socket_inode(b"socket:[15006]"), Some(15006));
        assert_eq!(socket_inode(b"pipe:[15006]"), None);
        assert_eq!(socket_inode(b"/tmp/socket:[15006]"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Stat::parse(&bytes);
        }
    }
}
