//! What it means: rules as pure functions over facts, the policy that explains, and the verdict that
//! both come to. No I/O, no clock, no text but the evidence.
//!
//! To add a rule: write `pub fn my_rule(facts: &Facts<'_>) -> Option<Evidence>` in a file of its
//! family, and add one line to [`judge::RULES`].

pub mod explain;
pub mod facts;
pub mod judge;
mod listener;
pub mod nearest;
pub mod policy;
mod program;
mod provenance;
mod relay;
mod scope;
pub mod services;
mod session;
mod shell;
mod udp;
