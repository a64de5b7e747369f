//! The servers and the generator that an actor can turn into: forked workers, a serving loop, a load.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::Shutdown;
use rustix::process::{Signal, set_parent_process_death_signal};

use super::errno;
use super::order::{Load, Outcome};

/// A served connection is given up when nothing comes for so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pace is kept in steps of this length.
const STEP: Duration = Duration::from_millis(2);

/// Forks `count` children that accept on `listener`, and serve each connection to its end or keep it; they die with this
/// process.
pub(super) fn fork_workers(listener: &TcpListener, count: usize, keep: bool) -> Result<Outcome, Errno> {
    let mut pids = Vec::new();
    for _ in 0..count {
        // SAFETY: an actor has one thread, so that no lock can be held by another at the fork.
        match unsafe { libc::fork() } {
            -1 => return Err(Errno::NOMEM),
            0 => work(listener, keep),
            pid => pids.push(pid.unsigned_abs()),
        }
    }
    Ok(Outcome { pids, ..Outcome::default() })
}

/// What a forked worker does until it is killed.
fn work(listener: &TcpListener, keep: bool) -> ! {
    let pid = std::process::id().to_le_bytes();
    let bound = set_parent_process_death_signal(Some(Signal::KILL));
    while bound.is_ok() {
        let Ok((mut connection, _)) = listener.accept() else { break };
        let told = connection.write_all(&pid);
        if told.is_err() || (!keep && connection.read(&mut [0; 16]).is_err()) {
            break;
        }
        if keep {
            std::mem::forget(connection);
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
    let took_ns = start.elapsed().as_nanos() as u64;
    Ok(Outcome { count, took_ns, ..Outcome::default() })
}

/// Accepts in `threads` threads until `total` connections were taken.
pub(super) fn serve_in_threads(
    listener: &TcpListener,
    threads: usize,
    with_address: bool,
    total: u64,
) -> Result<Outcome, Errno> {
    let count = AtomicU64::new(0);
    let work = || -> std::io::Result<()> {
        while let Ok(connection) = accept(listener, with_address) {
            // The last one wakes the others, which wait for connections that will not come.
            if count.fetch_add(1, Ordering::Relaxed) + 1 == total {
                let _ = rustix::net::shutdown(listener, Shutdown::Both);
            }
            let mut connection = TcpStream::from(connection);
            connection.write_all(&[1])?;
            while connection.read(&mut [0; 64])? > 0 {}
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(done) => done.map_err(|error| errno(&error)),
            Err(_) => Err(Errno::CANCELED),
        })
    })?;
    Ok(Outcome { count: count.into_inner(), ..Outcome::default() })
}

fn accept(listener: &TcpListener, with_address: bool) -> rustix::io::Result<OwnedFd> {
    if with_address {
        rustix::net::acceptfrom(listener).map(|(connection, _)| connection)
    } else {
        rustix::net::accept(listener)
    }
}

/// Takes a byte of each of `total` connections and closes it.
pub(super) fn dismiss(listener: &TcpListener, total: u64) -> Result<Outcome, Errno> {
    for _ in 0..total {
        let (mut connection, _) = listener.accept().map_err(|error| errno(&error))?;
        connection.read_exact(&mut [0]).map_err(|error| errno(&error))?;
    }
    Ok(Outcome { count: total, ..Outcome::default() })
}

/// Opens `count` connections one after the other and waits for the end of each.
pub(super) fn call(to: SocketAddr, count: u64) -> Result<Outcome, Errno> {
    let once = || {
        let mut connection = TcpStream::connect(to)?;
        connection.write_all(&[1])?;
        connection.read(&mut [0; 16])
    };
    for _ in 0..count {
        once().map_err(|error| errno(&error))?;
    }
    Ok(Outcome { count, ..Outcome::default() })
}

fn call_once(target: SocketAddr) -> std::io::Result<()> {
    TcpStream::connect(target)?.write_all(&[1])
}
