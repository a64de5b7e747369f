//! Where events come from: the running kernel, or a recording.

pub mod baseline;
pub mod flows;
pub mod live;
pub mod namespaces;
pub mod passwd;
pub mod processes;
pub mod replay;
pub mod sockdiag;
mod stat;
