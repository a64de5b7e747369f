//! How busy the machine is without the benchmark: timed figures of a busy machine mean little, and a reader must
//! know.

use std::time::Duration;

use anyhow::{Context, Result};

const SPAN: Duration = Duration::from_secs(1);

/// The part of all cores' time that is used while this process sleeps, in percent.
///
/// # Errors
/// When /proc/stat cannot be read.
pub fn busy() -> Result<f64> {
    let before = times()?;
    std::thread::sleep(SPAN);
    Ok(percent(before, times()?))
}

/// Ticks of all cores: all of them, and those in which nothing ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    all: u64,
    idle: u64,
}

fn times() -> Result<Times> {
    read(&std::fs::read_to_string("/proc/stat")?).context("/proc/stat has another form")
}

/// The first line: user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already (proc(5)).
fn read(text: &str) -> Option<Times> {
    let words = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
    let ticks = words.map(|word| word.parse().ok()).collect::<Option<Vec<u64>>>()?;
    Some(Times { all: ticks.iter().sum(), idle: ticks.get(3)? + ticks.get(4)? })
}

fn percent(before: Times, after: Times) -> f64 {
    let all = after.all.saturating_sub(before.all).max(1);
    // The count of waiting for I/O may go down.
    let idle = after.idle.saturating_sub(before.idle).min(all);
    (all - idle) as f64 * 100.0 / all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_that_of_all_cores() {
        let text = "cpu  10 1 5 70 4 3 2 5 9 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(read(text), Some(Times { all: 100, idle: 74 }));
        assert_eq!(read("cpu  10 1"), None);
    }

    #[test]
    fn what_is_not_idle_is_busy() {
        let at = |all, idle| Times { all, idle };
        assert_eq!(percent(at(100, 50), at(200, 125)), 25.0);
        assert_eq!(percent(at(100, 50), at(200, 40)), 100.0);
    }
}
