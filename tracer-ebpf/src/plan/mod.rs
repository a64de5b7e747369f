//! The hooks, plan by plan: each takes its arguments out of the context and calls a handler.

mod fentry;
mod iter;
mod kprobe;
mod life;
mod shared;
mod tracepoint;
