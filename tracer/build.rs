//! Names the kernel object that is built in: the one in the repository, or a development build that
//! `TRACER_BPF_OBJECT` names.

fn main() {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../tracer-ebpf/object/tracer.bpf.o").to_owned();
    let object = std::env::var("TRACER_BPF_OBJECT").unwrap_or(kept);
    println!("cargo::rerun-if-env-changed=TRACER_BPF_OBJECT");
    println!("cargo::rerun-if-changed={object}");
    println!("cargo::rustc-env=TRACER_BPF_OBJECT={object}");
}
