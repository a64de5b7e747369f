//! Policies given with `--policy`: what they explain, and what is wrong with one.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::{Bench, Scenario, at, scenario};
use crate::actor::Actor;
use crate::net::{A4, B4, Network};
use crate::tracer::Live;

pub(super) const ALL: &[Scenario] = &[
    scenario("policies-explain-what-they-name-and-nothing-else", explained).whatever_plan(),
    scenario("policy-with-a-misspelt-key-is-refused-with-its-place", misspelt).whatever_plan(),
];

/// A session and a UDP server that happen, and what names port 4446 but does not fit its listener.
const OTHERS: &str = r#"
[[expect]]
name = "out"
kind = "session"
direction = "outbound"
remote_class = "internet"
remote_cidr = "9.1.1.0/24"
remote_port = 8443

[[expect]]
name = "in"
kind = "udp"
user = "root"
local_port = 5300

[[expect]]
name = "elsewhere"
kind = "listener"
exe = "/nowhere"
local_port = 4446

[[expect]]
name = "another kind"
kind = "udp"
local_port = 4446
"#;

fn write(folder: &Path, text: &str) -> Result<PathBuf> {
    let file = folder.join("policy.toml");
    std::fs::write(&file, text)?;
    Ok(file)
}

/// A tracer under policies with these texts.
fn watch_under(bench: &Bench, network: &Network, texts: &[&str]) -> Result<Live> {
    let folder = tempfile::tempdir()?;
    let mut arguments = vec!["--all".to_owned()];
    for (number, text) in texts.iter().enumerate() {
        let file = folder.path().join(number.to_string());
        std::fs::write(&file, text)?;
        arguments.extend(["--policy".to_owned(), file.to_string_lossy().into_owned()]);
    }
    bench.watch_with(network, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn explained(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    server.listen(at(B4, 8443))?;
    let exe = std::env::current_exe()?;
    let listener = format!(
        "[[expect]]\nname = \"the test's own server\"\nkind = \"listener\"\nexe = {exe:?}\nlocal_port = 4444\n"
    );
    let tracer = watch_under(bench, &network, &[&listener, OTHERS])?;
    client.listen(at(A4, 4444))?;
    client.connect(at(B4, 8443))?;
    client.bind_udp(at(A4, 5300))?;
    let listen = tracer.wait("the listener", |r| r.tells("listen") && r.is_at("tcp", at(A4, 4444)))?;
    listen.claim("the entry is named", listen.to_string().contains("the test's own server"))?;
    let connect = tracer.wait("the session", |r| r.tells("connect") && r.is_to("tcp", at(B4, 8443)))?;
    let bind = tracer.wait("the UDP server", |r| r.tells("bind") && r.is_at("udp", at(A4, 5300)))?;
    for record in [listen, connect, bind] {
        record.by(client.pid())?.says("/verdict", "explained")?;
        record.claim("it is not flagged", record.kind() == "event")?;
    }
    for port in [4445, 4446] {
        client.listen(at(A4, port))?;
        let other = tracer.wait("another port", |r| r.tells("listen") && r.is_at("tcp", at(A4, port)))?;
        other.flagged("research", "unexplained-listener")?;
    }
    let run = tracer.finish()?;
    let flags = run.flags("unexplained-listener").filter(|r| r.netns() == Some(network.a.inode()));
    ensure!(flags.count() == 2, "the policy did not hold");
    Ok(())
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
