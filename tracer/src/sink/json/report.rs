//! Records of sockets, the ones that there are many of: written by hand, since most of a line is known before.
//! A test holds it to what serde writes.

use std::io;

use super::{Head, Renderer};
use crate::{
    model::{
        address::spell,
        event::{Attribution, Endpoint},
    },
    output::{EventKind, RemoteView, Report, SocketView},
};

/// Bytes of a usual line: room for them is made once.
const USUAL: usize = 1024;

/// Adds a flag, clear or event, without a newline.
pub(super) fn write(
    head: &Head,
    report: &Report<'_>,
    takes_back: bool,
    known: &mut Renderer,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    out.reserve(USUAL);
    begin(head, report, takes_back, known.moments.at(head.time), out)?;
    outcome(report, out)?;
    verdict(report, out)?;
    socket(&report.socket, out)?;
    put(out, ",\"process\":");
    match report.process {
        Some(process) => known.processes.write(process, head.place.clock_offset, out)?,
        None => put(out, "null"),
    }
    put(out, "}");
    Ok(())
}

fn begin(
    head: &Head,
    report: &Report<'_>,
    takes_back: bool,
    time: &[u8],
    out: &mut Vec<u8>,
) -> io::Result<()> {
    put(out, "{\"schema\":");
    number(out, super::SCHEMA);
    put(out, ",\"record\":\"");
    put(out, head.record);
    put(out, "\",\"seq\":");
    number(out, head.place.seq);
    put(out, ",\"time\":\"");
    out.extend_from_slice(time);
    put(out, "\",\"event\":\"");
    put(out, report.event.as_str());
    put(out, "\"");
    if takes_back {
        put(out, ",\"flag_seq\":");
        number_or_null(out, head.place.flag_seq);
    }
    if report.event == EventKind::Failed || report.error.is_some() {
        put(out, ",\"error\":");
        text_or_null(out, report.error.as_deref())?;
    }
    Ok(())
}

/// What only some events have; where one has it, the value may still not be known.
fn outcome(report: &Report<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    let closed = report.event == EventKind::Close;
    for (name, value) in [
        (",\"bytes_sent\":", report.bytes_sent),
        (",\"bytes_received\":", report.bytes_received),
        (",\"duration_ms\":", report.duration_ms),
    ] {
        if closed || value.is_some() {
            put(out, name);
            number_or_null(out, value);
        }
    }
    if let Some(count) = report.count {
        put(out, ",\"count\":");
        number(out, count);
    }
    put(out, ",\"attribution\":\"");
    put(out, attribution(report.attribution));
    put(out, "\"");
    if let Some(why) = &report.process_unknown {
        put(out, ",\"process_unknown\":");
        text(out, why)?;
    }
    Ok(())
}

fn attribution(attribution: Attribution) -> &'static str {
    match attribution {
        Attribution::Exact => "exact",
        Attribution::Holder => "holder",
        Attribution::Listener => "listener",
        Attribution::Unknown => "unknown",
    }
}

fn verdict(report: &Report<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    put(out, ",\"verdict\":\"");
    put(out, report.verdict.as_str());
    put(out, "\",\"rules\":[");
    for (index, spoken) in report.rules.iter().enumerate() {
        put(out, if index == 0 { "{\"id\":\"" } else { ",{\"id\":\"" });
        put(out, spoken.rule);
        put(out, "\",\"why\":");
        text(out, &spoken.why)?;
        put(out, "}");
    }
    put(out, "]");
    if let Some(name) = &report.explained_by {
        put(out, ",\"explained_by\":");
        text(out, name)?;
    }
    Ok(())
}

fn socket(socket: &SocketView<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    put(out, ",\"socket\":{\"id\":\"");
    number(out, socket.id.0);
    put(out, "\",\"netns\":");
    number_or_null(out, socket.netns);
    put(out, ",\"protocol\":\"");
    put(out, socket.protocol.as_str());
    put(out, "\",\"family\":\"");
    put(out, socket.family.as_str());
    put(out, "\",\"state\":\"");
    put(out, socket.state.as_str());
    put(out, "\",\"local\":");
    end(socket.local, out);
    put(out, ",\"scope\":\"");
    put(out, socket.scope.as_str());
    put(out, "\"},\"remote\":");
    match &socket.remote {
        Some(there) => remote(there, out)?,
        None => put(out, "null"),
    }
    put(out, ",\"direction\":");
    word_or_null(out, socket.direction.map(|direction| direction.as_str()));
    put(out, ",\"role\":");
    word_or_null(out, socket.role.map(|role| role.as_str()));
    put(out, "}");
    Ok(())
}

fn remote(remote: &RemoteView<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    end(remote.end, out);
    put(out, ",\"class\":\"");
    put(out, remote.class.as_str());
    put(out, "\",\"service\":");
    text_or_null(out, remote.service)?;
    put(out, "}");
    Ok(())
}

/// The beginning of an object with address and port; a port of 0 is not known.
fn end(end: Endpoint, out: &mut Vec<u8>) {
    put(out, "{\"ip\":\"");
    spell(end.ip, |text| out.extend_from_slice(text));
    put(out, "\",\"port\":");
    number_or_null(out, (end.port != 0).then_some(end.port));
}

/// Inlined, so that the words of our own become a few stores each.
#[inline(always)]
fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    put(out, itoa::Buffer::new().format(number));
}

fn number_or_null(out: &mut Vec<u8>, value: Option<impl itoa::Integer>) {
    match value {
        Some(value) => number(out, value),
        None => put(out, "null"),
    }
}

/// A word of our own, in which nothing is to be escaped.
fn word_or_null(out: &mut Vec<u8>, word: Option<&str>) {
    match word {
        Some(word) => {
            put(out, "\"");
            put(out, word);
            put(out, "\"");
        }
        None => put(out, "null"),
    }
}

fn text(out: &mut Vec<u8>, text: &str) -> io::Result<()> {
    // All bytes are looked at, without a branch: many at a time.
    let escapes = |byte: u8| (byte < b' ') | (byte == b'"') | (byte == b'\\');
    if text.bytes().fold(false, |any, byte| any | escapes(byte)) {
        return Ok(serde_json::to_writer(out, text)?);
    }
    put(out, "\"");
    put(out, text);
    put(out, "\"");
    Ok(())
}

fn text_or_null(out: &mut Vec<u8>, value: Option<&str>) -> io::Result<()> {
    match value {
        Some(value) => text(out, value)?,
        None => put(out, "null"),
    }
    Ok(())
}
