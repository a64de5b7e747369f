//! Records for people: one line each, in columns that line up as far as their content allows.
//!
//! Pure: a record in, its line out. Nothing is cut off: what is longer than its column pushes the rest
//! to the right. Whether there are colours is decided by the caller.

use std::{io, net::IpAddr, sync::Arc};

use anstyle::{AnsiColor, Color, Style};

use super::time::{Moment, wall};
use crate::{
    model::{
        address::Direction,
        belongs::Belongs,
        event::{Attribution, Degraded, Endpoint, Life, LifeChange, Lost, LostStage, Process, Start, State},
        provenance::{Provenance, Script, Sha256},
    },
    output::{Body, EventKind, Output, Report, Role, SocketView, Totals, Verdict},
};

#[cfg(test)]
mod tests;

/// How text is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// With colours, for a terminal.
    pub colour: bool,
    /// Inode number of the network namespace that need not be named, because it is the tracer's own;
    /// the stream takes it from the start record.
    pub home: Option<u32>,
}

/// Holders that are named; of more it is said how many.
const NAMED: usize = 4;

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

const fn ink(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(Color::Ansi(colour)))
}

fn style_of(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Ok => DIM,
        Verdict::Explained => ink(AnsiColor::Green),
        Verdict::Research => ink(AnsiColor::Yellow),
        Verdict::Suspicious => ink(AnsiColor::Red).bold(),
    }
}

/// Characters of a program's arguments that are shown.
const ARGUMENTS: usize = 120;

/// Writes the line of one record; for `start` a second one with the names of the columns.
/// `clock_offset` is wall clock minus boot clock, nanoseconds.
///
/// # Errors
/// Those of `out` alone.
pub fn render(
    output: &Output<'_>,
    view: View,
    clock_offset: i64,
    out: &mut impl io::Write,
) -> io::Result<()> {
    let moment = Moment::new(output.time);
    let (word, style, rest) = match &output.body {
        Body::Start { start, policy } => return head(&moment, start, policy, view, out),
        Body::Flag(_, report) | Body::Event(report) => {
            let why = why(report, None);
            (report.verdict.as_str(), style_of(report.verdict), columns(report, view, &why))
        }
        Body::Clear(_, report) => {
            let why = why(report, Some(taken_back(report)));
            ("clear", ink(AnsiColor::Cyan), columns(report, view, &why))
        }
        Body::Life(life) => (Verdict::Ok.as_str(), style_of(Verdict::Ok), lived(life)),
        Body::Gap(lost) => ("gap", ink(AnsiColor::Magenta).bold(), gap(lost, clock_offset)),
        Body::Degraded(what) => ("degraded", ink(AnsiColor::Magenta).bold(), degraded(what)),
        Body::End(totals) => ("end", BOLD, summary(totals)),
    };
    let time = painted(moment.millis(), DIM, view);
    let padding = 10usize.saturating_sub(word.len());
    writeln!(out, "{time}  {}{:padding$}  {rest}", painted(word, style, view), "")
}

fn painted(text: &str, style: Style, view: View) -> String {
    let style = if view.colour { style } else { Style::new() };
    format!("{style}{text}{style:#}")
}

/// One row; the columns of `render` come before it.
fn row([event, protocol, local, arrow, remote, who, why]: [&str; 7]) -> String {
    let row = format!("{event:<11}  {protocol:<4}  {local:<21} {arrow:<2} {remote:<21}  {who:<36}  {why}");
    row.trim_end().to_owned()
}

fn head(
    moment: &Moment,
    start: &Start,
    policy: &[String],
    view: View,
    out: &mut impl io::Write,
) -> io::Result<()> {
    let Start { version, kernel, hooks, coverage, netns: _, provenance: _ } = start;
    let (date, time) = (moment.date(), moment.seconds());
    let mut text = format!("tracer {version} on Linux {kernel}, hooks {hooks}, {date} {time} UTC");
    if !policy.is_empty() {
        text.push_str(&format!(", policy {}", policy.join(", ")));
    }
    let unseen = coverage.iter().filter(|part| part.by.is_none()).count();
    if unseen > 0 {
        text.push_str(&format!(
            "; {} unseen, see `tracer doctor`",
            counted(unseen as u64, "part stays", "parts stay")
        ));
    }
    let titles = row(["EVENT", "", "LOCAL", "", "REMOTE", "PROCESS", "WHY"]);
    let titles = format!("{:<12}  {:<10}  {titles}", "TIME (UTC)", "VERDICT");
    writeln!(out, "{}\n{}", painted(&text, BOLD, view), painted(&titles, DIM, view))
}

