//! The harness of the live tests: namespaces, traffic by real processes, the tracer under test, and
//! the scenarios that join them. No external program is started, so that the same binary runs on a
//! machine and in an otherwise empty guest. What the tracer decides is not known here; the
//! expectations are written down in the scenarios.

pub mod actor;
pub mod bench;
pub mod coverage;
pub mod declared;
pub mod distribution;
pub mod load;
pub mod net;
pub mod parity;
pub mod records;
pub mod runner;
pub mod scenarios;
pub mod table;
pub mod tally;
pub mod tracer;
