//! What the file of a program itself tells: its digest, and in which layer of an overlay it lies.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::programs::{AGAIN, Setting, closed_folder, install, shown};
use super::{Bench, Lacks, Scenario, at, scenario};
use crate::actor::root::{self, Layers};
use crate::actor::{Actor, Order, Program};
use crate::net::{B4, Network};
use crate::records::Record;

pub(super) const ALL: &[Scenario] = &[
    scenario("sha-256-of-what-is-suspicious-by-its-file-stands-in-the-flag", by_its_file).whatever_plan(),
    scenario("sha-256-of-what-is-suspicious-by-what-it-does-comes-after-the-flag", by_what_it_does)
        .whatever_plan(),
    scenario("sha-256-is-listed-of-whatever-runs", listed).whatever_plan(),
    scenario("layers-of-an-overlay-are-told", layers).whatever_plan(),
];

const DIGEST: &str = "/process/sha256";
const LAYER: &str = "/process/layer";
/// Times that a program acts until its file must have been looked at.
const TIMES: usize = 3;

/// The SHA-256 of a file, as hex digits.
fn digest_of(path: &Path) -> Result<String> {
    Ok(Sha256::digest(fs::read(path)?).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Of a program that exists in memory alone nobody else can make the digest.
fn by_its_file(bench: &Bench) -> Result<()> {
    let setting = Setting::new(bench)?;
    let mut actor = Actor::start_as(&setting.network.a, &Program::in_memory()?)?;
    // A large file is hashed after it was flagged, and the next flag has it.
    for _ in 0..TIMES {
        actor.connect(at(B4, 8443))?;
        std::thread::sleep(AGAIN);
    }
    let is_its = |r: &Record| r.flags("memory-executable") && r.pid() == Some(actor.pid());
    let flag = setting.tracer.wait("the digest in a flag", |r| is_its(r) && r.at(DIGEST).is_some())?;
    flag.flagged("suspicious", "memory-executable")?;
    flag.says(DIGEST, &digest_of(&std::env::current_exe()?)?)?;
    flag.lacks("/process/sha256_unknown").map(drop)
}

/// The program is the test's own, with which nothing is wrong; what it does is.
fn by_what_it_does(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let remote = at(B4, 8443);
    let listener = server.listen(remote)?;
    let tracer = bench.watch(&network)?;
    client.perform(&Order::ReverseShell { to: remote })?;
    let rule = "shell-on-socket";
    let flag = tracer.wait("the shell's flag", |r| r.flags(rule) && r.remote() == Some(remote))?;
    let connection = server.perform(&Order::Accept { fd: listener, with_address: false })?.fd;
    std::thread::sleep(AGAIN);
    server.close(connection.context("no connection")?)?;
    let is_it = |r: &Record| r.kind() == "clear" && r.socket() == flag.socket();
    let clear = tracer.wait("the end of the shell's flag", is_it)?;
    clear.says(DIGEST, &digest_of(&std::env::current_exe()?)?).map(drop)
}

fn listed(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut actor = Actor::start(&network.a)?;
    actor.listen(at("9.1.1.1".parse()?, 8443))?;
    let netns = network.a.inode().to_string();
    let listed = |options: &[&str]| -> Result<Record> {
        let arguments = ["list", "--json", "--netns", &netns].into_iter().chain(options.iter().copied());
        let output = bench.subject.run(arguments)?;
        ensure!(output.status.success(), "list ended with {}", output.status);
        let records = Record::parse_all(&output.stdout)?;
        records.into_iter().find(|r| r.pid() == Some(actor.pid())).context("the listener is not listed")
    };
    listed(&["--hash"])?.says(DIGEST, &digest_of(&std::env::current_exe()?)?)?;
    listed(&[])?.lacks(DIGEST).map(drop)
}

/// A program of an image, and one that was copied into the container while it ran.
fn layers(bench: &Bench) -> Result<()> {
    let setting = Setting::new(bench)?;
    let folder = closed_folder()?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    let layers = Layers::new(folder.path())?;
    let (shipped, copied) = (Path::new("/opt/image/program"), Path::new("/opt/later/program"));
    root::furnish(&layers.lower(), shipped)?;
    // There is a package, which owns neither of them.
    install(&layers.lower(), b"something else")?;
    let mut actor = start(&setting, &layers, shipped)?;
    let lower = tells_layer(&setting, &mut actor)?;
    lower.says("/process/exe", &shown(shipped))?.says(LAYER, "lower")?;
    let plain = format!("no installed package owns the executable {}", shown(shipped));
    lower.claim("nothing of the image", lower.why(UNPACKAGED) == plain)?;
    let inside = format!("/proc/{}/root", actor.pid());
    fs::create_dir(format!("{inside}/opt/later"))?;
    fs::copy(format!("{inside}{}", shown(shipped)), format!("{inside}{}", shown(copied)))?;
    ensure!(layers.upper().join("opt/later/program").exists(), "the copy is not in the upper layer");
    drop(actor);
    let mut actor = start(&setting, &layers, copied)?;
    let upper = tells_layer(&setting, &mut actor)?;
    upper.says("/process/exe", &shown(copied))?.says(LAYER, "upper")?;
    let is_told = upper.why(UNPACKAGED).contains("after the image");
    upper.claim("it is younger than the image", is_told).map(drop)
}

const UNPACKAGED: &str = "unpackaged-executable";

fn start(setting: &Setting, layers: &Layers, path: &Path) -> Result<Actor> {
    let started = Actor::start_as(&setting.network.a, &Program::with_layers(layers, path)?);
    started.map_err(|error| {
        let errno = error.root_cause().downcast_ref().and_then(Errno::from_io_error);
        if errno == Some(Errno::NODEV) { Lacks("overlay file system".to_owned()).into() } else { error }
    })
}

/// The flag of a connection that was opened after the actor's file was looked at.
fn tells_layer(setting: &Setting, actor: &mut Actor) -> Result<Record> {
    actor.connect(at(B4, 8443))?;
    std::thread::sleep(AGAIN);
    actor.connect(at(B4, 8443))?;
    let is_its = |r: &Record| r.flags(UNPACKAGED) && r.pid() == Some(actor.pid());
    setting.tracer.wait("its package is looked up", is_its)
}
