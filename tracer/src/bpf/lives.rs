//! Bytes of a record of a process's life → what it says. Never panics, whatever the bytes.

use tracer_common::{
    ARGS_KEPT, EXEC_NO_ARGS, EXEC_NO_NAME, EXEC_SCRIPT, ExecRecord, KIND_EXEC, KIND_EXIT, KIND_FORK,
    ProcessRecord,
};
use zerocopy::FromBytes;

use super::decode::DecodeError;
use crate::model::event::{BootNanos, ProcessId};

/// Bits of a minor device number in the kernel's own form (`MINORBITS` of `include/linux/kdev_t.h`).
const MINOR_BITS: u32 = 20;

/// What happened to a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// When.
    pub at: BootNanos,
    /// Which one.
    pub id: ProcessId,
    /// Its real parent.
    pub parent: ProcessId,
    /// Effective user id.
    pub uid: u32,
    /// Counts its exec calls.
    pub exec_id: u32,
    /// Inode number of its network namespace; nothing when it has left it.
    pub netns: Option<u32>,
    /// Its name, NUL padded.
    pub comm: [u8; 16],
    /// What happened.
    pub change: LifeChange,
}

/// The kinds of what can happen to a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LifeChange {
    /// It was born.
    Fork,
    /// It became another program.
    Exec(Exec),
    /// It ended.
    Exit,
}

/// What an exec ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// What was asked to be run, as it stood in the call.
    pub name: Option<Vec<u8>>,
    /// Arguments, each with its NUL, as far as there was room for them.
    pub args: Option<Vec<u8>>,
    /// There are more arguments than these.
    pub args_cut: bool,
    /// The kernel ran an interpreter, whose path is the first of the arguments.
    pub is_script: bool,
    /// Device and inode number of the executable, as `stat` gives them on most file systems.
    pub file: (u64, u64),
    /// Names that the file has: 0 for one that was deleted or never had one.
    pub links: u32,
    /// Kind of its file system (`include/uapi/linux/magic.h`).
    pub magic: u64,
}

/// Reads one record.
///
/// # Errors
/// When the bytes are not a record that this version knows.
pub fn decode(bytes: &[u8]) -> Result<Life, DecodeError> {
    if bytes.len() == size_of::<ExecRecord>() {
        let record = ExecRecord::ref_from_bytes(bytes).map_err(|_| DecodeError::Size(bytes.len()))?;
        return life(&record.process, Some(record));
    }
    let record = ProcessRecord::read_from_bytes(bytes).map_err(|_| DecodeError::Size(bytes.len()))?;
    life(&record, None)
}

fn life(record: &ProcessRecord, exec: Option<&ExecRecord>) -> Result<Life, DecodeError> {
    let change = match (record.kind, exec) {
        (KIND_FORK, None) => LifeChange::Fork,
        (KIND_EXIT, None) => LifeChange::Exit,
        (KIND_EXEC, Some(exec)) => LifeChange::Exec(read_exec(exec)),
        (kind, _) => return Err(DecodeError::Value("kind of a process's record", kind as u16)),
    };
    Ok(Life {
        at: record.time,
        id: ProcessId { pid: record.pid, started: record.start },
        parent: ProcessId { pid: record.parent, started: record.parent_start },
        uid: record.uid,
        exec_id: record.exec_id,
        netns: (record.netns != 0).then_some(record.netns),
        comm: record.comm,
        change,
    })
}

fn read_exec(record: &ExecRecord) -> Exec {
    let part = |bytes: &[u8], length: u32, fault: u32| {
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
        (record.flags & fault == 0).then(|| bytes[..length].to_vec())
    };
    Exec {
        name: part(&record.name, record.name_length, EXEC_NO_NAME),
        args: part(&record.args[..ARGS_KEPT], record.args_length, EXEC_NO_ARGS),
        args_cut: record.args_length as usize > ARGS_KEPT,
        is_script: record.flags & EXEC_SCRIPT != 0,
        file: (device(record.device), record.inode),
        links: record.links,
        magic: record.magic,
    }
}

/// A device number as `stat` gives it.
fn device(kernel: u32) -> u64 {
    rustix::fs::makedev(kernel >> MINOR_BITS, kernel & ((1 << MINOR_BITS) - 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    fn exec() -> ExecRecord {
        let mut record = ExecRecord::new_zeroed();
        record.process.kind = KIND_EXEC;
        record.device = 8 << MINOR_BITS | 1;
        record.name[..7].copy_from_slice(b"/bin/nc");
        record.name_length = 7;
        record.args[..6].copy_from_slice(b"nc\0-l\0");
        record.args_length = 6;
        record
    }

    #[test]
    fn an_exec_tells_what_was_run() {
        let LifeChange::Exec(told) = decode(exec().as_bytes()).unwrap().change else { panic!("an exec") };
        assert_eq!(told.name.as_deref(), Some(b"/bin/nc".as_slice()));
        assert_eq!(told.args.as_deref(), Some(b"nc\0-l\0".as_slice()));
        assert_eq!(told.file.0, 0x801);
        assert!(!told.args_cut);
    }

    #[test]
    fn what_could_not_be_read_is_nothing_and_what_was_cut_says_so() {
        let mut record = exec();
        record.flags = EXEC_NO_NAME;
        record.args_length = u32::MAX;
        let LifeChange::Exec(told) = decode(record.as_bytes()).unwrap().change else { panic!("an exec") };
        assert_eq!(told.name, None);
        assert!(told.args_cut);
        assert_eq!(told.args.map(|args| args.len()), Some(ARGS_KEPT));
    }

    #[test]
    fn a_kind_that_does_not_fit_its_size_is_an_error() {
        let mut record = exec();
        record.process.kind = KIND_FORK;
        assert!(decode(record.as_bytes()).is_err());
        assert!(decode(exec().process.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), size_of::<ExecRecord>())) {
            let _ = decode(&bytes);
            let _ = decode(&bytes[..size_of::<ProcessRecord>()]);
        }
    }
}
