//! The tracer's kernel programs: hooks that say what they saw, in records on one ring.
//!
//! `plan` holds the hooks, thin; `handlers` what they do, the same for every plan; `sock` and `task`
//! are the only readers of kernel structures, `emit` the only writer to the ring. Policy and text
//! are kept out.
#![no_std]
#![feature(asm_experimental_arch)]
#![no_main]

mod emit;
mod handlers;
mod maps;
mod plan;
mod proof;
mod sock;
mod tables;
mod task;

/// Some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
