//! The benchmark: what the tracer costs beside what people use, in paired runs (without, with, without, with, …)
//! on the same loads. One file a subject; each measurement answers rows, and knows the figure to reach. `tools`
//! and `streamer` are the programs, `gauge` what they cost, `report` and `table` what comes out.

mod gauge;
mod hooks;
mod latency;
mod machine;
mod pairs;
mod picture;
mod rates;
mod report;
mod resources;
mod setting;
mod spread;
mod stopped;
mod streamer;
mod table;
mod tools;

pub use machine::busy;
pub use report::{Goal, Report, Row};
pub use setting::Setting;
pub use spread::Spread;
pub use table::{markdown, text};

use gauge::Gauge;
use streamer::{Running, Streamer, Unavailable};

/// One measurement.
pub struct Measurement {
    /// Its name, for `--filter`.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// Whether it can be counted in instructions: it needs no other program and no clock of its own.
    pub counted: bool,
    run: fn(&Setting) -> anyhow::Result<Vec<Row>>,
}

impl Measurement {
    /// Measures. A program that is not there to be compared with gives a row that says so.
    ///
    /// # Errors
    /// When the measurement itself fails.
    pub fn rows(&self, setting: &Setting) -> anyhow::Result<Vec<Row>> {
        (self.run)(setting).or_else(|error| match error.downcast_ref::<Unavailable>() {
            Some(why) => Ok(vec![Row::missing(self.about, "", &why.0)]),
            None => Err(error),
        })
    }
}

const fn timed(
    name: &'static str,
    about: &'static str,
    run: fn(&Setting) -> anyhow::Result<Vec<Row>>,
) -> Measurement {
    Measurement { name, about, counted: false, run }
}

const fn countable(
    name: &'static str,
    about: &'static str,
    run: fn(&Setting) -> anyhow::Result<Vec<Row>>,
) -> Measurement {
    Measurement { name, about, counted: true, run }
}

/// All of them, in the order in which they run.
pub const ALL: &[Measurement] = &[
    countable("tcp-json", "TCP storm, the tracer telling every event as JSON", rates::tcp_json),
    countable("tcp-json-null", "the same, to /dev/null", rates::tcp_json_null),
    countable("tcp-flags", "TCP storm, the tracer telling flags", rates::tcp_flags),
    timed("tcp-tcplife", "tcplife", |setting| rates::tcp(setting, Streamer::Other(&tools::TCPLIFE))),
    timed("tcp-tcpstates", "tcpstates", |setting| rates::tcp(setting, Streamer::Other(&tools::TCPSTATES))),
    timed("tcp-tcpconnect", "tcpconnect", |setting| rates::tcp(setting, Streamer::Other(&tools::TCPCONNECT))),
    timed("tcp-bpftrace", "bpftrace", |setting| rates::tcp(setting, Streamer::Other(&tools::BPFTRACE))),
    timed("tcp-ss", "ss -E", |setting| rates::tcp(setting, Streamer::Other(&tools::SS_EVENTS))),
    timed("tcp-conntrack", "conntrack -E", |setting| rates::tcp(setting, Streamer::Other(&tools::CONNTRACK))),
    timed("tcp-tcpdump", "tcpdump", |setting| rates::tcp(setting, Streamer::Other(&tools::TCPDUMP_TCP))),
    timed("lost", "events lost at full rate", rates::lost),
    timed("hook-time", "kernel time of a hook run", hooks::time),
    timed("latency-idle", "kernel to a line, idle", latency::idle),
    timed("latency-busy", "kernel to a line, at 5,000 connections a second", latency::busy),
    countable("udp-connected", "UDP, one socket to one peer, connected", rates::udp_connected),
    countable("udp-sendto", "UDP, one socket to one peer, by sendto()", rates::udp_sendto),
    countable("udp-peers", "UDP, one socket to many peers", rates::udp_peers),
    timed("udp-tcpdump", "tcpdump", |setting| rates::udp(setting, Streamer::Other(&tools::TCPDUMP_UDP))),
    timed("udp-bpftrace", "bpftrace", |setting| rates::udp(setting, Streamer::Other(&tools::BPFTRACE_UDP))),
    timed("picture-4", "list, sockets in four namespaces", picture::four_namespaces),
    timed("picture-1", "list, the same sockets in one namespace", picture::one_namespace),
    timed("picture-files", "list, many processes with many descriptors", picture::files),
    timed("stopped", "the reader stopped for 5 s at 6,000 connections a second", stopped::tracer),
    timed("stopped-tcplife", "tcplife", |setting| stopped::other(setting, &tools::TCPLIFE)),
    timed("stopped-ss", "ss -E", |setting| stopped::other(setting, &tools::SS_EVENTS)),
    timed("start", "start to ready", resources::start),
    timed("memory-idle", "memory, idle", resources::memory_idle),
    timed("memory-sockets", "memory, with 200,000 live sockets", resources::memory_sockets),
    timed("idle", "CPU and wake-ups, idle", resources::idle),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_different() {
        let names: BTreeSet<_> = ALL.iter().map(|measurement| measurement.name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
