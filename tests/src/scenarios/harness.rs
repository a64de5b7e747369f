//! The harness against the kernel alone: the namespaces, addresses and actors do what the other scenarios
//! rely on, so that their failures speak of the tracer. The tracer is not started here.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;

use super::{Bench, Scenario, alone, scenario};
use crate::actor::{Actor, Kind, Load, Order, Program, SocketOption};
use crate::load::{Bounds, Held, Sending, Traffic};
use crate::net::{
    A4, B4, B6, BOTH4, NO_ROUTE4, Netns, Network, SILENT4, SILENT6, UNREACHABLE4, UNREACHABLE6,
};
use crate::table;

pub(super) const ALL: &[Scenario] = &[
    scenario("harness-connects-fail-with-the-errno-of-their-address", failures).whatever_plan(),
    scenario("harness-sessions-stand-over-ipv4-ipv6-and-v4-mapped-addresses", sessions).whatever_plan(),
    scenario("harness-workers-tell-who-they-are", workers).whatever_plan(),
    scenario("harness-datagrams-arrive", datagrams).whatever_plan(),
    scenario("harness-both-namespaces-have-the-same-address", same_address).whatever_plan(),
    scenario("harness-a-copy-is-another-program", copies).whatever_plan(),
    scenario("harness-the-kernel-table-shows-the-sockets", tables).whatever_plan(),
    alone("harness-a-load-is-generated-and-served-whole", load).whatever_plan(),
    scenario("harness-loads-of-the-benchmark-are-made-whole", loads).whatever_plan(),
    alone("harness-namespaces-are-gone-with-their-descriptors", nothing_left).whatever_plan(),
];

fn failures(_: &Bench) -> Result<()> {
    let network = Network::new()?;
    let mut client = Actor::start(&network.a)?;
    let expected = [
        (B4, Errno::CONNREFUSED),
        (B6, Errno::CONNREFUSED),
        (SILENT4, Errno::TIMEDOUT),
        (SILENT6, Errno::TIMEDOUT),
        (NO_ROUTE4, Errno::NETUNREACH),
        (UNREACHABLE4, Errno::HOSTUNREACH),
        (UNREACHABLE6, Errno::NETUNREACH),
    ];
    for (ip, errno) in expected {
        let got = client.connect_in_vain((ip, 4001).into())?;
        ensure!(got == errno, "{ip}: {got:?} instead of {errno:?}");
    }
    let pending = client.socket(Kind::Tcp, (SILENT4, 1).into())?;
    client.set(pending, SocketOption::NonBlocking)?;
    let begun = client.attempt(&Order::Connect { fd: pending, to: (SILENT4, 1).into() })?;
    ensure!(begun == Err(Errno::INPROGRESS), "{begun:?}");
    client.close(pending)
}

fn sessions(_: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let listener = server.listen("[::]:8443".parse()?)?;
    for target in ["9.1.1.2:8443", "[2a00:1::2]:8443", "[::ffff:9.1.1.2]:8443"] {
        let fd = client.connect(target.parse()?)?;
        let accept = Order::Accept { fd: listener, with_address: false };
        let accepted = server.perform(&accept)?.fd.context("no socket")?;
        client.perform(&Order::Send { fd, bytes: 70_001 })?;
        let came = server.perform(&Order::Receive { fd: accepted, bytes: 70_001 })?.count;
        ensure!(came == 70_001, "{came} bytes came");
    }
    Ok(())
}

fn workers(_: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let fd = server.listen((B4, 8443).into())?;
    let pids = server.perform(&Order::ForkWorkers { fd, count: 3 })?.pids;
    let mut told = BTreeSet::new();
    for _ in 0..3 {
        let fd = client.connect((B4, 8443).into())?;
        told.extend(client.perform(&Order::ReceivePid { fd })?.pids);
    }
    ensure!(told == pids.iter().copied().collect(), "{told:?} instead of {pids:?}");
    Ok(())
}

fn datagrams(_: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    let served = server.bind_udp("[::]:5300".parse()?)?;
    let fd = client.bind_udp((A4, 40_000).into())?;
    client.perform(&Order::SendTo { fd, to: (B4, 5300).into(), bytes: 20, count: 3, spacing_us: 100 })?;
    for _ in 0..3 {
        let peer = server.perform(&Order::ReceiveFrom { fd: served })?.address.context("no peer")?;
        ensure!(peer.port() == 40_000, "{peer}");
    }
    Ok(())
}

