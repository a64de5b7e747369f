//! The edge to the kernel: what it has, which hooks it takes, what it says.

pub mod btf;
pub mod control;
pub mod decode;
pub mod iterators;
pub mod layout;
pub mod loader;
pub mod plan;
