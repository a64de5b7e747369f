//! How much, how fast and how long: the loop around one step of a load.

use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Made;

/// The pace is kept in steps of this length.
const STEP: Duration = Duration::from_millis(2);

/// The bounds of a load: it ends at the first that it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// At most so many.
    pub count: u64,
    /// At most so long, milliseconds.
    pub milliseconds: u64,
    /// So many a second; as fast as it can where none is given.
    pub rate: Option<u64>,
}

impl Bounds {
    /// As fast as it can, for this time.
    #[must_use]
    pub fn lasting(time: Duration) -> Self {
        Self { count: u64::MAX, milliseconds: time.as_millis() as u64, rate: None }
    }

    /// As fast as it can, so many, within ten minutes.
    #[must_use]
    pub fn counting(count: u64) -> Self {
        Self { count, milliseconds: 600_000, rate: None }
    }

    /// At an even pace for this time.
    #[must_use]
    pub fn paced(rate: u64, time: Duration) -> Self {
        Self { count: u64::MAX, milliseconds: time.as_millis() as u64, rate: Some(rate) }
    }

    /// How many steps may have been made after `elapsed`, by the pace.
    fn due(self, elapsed: Duration) -> u64 {
        let due =
            self.rate.map_or(u64::MAX, |rate| (elapsed.as_micros() as u64).saturating_mul(rate) / 1_000_000);
        due.min(self.count)
    }

    fn limit(self) -> Duration {
        Duration::from_millis(self.milliseconds)
    }
}

/// Makes steps within `bounds`. Each makes some, says how many, and the clock is looked at after each.
pub(super) fn keep(bounds: Bounds, mut step: impl FnMut() -> Result<u64, Errno>) -> Result<Made, Errno> {
    let begun = Instant::now();
    let mut count = 0;
    loop {
        let elapsed = begun.elapsed();
        if elapsed >= bounds.limit() || count >= bounds.count {
            return Ok(Made { count, nanoseconds: elapsed.as_nanos() as u64 });
        }
        if count >= bounds.due(elapsed) {
            thread::sleep(STEP);
            continue;
        }
        count += step()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_ends_with_its_count() {
        let made = keep(Bounds::counting(10), || Ok(4)).unwrap();
        assert_eq!(made.count, 12);
    }

    #[test]
    fn a_load_ends_with_its_time_and_keeps_its_pace() {
        let time = Duration::from_millis(100);
        let made = keep(Bounds::paced(1000, time), || Ok(1)).unwrap();
        assert!((50..=101).contains(&made.count), "{made:?}");
        assert!(made.seconds() >= 0.1, "{made:?}");
    }

    #[test]
    fn a_call_that_fails_ends_a_load() {
        assert_eq!(keep(Bounds::counting(1), || Err(Errno::PERM)), Err(Errno::PERM));
    }
}
