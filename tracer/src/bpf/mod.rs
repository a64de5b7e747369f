//! The edge to the kernel: what it has, which hooks it takes, what it says.

mod attach;
pub mod btf;
pub mod control;
pub mod decode;
pub mod flows;
pub mod iterators;
pub mod kernel;
pub mod layout;
pub mod lives;
pub mod loader;
mod mapped;
mod missed;
pub mod plan;
pub mod proof;
pub mod survey;