fn columns(report: &Report<'_>, view: View, why: &str) -> String {
    let socket = &report.socket;
    let local = end(socket.local);
    let (arrow, remote) = far_side(socket);
    let who = who(report, view.home);
    row([happened(report), socket.protocol.as_str(), &local, arrow, &remote, &who, why])
}

/// The event; where the socket was there already, its state says more.
fn happened(report: &Report<'_>) -> &'static str {
    let tells_state = match report.event {
        EventKind::Seen => !report.socket.protocol.is_datagram(),
        EventKind::Bind
        | EventKind::Listen
        | EventKind::Connect
        | EventKind::Established
        | EventKind::Failed
        | EventKind::Accept
        | EventKind::Udp
        | EventKind::Close => false,
    };
    if tells_state { report.socket.state.as_str() } else { report.event.as_str() }
}

/// An arrow from the end that opened the session, and the remote end; or what the socket is without one.
fn far_side(socket: &SocketView<'_>) -> (&'static str, String) {
    let Some(remote) = &socket.remote else {
        let role = socket.role.map_or("", Role::as_str);
        return ("", if socket.state == State::Listen { "listening" } else { role }.to_owned());
    };
    let arrow = match socket.direction {
        Some(Direction::Outbound) => "->",
        Some(Direction::Inbound) => "<-",
        None => "--",
    };
    (arrow, end(remote.end))
}

fn end(end: Endpoint) -> String {
    let port = if end.port == 0 { "?".to_owned() } else { end.port.to_string() };
    match end.ip {
        IpAddr::V4(ip) => format!("{ip}:{port}"),
        IpAddr::V6(ip) => format!("[{ip}]:{port}"),
    }
}

fn who(report: &Report<'_>, home: Option<u32>) -> String {
    let mut who = report.process.map_or_else(|| "?".to_owned(), |p| process(p));
    match report.attribution {
        Attribution::Exact | Attribution::Unknown => {}
        // Of a socket that was there already, nothing but its holder can be known.
        Attribution::Holder if report.event == EventKind::Seen => {}
        Attribution::Holder => who.push_str(" (holder)"),
        Attribution::Listener => who.push_str(" (listener)"),
    }
    if let Some(reason) = &report.process_unknown {
        who.push_str(&format!(" ({reason})"));
    }
    if let Some(opener) = report.opener {
        who.push_str(&format!(", opened by {}", name(opener)));
    }
    if !report.holders.is_empty() {
        who.push_str(&format!(", held by {}", names(report.holders)));
    }
    if let Some(netns) = report.socket.netns.filter(|netns| Some(*netns) != home) {
        let number = netns.to_string();
        who.push_str(&format!(" netns {}", report.socket.netns_name.unwrap_or(&number)));
    }
    who
}

/// A process that became another program is shown with its arguments.
fn lived(life: &Life) -> String {
    let arguments = match life.change {
        LifeChange::Exec => life.process.args.as_deref().unwrap_or_default().join(" "),
        LifeChange::Exit => String::new(),
    };
    let shown = match arguments.char_indices().nth(ARGUMENTS) {
        Some((end, _)) => format!("{}…", &arguments[..end]),
        None => arguments,
    };
    row([life.change.as_str(), "", "", "", "", &process(&life.process), &shown])
}

fn process(process: &Process) -> String {
    let uid = || process.uid.map_or_else(|| "?".to_owned(), |uid| format!("uid {uid}"));
    let user = process.user.clone().unwrap_or_else(uid);
    let (login, place) =
        process.belongs.as_deref().map_or_else(Default::default, |b| (login(b, process.uid), place(b)));
    let digests = process.provenance.as_ref().map(digests).unwrap_or_default();
    format!("{} {user}{login} {}{place}{digests}", name(process), process.exe.as_deref().unwrap_or("?"))
}

/// The SHA-256 of what it runs, where that was asked for; the script's comes second.
fn digests(found: &Provenance) -> String {
    let digest = match found.sha256.as_deref() {
        Some(Sha256::Is(digest)) => format!(" sha256 {digest}"),
        Some(Sha256::Unknown(why)) => format!(" sha256 ? ({})", why.as_str()),
        None => String::new(),
    };
    match found.script.as_deref() {
        Some(Script::File { path, found }) if found.sha256.is_some() => {
            format!("{digest} {path}{}", digests(found))
        }
        Some(Script::File { .. } | Script::Module(_)) | None => digest,
    }
}

/// Who logged in, where that is somebody else than who acts.
fn login(belongs: &Belongs, uid: Option<u32>) -> String {
    let Some(login) = belongs.login_uid.filter(|login| Some(*login) != uid) else { return String::new() };
    format!(" (login {})", belongs.login_user.clone().unwrap_or_else(|| format!("uid {login}")))
}

/// The unit, and the container, whose own scope says nothing new.
fn place(belongs: &Belongs) -> String {
    let Belongs { unit, user_unit, container, .. } = belongs;
    let units = [(user_unit, " user unit "), (unit, " unit ")];
    let says_more = |name: &str| container.is_none() || name.ends_with(".service");
    let unit = units.into_iter().find_map(|(unit, word)| {
        let name = unit.as_deref().filter(|name| says_more(name))?;
        Some(format!("{word}{name}"))
    });
    let container = container.as_ref().map(|container| {
        let runtime = container.runtime.map(|runtime| format!(" {}", runtime.as_str())).unwrap_or_default();
        format!(" container{runtime} {}", container.short())
    });
    [unit, container].into_iter().flatten().collect()
}

fn name(process: &Process) -> String {
    format!("{}[{}]", process.comm.as_deref().unwrap_or("?"), process.id.pid)
}

fn names(processes: &[Arc<Process>]) -> String {
    let shown: Vec<_> = processes.iter().take(NAMED).map(|process| name(process)).collect();
    let more = processes.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// What is said about the verdict, then how the event went, then the rules, worst first.
fn why(report: &Report<'_>, verdict: Option<String>) -> String {
    let rules = report.rules.iter().map(|spoken| format!("{}: {}", spoken.rule, spoken.why));
    let explained = report.explained_by.as_ref().map(|entry| format!("explained by `{entry}`"));
    verdict.into_iter().chain(outcome(report)).chain(explained).chain(rules).collect::<Vec<_>>().join("; ")
}

fn taken_back(report: &Report<'_>) -> String {
    // The event may be another socket's, whose end took the ground from this flag.
    let itself = report.duration_ms.is_some() || report.bytes_sent.is_some();
    match report.event {
        EventKind::Close if itself => "flag over, the socket is closed".to_owned(),
        EventKind::Close
        | EventKind::Seen
        | EventKind::Bind
        | EventKind::Listen
        | EventKind::Connect
        | EventKind::Established
        | EventKind::Failed
        | EventKind::Accept
        | EventKind::Udp => format!("flag taken back, now {}", report.verdict.as_str()),
    }
}

fn outcome(report: &Report<'_>) -> Vec<String> {
    let mut parts = Vec::new();
    if report.event == EventKind::Failed || report.error.is_some() {
        parts.push(report.error.clone().unwrap_or_else(|| "unknown error".to_owned()));
    }
    if report.bytes_sent.is_some() || report.bytes_received.is_some() {
        let bytes = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
        parts.push(format!(
            "sent {} B, received {} B",
            bytes(report.bytes_sent),
            bytes(report.bytes_received)
        ));
    }
    parts.extend(report.duration_ms.map(|ms| format!("after {}", duration(ms))));
    parts.extend(report.count.map(|count| counted(count, "datagram", "datagrams")));
    parts
}

fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds}.{:03} s", ms % 1000),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600.. => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

fn gap(lost: &Lost, clock_offset: i64) -> String {
    let (from, to) = (Moment::new(wall(lost.from, clock_offset)), Moment::new(wall(lost.to, clock_offset)));
    let place = match lost.stage {
        LostStage::Hook => "the kernel did not run a program of a hook",
        LostStage::Ring => "the ring was full",
        LostStage::Field => "a field could not be read in the kernel",
        LostStage::Record => "records of an unknown kind",
        LostStage::State => "the kernel had no memory for their state",
        LostStage::Process => "ended processes had to be forgotten while others name them",
        LostStage::Research => "too much waited to be looked up",
        LostStage::Stdout => "standard output did not drain",
    };
    let whole = match (lost.stage, lost.resynced) {
        (LostStage::Stdout | LostStage::Process | LostStage::Research, _) => "",
        (_, true) => "; the sockets were read again since",
        (_, false) => "; the sockets were not read again yet",
    };
    let count = counted(lost.count, "event", "events");
    format!("{count} lost from {} to {}: {place}{whole}", from.millis(), to.millis())
}

fn degraded(degraded: &Degraded) -> String {
    let Degraded { hook, unseen, why, delivers: _ } = degraded;
    let missed =
        if unseen.is_empty() { String::new() } else { format!("; may be missed: {}", unseen.join(", ")) };
    format!("{hook}: {why}{missed}")
}

fn summary(totals: &Totals) -> String {
    let flags = counted(totals.flags, "flag", "flags");
    let events = counted(totals.events, "event", "events");
    let mut text = format!("{events}, {flags}, {} taken back, {} lost", totals.clears, totals.lost);
    for (index, (rule, count)) in totals.rules.iter().enumerate() {
        text.push_str(if index == 0 { "; " } else { ", " });
        text.push_str(&format!("{rule} {count}"));
    }
    text
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
