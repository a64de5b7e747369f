//! Each condition by itself: the one program that is explained, with one thing about it otherwise.

use std::sync::Arc;

use super::*;
use crate::model::{
    belongs::{Belongs, Container},
    event::ProcessId,
    provenance::{FileState, Package, Shipped},
};
use crate::research::script;

/// What an intact file of a package is known by.
fn shipped(package: &str) -> Provenance {
    let package = Package::Owned { name: package.to_owned(), state: Shipped::Intact, believed: true };
    Provenance { file: FileState::Present, package, ..Provenance::default() }
}

fn of_service(unit: &str) -> Belongs {
    Belongs { unit: Some(unit.to_owned()), ..Belongs::default() }
}

fn process(exe: &str, provenance: Provenance, belongs: Belongs) -> Process {
    Process {
        id: ProcessId { pid: 7, started: 1 },
        ppid: Some(1),
        comm: None,
        exe: Some(exe.to_owned()),
        exe_file: None,
        args: None,
        uid: Some(0),
        user: None,
        lineage: Vec::new(),
        unknown: None,
        provenance: Some(provenance),
        belongs: Some(Arc::new(belongs)),
    }
}

fn is_explained(exe: &str, provenance: Provenance, belongs: Belongs) -> bool {
    explain(&process(exe, provenance, belongs)).is_some()
}

/// As far as its file goes.
fn is_vouched_for(exe: &str, provenance: Provenance) -> bool {
    is_explained(exe, provenance, of_service("one.service"))
}

fn interpreter(script: Script) -> Provenance {
    Provenance { script: Some(Box::new(script)), ..shipped("python3.11-minimal") }
}

fn file(found: Provenance) -> Script {
    Script::File { path: "/usr/share/tool/tool.py".to_owned(), found }
}

/// What keeps a file from vouching for anything.
fn amiss() -> Vec<Provenance> {
    let of = |state, believed| Package::Owned { name: "one".to_owned(), state, believed };
    let packages = [
        of(Shipped::Modified, true),
        of(Shipped::Unverified, true),
        of(Shipped::Intact, false),
        Package::None,
        Package::Unknown,
    ];
    let files = [FileState::Unknown, FileState::Deleted, FileState::Replaced, FileState::Memory];
    let packages = packages.map(|package| Provenance { package, ..shipped("one") });
    let files = files.map(|file| Provenance { file, ..shipped("one") });
    let open = Provenance { open_folder: Some("/tmp".to_owned()), ..shipped("one") };
    packages.into_iter().chain(files).chain([open]).collect()
}

#[test]
fn an_intact_program_of_a_package_that_a_service_runs_is_explained_by_both() {
    let sshd = process("/usr/sbin/sshd", shipped("openssh-server"), of_service("ssh.service"));
    let reason = Reason::Provenance { package: "openssh-server", unit: "ssh.service" };
    assert_eq!(explain(&sshd), Some(reason));
}

#[test]
fn what_is_amiss_with_the_file_or_not_known_explains_nothing() {
    for found in amiss() {
        assert!(!is_vouched_for("/usr/sbin/sshd", found.clone()), "{found:?}");
    }
    let sshd = process("/usr/sbin/sshd", shipped("openssh-server"), of_service("ssh.service"));
    for unknown in [
        Process { provenance: None, ..sshd.clone() },
        Process { belongs: None, ..sshd.clone() },
        Process { exe: None, ..sshd },
    ] {
        assert_eq!(explain(&unknown), None);
    }
}

#[test]
fn only_a_service_of_the_system_explains() {
    let service = || of_service("ssh.service");
    let container = Container { id: "web".to_owned(), runtime: None };
    for belongs in [
        Belongs { unit: None, ..service() },
        of_service("init.scope"),
        of_service("session-3.scope"),
        of_service("ssh.socket"),
        of_service("system.slice"),
        of_service("user@1000.service"),
        Belongs { user_unit: Some("app.service".to_owned()), ..of_service("user@1000.service") },
        Belongs { user_unit: Some("app.service".to_owned()), ..service() },
        Belongs { container: Some(container), ..service() },
        Belongs { login_uid: Some(1000), ..service() },
    ] {
        assert!(!is_explained("/usr/sbin/sshd", shipped("openssh-server"), belongs.clone()), "{belongs:?}");
    }
}

#[test]
fn tools_and_shells_explain_nothing_whatever_their_version_or_variant() {
    for exe in [
        "/bin/nc.openbsd",
        "/usr/bin/nc.traditional",
        "/usr/bin/ncat",
        "/usr/bin/socat1",
        "/usr/bin/ssh",
        "/usr/bin/curl",
        "/usr/bin/wget",
        "/usr/bin/telnet.netkit",
        "/usr/bin/openssl",
        "/usr/bin/busybox",
        "/usr/bin/bash",
        "/usr/bin/zsh5",
        "/usr/bin/ksh93",
        "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
        "/usr/bin/qemu-x86_64",
    ] {
        assert!(!is_vouched_for(exe, shipped("one")), "{exe}");
        // Nor with a script of a package.
        assert!(!is_vouched_for(exe, interpreter(file(shipped("one")))), "{exe}");
    }
    for exe in ["/usr/sbin/sshd", "/usr/sbin/php-fpm8.2", "/usr/sbin/ncsd", "/usr/bin/curlew"] {
        assert!(is_vouched_for(exe, shipped("one")), "{exe}");
    }
}

#[test]
fn of_an_interpreter_the_script_is_what_counts() {
    let python = "/usr/bin/python3.11";
    let tool = process(python, interpreter(file(shipped("tool"))), of_service("tool.service"));
    assert_eq!(explain(&tool), Some(Reason::Provenance { package: "tool", unit: "tool.service" }));
    for found in amiss() {
        assert!(!is_vouched_for(python, interpreter(file(found.clone()))), "{found:?}");
        let changed = Provenance { script: Some(Box::new(file(shipped("tool")))), ..found };
        assert!(!is_vouched_for(python, changed));
    }
    assert!(!is_vouched_for(python, interpreter(Script::Module("http.server".to_owned()))));
}

#[test]
fn an_interpreter_whose_script_is_not_known_explains_nothing() {
    for exe in [
        "/usr/bin/python3.11",
        "/usr/bin/perl",
        "/usr/bin/perl5.36-x86_64-linux-gnu",
        "/usr/bin/ruby3.1",
        "/usr/bin/node",
        "/usr/bin/php8.2",
        "/usr/lib/jvm/java-17-openjdk-amd64/bin/java",
        "/usr/bin/gawk",
    ] {
        assert!(!is_vouched_for(exe, shipped("one")), "{exe}");
    }
}

#[test]
fn whatever_runs_scripts_explains_nothing_without_one() {
    for name in script::interpreters() {
        assert!(!is_vouched_for(&format!("/usr/bin/{name}"), shipped("one")), "{name}");
    }
}

#[test]
fn every_name_is_one_that_a_program_can_have() {
    for name in TOOLS.iter().chain(INTERPRETERS) {
        assert_eq!(plain_name(name.as_bytes()), name.as_bytes());
        assert!(!is_vouched_for(&format!("/usr/bin/{name}"), shipped("one")), "{name}");
    }
}
