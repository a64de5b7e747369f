//! One program, run in different ways: what became of its file is seen, whatever it calls itself.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use md5::{Digest, Md5};

use super::{Bench, Lacks, Scenario, at, scenario};
use crate::actor::{Actor, Order, Program, root};
use crate::net::{B4, Network};
use crate::records::Record;
use crate::tracer::Watch;

pub(super) const ALL: &[Scenario] = &[
    scenario("programs-where-all-may-write-are-suspicious-whatever-they-call-themselves", open_folder)
        .whatever_plan(),
    scenario("programs-whose-file-is-deleted-or-replaced-are-suspicious", deleted).whatever_plan(),
    scenario("programs-in-memory-alone-are-suspicious", in_memory).whatever_plan(),
    scenario("programs-with-a-root-of-their-own-are-looked-at-in-there", own_root).whatever_plan(),
    scenario("programs-with-a-package-are-compared-with-what-it-shipped", packaged).whatever_plan(),
    scenario("scripts-are-judged-as-the-programs-that-run", script).whatever_plan(),
];

/// The file of a program that goes on acting is looked at again after a second.
pub(super) const AGAIN: Duration = Duration::from_millis(1_100);

/// A network with a server, and a tracer that watches both.
pub(super) struct Setting {
    pub(super) network: Network,
    _server: Actor,
    pub(super) tracer: Watch,
}

impl Setting {
    pub(super) fn new(bench: &Bench) -> Result<Self> {
        let network = Network::new()?;
        let mut server = Actor::start(&network.b)?;
        server.listen(at(B4, 8443))?;
        let tracer = bench.watch(&network)?;
        Ok(Self { network, _server: server, tracer })
    }

    /// Connects until a record has the package that the actor's file is of, which is looked up after the first.
    fn connects_as_package(&self, actor: &mut Actor, intact: bool) -> Result<()> {
        let told = |r: &Record| r.at("/process/package/intact").and_then(|told| told.as_bool());
        actor.connect(at(B4, 8443))?;
        std::thread::sleep(AGAIN);
        actor.connect(at(B4, 8443))?;
        let is_its = |r: &Record| r.pid() == Some(actor.pid()) && told(r).is_some();
        let record = self.tracer.wait("the package", is_its)?;
        record.claim("as it was shipped", told(&record) == Some(intact))?;
        record.says("/process/package/name", "tool").map(drop)
    }

    /// The flag in which the rule speaks of a connection of the actor.
    fn connects_and_is_flagged(&self, actor: &mut Actor, rule: &str) -> Result<Record> {
        actor.connect(at(B4, 8443))?;
        let flag = self.tracer.wait(rule, |r| r.flags(rule) && r.pid() == Some(actor.pid()))?;
        no_other_fault(flag.flagged("suspicious", rule)?, rule)?;
        Ok(flag)
    }
}

/// A folder where only its owner may write, as all above it.
pub(super) fn closed_folder() -> Result<tempfile::TempDir> {
    let own = std::env::current_exe()?;
    Ok(tempfile::tempdir_in(own.parent().context("a program without a folder")?)?)
}

fn open_folder(bench: &Bench) -> Result<()> {
    let setting = Setting::new(bench)?;
    let folder = closed_folder()?;
    let open = folder.path().join("open");
    fs::create_dir(&open)?;
    fs::set_permissions(&open, Permissions::from_mode(0o1777))?;
    let program = Program::copied_to(open.join("program"))?;
    let mut actor = Actor::start_as(&setting.network.a, &program)?;
    actor.perform(&Order::SetName { name: b"sshd".to_vec() })?;
    let flag = setting.connects_and_is_flagged(&mut actor, "temp-executable")?;
    flag.says("/process/comm", "sshd")?.says("/process/exe", &shown(program.path()))?;
    flag.claim("the folder is named", flag.why("temp-executable").contains(&shown(&open)))?;
    Ok(())
}

fn deleted(bench: &Bench) -> Result<()> {
    let setting = Setting::new(bench)?;
    let folder = closed_folder()?;
    let program = Program::copied_to(folder.path().join("program"))?;
    let mut actor = Actor::start_as(&setting.network.a, &program)?;
    actor.perform(&Order::SetName { name: b"sshd".to_vec() })?;
    actor.connect(at(B4, 8443))?;
    let connect =
        setting.tracer.wait("the connect", |r| r.tells("connect") && r.pid() == Some(actor.pid()))?;
    no_other_fault(connect.flagged("research", "unexplained-session")?, "none")?;
    fs::remove_file(program.path())?;
    std::thread::sleep(AGAIN);
    let flag = setting.connects_and_is_flagged(&mut actor, "deleted-executable")?;
    flag.claim("deleted", flag.why("deleted-executable").contains("deleted"))?;
    fs::write(program.path(), "another file")?;
    std::thread::sleep(AGAIN);
    // The first act has the file looked at again, which the records of later ones show.
    actor.connect(at(B4, 8443))?;
    std::thread::sleep(AGAIN);
    actor.connect(at(B4, 8443))?;
    let why = |r: &Record| r.why("deleted-executable").contains("replaced");
    setting.tracer.wait("replaced", |r| r.pid() == Some(actor.pid()) && why(r)).map(drop)
}

