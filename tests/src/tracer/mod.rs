//! The tracer under test: its command lines (`command`), a running one (`process`), and one whose
//! records are read as they come (`live`).

mod command;
mod live;
mod process;

pub use command::{Plan, Subject};
pub use live::{Live, Run};
pub use process::{Process, run_text};
