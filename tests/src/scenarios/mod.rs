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

use anyhow::Result;

use crate::net::Network;
use crate::tracer::{Live, Plan, Subject};

/// What a scenario works with.
pub struct Bench {
    /// The tracer under test.
    pub subject: Subject,
    /// Smaller loads, for a slow machine.
    pub quick: bool,
}

impl Bench {
    /// Starts `live --json --all` and waits until it is ready; keeps the records of the network only.
    fn watch(&self, network: &Network) -> Result<Live> {
        self.watch_with(network, &["--all"])
    }

    /// Starts `live --json` with these arguments.
    fn watch_with(&self, network: &Network, arguments: &[&str]) -> Result<Live> {
        Live::start(self.subject.live(arguments), network.inodes().to_vec())
    }
}

/// One scenario.
pub struct Scenario {
    /// Its name: what the tracer is expected to do.
    pub name: &'static str,
    /// Runs it.
    pub run: fn(&Bench) -> Result<()>,
    /// It is stopped, and has failed, after so many seconds.
    pub limit: u64,
}

/// A scenario that is not run under a plan, and why. It is named in the output.
pub struct Skip {
    /// The scenario's name.
    pub scenario: &'static str,
    /// The plan under which it cannot hold.
    pub plan: Plan,
    /// Why not.
    pub reason: &'static str,
}

/// All skips there are.
pub const SKIPS: &[Skip] = &[];

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
    Scenario { name, run, limit: 60 }
}

fn at(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}
