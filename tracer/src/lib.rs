//! The tracer: every socket change of a Linux machine, triaged the moment it happens.
//!
//! `model` says what is true, `triage` what it means, `bpf` is the edge to the kernel, `source`
//! where events come from, `sink` who is told. The binary is a few lines over this library.

pub mod app;
pub mod bpf;
pub mod cli;
pub mod doctor;
pub mod engine;
mod errno;
pub mod man;
pub mod memory;
pub mod model;
pub mod output;
pub mod privileges;
pub mod refusal;
pub mod research;
pub mod sink;
pub mod source;
pub mod triage;
