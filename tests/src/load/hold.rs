//! Descriptors that are opened and left open until the process ends.

use std::fs::File;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;

use super::{Made, PORT, loopback, tcp};

/// Sessions of this process with itself: `count` sockets at most, the listener among them.
pub(super) fn sessions(count: usize, host: u8) -> Result<Made, Errno> {
    let begun = Instant::now();
    let at = loopback(host, PORT);
    let listener = tcp::listener(at)?;
    let mut held = 1;
    while held + 2 <= count {
        let caller = tcp::socket()?;
        rustix::net::connect(&caller, &at)?;
        keep(caller);
        keep(rustix::net::accept(&listener)?);
        held += 2;
    }
    keep(listener);
    Ok(made(held, begun))
}

/// Descriptors of /dev/null, and a listener.
pub(super) fn files(count: usize, host: u8) -> Result<Made, Errno> {
    let begun = Instant::now();
    keep(tcp::listener(loopback(host, PORT))?);
    let null = OwnedFd::from(File::open("/dev/null").map_err(|_| Errno::NOENT)?);
    for _ in 1..count {
        keep(rustix::io::dup(&null)?);
    }
    Ok(made(count, begun))
}

fn made(count: usize, begun: Instant) -> Made {
    Made { count: count as u64, nanoseconds: begun.elapsed().as_nanos() as u64 }
}

fn keep(descriptor: OwnedFd) {
    let _: i32 = descriptor.into_raw_fd();
}
