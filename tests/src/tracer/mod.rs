//! The tracer under test: its command lines (`command`), a running one (`process`), its records as they
//! come (`stream`), one of a scenario's own (`live`), and one that all scenarios follow (`common`), which
//! they tell by sockets of their own (`mark`) how far it has come.

mod command;
mod common;
mod live;
mod mark;
mod process;
mod stream;
mod watch;

pub use command::{Plan, Subject};
pub use common::{Common, Follower};
pub use live::{Ended, Live};
pub use process::{Process, run_text};
pub use stream::{Run, Stream};
pub use watch::Watch;
