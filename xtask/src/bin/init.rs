//! The first process of the test guest: mounts what programs expect, loads modules, runs the commands that it
//! finds, says how they ended and powers off. It knows nothing of the tests.

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, ExitCode};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, mount};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketType};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process_group};
use rustix::system::{RebootCommand, finit_module, reboot, sethostname};

#[path = "../vm/protocol.rs"]
mod protocol;

/// File system and mount point, in the order in which they can be mounted. The kernel may lack the last ones.
const MOUNTS: [(&str, &str); 9] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
    ("bpf", "/sys/fs/bpf"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("tracefs", "/sys/kernel/tracing"),
    ("tmpfs", "/dev/shm"),
];

fn main() -> ExitCode {
    // A program of this name started on a running system must not reboot it.
    if std::process::id() != 1 {
        eprintln!("this is the first process of a test guest and runs nowhere else");
        return ExitCode::FAILURE;
    }
    let status = prepare().and_then(|()| run_commands()).unwrap_or_else(|error| {
        eprintln!("init: {error:#}");
        125
    });
    println!("\n{}{status}", protocol::EXIT);
    let error = reboot(RebootCommand::PowerOff);
    eprintln!("init: power off: {error:?}");
    ExitCode::FAILURE
}

fn prepare() -> Result<()> {
    for (kind, place) in MOUNTS {
        std::fs::create_dir_all(place).with_context(|| format!("cannot create {place}"))?;
        mount(kind, place, kind, MountFlags::empty(), None)
            .with_context(|| format!("cannot mount {place}"))?;
    }
    // The kernel lets everybody write into the root of an initramfs, as on no installed machine.
    std::fs::set_permissions("/", Permissions::from_mode(0o755)).context("cannot close the root folder")?;
    sethostname(b"guest").context("cannot set the host name")?;
    for path in std::fs::read_to_string(protocol::MODULES).context("no list of modules")?.lines() {
        load_module(path)?;
    }
    raise_loopback().context("cannot raise the loopback interface")
}

fn load_module(path: &str) -> Result<()> {
    let file = File::open(path).with_context(|| format!("no module {path}"))?;
    finit_module(&file, &CString::default(), 0).with_context(|| format!("cannot load {path}"))
}

/// RTM_NEWLINK for interface 1 with IFF_UP (rtnetlink(7)): a netlink header and a `struct ifinfomsg`.
fn raise_loopback() -> Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 1 | 4;
    const IFF_UP: u32 = 1;
    let mut message = Vec::new();
    message.extend_from_slice(&32_u32.to_ne_bytes());
    message.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend_from_slice(&[0; 8]); // sequence and port number
    message.extend_from_slice(&[0; 4]); // family, padding, type
    message.extend_from_slice(&1_i32.to_ne_bytes()); // the loopback interface is the first of every namespace
    message.extend_from_slice(&IFF_UP.to_ne_bytes()); // flags
    message.extend_from_slice(&IFF_UP.to_ne_bytes()); // those of them that change
    // Protocol 0 of netlink is NETLINK_ROUTE.
    let socket = net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    net::send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0_u8; 512];
    let (length, _) = net::recv(&socket, &mut answer, RecvFlags::empty())?;
    // NLMSG_ERROR with 0 is the acknowledgement; its number follows the header of 16 bytes.
    match answer.get(16..20).filter(|_| length >= 20) {
        Some([0, 0, 0, 0]) => Ok(()),
        other => bail!("the kernel answered {other:?}"),
    }
}

/// What holds for every command.
struct Setting {
    environment: Vec<(String, String)>,
    limit: Duration,
}

impl Setting {
    fn read() -> Result<Self> {
        let given = std::fs::read_to_string(protocol::ENVIRONMENT).context("no environment")?;
        let fixed = [("PATH", "/bin"), ("HOME", "/root"), ("TERM", "dumb"), ("RUST_BACKTRACE", "1")];
        let given = given.lines().filter_map(|line| line.split_once('='));
        let environment = fixed.into_iter().chain(given);
        let limit = std::fs::read_to_string(protocol::LIMIT).context("no limit")?;
        Ok(Self {
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            limit: Duration::from_secs(limit.trim().parse().context("the limit is no number")?),
        })
    }
}

/// Runs them one after the other, all of them, and returns the first status other than 0.
fn run_commands() -> Result<i32> {
    let setting = Setting::read()?;
    let mut first = 0;
    for line in std::fs::read_to_string(protocol::COMMANDS).context("no list of commands")?.lines() {
        println!("{}{}", protocol::BEGIN, line.replace(protocol::SEPARATOR, " "));
        let begun = Instant::now();
        let status = run(line, &setting).unwrap_or_else(|error| {
            eprintln!("init: {error:#}");
            127
        });
        println!("\n{}{status} {}", protocol::END, begun.elapsed().as_millis());
        first = if first == 0 { status } else { first };
    }
    Ok(first)
}

fn run(line: &str, setting: &Setting) -> Result<i32> {
    let mut words = line.split(protocol::SEPARATOR);
    let program = words.next().context("an empty command")?;
    let child = Command::new(program)
        .args(words)
        .env_clear()
        .envs(setting.environment.iter().cloned())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("the child has no pid")?;
    let in_time = end_all_after(setting.limit);
    let status = reap_until(pid);
    drop(in_time);
    status
}

/// Ends every process but this one when the time is up, unless what is returned is dropped before. A command
/// that hangs must not keep the next ones from running, and its children hold hooks.
fn end_all_after(limit: Duration) -> mpsc::Sender<()> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        if receiver.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            eprintln!("init: ended after {} s: its time was up", limit.as_secs());
            // The group of the first process stands for all processes in kill(2).
            kill_process_group(Pid::INIT, Signal::KILL).ok();
        }
    });
    sender
}

/// Orphans of the whole guest end up here and must be waited for as well.
fn reap_until(child: Pid) -> Result<i32> {
    loop {
        match rustix::process::wait(WaitOptions::empty()).context("waiting for a process")? {
            Some((pid, status)) if pid == child => return Ok(exit_code(status)),
            Some(_) | None => {}
        }
    }
}

/// As a shell says it: 128 and the signal's number for a process that a signal ended.
fn exit_code(status: WaitStatus) -> i32 {
    status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(126)
}
