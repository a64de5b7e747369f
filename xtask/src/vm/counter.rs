//! The rate of this machine's time stamp counter, which an emulated x86_64 machine shows its kernel as its own.

use std::time::{Duration, Instant};

/// Long enough for an error below one part in a thousand, even where this process waits between two readings.
const SPAN: Duration = Duration::from_millis(200);

/// Ticks in a millisecond, measured.
pub(crate) fn kilohertz() -> u128 {
    let (begun, first) = (Instant::now(), ticks());
    std::thread::sleep(SPAN);
    let (took, last) = (begun.elapsed(), ticks());
    u128::from(last.saturating_sub(first)) * 1_000_000 / took.as_nanos()
}

#[cfg(target_arch = "x86_64")]
fn ticks() -> u64 {
    // SAFETY: every x86_64 processor has the instruction, and it touches no memory.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Other machines emulate a counter of a fixed rate: QEMU counts nanoseconds there.
#[cfg(not(target_arch = "x86_64"))]
fn ticks() -> u64 {
    use std::sync::LazyLock;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_rate_of_a_processor_and_the_same_twice() {
        let (one, two) = (kilohertz(), kilohertz());
        assert!((500_000..10_000_000).contains(&one), "{one}");
        assert!(one.abs_diff(two) < one / 20, "{one} {two}");
    }
}
