//! What the tracer must show for which traffic: one function a scenario, one file a subject, listed in
//! [`ALL`]. A scenario makes its own namespaces and processes and asserts only on those.

mod alive;
mod baseline;
mod blocked;
mod brief;
mod choices;
mod contents;
mod endings;
mod explained;
mod failures;
mod harness;
mod holders;
mod identity;
mod inbound;
mod listeners;
mod load;
mod mapped;
mod names;
mod outbound;
mod picture;
mod policy;
mod polling;
mod programs;
mod recordings;
mod relay;
mod shells;
mod stated;
mod twins;
mod udp;
mod ways;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Result;

use crate::net::Network;
use crate::tracer::{Follower, Live, Subject, Watch};

/// What a scenario works with.
pub struct Bench {
    /// The tracer under test.
    pub subject: Subject,
    /// Smaller loads, for a slow machine.
    pub quick: bool,
    /// Where this runs: `KERNEL/VARIANT`.
    pub cell: String,
    /// The records of a tracer that runs for all scenarios.
    pub common: Option<PathBuf>,
}

impl Bench {
    /// Follows the tracer that runs for all scenarios, or starts one where there is none; keeps the records
    /// of the network only.
    fn watch(&self, network: &Network) -> Result<Watch> {
        Ok(match &self.common {
            Some(file) => Watch::Common(Follower::start(file, network, self.subject.plan)?),
            None => Watch::Own(Box::new(self.watch_alone(network)?)),
        })
    }

    /// Starts `live --json --all`, for what a tracer finds at its start or does at its end.
    fn watch_alone(&self, network: &Network) -> Result<Live> {
        self.watch_with(network, &["--all"])
    }

    /// Starts `live --json` with these arguments and waits until it is ready.
    fn watch_with(&self, network: &Network, arguments: &[&str]) -> Result<Live> {
        Live::start(self.subject.live(arguments), network.inodes().to_vec())
    }
}

/// There is not what a scenario works with: an error of its own, so that it can be declared.
#[derive(Debug, thiserror::Error)]
#[error("there is no {0} here")]
pub struct Lacks(pub String);

/// One scenario.
pub struct Scenario {
    /// Its name: what the tracer is expected to do.
    pub name: &'static str,
    /// Runs it.
    pub run: fn(&Bench) -> Result<()>,
    /// It is stopped, and has failed, after so many seconds.
    pub limit: u64,
    /// Nothing else runs meanwhile: it measures, or fills the machine.
    pub alone: bool,
    /// It holds or fails under every hook plan alike, because no hook tells what it looks at: one run on a kernel is enough.
    pub whatever_plan: bool,
}

impl Scenario {
    const fn whatever_plan(self) -> Self {
        Self { whatever_plan: true, ..self }
    }
}

/// All scenarios, in the order in which they run.
pub const ALL: &[&[Scenario]] = &[
    harness::ALL,
    listeners::ALL,
    outbound::ALL,
    failures::ALL,
    inbound::ALL,
    holders::ALL,
    blocked::ALL,
    udp::ALL,
    ways::ALL,
    twins::ALL,
    mapped::ALL,
    baseline::ALL,
    relay::ALL,
    shells::ALL,
    names::ALL,
    policy::ALL,
    choices::ALL,
    endings::ALL,
    recordings::ALL,
    picture::ALL,
    stated::ALL,
    polling::ALL,
    alive::ALL,
    identity::ALL,
    brief::ALL,
    programs::ALL,
    contents::ALL,
    explained::ALL,
    load::ALL,
];

const fn scenario(name: &'static str, run: fn(&Bench) -> Result<()>) -> Scenario {
    Scenario { name, run, limit: 60, alone: false, whatever_plan: false }
}

const fn alone(name: &'static str, run: fn(&Bench) -> Result<()>) -> Scenario {
    Scenario { name, run, limit: 180, alone: true, whatever_plan: false }
}

fn at(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}
