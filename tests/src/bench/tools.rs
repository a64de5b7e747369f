//! The programs that people use instead, and how each is started. One that is not there is named with the Debian
//! package that has it.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::UnshareFlags;

use crate::net::Netns;

/// A program and its command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tool {
    /// As the report calls it.
    pub(super) name: &'static str,
    /// The Debian package that has it.
    pub(super) package: &'static str,
    /// The program and its arguments.
    pub(super) words: &'static [&'static str],
    /// Another program, of that package, that must have made the namespace ready with these words.
    pub(super) before: Option<(&'static str, &'static [&'static str])>,
}

const fn tool(name: &'static str, package: &'static str, words: &'static [&'static str]) -> Tool {
    Tool { name, package, words, before: None }
}

/// One line a connection's end, when it is over.
pub(super) const TCPLIFE: Tool = tool("tcplife", "libbpf-tools", &["tcplife"]);
/// One line a state of a connection.
pub(super) const TCPSTATES: Tool = tool("tcpstates", "libbpf-tools", &["tcpstates"]);
/// One line a connect.
pub(super) const TCPCONNECT: Tool = tool("tcpconnect", "libbpf-tools", &["tcpconnect"]);
/// One line a state of a connection, by the one-line program that people write.
pub(super) const BPFTRACE: Tool = tool(
    "bpftrace",
    "bpftrace",
    &[
        "bpftrace",
        "-e",
        "tracepoint:sock:inet_sock_set_state { printf(\"%d %s %d %d %s:%d %s:%d\\n\", pid, comm, args->oldstate, \
         args->newstate, ntop(args->saddr), args->sport, ntop(args->daddr), args->dport); }",
    ],
);
/// One line a datagram sent or received.
pub(super) const BPFTRACE_UDP: Tool = tool(
    "bpftrace",
    "bpftrace",
    &[
        "bpftrace",
        "-e",
        "tracepoint:sock:sock_send_length { printf(\"%d %s %d\\n\", pid, comm, args->ret); } \
         tracepoint:sock:sock_recv_length { printf(\"%d %s %d\\n\", pid, comm, args->ret); }",
    ],
);
/// The sockets that are destroyed.
pub(super) const SS_EVENTS: Tool = tool("ss -E", "iproute2", &["ss", "-E", "-n", "-t"]);
/// The connections of the packet filter, which sees none without a rule that asks for it.
pub(super) const CONNTRACK: Tool = Tool {
    before: Some((
        "iptables",
        &["iptables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"],
    )),
    ..tool("conntrack -E", "conntrack", &["conntrack", "-E", "-p", "tcp"])
};
/// The packets that open and end connections.
pub(super) const TCPDUMP_TCP: Tool = tool(
    "tcpdump",
    "tcpdump",
    &["tcpdump", "-i", "lo", "-nn", "-Z", "root", "tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) != 0"],
);
/// Every datagram.
pub(super) const TCPDUMP_UDP: Tool =
    tool("tcpdump", "tcpdump", &["tcpdump", "-i", "lo", "-nn", "-Z", "root", "udp"]);
/// The picture of one namespace.
pub(super) const SS: Tool = tool("ss -tunap", "iproute2", &["ss", "-tunap"]);
/// The picture by open files.
pub(super) const LSOF: Tool = tool("lsof -i -nP", "lsof", &["lsof", "-i", "-nP"]);
/// The picture of one namespace, from /proc.
pub(super) const NETSTAT: Tool = tool("netstat -tunap", "net-tools", &["netstat", "-tunap"]);

impl Tool {
    /// A command that runs it in `netns`, or why that cannot be.
    ///
    /// # Errors
    /// In words for the report, when it is not installed.
    pub(super) fn command(&self, netns: &Netns) -> Result<Command, String> {
        if let Some((package, words)) = self.before {
            let prepared = command(words, package, netns)?.output().map_err(|error| error.to_string())?;
            if !prepared.status.success() {
                return Err(format!("cannot run here: {}", last_words(&prepared.stderr)));
            }
        }
        command(self.words, self.package, netns)
    }
}

/// What a program said last on stderr; of several lines the last that calls itself an error.
pub(super) fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines = || text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let error = lines().find(|line| line.to_ascii_lowercase().contains("error"));
    error.or_else(|| lines().next()).unwrap_or("no word").to_owned()
}

fn command(words: &[&str], package: &str, netns: &Netns) -> Result<Command, String> {
    let program = words.first().and_then(|program| find(program)).ok_or_else(|| {
        format!(
            "not installed: {} is in the Debian package {package}",
            words.first().copied().unwrap_or_default()
        )
    })?;
    let mut command = Command::new(program);
    command.args(words.iter().skip(1).map(OsStr::new)).env("LC_ALL", "C");
    let netns = netns.try_clone().map_err(|error| error.to_string())?;
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        netns.join()?;
        // It is ended by SIGINT, which a shell has its background jobs ignore, and they what they start.
        // SAFETY: the disposition of a signal, of this process alone.
        unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
        Ok(with_tracefs()?)
    };
    // SAFETY: between fork and exec only system calls are made; nothing is allocated.
    unsafe { command.pre_exec(prepare) };
    Ok(command)
}

/// The tools find tracepoints by tracefs. Where the machine has not mounted it, this process alone does.
fn with_tracefs() -> rustix::io::Result<()> {
    const PLACE: &str = "/sys/kernel/tracing";
    if rustix::fs::access("/sys/kernel/tracing/events", rustix::fs::Access::EXISTS).is_ok() {
        return Ok(());
    }
    // SAFETY: the mounts of this forked process, which has one thread, become its own; it execs next.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    // Where that is not allowed, the tool says so itself.
    let _ = mount("tracefs", PLACE, "tracefs", MountFlags::empty(), None);
    Ok(())
}

/// Where a program is: PATH first, then the folders of system programs, which users' PATHs often lack.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_or_not() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-anywhere"), None);
    }

    #[test]
    fn the_last_word_is_a_line_with_words() {
        assert_eq!(last_words(b"one\ntwo\n\n"), "two");
        assert_eq!(last_words(b"ERROR: no such\n  ~~~\n"), "ERROR: no such");
        assert_eq!(last_words(b""), "no word");
    }
}
