//! One picture of many sockets: `tracer list --json` once for all namespaces, against the tools that are asked in
//! each of them. That the sockets are the same is told with the time.

use std::process::{Command, Output};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::tools::{self, Tool, last_words};
use super::{Goal, Row, Setting};
use crate::actor::Actor;
use crate::load::{Held, Traffic};
use crate::net::Netns;
use crate::records::Record;
use crate::table;

const OWN: &str = "tracer list --json";
const PROCESSES: u8 = 4;
/// Of each of the four processes: a listener, and both ends of its sessions.
const SOCKETS: usize = 15_001;
/// Processes that hold files, and how many each.
const HOLDERS: u8 = 200;
const FILES: usize = 1000;
/// So often all others are asked, which need many seconds each time; after that the first.
const ROUNDS: usize = 3;
/// The first is the one that the tracer is measured by.
const OTHERS: [&Tool; 3] = [&tools::SS, &tools::NETSTAT, &tools::LSOF];

/// Four processes, each in a namespace of its own.
pub(super) fn four_namespaces(setting: &Setting) -> Result<Vec<Row>> {
    let count = setting.either(SOCKETS, SOCKETS / 30 + 1);
    let mut scene = Scene::default();
    for _ in 0..PROCESSES {
        scene.namespaces.push(setting.netns()?);
        scene.hold(Traffic::Hold { held: Held::Sessions, count, host: 1 })?;
    }
    scene.compare(setting, Some(Goal::AtLeast(10.0)))
}

/// Four processes in one namespace.
pub(super) fn one_namespace(setting: &Setting) -> Result<Vec<Row>> {
    let count = setting.either(SOCKETS, SOCKETS / 30 + 1);
    let mut scene = Scene { namespaces: vec![setting.netns()?], ..Scene::default() };
    for host in 1..=PROCESSES {
        scene.hold(Traffic::Hold { held: Held::Sessions, count, host })?;
    }
    scene.compare(setting, Some(Goal::AtLeast(3.0)))
}

/// Many processes with many descriptors, of which few are sockets.
pub(super) fn files(setting: &Setting) -> Result<Vec<Row>> {
    let (holders, count) = (setting.either(HOLDERS, HOLDERS / 20), setting.either(FILES, FILES / 10));
    let mut scene = Scene { namespaces: vec![setting.netns()?], ..Scene::default() };
    for host in 1..=holders {
        scene.hold(Traffic::Hold { held: Held::Files, count, host })?;
    }
    scene.compare(setting, None)
}

/// The namespaces that the picture shows, and who holds the sockets in them.
#[derive(Default)]
struct Scene {
    namespaces: Vec<Netns>,
    actors: Vec<Actor>,
}

/// What another tool took for all namespaces, each time, milliseconds; or why it cannot be compared with.
struct Compared {
    tool: &'static Tool,
    times: Result<Vec<f64>, String>,
    sockets: usize,
}

impl Scene {
    /// Starts one more process, in the last namespace.
    fn hold(&mut self, traffic: Traffic) -> Result<()> {
        let netns = self.namespaces.last().context("no namespace")?;
        let mut actor = Actor::start(netns)?;
        actor.make(traffic)?;
        self.actors.push(actor);
        Ok(())
    }

    /// Each round is one picture by the tracer and one by each of the others.
    fn compare(&self, setting: &Setting, goal: Option<Goal>) -> Result<Vec<Row>> {
        let (sockets, different) = self.differences(setting)?;
        let compared = |tool| Compared { tool, times: Ok(Vec::new()), sockets: 0 };
        let (mut own, mut others) = (Vec::new(), OTHERS.map(compared));
        for round in 0..setting.pairs {
            own.push(timed(&mut list(setting))?.0);
            let asked = if round < ROUNDS { OTHERS.len() } else { 1 };
            for other in &mut others[..asked] {
                self.look(other)?;
            }
        }
        let mut rows = vec![
            Row::new(OWN, "the picture", "ms", &own).noted(&format!("{sockets} sockets")),
            Row::new(OWN, "sockets not as in /proc/net", "", &[different as f64]).to_reach(Goal::AtMost(0.0)),
        ];
        others.iter().for_each(|other| rows.extend(other.rows(&own, goal)));
        Ok(rows)
    }

