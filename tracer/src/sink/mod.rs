//! Who is told: text or JSON Lines on standard output, and recordings for a later replay.
//!
//! `json` and `text` are pure: a record in, a line out. `stream` numbers the records and accounts for
//! those that could not be delivered; `writer` is the boundary to the file descriptor. What is told
//! is decided elsewhere, and names that come from outside are escaped where they are read.

pub mod escape;
pub mod json;
pub mod recording;
pub mod stream;
pub mod text;
mod time;
pub mod writer;

#[cfg(test)]
mod samples;
