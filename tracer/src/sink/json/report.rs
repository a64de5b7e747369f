//! Records of sockets, the ones that there are many of: written by hand, since most of a line is known before.
//! A test holds it to what serde writes.

use std::io;

use super::{Head, Renderer};
use crate::{
    model::{
        address::spell,
        event::{Attribution, Endpoint, Process},
    },
    output::{EventKind, HOLDERS_SHOWN, RemoteView, Report, SocketView, Why},
};

/// Bytes of a usual line: room for them is made once.
const USUAL: usize = 1024;
/// With the version of the records, [`super::SCHEMA`].
const BEGIN: &str = "{\"schema\":1,\"record\":\"";

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
    if report.opener.is_some() || !report.holders.is_empty() {
        others(report, out)?;
    }
    put(out, "}");
    Ok(())
}

/// Who else has to do with the socket.
#[cold]
fn others(report: &Report<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    if let Some(opener) = report.opener {
        put(out, ",\"opener\":");
        brief(opener, out)?;
    }
    if report.holders.is_empty() {
        return Ok(());
    }
    put(out, ",\"holders\":[");
    for (index, holder) in report.holders.iter().take(HOLDERS_SHOWN).enumerate() {
        put(out, if index == 0 { "" } else { "," });
        brief(holder, out)?;
    }
    put(out, "],\"holders_count\":");
    number(out, report.holders.len());
    Ok(())
}

fn brief(process: &Process, out: &mut Vec<u8>) -> io::Result<()> {
    put(out, "{\"pid\":");
    number(out, process.id.pid);
    put(out, ",\"comm\":");
    text_or_null(out, process.comm.as_deref())?;
    put(out, ",\"exe\":");
    text_or_null(out, process.exe.as_deref())?;
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
    put(out, BEGIN);
    word(out, head.record);
    put(out, "\",\"seq\":");
    number(out, head.place.seq);
    put(out, ",\"time\":\"");
    out.extend_from_slice(time);
    put(out, "\",\"event\":\"");
    word(out, report.event.as_str());
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
    word(out, attribution(report.attribution));
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
    word(out, report.verdict.as_str());
    put(out, "\",\"rules\":[");
    for (index, spoken) in report.rules.iter().enumerate() {
        put(out, if index == 0 { "{\"id\":\"" } else { ",{\"id\":\"" });
        word(out, spoken.rule);
        put(out, "\",\"why\":");
        sentence(out, &spoken.why)?;
        put(out, "}");
    }
    put(out, "]");
    if let Some(name) = &report.explained_by {
        put(out, ",\"explained_by\":");
        text(out, name)?;
    }
    Ok(())
}

fn sentence(out: &mut Vec<u8>, why: &Why) -> io::Result<()> {
    if let Why::Words(words) = why {
        return text(out, words);
    }
    put(out, "\"");
    why.pieces(|piece| short(out, piece));
    put(out, "\"");
    Ok(())
}

fn socket(socket: &SocketView<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    put(out, ",\"socket\":{\"id\":\"");
    number(out, socket.id.0);
    put(out, "\",\"netns\":");
    number_or_null(out, socket.netns);
    put(out, ",\"netns_name\":");
    text_or_null(out, socket.netns_name)?;
    put(out, ",\"protocol\":\"");
    word(out, socket.protocol.as_str());
    put(out, "\",\"family\":\"");
    word(out, socket.family.as_str());
    put(out, "\",\"state\":\"");
    word(out, socket.state.as_str());
    put(out, "\",\"local\":");
    end(socket.local, out);
    put(out, ",\"scope\":\"");
    word(out, socket.scope.as_str());
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
    word(out, remote.class.as_str());
    put(out, "\",\"service\":");
    text_or_null(out, remote.service)?;
    put(out, "}");
    Ok(())
}

/// The beginning of an object with address and port; a port of 0 is not known.
fn end(end: Endpoint, out: &mut Vec<u8>) {
    put(out, "{\"ip\":\"");
    spell(end.ip, |text| short(out, text));
    put(out, "\",\"port\":");
    number_or_null(out, (end.port != 0).then_some(end.port));
}

/// Inlined, so that the words of our own become a few stores each.
#[inline(always)]
fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Some letters whose number is not known beforehand: by two blocks that overlap, where a call to copy them would take
/// longer than the copying.
#[inline(always)]
fn word(out: &mut Vec<u8>, text: &str) {
    short(out, text.as_bytes());
}

#[inline(always)]
fn short(out: &mut Vec<u8>, bytes: &[u8]) {
    let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) else {
        return bytes.iter().for_each(|byte| out.push(*byte));
    };
    match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) if bytes.len() <= 16 => {
            let mut block = [0; 16];
            block[..8].copy_from_slice(first);
            block[bytes.len() - 8..bytes.len()].copy_from_slice(last);
            extend(out, &block, bytes.len());
        }
        (Some(_), Some(_)) => out.extend_from_slice(bytes),
        _ => {
            let mut block = [0; 8];
            block[..4].copy_from_slice(first);
            block[bytes.len() - 4..bytes.len()].copy_from_slice(last);
            extend(out, &block, bytes.len());
        }
    }
}

/// Adds the first `length` bytes of a block.
#[inline(always)]
fn extend<const N: usize>(out: &mut Vec<u8>, block: &[u8; N], length: usize) {
    let end = out.len() + length;
    out.extend_from_slice(block);
    out.truncate(end);
}

fn number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    word(out, itoa::Buffer::new().format(number));
}

fn number_or_null(out: &mut Vec<u8>, value: Option<impl itoa::Integer>) {
    match value {
        Some(value) => number(out, value),
        None => put(out, "null"),
    }
}

/// A word of our own, in which nothing is to be escaped.
fn word_or_null(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => {
            put(out, "\"");
            word(out, text);
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
