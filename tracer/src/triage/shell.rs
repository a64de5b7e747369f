//! A program that reads from a socket what it takes for the keyboard: a shell in somebody else's hands.

use super::facts::{Evidence, Facts, Reason};
use crate::{
    model::{event::Process, socket::OnStdio},
    output::Verdict,
};

/// The socket is the standard input, output or error of a process, and no policy expects the socket. Loopback is no excuse:
/// what is forwarded ends there. Nor is the provenance of a program: whose shell it is does not lie in its file.
pub(super) fn shell_on_socket(facts: &Facts<'_>) -> Option<Evidence> {
    let on_stdio = facts.socket.stdio.first()?;
    let is_expected = facts.session.is_some_and(|session| session.explained.is_some());
    if is_expected || matches!(facts.explained, Some(Reason::Entry(_))) {
        return None;
    }
    Some(Evidence::leads_to(
        Verdict::Suspicious,
        facts.says(|| sentence(on_stdio, facts.socket.stdio.len() - 1)),
    ))
}

fn sentence(on_stdio: &OnStdio, others: usize) -> String {
    let OnStdio { process, descriptors } = on_stdio;
    let (descriptors, verb) = match descriptors.as_slice() {
        [one] => (format!("descriptor {one}"), "is"),
        [one, two] => (format!("descriptors {one} and {two}"), "are"),
        _ => ("descriptors 0, 1 and 2".to_owned(), "are"),
    };
    let others = match others {
        0 => String::new(),
        1 => ", and one process more has it there".to_owned(),
        n => format!(", and {n} processes more have it there"),
    };
    format!(
        "{descriptors} of {} {verb} this socket, which is its keyboard and its screen{others}",
        named(process)
    )
}

fn named(process: &Process) -> String {
    let name = process.exe.as_deref().or(process.comm.as_deref()).unwrap_or("a program that is not known");
    format!("{name} (pid {})", process.id.pid)
}
