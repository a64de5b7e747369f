//! Records as JSON Lines, with the names and the order that the interface fixes.
//!
//! Pure: a record and its number in, one line out. A field that could not be read is null; a field
//! that an event does not have is absent.

use std::{collections::BTreeMap, io, net::IpAddr};

use serde::{Serialize, Serializer};

use super::time::{Moment, wall};
use crate::{
    model::{
        address::{BindScope, Direction, RemoteClass},
        event::{Ancestor, Attribution, Degraded, Endpoint, Family, Lost, Process, Start},
    },
    output::{Body, EventKind, Output, RemoteView, Report, SocketView, Spoken, Totals},
};

/// Version of the records.
const SCHEMA: u32 = 1;

/// What the stream adds to an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the record in the stream.
    pub seq: u64,
    /// For a `clear`: number of the record that raised the flag; nothing when that was not delivered.
    pub flag_seq: Option<u64>,
    /// Wall clock minus boot clock, nanoseconds.
    pub clock_offset: i64,
}

/// Writes one record and a newline.
///
/// # Errors
/// Those of `out` alone.
pub fn render(output: &Output, place: Place, out: &mut impl io::Write) -> io::Result<()> {
    let moment = Moment::new(output.time);
    let record = Record {
        schema: SCHEMA,
        record: record_name(&output.body),
        seq: place.seq,
        time: moment.as_str(),
        content: Content::new(&output.body, place),
    };
    serde_json::to_writer(&mut *out, &record)?;
    out.write_all(b"\n")
}

fn record_name(body: &Body) -> &'static str {
    match body {
        Body::Start { .. } => "start",
        Body::Flag(..) => "flag",
        Body::Clear(..) => "clear",
        Body::Event(_) => "event",
        Body::Gap(_) => "gap",
        Body::Degraded(_) => "degraded",
        Body::End(_) => "end",
    }
}

#[derive(Serialize)]
struct Record<'a> {
    schema: u32,
    record: &'static str,
    seq: u64,
    time: &'a str,
    #[serde(flatten)]
    content: Content<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack, and mostly the large one")]
enum Content<'a> {
    Start(StartFields<'a>),
    Report(ReportFields<'a>),
    Gap(GapFields),
    Degraded(DegradedFields<'a>),
    End(EndFields<'a>),
}

impl<'a> Content<'a> {
    fn new(body: &'a Body, place: Place) -> Self {
        match body {
            Body::Start { start, policy } => Self::Start(StartFields::new(start, policy)),
            Body::Flag(_, report) | Body::Event(report) => {
                Self::Report(ReportFields::new(report, None, place))
            }
            Body::Clear(_, report) => Self::Report(ReportFields::new(report, Some(place.flag_seq), place)),
            Body::Gap(lost) => Self::Gap(GapFields::new(lost, place.clock_offset)),
            Body::Degraded(degraded) => Self::Degraded(DegradedFields::new(degraded)),
            Body::End(totals) => Self::End(EndFields::new(totals)),
        }
    }
}

#[derive(Serialize)]
struct StartFields<'a> {
    version: &'a str,
    kernel: &'a str,
    hooks: &'a str,
    coverage: CoverageFields<'a>,
    policy: &'a [String],
}

#[derive(Serialize)]
struct CoverageFields<'a> {
    seen: Vec<Seen<'a>>,
    unseen: Vec<Unseen<'a>>,
}

#[derive(Serialize)]
struct Seen<'a> {
    event: &'a str,
    by: &'a str,
}

#[derive(Serialize)]
struct Unseen<'a> {
    event: &'a str,
    why: Option<&'a str>,
}

impl<'a> StartFields<'a> {
    fn new(start: &'a Start, policy: &'a [String]) -> Self {
        let (mut seen, mut unseen) = (Vec::new(), Vec::new());
        for part in &start.coverage {
            let event = part.event.as_str();
            match part.by.as_deref() {
                Some(by) => seen.push(Seen { event, by }),
                None => unseen.push(Unseen { event, why: part.why.as_deref() }),
            }
        }
        let coverage = CoverageFields { seen, unseen };
        Self { version: &start.version, kernel: &start.kernel, hooks: &start.hooks, coverage, policy }
    }
}

/// A field that only some events have; where one has it, the value may still not be known.
type Sometimes<T> = Option<Option<T>>;

#[derive(Serialize)]
struct ReportFields<'a> {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    flag_seq: Sometimes<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Sometimes<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_sent: Sometimes<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_received: Sometimes<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Sometimes<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    attribution: Attribution,
    #[serde(skip_serializing_if = "Option::is_none")]
    process_unknown: Option<&'a str>,
    verdict: &'static str,
    rules: Vec<RuleFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explained_by: Option<&'a str>,
    socket: SocketFields<'a>,
    process: Option<ProcessFields<'a>>,
}

