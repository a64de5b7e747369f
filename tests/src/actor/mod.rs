//! Traffic by real processes: the test's own binary, started again inside a namespace, does socket
//! calls on order. `order` is the language, `stage` the process that obeys, this file the one that
//! commands. What the calls mean to the tracer is the scenarios' business.

mod order;
mod process;
mod stage;
mod ways;
mod workers;

pub use order::{Kind, Load, Order, Outcome, SocketOption};
pub use process::{Actor, Program};
pub use stage::run_if_asked;
pub use ways::{Mode, Way};
