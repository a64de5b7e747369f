//! Reading the tracer's JSON records, by the names of the contract, and the claims that scenarios make
//! about them. A claim that does not hold tells what was claimed and shows the whole record.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// One line of `--json` output.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    value: Value,
}

impl Record {
    /// Reads what a program wrote to its end.
    ///
    /// # Errors
    /// When it is not text, or a line is no record.
    pub fn parse_all(output: &[u8]) -> Result<Vec<Self>> {
        std::str::from_utf8(output)?.lines().map(Self::parse).collect()
    }

    /// Reads a line.
    ///
    /// # Errors
    /// When the line is not one JSON object with the fields that every record carries.
    pub fn parse(line: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        let record = Self { value };
        ensure!(record.value["schema"] == 1, "a record without schema 1: {line}");
        ensure!(record.value["record"].is_string(), "a record without its kind: {line}");
        ensure!(record.value["seq"].is_u64(), "a record without seq: {line}");
        ensure!(record.value["time"].is_string(), "a record without time: {line}");
        Ok(record)
    }

    /// The field at a JSON pointer (RFC 6901).
    #[must_use]
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        self.value.pointer(pointer).filter(|value| !value.is_null())
    }

    /// The text at a JSON pointer, or an empty one.
    #[must_use]
    pub fn text(&self, pointer: &str) -> &str {
        self.at(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// The number at a JSON pointer.
    #[must_use]
    pub fn number(&self, pointer: &str) -> Option<u64> {
        self.at(pointer).and_then(Value::as_u64)
    }

    /// `record`: `flag`, `clear`, `event`, …
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text("/record")
    }

    /// Whether this tells of the event `event`: as a `flag` where it raised one, else as an `event`.
    #[must_use]
    pub fn tells(&self, event: &str) -> bool {
        matches!(self.kind(), "flag" | "event") && self.text("/event") == event
    }

    /// Whether this is a flag that a rule speaks in.
    #[must_use]
    pub fn flags(&self, rule: &str) -> bool {
        self.kind() == "flag" && self.names(rule)
    }

    /// Whether a rule spoke.
    #[must_use]
    pub fn names(&self, rule: &str) -> bool {
        self.rules().contains(&rule)
    }

    /// The ids of the rules that spoke.
    #[must_use]
    pub fn rules(&self) -> Vec<&str> {
        let rules = self.at("/rules").and_then(Value::as_array);
        rules.into_iter().flatten().filter_map(|rule| rule["id"].as_str()).collect()
    }

    /// The sentence of evidence of a rule.
    #[must_use]
    pub fn why(&self, rule: &str) -> &str {
        let rules = self.at("/rules").and_then(Value::as_array);
        let spoke = rules.into_iter().flatten().find(|found| found["id"] == rule);
        spoke.and_then(|found| found["why"].as_str()).unwrap_or_default()
    }

    /// `seq`.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.number("/seq").unwrap_or_default()
    }

    /// Time from another record to this one; they are less than a day apart.
    ///
    /// # Errors
    /// When one of them has no time of day with nanoseconds.
    pub fn since(&self, earlier: &Self) -> Result<Duration> {
        let (from, to) = (earlier.of_day()?, self.of_day()?);
        Ok(if to < from { to + DAY - from } else { to - from })
    }

    /// The time of day of `time`, such as 2026-11-22T21:04:05.123456789Z.
    fn of_day(&self) -> Result<Duration> {
        let parse = |text: &str| {
            let (clock, nanos) = text.split_once('T')?.1.strip_suffix('Z')?.split_once('.')?;
            let seconds =
                clock.split(':').try_fold(0, |all, part| Some(all * 60 + part.parse::<u64>().ok()?));
            let nanos = Some(nanos).filter(|nanos| nanos.len() == 9)?;
            Some(Duration::new(seconds?, nanos.parse().ok()?))
        };
        let time = self.text("/time");
        parse(time).with_context(|| format!("no time of day: {time}"))
    }

    /// The socket's id.
    #[must_use]
    pub fn socket(&self) -> &str {
        self.text("/socket/id")
    }

    /// The number of the socket's network namespace.
    #[must_use]
    pub fn netns(&self) -> Option<u32> {
        self.number("/socket/netns").and_then(|inode| inode.try_into().ok())
    }

    /// The id of the process that acted.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.number("/process/pid").and_then(|pid| pid.try_into().ok())
    }

    /// The socket's local end.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        self.end("/socket/local")
    }

    /// The socket's remote end.
    #[must_use]
    pub fn remote(&self) -> Option<SocketAddr> {
        self.end("/socket/remote")
    }

    /// Whether the socket speaks `protocol` and its local end is `local`.
    #[must_use]
    pub fn is_at(&self, protocol: &str, local: SocketAddr) -> bool {
        self.text("/socket/protocol") == protocol && self.local() == Some(local)
    }

    /// Whether the socket speaks `protocol` and its remote end is `remote`.
    #[must_use]
    pub fn is_to(&self, protocol: &str, remote: SocketAddr) -> bool {
        self.text("/socket/protocol") == protocol && self.remote() == Some(remote)
    }

    fn end(&self, pointer: &str) -> Option<SocketAddr> {
        let ip: IpAddr = self.text(&format!("{pointer}/ip")).parse().ok()?;
        let port = self.number(&format!("{pointer}/port")).unwrap_or_default();
        Some(SocketAddr::new(ip, u16::try_from(port).ok()?))
    }

    /// Claims that `holds`, which `what` says in words.
    ///
    /// # Errors
    /// When it does not; the error shows the record.
    pub fn claim(&self, what: impl AsRef<str>, holds: bool) -> Result<&Self> {
        ensure!(holds, "{}: {}", what.as_ref(), self.value);
        Ok(self)
    }

    /// Claims the text at a JSON pointer.
    ///
    /// # Errors
    /// When another stands there, or none.
    pub fn says(&self, pointer: &str, text: &str) -> Result<&Self> {
        self.claim(format!("{pointer} is {text:?}"), self.text(pointer) == text)
    }

    /// Claims that there is nothing at a JSON pointer.
    ///
    /// # Errors
    /// When there is.
    pub fn lacks(&self, pointer: &str) -> Result<&Self> {
        self.claim(format!("{pointer} is null"), self.at(pointer).is_none())
    }

    /// Claims that the record is a flag of this verdict in which the rule speaks.
    ///
    /// # Errors
    /// When it is not.
    pub fn flagged(&self, verdict: &str, rule: &str) -> Result<&Self> {
        let holds = self.text("/verdict") == verdict && self.flags(rule) && !self.why(rule).is_empty();
        self.claim(format!("flagged {verdict} by {rule}"), holds)
    }

    /// Claims that the record is no flag, and its verdict `ok` by this rule.
    ///
    /// # Errors
    /// When it is flagged or otherwise judged.
    pub fn left_aside(&self, rule: &str) -> Result<&Self> {
        let holds = self.kind() == "event" && self.text("/verdict") == "ok" && self.names(rule);
        self.claim(format!("left aside by {rule}"), holds)
    }

    /// Claims which process acted.
    ///
    /// # Errors
    /// When another process is named, or none.
    pub fn by(&self, pid: u32) -> Result<&Self> {
        self.claim(format!("done by process {pid}"), self.pid() == Some(pid))
    }
}

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.value.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAG: &str = r#"{"schema":1,"record":"flag","seq":7,"time":"2026-11-22T21:04:05.1Z","event":"listen",
        "verdict":"research","rules":[{"id":"unexplained-listener","why":"TCP port 4444 is open"}],
        "socket":{"id":"15006","netns":4026531840,"protocol":"tcp","state":"LISTEN",
        "local":{"ip":"0.0.0.0","port":4444,"scope":"any"},"remote":null},"process":{"pid":4242}}"#;

    fn flag() -> Record {
        Record::parse(FLAG).unwrap()
    }

    #[test]
    fn a_flag_is_read() {
        assert!(flag().tells("listen"));
        assert!(flag().is_at("tcp", "0.0.0.0:4444".parse().unwrap()));
        assert_eq!(flag().netns(), Some(4_026_531_840));
        assert_eq!(flag().remote(), None);
        flag().flagged("research", "unexplained-listener").unwrap().by(4242).unwrap();
        flag().lacks("/socket/remote").unwrap();
    }

    #[test]
    fn times_are_told_apart_by_nanoseconds_over_midnight_too() {
        let at = |time: &str| Record::parse(&FLAG.replace("2026-11-22T21:04:05.1Z", time)).unwrap();
        let since = |earlier: &str, later: &str| at(later).since(&at(earlier)).ok();
        let (noon, later) = ("2026-11-22T12:00:00.900000000Z", "2026-11-22T13:00:01.000000001Z");
        assert_eq!(since(noon, later), Some(Duration::new(3600, 100_000_001)));
        let (evening, morning) = ("2026-11-22T23:59:59.500000000Z", "2026-11-23T00:00:01.000000000Z");
        assert_eq!(since(evening, morning), Some(Duration::from_millis(1500)));
        assert_eq!(since("2026-11-22T12:00:00.9Z", later), None);
    }

    #[test]
    fn a_claim_that_does_not_hold_is_an_error_with_the_record() {
        let error = flag().by(1).unwrap_err().to_string();
        assert!(error.contains("process 1") && error.contains("4242"), "{error}");
        assert!(flag().flagged("suspicious", "unexplained-listener").is_err());
        assert!(flag().flagged("research", "loopback-only").is_err());
        assert!(flag().left_aside("unexplained-listener").is_err());
        assert!(flag().lacks("/socket/local").is_err());
    }

    #[test]
    fn a_line_that_is_no_record_is_refused() {
        for line in ["", "null", "[]", r#"{"schema":2,"record":"end","seq":1,"time":"x"}"#, r#"{"schema":1}"#]
        {
            assert!(Record::parse(line).is_err(), "{line}");
        }
    }
}
