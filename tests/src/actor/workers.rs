//! The servers and the generator that an actor can turn into: forked workers, a serving loop, a load.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal};

use super::order::{Load, Outcome};

/// A served connection is given up when nothing comes for so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pace is kept in steps of this length.
const STEP: Duration = Duration::from_millis(2);

/// Forks `count` children that accept on `listener`; they die with this process.
pub(super) fn fork_workers(listener: &TcpListener, count: usize) -> Result<Outcome, Errno> {
    let mut pids = Vec::new();
    for _ in 0..count {
        // SAFETY: an actor has one thread, so that no lock can be held by another at the fork.
        match unsafe { libc::fork() } {
            -1 => return Err(Errno::NOMEM),
            0 => work(listener),
            pid => pids.push(pid.unsigned_abs()),
        }
    }
    Ok(Outcome { pids, ..Outcome::default() })
}

/// What a forked worker does until it is killed.
fn work(listener: &TcpListener) -> ! {
    let pid = std::process::id().to_le_bytes();
    let bound = set_parent_process_death_signal(Some(Signal::KILL));
    while bound.is_ok() {
        let Ok((mut connection, _)) = listener.accept() else { break };
        let told = connection.write_all(&pid);
        if told.is_err() || connection.read(&mut [0; 16]).is_err() {
            break;
        }
    }
    std::process::exit(1)
}

/// Accepts and reads to the end until `total` connections were served, or none comes for
/// [`PATIENCE`]; answers how many there were.
pub(super) fn serve(listener: &TcpListener, total: u64) -> Result<Outcome, Errno> {
    rustix::net::sockopt::set_socket_timeout(listener, rustix::net::sockopt::Timeout::Recv, Some(PATIENCE))?;
    let mut count = 0;
    while count < total {
        let (mut connection, _) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(errno(&error)),
        };
        count += 1;
        while connection.read(&mut [0; 64]).map_err(|error| errno(&error))? > 0 {}
    }
    Ok(Outcome { count, ..Outcome::default() })
}

/// Opens `load.total()` connections, evenly paced; each sends one byte and is closed by this side.
pub(super) fn generate(targets: &[SocketAddr], load: Load) -> Result<Outcome, Errno> {
    let start = Instant::now();
    let mut count = 0;
    while count < load.total() {
        let due = (start.elapsed().as_micros() as u64 * load.rate / 1_000_000).min(load.total());
        while count < due {
            call_once(targets[count as usize % targets.len()]).map_err(|error| errno(&error))?;
            count += 1;
        }
        thread::sleep(STEP);
    }
    let took_ms = start.elapsed().as_millis() as u64;
    Ok(Outcome { count, took_ms, ..Outcome::default() })
}

fn call_once(target: SocketAddr) -> std::io::Result<()> {
    TcpStream::connect(target)?.write_all(&[1])
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
