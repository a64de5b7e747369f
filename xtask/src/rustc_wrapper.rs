//! What cargo calls in place of rustc while the kernel object is built. Cargo hashes the absolute folder of
//! `tracer-common` and its own version into each crate's `-C metadata`, and that enters symbol names; here it
//! is replaced by what the crate is, so that the object's bytes depend on neither.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::ebpf_toolchain::TARGET;

/// Set for the process that is to be the wrapper.
pub(crate) const MARK: &str = "TRACER_RUSTC_WRAPPER";

/// Becomes the rustc that `args` (without our own name) call for; returns only when that fails.
pub(crate) fn exec(mut args: impl Iterator<Item = OsString>) -> Result<()> {
    let rustc = args.next().context("no compiler was named")?;
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let args = with_stable_metadata(args.collect(), &version);
    Err(Command::new(&rustc).args(args).exec()).with_context(|| format!("cannot start {}", rustc.display()))
}

fn with_stable_metadata(args: Vec<OsString>, version: &str) -> Vec<OsString> {
    if !args.windows(2).any(|pair| pair[0] == "--target" && pair[1] == TARGET) {
        return args;
    }
    let identity = identity(&args, version);
    let is_metadata = |arg: &OsString| arg.to_str().is_some_and(|arg| arg.starts_with("metadata="));
    args.into_iter().map(|arg| if is_metadata(&arg) { identity.clone() } else { arg }).collect()
}

/// Name, version and features: no two crates of one build have all three in common.
fn identity(args: &[OsString], version: &str) -> OsString {
    let name = args.windows(2).find(|pair| pair[0] == "--crate-name").map(|pair| pair[1].to_string_lossy());
    let mut features: Vec<_> = args
        .iter()
        .filter_map(|arg| OsStr::to_str(arg)?.strip_prefix("feature=\"")?.strip_suffix('"'))
        .collect();
    features.sort_unstable();
    format!("metadata={}-{version}-{}", name.unwrap_or_default(), features.join("+")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn metadata_of_kernel_crates_is_what_they_are() {
        let line = "--crate-name aya_ebpf --cfg feature=\"z\" --cfg feature=\"a\" -C metadata=0f -C extra-filename=-0f \
                    --target bpfel-unknown-none";
        let expected = line.replace("metadata=0f", "metadata=aya_ebpf-0.2.1-a+z");
        assert_eq!(with_stable_metadata(args(line), "0.2.1"), args(&expected));
    }

    #[test]
    fn programs_of_this_machine_are_compiled_as_cargo_says() {
        let line = "--crate-name syn -C metadata=0f";
        assert_eq!(with_stable_metadata(args(line), "2.0.0"), args(line));
    }
}
