//! How much is measured: in full, quickly, or counted in an emulated machine.

use std::time::Duration;

use anyhow::Result;

use crate::load::Bounds;
use crate::net::Netns;
use crate::tracer::Subject;

/// A load as fast as it can lasts so long. A machine whose cores share with others is faster and slower for seconds on end: the
/// shorter both halves of a pair are, the more often they meet the same.
const SHORT: Duration = Duration::from_millis(500);
/// So many times as many pairs are made of such loads as of other measurements.
const MORE: usize = 6;

/// What holds for every measurement.
pub struct Setting {
    /// The tracer.
    pub subject: Subject,
    /// How many pairs of runs.
    pub pairs: usize,
    /// Only prove that it runs.
    pub quick: bool,
    /// The clock counts instructions: loads are bounded by number, and what the tracer still has to do after a
    /// load counts as part of it.
    pub counted: bool,
}

impl Setting {
    /// `full`, or for a quick run `quick`.
    pub(super) fn either<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// One run of a load as fast as it can; `counted` is the number where instructions are counted.
    pub(super) fn load(&self, counted: u64) -> Bounds {
        if self.counted {
            return Bounds::counting(self.either(counted, counted / 10));
        }
        Bounds::lasting(self.either(SHORT, Duration::from_millis(200)))
    }

    /// How many pairs of runs of such a load.
    pub(super) fn load_pairs(&self) -> usize {
        if self.counted { self.pairs } else { self.pairs * self.either(MORE, 1) }
    }

    /// A namespace for loads: many local ports, and few sockets in TIME_WAIT, so that the last run of a series
    /// does not work under other conditions than the first.
    pub(super) fn netns(&self) -> Result<Netns> {
        let netns = Netns::with_loopback()?;
        netns.sysctl("ipv4/ip_local_port_range", "10000 64999")?;
        netns.sysctl("ipv4/tcp_max_tw_buckets", "4096")?;
        Ok(netns)
    }
}
