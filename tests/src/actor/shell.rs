//! Programs in somebody else's hands: processes whose standard input, output and error are a socket.

use std::ffi::OsStr;
use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::errno;
use super::order::Outcome;

/// The first argument of a process that is to connect and become another program, with the connection in the place of its
/// terminal.
pub(super) const REVERSE: &str = "reverse-shell";
/// The first argument of a process that is to read its standard input to the end.
pub(super) const SIT: &str = "sit";

/// Starts a process that connects to `to` and hands the connection to a program.
pub(super) fn reverse(to: SocketAddr) -> Result<Outcome, Errno> {
    start(Command::new(own()?).args([REVERSE, &to.to_string()]).stdin(Stdio::null()))
}

/// Starts a program for a connection that was accepted, as inetd does.
pub(super) fn serve(connection: OwnedFd) -> Result<Outcome, Errno> {
    let twice = || connection.try_clone().map_err(|error| errno(&error));
    let (output, errors) = (twice()?, twice()?);
    start(Command::new(own()?).arg(SIT).stdin(connection).stdout(output).stderr(errors))
}

fn start(command: &mut Command) -> Result<Outcome, Errno> {
    let prepare = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: between fork and exec only one system call is made; nothing is allocated.
    let command = unsafe { command.pre_exec(prepare) };
    let child = command.spawn().map_err(|error| errno(&error))?;
    Ok(Outcome { pids: vec![child.id()], ..Outcome::default() })
}

/// What the process does that [`reverse`] starts; answers its exit status, which is an errno.
pub(super) fn run_reverse<'a>(mut arguments: impl Iterator<Item = &'a OsStr>) -> i32 {
    let to = arguments.next().and_then(|to| to.to_str()?.parse().ok());
    to.map_or(libc::EINVAL, |to| connect_and_sit(to).raw_os_error())
}

/// Comes back with an error alone.
fn connect_and_sit(to: SocketAddr) -> Errno {
    let redirected = || -> Result<(), Errno> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
        rustix::net::connect(&socket, &to)?;
        rustix::stdio::dup2_stdin(&socket)?;
        rustix::stdio::dup2_stdout(&socket)?;
        rustix::stdio::dup2_stderr(&socket)
    };
    match redirected().and_then(|()| own()) {
        Ok(program) => errno(&Command::new(program).arg(SIT).exec()),
        Err(error) => error,
    }
}

/// Reads standard input to its end.
pub(super) fn sit() -> i32 {
    let mut bytes = [0; 64];
    while std::io::stdin().read(&mut bytes).is_ok_and(|length| length > 0) {}
    0
}

fn own() -> Result<std::path::PathBuf, Errno> {
    std::env::current_exe().map_err(|error| errno(&error))
}
