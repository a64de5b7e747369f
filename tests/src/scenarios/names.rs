//! Hostile names: what a process calls itself must not reach a terminal raw, in text or in JSON.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, ensure};

use super::{Bench, Scenario, at, scenario};
use crate::actor::{Actor, Order, Program};
use crate::net::{A4, Network};
use crate::tracer::run_text;

pub(super) const ALL: &[Scenario] = &[
    scenario("hostile-names-show-no-raw-control-byte", hostile).whatever_plan(),
    scenario("names-that-differ-only-in-a-control-byte-stay-different", injective).whatever_plan(),
];

/// A file name: escape sequence, newline, a right-to-left override, C1 as a character, invalid UTF-8.
const FILE: &[u8] = b"evil\x1b[31m\n\xe2\x80\xae\xc2\x9b\xff\x7f";
/// At most 15 bytes are kept by the kernel.
const COMM: &[u8] = b"\x1b]0;x\x07\n\r\xe2\x80\xae\xff";
const ARGUMENT: &[u8] = b"\x1b[2J\x08\x00\xe2\x81\xa6\xc3(\n\xc2\x85";

/// Says which forbidden thing stands in the output, if any.
fn raw(output: &[u8]) -> Option<String> {
    let Ok(text) = std::str::from_utf8(output) else { return Some("invalid UTF-8".to_owned()) };
    let bad = text.chars().find(|character| {
        (character.is_control() && *character != '\n')
            || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}')
            || ('\u{202a}'..='\u{202e}').contains(character)
            || ('\u{2066}'..='\u{2069}').contains(character)
    })?;
    Some(format!("the character U+{:04X}", u32::from(bad)))
}

/// A program whose file has a hostile name, with an argument of that kind.
fn hostile_program(folder: &std::path::Path) -> Result<Program> {
    let argument: Vec<u8> = ARGUMENT.iter().copied().filter(|byte| *byte != 0).collect();
    Ok(Program::copied_to(folder.join(OsStr::from_bytes(FILE)))?.with_argument(&argument))
}

fn hostile_actor(network: &Network, program: &Program) -> Result<Actor> {
    let mut actor = Actor::start_as(&network.a, program)?;
    actor.perform(&Order::SetName { name: COMM.to_vec() })?;
    Ok(actor)
}

fn hostile(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let folder = tempfile::tempdir()?;
    let program = hostile_program(folder.path())?;
    let mut before = hostile_actor(&network, &program)?;
    before.listen(at(A4, 4443))?;
    let json = bench.watch(&network)?;
    let mut actor = hostile_actor(&network, &program)?;
    let local: SocketAddr = at(A4, 4444);
    let (listen, stdout) = run_text(&bench.subject, || {
        actor.listen(local)?;
        json.wait("the listener", |r| r.tells("listen") && r.is_at("tcp", local))
    })?;
    listen.by(actor.pid())?;
    for pointer in ["/process/comm", "/process/exe", "/process/args/2"] {
        listen.claim(format!("{pointer} is shown"), !listen.text(pointer).is_empty())?;
    }
    let run = json.finish()?;
    for port in ["4443", "4444"] {
        let told = String::from_utf8_lossy(&stdout).contains(port);
        ensure!(told, "the text does not tell of the listener on port {port}");
    }
    for (mode, output) in [("JSON", &run.stdout), ("text", &stdout)] {
        let found = raw(output);
        ensure!(found.is_none(), "{mode} carries {}", found.unwrap_or_default());
    }
    Ok(())
}

fn injective(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let tracer = bench.watch(&network)?;
    let mut shown = Vec::new();
    for (port, name) in
        [(1, &b"a\x1bb"[..]), (2, b"a\x1cb"), (3, b"a\\x1bb"), (4, b"a\xffb"), (5, b"a\\u{1b}b")]
    {
        let mut actor = Actor::start(&network.a)?;
        actor.perform(&Order::SetName { name: name.to_vec() })?;
        let local = at(A4, 4000 + port);
        actor.listen(local)?;
        let listen = tracer.wait("the listener", |r| r.tells("listen") && r.is_at("tcp", local))?;
        shown.push(listen.at("/process/comm").context("no comm")?.to_string());
    }
    let count = shown.len();
    shown.sort();
    shown.dedup();
    ensure!(shown.len() == count, "two different names are shown alike: {shown:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_stand_raw_is_found() {
        for bytes in [FILE, COMM, ARGUMENT, b"\t", b"\xc2\x85", b"\xe2\x80\xae", b"\x7f", b"\xff"] {
            assert!(raw(bytes).is_some(), "{bytes:?}");
        }
        assert_eq!(raw("a line\nof text, ü and \\x1b\n".as_bytes()), None);
    }
}
