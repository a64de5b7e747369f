//! What explains a port without a word of a policy: the machine's own software, as it was shipped, run as a service of the
//! machine.

use super::facts::Reason;
use crate::model::{
    event::Process,
    program::plain_name,
    provenance::{Provenance, Script},
};

/// Shells and general network tools, which do whatever they are told: whose they are says nothing of what for.
const TOOLS: &[&str] = &[
    "ash",
    "autossh",
    "bash",
    "bash-static",
    "bsd-csh",
    "busybox",
    "cryptcat",
    "csh",
    "curl",
    "dash",
    "dbclient",
    "fish",
    "ftp",
    "gdb",
    "gdbserver",
    "gnutls-cli",
    "gnutls-serv",
    "hping",
    "ksh",
    "lftp",
    "lksh",
    "mksh",
    "mksh-static",
    "nc",
    "ncat",
    "ncftp",
    "netcat",
    "nmap",
    "nping",
    "openssl",
    "plink",
    "posh",
    "rbash",
    "redir",
    "rksh",
    "rlogin",
    "rsh",
    "rzsh",
    "scp",
    "sftp",
    "sh",
    "socat",
    "ssh",
    "strace",
    "tcsh",
    "telnet",
    "tftp",
    "tnftp",
    "toybox",
    "valgrind",
    "wget",
    "yash",
    "zsh",
    "zsh-static",
];

/// Programs that run what they are given: that is the program which a person means.
const INTERPRETERS: &[&str] = &[
    "R",
    "Rscript",
    "awk",
    "beam",
    "bun",
    "deno",
    "dotnet",
    "erl",
    "expect",
    "gawk",
    "gjs",
    "gjs-console",
    "guile",
    "java",
    "julia",
    "lua",
    "luajit",
    "mawk",
    "mono",
    "mono-sgen",
    "node",
    "nodejs",
    "octave-cli",
    "original-awk",
    "perl",
    "php",
    "php-cgi",
    "pwsh",
    "pypy",
    "python",
    "racket",
    "ruby",
    "tclsh",
    "wish",
];

/// What their names begin with that run another program's file as their own: the dynamic loader, emulators of processors.
const LOADERS: &[&[u8]] = &[b"ld-", b"qemu-"];

/// What explains the ports of a process: an intact file of a package that is installed here, which a service of this system
/// runs.
pub(super) fn explain(owner: &Process) -> Option<Reason<'_>> {
    let unit = service(owner)?;
    let package = program(owner.exe.as_deref()?, owner.provenance.as_ref()?)?;
    Some(Reason::Provenance { package, unit })
}

/// The service that a process is of. What somebody started who had logged in is not of the one that let him in, though it may
/// stand in its cgroup.
fn service(owner: &Process) -> Option<&str> {
    let belongs = owner.belongs.as_deref()?;
    let is_of_system =
        belongs.user_unit.is_none() && belongs.container.is_none() && belongs.login_uid.is_none();
    let is_service = |unit: &&str| unit.ends_with(".service") && !unit.starts_with("user@");
    belongs.unit.as_deref().filter(|_| is_of_system).filter(is_service)
}

/// The package of the program that a person means, where nothing is amiss with any file of it.
fn program<'a>(exe: &str, found: &'a Provenance) -> Option<&'a str> {
    let package = found.intact_of()?;
    let name = plain_name(exe.as_bytes());
    let is_one_of = |names: &[&str]| names.iter().any(|own| own.as_bytes() == name);
    if is_one_of(TOOLS) || LOADERS.iter().any(|own| name.starts_with(own)) {
        return None;
    }
    match found.script.as_deref() {
        Some(Script::File { path: _, found }) => found.intact_of(),
        Some(Script::Module(_)) => None,
        None => (!is_one_of(INTERPRETERS)).then_some(package),
    }
}

#[cfg(test)]
mod tests;