fn same_address(_: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut one, mut two) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    one.listen((BOTH4, 4444).into())?;
    two.listen((BOTH4, 4444).into())?;
    ensure!(network.a.inode() != network.b.inode(), "one namespace instead of two");
    Ok(())
}

fn copies(_: &Bench) -> Result<()> {
    let network = Network::new()?;
    let folder = tempfile::tempdir()?;
    let program = Program::copied_to(folder.path().join("copy"))?.with_argument(b"\x1b\xff");
    let mut actor = Actor::start_as(&network.a, &program)?;
    // Its answer says that the exec is over: before that the kernel shows no arguments.
    actor.listen((BOTH4, 4444).into())?;
    let exe = std::fs::read_link(format!("/proc/{}/exe", actor.pid()))?;
    ensure!(exe == program.path(), "{exe:?} runs instead of {:?}", program.path());
    let words = std::fs::read(format!("/proc/{}/cmdline", actor.pid()))?;
    ensure!(words.ends_with(b"\x1b\xff\0"), "the argument is {words:?}");
    Ok(())
}

fn tables(_: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.b)?);
    server.listen("[::]:8443".parse()?)?;
    client.connect("[::ffff:9.1.1.2]:8443".parse()?)?;
    server.bind_udp((B4, 5300).into())?;
    let states: Vec<_> =
        table::of_kernel(&network.b)?.into_iter().map(|row| (row.protocol, row.state)).collect();
    let expected = [("tcp", "ESTABLISHED"), ("tcp", "LISTEN"), ("udp", "")];
    ensure!(states.len() == 3, "{states:?}");
    for (protocol, state) in expected {
        ensure!(states.contains(&(protocol, state.to_owned())), "no {protocol} {state} in {states:?}");
    }
    Ok(())
}

fn load(_: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (mut client, mut server) = (Actor::start(&network.a)?, Actor::start(&network.a)?);
    let load = Load { rate: 500, seconds: 1 };
    let fd = server.listen("0.0.0.0:8080".parse()?)?;
    server.begin(&Order::Serve { fd, total: load.total() })?;
    let targets = vec!["127.0.0.1:8080".parse()?, "127.0.0.2:8080".parse()?];
    let generated = client.perform(&Order::Generate { targets, load })?;
    let served = server.answer()??;
    ensure!((generated.count, served.count) == (500, 500), "{generated:?} and {served:?}");
    let took = Duration::from_nanos(generated.took_ns);
    ensure!((900..5000).contains(&took.as_millis()), "the load took {took:?}");
    Ok(())
}

fn loads(_: &Bench) -> Result<()> {
    let netns = Netns::with_loopback()?;
    let bounds = Bounds::counting(64);
    let floods = [Sending::Connected, Sending::Unconnected { peers: 5 }];
    let mut traffic = vec![(Traffic::Storm(bounds), 64)];
    traffic.extend(floods.map(|sending| (Traffic::Flood { sending, bounds }, 64)));
    for (held, host) in [(Held::Sessions, 1), (Held::Files, 2)] {
        traffic.push((Traffic::Hold { held, count: 21, host }, 21));
    }
    for (traffic, expected) in traffic {
        let made = Actor::start(&netns)?.make(traffic.clone())?;
        ensure!(made.count == expected, "{traffic:?} came to {made:?}");
    }
    let mut holder = Actor::start(&netns)?;
    holder.make(Traffic::Hold { held: Held::Sessions, count: 21, host: 3 })?;
    let kept = table::of_kernel(&netns)?.into_iter().filter(|row| row.state != "TIME_WAIT").count();
    ensure!(kept == 21, "{kept} sockets are held");
    Ok(())
}

fn nothing_left(_: &Bench) -> Result<()> {
    let network = Network::new()?;
    let (inodes, pid) = (network.inodes(), Actor::start(&network.a)?.pid());
    drop(network);
    ensure!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "an actor is left");
    let mut left = std::fs::read_dir("/proc")?.filter_map(Result::ok).filter_map(|entry| {
        let name = std::fs::read_link(entry.path().join("ns/net")).ok()?;
        inodes.iter().find(|inode| name.to_string_lossy().contains(&inode.to_string())).copied()
    });
    ensure!(left.next().is_none(), "a process stands in a namespace that should be gone");
    Ok(())
}
