//! Ports that need no policy: a program as its package shipped it, run by a service.

use std::ffi::OsString;
use std::fs;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::recordings::same_again;
use super::{Bench, Lacks, Scenario, at, scenario};
use crate::net::{B4, Netns, Network};
use crate::records::Record;

pub(super) const ALL: &[Scenario] =
    &[scenario("scripts-of-a-package-that-a-service-runs-are-explained", service).whatever_plan()];

const PYTHON: &str = "/usr/bin/python3";
/// A server that Debian has in a package of its own and that runs as it is.
const WHICH: &str = "import http.server; print(http.server.__file__)";
const RULE: &str = "unexplained-listener";
/// Where the cgroups are by which a unit is known.
const HIERARCHIES: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];
/// What `/proc/PID/loginuid` says where nobody logged in.
const NOBODY_LOGGED_IN: &str = "4294967295";

/// A cgroup with the name of a service, as only the system's manager has it at this place.
struct Service {
    name: String,
    folder: PathBuf,
}

impl Service {
    fn new() -> Result<Self> {
        let name = format!("tracer-test-{}.service", std::process::id());
        let root = HIERARCHIES.map(Path::new).into_iter().find(|root| root.join("cgroup.procs").exists());
        let folder = root.context(Lacks("hierarchy of cgroups".to_owned()))?.join(&name);
        match fs::create_dir(&folder) {
            Ok(()) => Ok(Self { name, folder }),
            Err(error)
                if matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) =>
            {
                Err(Lacks(format!("way to make cgroups ({error})")).into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// A process that is ended with its test.
struct Server(Child);

impl Server {
    /// Starts the script of a package with an address to listen on, as nobody's login, in a cgroup or in the test's own.
    fn start(script: &str, netns: &Netns, local: SocketAddr, service: Option<&Service>) -> Result<Self> {
        let mut command = Command::new(PYTHON);
        let (ip, port) = (local.ip().to_string(), local.port().to_string());
        command.args([script, "--bind", &ip, &port]).env("PYTHONDONTWRITEBYTECODE", "1").current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let netns = netns.try_clone()?;
        let cgroup = service.map(|service| service.folder.join("cgroup.procs"));
        let prepare = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // Not there without audit.
            let _ = fs::write("/proc/self/loginuid", NOBODY_LOGGED_IN);
            if let Some(cgroup) = &cgroup {
                fs::write(cgroup, "0")?;
            }
            netns.join().map_err(Error::from)
        };
        // SAFETY: between fork and exec only system calls are made; paths as short as these are put together on the stack.
        unsafe { command.pre_exec(prepare) };
        Ok(Self(command.spawn().context("starting python")?))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The path of the script, where it can be told whose it is.
fn packaged_script() -> Result<String> {
    if !Path::new(PYTHON).exists() {
        return Err(Lacks("python3".to_owned()).into());
    }
    let output = Command::new(PYTHON).args(["-c", WHICH]).output()?;
    let script = String::from_utf8(output.stdout)?.trim_end().to_owned();
    let owner = Command::new("dpkg").args(["-S", &script]).stderr(Stdio::null()).output();
    if owner.is_ok_and(|owner| owner.status.success()) {
        return Ok(script);
    }
    Err(Lacks("python3 of a package of Debian's".to_owned()).into())
}

/// The same server, run by hand and by a service.
fn service(bench: &Bench) -> Result<()> {
    let script = packaged_script()?;
    let service = Service::new()?;
    let network = Network::new()?;
    let folder = tempfile::tempdir()?;
    let recording = folder.path().join("recording");
    let tracer = bench.watch_with(&network, &["--all", "--record", &recording.to_string_lossy()])?;
    let (by_hand, by_service) = (at(B4, 8443), at(B4, 8444));
    let one = Server::start(&script, &network.b, by_hand, None)?;
    let flag = tracer.wait("the flag of the one by hand", |r| r.flags(RULE) && r.is_at("tcp", by_hand))?;
    flag.by(one.pid())?.flagged("research", RULE)?;
    // What research says of the first it says before what it says of the second.
    let other = Server::start(&script, &network.b, by_service, Some(&service))?;
    let is_explained = |r: &Record| r.is_at("tcp", by_service) && r.text("/verdict") == "explained";
    let explained = tracer.wait("the one that a service runs is explained", is_explained)?;
    explained.by(other.pid())?.says("/process/unit", &service.name)?.says("/process/script/path", &script)?;
    let reason = explained.text("/explained_by");
    let is_named = reason.starts_with("provenance: ") && reason.ends_with(&format!(", {}", service.name));
    explained.claim("the package and the unit are named", is_named)?;
    let run = tracer.finish_with(Signal::INT)?.run;
    let changed = run.records.iter().filter(|r| r.is_at("tcp", by_hand) && r.kind() == "clear").count();
    ensure!(changed == 0, "the flag of the one by hand was taken back");
    same_again(bench, &recording, &run.stdout)?;
    let replay: [OsString; 4] =
        ["replay".into(), recording.into(), "--json".into(), "--no-provenance".into()];
    let records = Record::parse_all(&bench.subject.run(replay)?.stdout)?;
    let is_flagged = records.iter().any(|r| r.flags(RULE) && r.is_at("tcp", by_service));
    let is_explained = records.iter().any(|r| r.text("/verdict") == "explained");
    ensure!(is_flagged && !is_explained, "provenance explains though it is switched off");
    Ok(())
}
