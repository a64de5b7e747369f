//! Traffic by real processes: the test's own binary, started again inside a namespace, does socket
//! calls on order. `order` is the language, `stage` the process that obeys, this file the one that
//! commands. What the calls mean to the tracer is the scenarios' business.

pub mod brief;
mod heirs;
mod order;
mod process;
pub mod root;
mod shell;
mod stage;
mod ways;
mod workers;

pub use order::{Brief, Kind, Load, Order, Outcome, Pids, SocketOption};
pub use process::{Actor, Program};
pub use stage::run_if_asked;
pub use ways::{Mode, Way};

/// The number of an error, which is an I/O error where it has none.
fn errno(error: &std::io::Error) -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(error).unwrap_or(rustix::io::Errno::IO)
}
