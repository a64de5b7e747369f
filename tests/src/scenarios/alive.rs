//! Hooks that stop delivering while the tracer runs: it finds out by itself and says what is unseen since.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::thread::UnshareFlags;

use super::{Bench, Lacks, Scenario, alone, at, scenario};
use crate::actor::Actor;
use crate::declared::HOST;
use crate::net::{A4, Network};
use crate::records::Record;
use crate::tracer::{Live, Plan, Subject};

pub(super) const ALL: &[Scenario] = &[
    scenario("link-detached-by-force-is-told-as-degraded", detached),
    alone("kprobes-switched-off-are-told-as-degraded-until-they-deliver-again", switched_off),
];

/// `enum bpf_cmd` and `enum bpf_attach_type` of `include/uapi/linux/bpf.h`.
const LINK_GET_FD_BY_ID: libc::c_long = 30;
const LINK_DETACH: libc::c_long = 34;
const CGROUP_UDP4_SENDMSG: &str = "14";

/// A tracer of this plan, whatever the run is for, that proves its hooks every second.
fn prover(bench: &Bench, plan: Plan, network: &Network) -> Result<Live> {
    let subject = Subject { path: bench.subject.path.clone(), plan };
    Live::start(subject.live(&["--self-test", "1"]), network.inodes().to_vec())
}

fn is_degraded(record: &Record) -> bool {
    record.kind() == "degraded" && record.at("/delivers").is_none_or(|delivers| delivers == false)
}

/// Only links to cgroups can be detached by force: `bpf(2)`, `BPF_LINK_DETACH`.
fn detached(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let tracer = prover(bench, Plan::Tracepoint, &network)?;
    detach(link_of(tracer.pid(), CGROUP_UDP4_SENDMSG)?)?;
    let degraded = tracer.wait("the detached hook", is_degraded)?;
    degraded.claim("the hook is named", degraded.text("/hook").contains("sendmsg4"))?;
    degraded.claim("it says what is unseen", degraded.at("/unseen").is_some())?;
    degraded.claim("it says why", !degraded.text("/why").is_empty())?;
    let run = tracer.finish()?;
    let others = run.records.iter().filter(|r| is_degraded(r)).count();
    ensure!(others == 1, "{others} hooks are told as degraded, one was detached");
    Ok(())
}

/// The id of the process's link to a cgroup with this attach type, from its descriptors.
fn link_of(pid: u32, attach_type: &str) -> Result<u32> {
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = fs::read_to_string(entry?.path())?;
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        if field("link_type") == Some("cgroup") && field("attach_type") == Some(attach_type) {
            return Ok(field("link_id").context("a link without id")?.parse()?);
        }
    }
    Err(anyhow!("the tracer has no link to a cgroup of attach type {attach_type}"))
}

fn detach(id: u32) -> Result<()> {
    let fd = bpf(LINK_GET_FD_BY_ID, id).context("opening the link")?;
    // SAFETY: the descriptor that the kernel has just made.
    let link = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    bpf(LINK_DETACH, link.as_raw_fd().cast_unsigned()).context("detaching the link").map(drop)
}

/// A command whose `union bpf_attr` begins with one number and is zero after it.
fn bpf(command: libc::c_long, number: u32) -> Result<libc::c_long> {
    let attributes = [number, 0, 0, 0];
    // SAFETY: the attributes are alive and as long as is said.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(&attributes)) };
    ensure!(result >= 0, "bpf(2): {}", std::io::Error::last_os_error());
    Ok(result)
}

fn switched_off(bench: &Bench) -> Result<()> {
    if bench.cell == HOST {
        return Err(Lacks("machine whose kprobes nobody else needs".to_owned()).into());
    }
    let network = Network::new()?;
    let mut server = Actor::start(&network.a)?;
    let tracer = prover(bench, Plan::Kprobe, &network)?;
    let (ends, begins) = (at(A4, 5301), at(A4, 4444));
    let fd = server.bind_udp(ends)?;
    let flag = tracer.wait("a server's flag", |r| r.flags("unexplained-udp") && r.is_at("udp", ends))?;
    let switch = Switch::off()?;
    let degraded = tracer.wait("the silent hook", is_degraded)?;
    degraded.claim("it says why", !degraded.text("/why").is_empty())?;
    server.close(fd)?;
    server.listen(begins)?;
    drop(switch);
    let hook = degraded.text("/hook");
    tracer.wait("the hook that delivers again", |r| {
        r.kind() == "degraded" && !is_degraded(r) && r.text("/hook") == hook
    })?;
    tracer.wait("the flag of what began while the hooks were silent", |r| {
        r.flags("unexplained-listener") && r.is_at("tcp", begins)
    })?;
    let run = tracer.finish()?;
    let is_clear = |r: &Record| r.kind() == "clear" && r.number("/flag_seq") == Some(flag.seq());
    ensure!(run.records.iter().any(is_clear), "the flag of what ended meanwhile still stands");
    Ok(())
}

/// Kprobes are off until this is dropped.
struct Switch;

impl Switch {
    fn off() -> Result<Self> {
        switch("0").map(|()| Self)
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        if let Err(error) = switch("1") {
            eprintln!("kprobes stay off: {error:#}");
        }
    }
}

/// Writes to debugfs, mounted where this thread alone sees it.
fn switch(value: &str) -> Result<()> {
    let write = || {
        // SAFETY: only the mounts of this short-lived thread change.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
        mount(c"none", c"/", c"none", libc::MS_REC | libc::MS_PRIVATE)?;
        mount(c"debugfs", c"/sys/kernel/debug", c"debugfs", 0)?;
        fs::write("/sys/kernel/debug/kprobes/enabled", value).context("writing kprobes/enabled")
    };
    let written = std::thread::scope(|scope| scope.spawn(write).join());
    written.map_err(|_| anyhow!("the thread that switches kprobes panicked"))?
}

fn mount(source: &std::ffi::CStr, target: &std::ffi::CStr, kind: &std::ffi::CStr, flags: u64) -> Result<()> {
    // SAFETY: all three are strings that end with a zero; there is no data.
    let result =
        unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) };
    ensure!(result == 0, "mounting {kind:?}: {}", std::io::Error::last_os_error());
    Ok(())
}
