//! The kernel's own picture of a namespace, from /proc/net, and the tracer's, from `list --json`, in a
//! form in which the two can be compared.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::net::Netns;
use crate::records::Record;

/// One socket of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The local end, canonical.
    pub local: SocketAddr,
    /// The remote end, canonical; none where address and port are zero.
    pub remote: Option<SocketAddr>,
    /// The TCP state by the names of `tcp_states.h` without prefix; empty for UDP.
    pub state: String,
}

/// Within this time connections that both sides have closed are gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// The states in which nothing more is told.
const AT_REST: [&str; 2] = ["LISTEN", "TIME_WAIT"];
const TABLES: [(&str, &str); 4] = [("tcp", "tcp"), ("tcp", "tcp6"), ("udp", "udp"), ("udp", "udp6")];
/// `include/net/tcp_states.h`, from 1 on.
const STATES: [&str; 12] = [
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
];

/// Reads the tables of a namespace.
///
/// # Errors
/// When /proc/net cannot be read or has another form than expected.
pub fn of_kernel(netns: &Netns) -> Result<BTreeSet<Row>> {
    netns.enter(|| {
        let mut rows = BTreeSet::new();
        for (protocol, file) in TABLES {
            let text = std::fs::read_to_string(format!("/proc/thread-self/net/{file}"))?;
            for line in text.lines().skip(1) {
                rows.insert(row(protocol, line).with_context(|| format!("/proc/net/{file}: {line}"))?);
            }
        }
        Ok(rows)
    })
}

/// Waits until no TCP connection of a namespace is on its way to its end: the last acknowledgement comes
/// after both sides have closed.
///
/// # Errors
/// When the table cannot be read, or that takes longer than 10 s.
pub fn until_closed(netns: &Netns) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while of_kernel(netns)?.iter().any(|row| row.protocol == "tcp" && !AT_REST.contains(&row.state.as_str()))
    {
        ensure!(Instant::now() < deadline, "connections are not closed within {PATIENCE:?}");
    }
    Ok(())
}

/// The rows that a `list --json` shows of one namespace.
///
/// # Errors
/// When a record lacks what a row needs.
pub fn of_list(records: &[Record], netns: u32) -> Result<BTreeSet<Row>> {
    let own = records.iter().filter(|record| record.tells("seen") && record.netns() == Some(netns));
    own.map(|record| row_of(record).with_context(|| format!("no row in {record}"))).collect()
}

fn row_of(record: &Record) -> Option<Row> {
    let protocol = match record.text("/socket/protocol") {
        "tcp" => "tcp",
        "udp" => "udp",
        _ => return None,
    };
    let state = if protocol == "tcp" { record.text("/socket/state") } else { "" };
    Some(Row { protocol, local: record.local()?, remote: record.remote(), state: state.to_owned() })
}

fn row(protocol: &'static str, line: &str) -> Option<Row> {
    let mut words = line.split_whitespace().skip(1);
    let (local, remote) = (end(words.next()?)?, end(words.next()?)?);
    let number = usize::from_str_radix(words.next()?, 16).ok()?;
    let state = if protocol == "tcp" { *STATES.get(number.checked_sub(1)?)? } else { "" };
    let remote = (remote.port() != 0 || !remote.ip().is_unspecified()).then_some(remote);
    Some(Row { protocol, local, remote, state: state.to_owned() })
}

/// Reads `0100007F:0016`: 32-bit words in the machine's order, the port in hexadecimal.
fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let mut octets = Vec::new();
    for start in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(start..start + 8)?, 16).ok()?;
        octets.extend_from_slice(&word.to_ne_bytes());
    }
    let ip = match octets.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?)).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_read() {
        let line =
            "   0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1";
        let row = row("tcp", line).unwrap();
        assert_eq!((row.local, row.remote), ("127.0.0.1:22".parse().unwrap(), None));
        assert_eq!(row.state, "LISTEN");
    }

    #[test]
    fn a_mapped_session_is_canonical() {
        let line = "1: 0000000000000000FFFF000002010109:115C 0000000000000000FFFF000001010109:9C40 01 x";
        let row = row("tcp", line).unwrap();
        assert_eq!(row.local, "9.1.1.2:4444".parse().unwrap());
        assert_eq!(row.remote, Some("9.1.1.1:40000".parse().unwrap()));
        assert_eq!(row.state, "ESTABLISHED");
    }

    #[test]
    fn both_pictures_of_a_socket_are_the_same_row() {
        let record = r#"{"schema":1,"record":"flag","seq":1,"time":"t","event":"seen","socket":{"netns":5,
            "protocol":"udp","state":"CLOSE","local":{"ip":"9.1.1.2","port":53},"remote":null}}"#;
        let listed = of_list(&[Record::parse(record).unwrap()], 5).unwrap();
        let read = row("udp", "2: 02010109:0035 00000000:0000 07 x").unwrap();
        assert_eq!(listed.into_iter().collect::<Vec<_>>(), [read]);
        assert!(of_list(&[Record::parse(record).unwrap()], 6).unwrap().is_empty());
    }

    #[test]
    fn another_form_is_an_error_and_not_an_empty_table() {
        for line in ["", "0: 0100007F", "0: 0100007F:0016 00000000:0000 FF", "0: 01:16 00:0 0A"] {
            assert_eq!(row("tcp", line), None, "{line}");
        }
    }
}
