//! What a running process costs, read from outside: CPU time, memory, wake-ups.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Pid;

/// A process that has used less than [`STILL`] of CPU time between any two looks for so long has nothing to do.
const QUIET: Duration = Duration::from_millis(300);
const LOOK: Duration = Duration::from_millis(20);
const STILL: Duration = Duration::from_millis(1);

/// A process that is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gauge {
    pid: Pid,
}

impl Gauge {
    /// The process of this id.
    ///
    /// # Errors
    /// When it is no id.
    pub(super) fn of(pid: u32) -> Result<Self> {
        Ok(Self { pid: Pid::from_raw(pid.cast_signed()).context("no process id")? })
    }

    /// User and system time of all its threads, those that ended included, by the scheduler's clock.
    ///
    /// # Errors
    /// When it is gone.
    pub(super) fn cpu(self) -> Result<Duration> {
        // `CPUCLOCK_SCHED` of include/linux/posix-timers.h: how clock_getcpuclockid(3) makes the number.
        let clock = (!self.pid.as_raw_nonzero().get() << 3) | 2;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes one timespec, which outlives it.
        let done = unsafe { libc::clock_gettime(clock, &raw mut time) };
        ensure!(done == 0, "no CPU clock: {}", std::io::Error::last_os_error());
        Ok(Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec)?))
    }

    /// Memory that is its own, and its share of what others have too (proportional set size), bytes.
    ///
    /// # Errors
    /// When it is gone.
    pub(super) fn memory(self) -> Result<u64> {
        let text = self.read("smaps_rollup")?;
        let kilobytes = number(&text, "Pss:").with_context(|| format!("no Pss in {text}"))?;
        Ok(kilobytes * 1024)
    }

    /// How often its threads went to sleep and were woken again.
    ///
    /// # Errors
    /// When it is gone.
    pub(super) fn wakeups(self) -> Result<u64> {
        let mut count = 0;
        for thread in std::fs::read_dir(self.folder().join("task"))? {
            // A thread may end meanwhile.
            let Ok(text) = std::fs::read_to_string(thread?.path().join("status")) else { continue };
            count += number(&text, "voluntary_ctxt_switches:").context("no context switches")?;
        }
        Ok(count)
    }

    /// Waits until it has nothing to do, and answers when it had last something.
    ///
    /// # Errors
    /// When it is gone, or is still busy after `limit`.
    pub(super) fn settle(self, limit: Duration) -> Result<Instant> {
        let begun = Instant::now();
        let (mut since, mut used) = (begun, self.cpu()?);
        while since.elapsed() < QUIET {
            if begun.elapsed() > limit {
                bail!("process {} is still busy after {limit:?}", self.pid.as_raw_nonzero());
            }
            std::thread::sleep(LOOK);
            let now = self.cpu()?;
            if now - used > STILL {
                since = Instant::now();
            }
            used = now;
        }
        Ok(since)
    }

    fn read(self, file: &str) -> Result<String> {
        let path = self.folder().join(file);
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }

    fn folder(self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.pid.as_raw_nonzero()))
    }
}

/// The first number of the line that begins with `name`.
fn number(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_by_its_whole_name() {
        let text =
            "nonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t12\nPss:  34 kB\nPss_Dirty: 1 kB\n";
        assert_eq!(number(text, "voluntary_ctxt_switches:"), Some(12));
        assert_eq!(number(text, "Pss:"), Some(34));
        assert_eq!(number(text, "Rss:"), None);
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let gauge = Gauge::of(std::process::id()).unwrap();
        assert!(gauge.cpu().unwrap() > Duration::ZERO);
        assert!(gauge.memory().unwrap() > 100_000);
        assert!(gauge.wakeups().is_ok());
    }
}
