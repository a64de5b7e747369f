//! Names of well-known ports: a built-in table, which the text of `/etc/services` (services(5)) can extend.
//!
//! A name says what a port is registered for, not what is spoken there. Kept out: the reading of the file.

use std::collections::HashMap;

use foldhash::fast::FixedState;

mod table;

use table::TABLE;

/// The transport protocol of a port number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceProtocol {
    /// TCP, and MPTCP, which shares its ports.
    Tcp,
    /// UDP.
    Udp,
}

/// The protocols for which a row of the table registers its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Tcp,
    Udp,
    Both,
}

impl Over {
    fn includes(self, protocol: ServiceProtocol) -> bool {
        match (self, protocol) {
            (Self::Both, ServiceProtocol::Tcp | ServiceProtocol::Udp)
            | (Self::Tcp, ServiceProtocol::Tcp)
            | (Self::Udp, ServiceProtocol::Udp) => true,
            (Self::Tcp, ServiceProtocol::Udp) | (Self::Udp, ServiceProtocol::Tcp) => false,
        }
    }
}

/// The built-in name of a port, from the IANA Service Name and Port Number Registry (RFC 6335).
pub fn service_name(protocol: ServiceProtocol, port: u16) -> Option<&'static str> {
    let first = TABLE.partition_point(|&(row, ..)| row < port);
    TABLE[first..]
        .iter()
        .take_while(|&&(row, ..)| row == port)
        .find(|&&(_, over, _)| over.includes(protocol))
        .map(|&(.., name)| name)
}

/// Service names of one host: those of its own table first, then the built-in ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// Asked for every session; no order of it is ever seen.
    local: HashMap<(ServiceProtocol, u16), Box<str>, FixedState>,
}

impl Services {
    /// The built-in table alone.
    pub fn builtin() -> Self {
        Self::default()
    }

    /// The built-in table under the text of a services file. As with getservbyport(3), the first line of a port and
    /// protocol gives its name.
    ///
    /// Lines that are not `name port/tcp` or `name port/udp` are passed over, and so are port 0 and names with
    /// characters other than printable ASCII.
    pub fn with_text(text: &str) -> Self {
        let mut local = HashMap::default();
        for (key, name) in text.lines().filter_map(parse_line) {
            local.entry(key).or_insert_with(|| name.into());
        }
        Self { local }
    }

    /// The name of a port; none when no table has one.
    pub fn name(&self, protocol: ServiceProtocol, port: u16) -> Option<&str> {
        let local = self.local.get(&(protocol, port)).map(|name| &**name);
        local.or_else(|| service_name(protocol, port))
    }
}

fn parse_line(line: &str) -> Option<((ServiceProtocol, u16), &str)> {
    let entry = line.split_once('#').map_or(line, |(entry, _comment)| entry);
    let mut words = entry.split_ascii_whitespace();
    let (name, number) = (words.next()?, words.next()?);
    let (port, protocol) = number.split_once('/')?;
    let protocol = match protocol {
        "tcp" => ServiceProtocol::Tcp,
        "udp" => ServiceProtocol::Udp,
        _ => return None,
    };
    let is_well_formed = name.bytes().all(|byte| byte.is_ascii_graphic()) && !port.starts_with('+');
    let port = port.parse().ok().filter(|&port| port != 0 && is_well_formed)?;
    Some(((protocol, port), name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ServiceProtocol::{Tcp, Udp};
    use super::*;

    #[test]
    fn table_is_sorted_and_names_each_port_once_per_protocol() {
        for pair in TABLE.windows(2) {
            let ((port, over, _), (next_port, next_over, _)) = (pair[0], pair[1]);
            let apart = next_port == port && over == Over::Tcp && next_over == Over::Udp;
            assert!(port < next_port || apart, "{port} before {next_port}");
        }
    }

    #[test]
    fn table_names_are_service_names_of_rfc_6335() {
        for (port, _, name) in TABLE {
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            assert!(
                *port != 0 && (1..=15).contains(&name.len()) && name.chars().all(is_word),
                "{port} {name}"
            );
        }
    }

    #[test]
    fn well_known_ports_have_their_registered_names() {
        for (protocol, port, name) in [
            (Tcp, 22, Some("ssh")),
            (Udp, 53, Some("domain")),
            (Tcp, 80, Some("http")),
            (Tcp, 443, Some("https")),
            (Udp, 443, Some("https")),
            (Tcp, 514, Some("shell")),
            (Udp, 514, Some("syslog")),
            (Tcp, 853, Some("domain-s")),
            (Udp, 853, Some("domain-s")),
            (Udp, 5353, Some("mdns")),
            (Tcp, 5432, Some("postgresql")),
            (Udp, 22, None),
            (Udp, 51820, None),
            (Tcp, 31337, None),
            (Tcp, 0, None),
            (Tcp, 65535, None),
        ] {
            assert_eq!(service_name(protocol, port), name, "{protocol:?} {port}");
        }
    }

    #[test]
    fn the_host_table_comes_before_the_built_in_one() {
        let services = Services::with_text("wg\t51820/udp  wireguard # ours\nweb 80/tcp\nother 80/tcp\n");
        assert_eq!(services.name(Udp, 51820), Some("wg"));
        assert_eq!(services.name(Tcp, 51820), None);
        assert_eq!(services.name(Tcp, 80), Some("web"));
        assert_eq!(services.name(Tcp, 443), Some("https"));
        assert_eq!(Services::builtin().name(Tcp, 80), Some("http"));
    }

    #[test]
    fn malformed_lines_are_passed_over() {
        let text = "# comment\n\nname\nname 1\nname 7001x/tcp\nname 65536/tcp\nname +7002/tcp\nname 0/tcp\n\
                    name 7003/sctp\nn\u{1b}[31m 7004/tcp\n name 7005/tcp#x\n#name 7006/tcp";
        let services = Services::with_text(text);
        assert_eq!(services.local.into_iter().collect::<Vec<_>>(), [((Tcp, 7005), "name".into())]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic_and_gives_printable_names(text in "(?s).{0,200}") {
            let services = Services::with_text(&text);
            prop_assert!(services.local.values().all(|name| name.bytes().all(|byte| byte.is_ascii_graphic())));
        }

        #[test]
        fn look_up_agrees_with_a_search_of_the_whole_table(port: u16, udp: bool) {
            let protocol = if udp { Udp } else { Tcp };
            let found = TABLE.iter().find(|row| row.0 == port && row.1.includes(protocol)).map(|row| row.2);
            prop_assert_eq!(service_name(protocol, port), found);
        }
    }
}
