//! The ABI between the kernel programs and user space.
//!
//! Everything here crosses the boundary as plain bytes: `repr(C)`, no Rust enum, no bool, no
//! implicit padding. Behaviour is kept out of this crate.
#![no_std]

mod control;
mod offsets;
mod process;
mod proof;
mod record;
mod tables;

pub use control::*;
pub use offsets::*;
pub use process::*;
pub use proof::*;
pub use record::*;
pub use tables::*;