    fn look(&self, other: &mut Compared) -> Result<()> {
        let Ok(times) = &mut other.times else { return Ok(()) };
        let (mut whole, mut sockets) = (0.0, 0);
        for netns in &self.namespaces {
            let mut command = match other.tool.command(netns) {
                Ok(command) => command,
                Err(why) => {
                    other.times = Err(why);
                    return Ok(());
                }
            };
            let (time, output) = timed(&mut command)?;
            whole += time;
            sockets += shown(&output.stdout);
        }
        times.push(whole);
        other.sockets = sockets;
        Ok(())
    }

    /// How many sockets the tracer shows, and how many of them or of the kernel's own table the other has not.
    fn differences(&self, setting: &Setting) -> Result<(usize, usize)> {
        let output = timed(&mut list(setting))?.1;
        let records = Record::parse_all(&output.stdout)?;
        let (mut sockets, mut different) = (0, 0);
        for netns in &self.namespaces {
            let (told, kept) = (table::of_list(&records, netns.inode())?, table::of_kernel(netns)?);
            sockets += told.len();
            different += told.symmetric_difference(&kept).count();
        }
        Ok((sockets, different))
    }
}

impl Compared {
    fn rows(&self, own: &[f64], goal: Option<Goal>) -> Vec<Row> {
        let name = self.tool.name;
        let times = match &self.times {
            Ok(times) => times,
            Err(why) => return vec![Row::missing(name, "the picture", why)],
        };
        let ratios: Vec<_> = times.iter().zip(own).map(|(other, own)| other / own).collect();
        let faster = Row::new(OWN, &format!("times faster than {name}"), "", &ratios);
        let is_measure = self.tool == OTHERS[0];
        vec![
            Row::new(name, "the picture", "ms", times).noted(&format!("{} sockets", self.sockets)),
            faster.to_reach(goal.filter(|_| is_measure)),
        ]
    }
}

fn list(setting: &Setting) -> Command {
    setting.subject.command(["list", "--json"])
}

/// Runs it to its end; milliseconds, and what it wrote.
fn timed(command: &mut Command) -> Result<(f64, Output)> {
    let begun = Instant::now();
    let output = command.output().with_context(|| format!("starting {:?}", command.get_program()))?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    // lsof says 1 where a file of those asked for is not there.
    let is_done = output.status.success() || !output.stdout.is_empty();
    ensure!(is_done, "{:?}: {}", command.get_program(), last_words(&output.stderr));
    Ok((took, output))
}

/// Sockets in the output of any of the tools: each line names its protocol in a column of its own.
fn shown(stdout: &[u8]) -> usize {
    let text = String::from_utf8_lossy(stdout);
    let is_protocol =
        |word: &str| matches!(word.to_ascii_lowercase().as_str(), "tcp" | "tcp6" | "udp" | "udp6");
    text.lines().filter(|line| line.split_whitespace().take(9).any(is_protocol)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_counted_in_the_output_of_each_tool() {
        let ss = "Netid State  Recv-Q Send-Q Local Address:Port Peer Address:PortProcess\n\
                  tcp   LISTEN 0      4096   127.0.0.1:7000     0.0.0.0:*    users:((\"bench\",pid=1,fd=4))\n\
                  udp   UNCONN 0      0      127.0.0.1:53       0.0.0.0:*\n";
        let netstat = "Active Internet connections (servers and established)\n\
                       Proto Recv-Q Send-Q Local Address Foreign Address State PID/Program name\n\
                       tcp6 0 0 :::22 :::* LISTEN 1/sshd\n";
        let lsof = "COMMAND PID USER FD TYPE DEVICE SIZE/OFF NODE NAME\n\
                    bench 1 root 4u IPv4 12345 0t0 TCP 127.0.0.1:7000 (LISTEN)\n";
        assert_eq!([ss, netstat, lsof].map(|text| shown(text.as_bytes())), [2, 1, 1]);
    }

    #[test]
    fn a_tool_that_is_not_there_has_one_row() {
        let mut other = Compared { tool: &tools::SS, times: Err("why".to_owned()), sockets: 0 };
        assert_eq!(other.rows(&[1.0], Some(Goal::AtLeast(3.0))).len(), 1);
        other.times = Ok(vec![20.0, 30.0]);
        let rows = other.rows(&[2.0, 2.0], Some(Goal::AtLeast(3.0)));
        assert_eq!((rows[1].value.map(|value| value.median), rows[1].reached), (Some(12.5), Some(true)));
    }
}