impl<'a> ReportFields<'a> {
    fn new(report: &'a Report, flag_seq: Sometimes<u64>, place: Place) -> Self {
        let (failed, closed) = (report.event == EventKind::Failed, report.event == EventKind::Close);
        let process = report.process.as_deref();
        Self {
            event: report.event.as_str(),
            flag_seq,
            error: sometimes(failed, report.error.as_deref()),
            bytes_sent: sometimes(closed, report.bytes_sent),
            bytes_received: sometimes(closed, report.bytes_received),
            duration_ms: sometimes(closed, report.duration_ms),
            count: report.count,
            attribution: report.attribution,
            process_unknown: report.process_unknown.as_deref(),
            verdict: report.verdict.as_str(),
            rules: report.rules.iter().map(RuleFields::new).collect(),
            explained_by: report.explained_by.as_deref(),
            socket: SocketFields::new(&report.socket),
            process: process.map(|process| ProcessFields::new(process, place.clock_offset)),
        }
    }
}

/// Present where the event has such a field, or a value is there anyhow.
fn sometimes<T>(has: bool, value: Option<T>) -> Sometimes<T> {
    (has || value.is_some()).then_some(value)
}

#[derive(Serialize)]
struct RuleFields<'a> {
    id: &'static str,
    why: &'a str,
}

impl<'a> RuleFields<'a> {
    fn new(spoken: &'a Spoken) -> Self {
        Self { id: spoken.rule, why: &spoken.why }
    }
}

#[derive(Serialize)]
struct SocketFields<'a> {
    id: Digits,
    netns: Option<u32>,
    protocol: &'static str,
    family: Family,
    state: &'static str,
    local: LocalFields,
    remote: Option<RemoteFields<'a>>,
    direction: Option<Direction>,
    role: Option<&'static str>,
}

impl<'a> SocketFields<'a> {
    fn new(socket: &'a SocketView) -> Self {
        let Endpoint { ip, port } = socket.local;
        Self {
            id: Digits(socket.id.0),
            netns: socket.netns,
            protocol: socket.protocol.as_str(),
            family: socket.family,
            state: socket.state.as_str(),
            local: LocalFields { ip, port: known_port(port), scope: socket.scope },
            remote: socket.remote.as_ref().map(RemoteFields::new),
            direction: socket.direction,
            role: socket.role.map(|role| role.as_str()),
        }
    }
}

/// A number that may pass 2^53, as a string: JSON readers keep numbers as doubles.
struct Digits(u64);

impl Serialize for Digits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[derive(Serialize)]
struct LocalFields {
    ip: IpAddr,
    port: Option<u16>,
    scope: BindScope,
}

#[derive(Serialize)]
struct RemoteFields<'a> {
    ip: IpAddr,
    port: Option<u16>,
    class: RemoteClass,
    service: Option<&'a str>,
}

impl<'a> RemoteFields<'a> {
    fn new(remote: &'a RemoteView) -> Self {
        let service = remote.service.as_deref();
        Self { ip: remote.end.ip, port: known_port(remote.end.port), class: remote.class, service }
    }
}

fn known_port(number: u16) -> Option<u16> {
    (number != 0).then_some(number)
}

#[derive(Serialize)]
struct ProcessFields<'a> {
    pid: u32,
    ppid: Option<u32>,
    comm: Option<&'a str>,
    exe: Option<&'a str>,
    args: Option<&'a [String]>,
    uid: Option<u32>,
    user: Option<&'a str>,
    #[serde(serialize_with = "moment")]
    started: i64,
    lineage: &'a [Ancestor],
}

impl<'a> ProcessFields<'a> {
    fn new(process: &'a Process, clock_offset: i64) -> Self {
        Self {
            pid: process.id.pid,
            ppid: process.ppid,
            comm: process.comm.as_deref(),
            exe: process.exe.as_deref(),
            args: process.args.as_deref(),
            uid: process.uid,
            user: process.user.as_deref(),
            started: wall(process.id.started, clock_offset),
            lineage: &process.lineage,
        }
    }
}

#[derive(Serialize)]
struct GapFields {
    lost: u64,
    stage: &'static str,
    #[serde(serialize_with = "moment")]
    from: i64,
    #[serde(serialize_with = "moment")]
    to: i64,
    resynced: bool,
}

impl GapFields {
    fn new(lost: &Lost, clock_offset: i64) -> Self {
        Self {
            lost: lost.count,
            stage: lost.stage.as_str(),
            from: wall(lost.from, clock_offset),
            to: wall(lost.to, clock_offset),
            resynced: lost.resynced,
        }
    }
}

#[derive(Serialize)]
struct DegradedFields<'a> {
    hook: &'a str,
    unseen: &'a [String],
    why: &'a str,
    delivers: bool,
}

impl<'a> DegradedFields<'a> {
    fn new(degraded: &'a Degraded) -> Self {
        let Degraded { ref hook, ref unseen, ref why, delivers } = *degraded;
        Self { hook, unseen, why, delivers }
    }
}

#[derive(Serialize)]
struct EndFields<'a> {
    events: u64,
    flags: u64,
    clears: u64,
    lost: u64,
    rules: &'a BTreeMap<&'static str, u64>,
}

impl<'a> EndFields<'a> {
    fn new(totals: &'a Totals) -> Self {
        let Totals { events, flags, clears, lost, ref rules } = *totals;
        Self { events, flags, clears, lost, rules }
    }
}

fn moment<S: Serializer>(nanos: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(Moment::new(*nanos).as_str())
}

#[cfg(test)]
mod tests;
