//! Policies given with `--policy`: what they explain, and what is wrong with one.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::{Bench, Scenario, at, scenario};
use crate::actor::Actor;
use crate::net::{A4, B4, Network};
use crate::tracer::Live;

pub(super) const ALL: &[Scenario] = &[
    scenario("policy-explains-a-listener", listener),
    scenario("policy-explains-a-session-and-a-udp-server", session_and_udp),
    scenario("policy-that-does-not-match-explains-nothing", no_match),
    scenario("policy-with-a-misspelt-key-is-refused-with-its-place", misspelt),
];

fn write(folder: &Path, text: &str) -> Result<PathBuf> {
    let file = folder.join("policy.toml");
    std::fs::write(&file, text)?;
    Ok(file)
}

/// A tracer under a policy with this text.
fn watch_under(bench: &Bench, network: &Network, text: &str) -> Result<Live> {
    let folder = tempfile::tempdir()?;
    let file = write(folder.path(), text)?;
    bench.watch_with(network, &["--all", "--policy", &file.to_string_lossy()])
}

fn listener(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut server = Actor::start(&network.a)?;
    let exe = std::env::current_exe()?;
    let text = format!(
        "[[expect]]\nname = \"the test's own server\"\nkind = \"listener\"\nexe = {exe:?}\nlocal_port = 4444\n"
    );
    let tracer = watch_under(bench, &network, &text)?;
    server.listen(at(A4, 4444))?;
    let listen = tracer.wait("the listener", |r| r.tells("listen") && r.is_at("tcp", at(A4, 4444)))?;
    listen.by(server.pid())?.says("/verdict", "explained")?;
    listen.claim("it is not flagged", listen.kind() == "event")?;
    listen.claim("the entry is named", listen.to_string().contains("the test's own server"))?;
    server.listen(at(A4, 4445))?;
    let other = tracer.wait("another port", |r| r.tells("listen") && r.is_at("tcp", at(A4, 4445)))?;
    other.flagged("research", "unexplained-listener")?;
    let run = tracer.finish()?.run;
    ensure!(run.flags("unexplained-listener").count() == 1, "the policy did not hold");
    Ok(())
}

fn session_and_udp(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    server.listen(at(B4, 8443))?;
    let text = "[[expect]]\nname = \"out\"\nkind = \"session\"\ndirection = \"outbound\"\n\
                remote_class = \"internet\"\nremote_cidr = \"9.1.1.0/24\"\nremote_port = 8443\n\
                [[expect]]\nname = \"in\"\nkind = \"udp\"\nuser = \"root\"\nlocal_port = 5300\n";
    let tracer = watch_under(bench, &network, text)?;
    client.connect(at(B4, 8443))?;
    client.bind_udp(at(A4, 5300))?;
    let connect = tracer.wait("the session", |r| r.tells("connect") && r.is_to("tcp", at(B4, 8443)))?;
    let bind = tracer.wait("the UDP server", |r| r.tells("bind") && r.is_at("udp", at(A4, 5300)))?;
    for record in [connect, bind] {
        record.says("/verdict", "explained")?.claim("it is not flagged", record.kind() == "event")?;
    }
    Ok(())
}

fn no_match(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut server = Actor::start(&network.a)?;
    let text = "[[expect]]\nname = \"elsewhere\"\nkind = \"listener\"\nexe = \"/nowhere\"\nlocal_port = 4444\n\
                [[expect]]\nname = \"another kind\"\nkind = \"udp\"\nlocal_port = 4444\n";
    let tracer = watch_under(bench, &network, text)?;
    server.listen(at(A4, 4444))?;
    let listen = tracer.wait("the listener", |r| r.tells("listen") && r.is_at("tcp", at(A4, 4444)))?;
    listen.flagged("research", "unexplained-listener").map(drop)
}

fn misspelt(bench: &Bench) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = write(folder.path(), "[[expect]]\nname = \"x\"\nkind = \"listener\"\nlocal_prot = 4444\n")?;
    let file = file.to_string_lossy();
    for command in [&["live", "--duration", "1"][..], &["list"]] {
        let output = bench.subject.run(command.iter().copied().chain(["--policy", &file]))?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2), "{command:?} ended with {}: {stderr}", output.status);
        let place = format!("{file}:4:1");
        ensure!(stderr.contains(&place), "{command:?} does not name {place}: {stderr}");
        ensure!(stderr.contains("local_prot"), "{command:?} does not name the key: {stderr}");
        ensure!(stderr.contains("local_port"), "{command:?} does not name the key meant: {stderr}");
        ensure!(output.stdout.is_empty(), "{command:?} began in spite of its policy");
    }
    Ok(())
}
