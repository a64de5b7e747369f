//! One look at a process's standard input, output and error.

use std::{collections::BTreeMap, fs, os::unix::ffi::OsStrExt};

use super::STDIO;
use crate::{
    bpf::decode::Task,
    model::event::ProcessId,
    source::stat::{self, Stat},
};

/// The kernel's name of a socket's protocol (`sockfs_xattr_get` of `net/socket.c`); of all files only sockets have it.
const PROTOCOL: &str = "system.sockprotoname";

/// What was seen of a process that is still the one that was asked for.
pub(super) struct Look {
    /// The descriptors by the inode of the TCP or UDP socket that they lead to.
    pub(super) sockets: BTreeMap<u32, Vec<u8>>,
    stat: Stat,
}

impl Look {
    /// Looks at a process; nothing when it has ended.
    pub(super) fn at(id: ProcessId) -> Option<Self> {
        let mut sockets: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        for descriptor in STDIO {
            if let Some(inode) = internet_socket(id.pid, descriptor) {
                sockets.entry(inode).or_default().push(descriptor);
            }
        }
        // Looked at last: when it is still the same process then, all of the above was its own.
        let stat = Stat::of(id)?;
        Some(Self { sockets, stat })
    }

    /// The process as the kernel's records would show it; nothing when it has ended.
    pub(super) fn task(&self, id: ProcessId, exec_id: u32) -> Option<Task> {
        let status = fs::read(format!("/proc/{}/status", id.pid)).ok()?;
        Some(Task {
            id,
            tid: id.pid,
            ppid: self.stat.ppid,
            uid: stat::effective_user(&status)?,
            exec_id,
            comm: stat::padded(&self.stat.comm),
        })
    }
}

/// Inode of the TCP or UDP socket that a descriptor leads to.
fn internet_socket(pid: u32, descriptor: u8) -> Option<u32> {
    let path = format!("/proc/{pid}/fd/{descriptor}");
    let link = fs::read_link(&path).ok()?;
    let inode = stat::socket_inode(link.as_os_str().as_bytes())?;
    let mut name = [0; 32];
    let length = rustix::fs::getxattr(&path, PROTOCOL, &mut name).ok()?;
    let name = name.get(..length)?;
    [b"TCP".as_slice(), b"UDP", b"MPTCP"].iter().any(|protocol| name.starts_with(protocol)).then_some(inode)
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::fd::{AsFd, OwnedFd},
        process::{Command, Stdio},
    };

    use super::*;
    use crate::source::stat::TICK;

    fn looked_at(command: &mut Command) -> Vec<Vec<u8>> {
        let mut child = command.spawn().unwrap();
        let started = Stat::read(child.id()).unwrap().started * TICK;
        let look = Look::at(ProcessId { pid: child.id(), started }).unwrap();
        let other = Look::at(ProcessId { pid: child.id(), started: started + TICK });
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(other.is_none(), "another process with its number is not looked at");
        look.sockets.into_values().collect()
    }

    fn owned(socket: &impl AsFd) -> OwnedFd {
        socket.as_fd().try_clone_to_owned().unwrap()
    }

    #[test]
    fn descriptors_that_lead_to_a_tcp_socket_are_found_and_others_are_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (local, _) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut command = Command::new("/bin/sleep");
        command.arg("60").stdin(owned(&stream)).stdout(owned(&local)).stderr(owned(&stream));
        assert_eq!(looked_at(&mut command), [[0, 2]]);
        let mut quiet = Command::new("/bin/sleep");
        quiet.arg("60").stdin(Stdio::null()).stdout(owned(&local)).stderr(Stdio::null());
        assert_eq!(looked_at(&mut quiet), [[0_u8; 0]; 0]);
    }
}