fn in_memory(bench: &Bench) -> Result<()> {
    let setting = Setting::new(bench)?;
    let mut actor = Actor::start_as(&setting.network.a, &Program::in_memory()?)?;
    let flag = setting.connects_and_is_flagged(&mut actor, "memory-executable")?;
    flag.claim("its name says so", flag.text("/process/exe").starts_with("/memfd:program")).map(drop)
}

fn own_root(bench: &Bench) -> Result<()> {
    let setting = Setting::new(bench)?;
    let folder = closed_folder()?;
    let path = PathBuf::from("/opt/there/program");
    root::furnish(folder.path(), &path)?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    let program = Program::with_root(folder.path(), &path)?;
    let mut actor = Actor::start_as(&setting.network.a, &program)?;
    actor.connect(at(B4, 8443))?;
    let is_its = |r: &Record| r.tells("connect") && r.pid() == Some(actor.pid());
    let connect = setting.tracer.wait("the connect", is_its)?;
    connect.says("/process/exe", &shown(&path))?;
    // What the first look finds would be told by now, were it a fault.
    std::thread::sleep(AGAIN);
    fs::set_permissions(folder.path().join("opt/there"), Permissions::from_mode(0o1777))?;
    let flag = setting.connects_and_is_flagged(&mut actor, "temp-executable")?;
    flag.claim("the folder as it is in there", flag.why("temp-executable").contains("under /opt/there,"))?;
    Ok(())
}

/// A package's file in a root of its own, first as it was shipped, then with another last byte: there the loader does not
/// look.
fn packaged(bench: &Bench) -> Result<()> {
    let setting = Setting::new(bench)?;
    let folder = closed_folder()?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    let path = PathBuf::from("/usr/bin/tool");
    root::furnish(folder.path(), &path)?;
    let file = folder.path().join("usr/bin/tool");
    let mut bytes = fs::read(&file)?;
    install(folder.path(), &bytes)?;
    let program = Program::with_root(folder.path(), &path)?;
    let mut intact = Actor::start_as(&setting.network.a, &program)?;
    setting.connects_as_package(&mut intact, true)?;
    drop(intact);
    *bytes.last_mut().context("an empty program")? ^= 1;
    fs::write(&file, &bytes)?;
    let mut modified = Actor::start_as(&setting.network.a, &program)?;
    let flag = setting.connects_and_is_flagged(&mut modified, "modified-executable")?;
    flag.says("/process/package/name", "tool")?;
    flag.claim("the package is named", flag.why("modified-executable").contains("package tool ")).map(drop)
}

/// Makes a database of dpkg's that says that a package `tool` shipped these bytes as `/usr/bin/tool`.
pub(super) fn install(root: &Path, bytes: &[u8]) -> Result<()> {
    let database = root.join("var/lib/dpkg");
    fs::create_dir_all(database.join("info"))?;
    let status = "Package: tool\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\n";
    fs::write(database.join("status"), status)?;
    fs::write(database.join("info/tool.list"), "/.\n/usr\n/usr/bin\n/usr/bin/tool\n")?;
    let digest: String = Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(fs::write(database.join("info/tool.md5sums"), format!("{digest}  usr/bin/tool\n"))?)
}

const PYTHON: &str = "/usr/bin/python3";
const SCRIPT: &str = "import socket, sys\n\
    connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n\
    connection.recv(1)\n";

fn script(bench: &Bench) -> Result<()> {
    if !Path::new(PYTHON).exists() {
        return Err(Lacks("python3".to_owned()).into());
    }
    let setting = Setting::new(bench)?;
    let folder = closed_folder()?;
    let path = folder.path().join("x.py");
    fs::write(&path, SCRIPT)?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o1777))?;
    let mut child = setting.network.a.enter(|| {
        let to = [B4.to_string(), "8443".to_owned()];
        Ok(Command::new(PYTHON).arg(&path).args(to).stdin(Stdio::null()).spawn()?)
    })?;
    let rule = "temp-executable";
    let flag = setting.tracer.wait(rule, |r| r.flags(rule) && r.pid() == Some(child.id()));
    child.kill()?;
    child.wait()?;
    let flag = flag?;
    no_other_fault(flag.flagged("suspicious", rule)?, rule)?;
    flag.says("/process/script/path", &shown(&path))?;
    flag.claim("run by python", flag.text("/process/exe").contains("/python3"))?;
    let why = format!("the script {} is under {},", shown(&path), shown(folder.path()));
    flag.claim("the script is named", flag.why(rule).starts_with(&why))?;
    let is_packaged = Path::new("/var/lib/dpkg/status").exists();
    let intact = flag.at("/process/package/intact").and_then(|intact| intact.as_bool());
    flag.claim("the interpreter is its package's", !is_packaged || intact == Some(true)).map(drop)
}

pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Claims that no rule about programs speaks but this one.
fn no_other_fault<'a>(record: &'a Record, rule: &str) -> Result<&'a Record> {
    let faults = ["deleted-executable", "memory-executable", "temp-executable", "modified-executable"];
    let named = faults.into_iter().filter(|fault| *fault != rule && record.names(fault));
    record.claim("no other fault", named.count() == 0)
}
