//! Names the kernel object that is built in: the one that the repository keeps for the target's processor, or a
//! development build that `TRACER_BPF_OBJECT` names.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-env-changed=TRACER_BPF_OBJECT");
    let object = std::env::var("TRACER_BPF_OBJECT").unwrap_or_else(|_| kept());
    if !Path::new(&object).is_file() {
        println!("cargo::error=there is no kernel object {object}: the tracer is for x86_64 and aarch64");
    }
    println!("cargo::rerun-if-changed={object}");
    println!("cargo::rustc-env=TRACER_BPF_OBJECT={object}");
}

/// Cargo gives every build script the target's architecture.
fn kept() -> String {
    let architecture = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    format!("{}/../tracer-ebpf/object/{architecture}/tracer.bpf.o", env!("CARGO_MANIFEST_DIR"))
}
