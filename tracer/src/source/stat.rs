//! `/proc/PID/stat`: who a process is, in one line.

/// Unit of the start time: `USER_HZ` is 100 on every architecture that is supported; nanoseconds.
pub(super) const TICK: u64 = 10_000_000;

/// The fields that are used here.
pub(super) struct Stat {
    /// Name that the process gives itself, as its bytes are.
    pub(super) comm: Vec<u8>,
    /// Process id of the parent.
    pub(super) ppid: u32,
    /// `PF_*` flags of `include/linux/sched.h`.
    pub(super) flags: u32,
    /// Start time, in [`TICK`]s since boot.
    pub(super) started: u64,
}

impl Stat {
    pub(super) fn read(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name stands in parentheses and may itself hold any byte, parentheses too.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
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

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Stat::parse(&bytes);
        }
    }
}
