//! `list`: one picture of every socket, which must be the kernel's own.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Bench, Scenario, at, scenario};
use crate::actor::{Actor, Kind, Order, SocketOption};
use crate::net::{A4, A6, B4, Netns, Network, SILENT4};
use crate::records::Record;
use crate::table::{Row, of_kernel, of_list};
use crate::tracer::Subject;

pub(super) const ALL: &[Scenario] = &[scenario("list-shows-what-the-kernel-shows", list).whatever_plan()];

fn list(bench: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let listener = server.listen(at(B4, 8443))?;
    client.listen("127.0.0.1:4444".parse()?)?;
    client.listen("[::]:4445".parse()?)?;
    client.bind_udp(at(A4, 5300))?;
    client.bind_udp(at(A6, 5300))?;
    let session = client.connect(at(B4, 8443))?;
    server.accept(listener)?;
    client.connect("[::ffff:9.1.1.2]:8443".parse()?)?;
    server.accept(listener)?;
    let udp = client.socket(Kind::Udp, at(B4, 1))?;
    client.perform(&Order::Connect { fd: udp, to: at(B4, 5300) })?;
    let pending = client.socket(Kind::Tcp, at(SILENT4, 1))?;
    client.set(pending, SocketOption::NonBlocking)?;
    client.attempt(&Order::Connect { fd: pending, to: at(SILENT4, 4005) })?.err();
    agrees(&bench.subject, &network.b)?;
    client.close(session)?;
    wait_for_state(&network.a, "FIN_WAIT2")?;
    for netns in [&network.a, &network.b] {
        let count = agrees(&bench.subject, netns)?;
        ensure!(count > 0, "the kernel shows no socket in the namespace");
    }
    Ok(())
}

/// Waits until the kernel shows a socket in this state, on its way to which it was.
fn wait_for_state(netns: &Netns, state: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !of_kernel(netns)?.iter().any(|row| row.state == state) {
        ensure!(Instant::now() < deadline, "the kernel shows no socket in {state}");
        std::thread::yield_now();
    }
    Ok(())
}

/// Claims that `list` shows what /proc/net shows before and after it; what is only in one of these
/// came or went meanwhile, and may be shown or not. Answers the number of sockets.
pub(super) fn agrees(subject: &Subject, netns: &Netns) -> Result<usize> {
    let before = of_kernel(netns)?;
    let listed = listed(subject, netns)?;
    let after = of_kernel(netns)?;
    let missing: Vec<&Row> = before.intersection(&after).filter(|row| !listed.contains(row)).collect();
    ensure!(
        missing.is_empty(),
        "list lacks {} sockets, such as {:?}",
        missing.len(),
        &missing[..missing.len().min(5)]
    );
    let made_up: Vec<&Row> =
        listed.iter().filter(|row| !before.contains(row) && !after.contains(row)).collect();
    ensure!(
        made_up.is_empty(),
        "list makes up {} sockets, such as {:?}",
        made_up.len(),
        &made_up[..made_up.len().min(5)]
    );
    Ok(listed.len())
}

fn listed(subject: &Subject, netns: &Netns) -> Result<BTreeSet<Row>> {
    let output = subject.run(["list", "--json"])?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(0), "list ended with {}: {stderr}", output.status);
    let records = Record::parse_all(&output.stdout)?;
    ensure!(records.first().is_some_and(|first| first.kind() == "start"), "list does not begin with start");
    ensure!(records.last().is_some_and(|last| last.kind() == "end"), "list does not end with end");
    of_list(&records, netns.inode())
}
