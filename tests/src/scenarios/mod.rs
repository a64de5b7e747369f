//! What the tracer must show for which traffic: one function a scenario, one file a subject, listed in
//! [`ALL`]. A scenario makes its own namespaces and processes and asserts only on those.

mod baseline;
mod choices;
mod endings;
mod failures;
mod harness;
mod inbound;
mod listeners;
mod load;
mod mapped;
mod names;
mod outbound;
mod picture;
mod policy;
mod recordings;
mod relay;
mod twins;
mod udp;

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

/// The kernel has not what a scenario works with: an error of its own, so that it can be declared.
#[derive(Debug, thiserror::Error)]
#[error("this kernel lacks {0}")]
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
}

/// All scenarios, in the order in which they run.
pub const ALL: &[&[Scenario]] = &[
    harness::ALL,
    listeners::ALL,
    outbound::ALL,
    failures::ALL,
    inbound::ALL,
    udp::ALL,
    twins::ALL,
    mapped::ALL,
    baseline::ALL,
    relay::ALL,
    names::ALL,
    policy::ALL,
    choices::ALL,
    endings::ALL,
    recordings::ALL,
    picture::ALL,
    load::ALL,
];

const fn scenario(name: &'static str, run: fn(&Bench) -> Result<()>) -> Scenario {
    Scenario { name, run, limit: 60, alone: false }
}

const fn alone(name: &'static str, run: fn(&Bench) -> Result<()>) -> Scenario {
    Scenario { name, run, limit: 180, alone: true }
}

fn at(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}
