//! What is true: addresses, sockets, flows, processes, and the fold that keeps them. No clock, no
//! I/O.

pub mod address;
pub mod belongs;
pub mod cgroup;
pub mod change;
pub mod event;
pub mod host;
mod index;
mod own;
pub mod peers;
pub mod program;
pub mod provenance;
pub mod socket;
