//! Records of sockets as serde writes them: what the writer by hand must agree with, byte for byte.

use std::net::IpAddr;

use serde::{Serialize, Serializer};

use super::{Head, Place, process::ProcessFields, record_name};
use crate::{
    model::{
        address::{BindScope, Direction, RemoteClass},
        event::{Attribution, Endpoint, Family, Process},
    },
    output::{Body, EventKind, HOLDERS_SHOWN, Output, RemoteView, Report, SocketView, Spoken},
};

/// The line of a flag, clear or event; empty for other records.
pub(super) fn line(output: &Output<'_>, place: Place) -> String {
    let (report, flag_seq) = match &output.body {
        Body::Flag(_, report) | Body::Event(report) => (report, None),
        Body::Clear(_, report) => (report, Some(place.flag_seq)),
        Body::Start { .. } | Body::Life(_) | Body::Gap(_) | Body::Degraded(_) | Body::End(_) => {
            return String::new();
        }
    };
    let head = Head { record: record_name(&output.body), place, time: output.time };
    let mut line = Vec::new();
    head.write(ReportFields::new(report, flag_seq, place), &mut line).unwrap();
    String::from_utf8(line).unwrap()
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
    rules: Vec<RuleFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explained_by: Option<&'a str>,
    socket: SocketFields<'a>,
    process: Option<ProcessFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    opener: Option<BriefFields<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    holders: Vec<BriefFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    holders_count: Option<usize>,
}

impl<'a> ReportFields<'a> {
    fn new(report: &'a Report<'_>, flag_seq: Sometimes<u64>, place: Place) -> Self {
        let (failed, closed) = (report.event == EventKind::Failed, report.event == EventKind::Close);
        let process = report.process;
        let holders = report.holders;
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
            opener: report.opener.map(BriefFields::new),
            holders: holders.iter().take(HOLDERS_SHOWN).map(|holder| BriefFields::new(holder)).collect(),
            holders_count: (!holders.is_empty()).then_some(holders.len()),
        }
    }
}

#[derive(Serialize)]
struct BriefFields<'a> {
    pid: u32,
    comm: Option<&'a str>,
    exe: Option<&'a str>,
}

impl<'a> BriefFields<'a> {
    fn new(process: &'a Process) -> Self {
        Self { pid: process.id.pid, comm: process.comm.as_deref(), exe: process.exe.as_deref() }
    }
}

/// Present where the event has such a field, or a value is there anyhow.
fn sometimes<T>(has: bool, value: Option<T>) -> Sometimes<T> {
    (has || value.is_some()).then_some(value)
}

#[derive(Serialize)]
struct RuleFields {
    id: &'static str,
    why: String,
}

impl RuleFields {
    fn new(spoken: &Spoken) -> Self {
        Self { id: spoken.rule, why: spoken.why.to_string() }
    }
}

#[derive(Serialize)]
struct SocketFields<'a> {
    id: Digits,
    netns: Option<u32>,
    netns_name: Option<&'a str>,
    protocol: &'static str,
    family: Family,
    state: &'static str,
    local: LocalFields,
    remote: Option<RemoteFields<'a>>,
    direction: Option<Direction>,
    role: Option<&'static str>,
}

impl<'a> SocketFields<'a> {
    fn new(socket: &'a SocketView<'_>) -> Self {
        let Endpoint { ip, port } = socket.local;
        Self {
            id: Digits(socket.id.0),
            netns: socket.netns,
            netns_name: socket.netns_name,
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
    fn new(remote: &'a RemoteView<'_>) -> Self {
        let service = remote.service;
        Self { ip: remote.end.ip, port: known_port(remote.end.port), class: remote.class, service }
    }
}

fn known_port(number: u16) -> Option<u16> {
    (number != 0).then_some(number)
}
