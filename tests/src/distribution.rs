//! The distribution of a measured duration: order statistics by the nearest-rank method.

use std::fmt;
use std::time::Duration;

/// Sorted samples, at least one.
#[derive(Clone, Debug)]
pub struct Distribution {
    sorted: Vec<Duration>,
}

impl Distribution {
    /// The distribution of `samples`; none when there is no sample.
    #[must_use]
    pub fn of(mut samples: Vec<Duration>) -> Option<Self> {
        samples.sort_unstable();
        (!samples.is_empty()).then_some(Self { sorted: samples })
    }

    /// The smallest sample that `percent` (1 to 100) of all samples do not exceed.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.sorted.len() * percent).div_ceil(100);
        self.sorted[rank.clamp(1, self.sorted.len()) - 1]
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |duration: Duration| duration.as_micros();
        write!(
            f,
            "n {}  min {} µs  p50 {} µs  p90 {} µs  p99 {} µs  max {} µs",
            self.sorted.len(),
            us(self.sorted[0]),
            us(self.percentile(50)),
            us(self.percentile(90)),
            us(self.percentile(99)),
            us(self.percentile(100))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_nearest() {
        let samples = (1..=1000).rev().map(Duration::from_micros).collect();
        let distribution = Distribution::of(samples).unwrap();
        assert_eq!(distribution.percentile(50), Duration::from_micros(500));
        assert_eq!(distribution.percentile(99), Duration::from_micros(990));
        assert_eq!(distribution.percentile(100), Duration::from_micros(1000));
        assert!(Distribution::of(Vec::new()).is_none());
        let one = Distribution::of(vec![Duration::from_micros(7)]).unwrap();
        assert_eq!(one.percentile(1), Duration::from_micros(7));
    }
}
