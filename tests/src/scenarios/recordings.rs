//! `--record` and `replay`: the same records again, and files that are no recording.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::{Bench, Scenario, at, scenario};
use crate::actor::{Actor, Kind, Order};
use crate::net::{A4, B4, Network};

pub(super) const ALL: &[Scenario] =
    &[scenario("replay-gives-byte-for-byte-what-live-gave-and-refuses-what-is-broken", recorded)
        .whatever_plan()];

/// Runs some traffic under `live --record`; answers what it printed.
fn record(bench: &Bench, file: &Path) -> Result<Vec<u8>> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let listener = server.listen(at(B4, 8443))?;
    let tracer = bench.watch_with(&network, &["--all", "--record", &file.to_string_lossy()])?;
    let fd = client.connect(at(B4, 8443))?;
    let accepted = server.accept(listener)?;
    client.perform(&Order::Send { fd, bytes: 10 })?;
    server.perform(&Order::Receive { fd: accepted, bytes: 10 })?;
    client.connect_in_vain(at(B4, 4001))?;
    let udp = client.bind_udp(at(A4, 5353))?;
    let twin = client.listen(at(A4, 5353))?;
    client.close(twin)?;
    client.close(udp)?;
    let sender = client.socket(Kind::Udp, at(B4, 1))?;
    client.perform(&Order::SendTo {
        fd: sender,
        to: at(B4, 5300),
        bytes: 20,
        count: 15,
        spacing_us: 100_000,
    })?;
    client.close(fd)?;
    server.close(accepted)?;
    tracer.wait("the session's close", |r| r.tells("close") && r.is_to("tcp", at(B4, 8443)))?;
    // The recording is whole when the process has ended.
    Ok(tracer.finish_with(Signal::INT)?.run.stdout)
}

fn recorded(bench: &Bench) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("recording");
    let live = record(bench, &file)?;
    same_again(bench, &file, &live)?;
    broken(bench, &file)
}

/// Claims that a replay gives what live gave with all events.
pub(super) fn same_again(bench: &Bench, file: &Path, live: &[u8]) -> Result<()> {
    let replay =
        bench.subject.run(["replay".into(), file.into(), "--json".into(), OsString::from("--all")])?;
    let stderr = String::from_utf8_lossy(&replay.stderr);
    ensure!(replay.status.code() == Some(0), "replay ended with {}: {stderr}", replay.status);
    let pairs = live.split(|byte| *byte == b'\n').zip(replay.stdout.split(|byte| *byte == b'\n'));
    for (number, (was, is)) in pairs.enumerate() {
        let (was, is) = (String::from_utf8_lossy(was), String::from_utf8_lossy(is));
        ensure!(was == is, "line {} differs:\n    live   {was}\n    replay {is}", number + 1);
    }
    ensure!(live == replay.stdout, "{} bytes live and {} replayed", live.len(), replay.stdout.len());
    Ok(())
}

fn broken(bench: &Bench, file: &Path) -> Result<()> {
    let whole = std::fs::read(file)?;
    let lines = whole.iter().filter(|byte| **byte == b'\n').count();
    let noise: Vec<u8> = (0..5000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    refused(bench, file, "empty", b"", 1)?;
    refused(bench, file, "truncated in its last line", &whole[..whole.len() - 4], lines)?;
    refused(bench, file, "truncated in the middle", cut_in_the_middle(&whole)?, lines / 2)?;
    refused(bench, file, "of a newer schema", &newer(&whole)?, 1)?;
    refused(bench, file, "random bytes", &noise, 1)
}

/// The first half of the lines, the last of them torn.
fn cut_in_the_middle(whole: &[u8]) -> Result<&[u8]> {
    let ends: Vec<usize> =
        whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
    let end = *ends.get(ends.len() / 2 - 1).context("a recording of one line")?;
    Ok(&whole[..end - 3])
}

/// The recording with a header that says a later version.
fn newer(whole: &[u8]) -> Result<Vec<u8>> {
    let end = whole.iter().position(|byte| *byte == b'\n').context("no header")?;
    let mut header: Value = serde_json::from_slice(&whole[..end])?;
    let version = header.get_mut("tracer_recording").context("a header without tracer_recording")?;
    *version = Value::from(version.as_u64().context("a version that is no number")? + 1);
    Ok([header.to_string().as_bytes(), &whole[end..]].concat())
}

/// Replays `bytes`; claims exit 2 and a message that names file and line.
fn refused(bench: &Bench, file: &Path, what: &str, bytes: &[u8], line: usize) -> Result<()> {
    std::fs::write(file, bytes)?;
    let arguments: [OsString; 4] = ["replay".into(), file.into(), "--json".into(), "--all".into()];
    let output = bench.subject.run(arguments)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2), "{what}: ended with {}: {stderr}", output.status);
    ensure!(!stderr.contains("panicked"), "{what}: {stderr}");
    let name = file.to_string_lossy();
    // Of a torn line either itself or the last whole one before it may be named.
    let named = [line, line.saturating_sub(1)].iter().any(|line| {
        stderr.contains(&format!("{name}:{line}:"))
            || stderr.contains(&format!("line {line} "))
            || stderr.contains(&format!("line {line}:"))
    });
    ensure!(named && stderr.contains(&*name), "{what}: line {line} of {name} is not named: {stderr}");
    Ok(())
}
