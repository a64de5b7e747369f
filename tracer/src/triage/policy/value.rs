//! The value of each key of a policy entry: its types, its range, and what is said when it is neither.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use toml::Spanned;
use toml::de::DeValue;

use super::{Contained, Kind, User};
use crate::model::address::{Direction, RemoteClass};
use crate::model::belongs::Runtime;
use crate::triage::nearest::nearest;

/// Something wrong at a byte offset of the text.
pub(super) struct Mistake {
    pub(super) offset: usize,
    pub(super) message: String,
}

impl Mistake {
    pub(super) fn at(offset: usize, message: impl Into<String>) -> Self {
        Self { offset, message: message.into() }
    }
}

/// Reads one value, or each value of an array, all of whose mistakes are told.
pub(super) fn each<T>(
    value: &Spanned<DeValue<'_>>,
    read: fn(&DeValue<'_>) -> Result<T, String>,
) -> Result<Vec<T>, Vec<Mistake>> {
    let one = |value: &Spanned<DeValue<'_>>| {
        read(value.get_ref()).map_err(|message| Mistake::at(value.span().start, message))
    };
    let Some(array) = value.get_ref().as_array() else {
        return one(value).map(|value| vec![value]).map_err(|mistake| vec![mistake]);
    };
    if array.is_empty() {
        return Err(vec![Mistake::at(value.span().start, "an empty array matches nothing")]);
    }
    let (values, mistakes): (Vec<_>, Vec<_>) = array.iter().map(one).partition(Result::is_ok);
    if mistakes.is_empty() {
        Ok(values.into_iter().filter_map(Result::ok).collect())
    } else {
        Err(mistakes.into_iter().filter_map(Result::err).collect())
    }
}

/// The name of an entry, with its place.
pub(super) fn name(value: &Spanned<DeValue<'_>>) -> Result<(usize, Box<str>), Mistake> {
    let offset = value.span().start;
    let mistake = |message: String| Mistake::at(offset, message);
    let name = string(value.get_ref(), "a string").map_err(mistake)?;
    if name.trim().is_empty() {
        return Err(mistake("a name must not be empty".into()));
    }
    if name.contains(char::is_control) {
        return Err(mistake("a name must not hold control characters".into()));
    }
    Ok((offset, name.into()))
}

pub(super) fn kind(value: &DeValue<'_>) -> Result<Kind, String> {
    one_of(value, &Kind::ALL, Kind::as_str)
}

pub(super) fn direction(value: &DeValue<'_>) -> Result<Direction, String> {
    one_of(value, &[Direction::Inbound, Direction::Outbound], Direction::as_str)
}

pub(super) fn remote_class(value: &DeValue<'_>) -> Result<RemoteClass, String> {
    one_of(value, &RemoteClass::ALL, RemoteClass::as_str)
}

pub(super) fn exe(value: &DeValue<'_>) -> Result<Box<str>, String> {
    let path = string(value, "a path in quotes")?;
    if path.starts_with('/') {
        Ok(path.into())
    } else {
        Err(format!("the path {} is not absolute: an executable is compared by its whole path", quoted(path)))
    }
}

/// A user name, or a uid as a number or as a string of digits.
pub(super) fn user(value: &DeValue<'_>) -> Result<User, String> {
    const EXPECTED: &str = "a user name in quotes or a uid";
    if value.is_integer() {
        return integer(value, EXPECTED, 0..=u32::MAX.into()).map(User::Uid);
    }
    let name = string(value, EXPECTED)?;
    if name.is_empty() || name.contains(|c: char| c == ':' || c.is_control()) {
        return Err(format!("{} is not a user name", quoted(name)));
    }
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    match name.parse() {
        Ok(uid) if is_number => Ok(User::Uid(uid)),
        Err(_) if is_number => Err(out_of_range(name, &(0..=u32::MAX.into()))),
        Ok(_) | Err(_) => Ok(User::Name(name.into())),
    }
}

/// The whole name of a unit, as `systemctl` lists it.
pub(super) fn unit(value: &DeValue<'_>) -> Result<Box<str>, String> {
    const EXPECTED: &str = "the whole name of a unit such as \"ssh.service\"";
    let name = string(value, EXPECTED)?;
    let is_whole = name.rsplit_once('.').is_some_and(|(stem, kind)| !stem.is_empty() && !kind.is_empty());
    if !is_whole || !name.bytes().all(|byte| byte.is_ascii_graphic()) || name.contains('/') {
        return Err(format!("{} is not {EXPECTED}", quoted(name)));
    }
    Ok(escaped(name))
}

/// A runtime by its name in records, or else the name of a container, its id, or at least 12 digits of that.
pub(super) fn container(value: &DeValue<'_>) -> Result<Contained, String> {
    const EXPECTED: &str =
        "a runtime such as \"docker\", or the name or id of a container, by at least 12 digits";
    let name = string(value, EXPECTED)?;
    if name.is_empty() || name.contains(char::is_control) {
        return Err(format!("{} is not {EXPECTED}", quoted(name)));
    }
    let runtime = Runtime::ALL.into_iter().find(|runtime| runtime.as_str() == name);
    Ok(runtime.map_or_else(|| Contained::Called(escaped(name)), Contained::By))
}

/// Names of units and containers are escaped in what a policy sees, and the backslash is the one character of theirs that
/// it changes: a policy names them as everybody else does.
fn escaped(name: &str) -> Box<str> {
    name.replace('\\', "\\\\").into()
}

/// A port, or a range of ports such as `"1024-2048"`.
pub(super) fn ports(value: &DeValue<'_>) -> Result<RangeInclusive<u16>, String> {
    const EXPECTED: &str = "a port such as 443 or a range such as \"1024-2048\"";
    if value.is_integer() {
        return integer(value, EXPECTED, 1..=u16::MAX.into()).map(|port| port..=port);
    }
    let text = string(value, EXPECTED)?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |digits: &str| match digits.trim().parse::<u16>() {
        Ok(port) if port != 0 && digits.trim().starts_with(|c: char| c.is_ascii_digit()) => Ok(port),
        Ok(_) | Err(_) => Err(format!("{} is not {EXPECTED}, from 1 to 65535", quoted(text))),
    };
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(format!("the range {} is empty: its first port is the larger one", quoted(text)));
    }
    Ok(first..=last)
}

/// An address, or a prefix with no bits set behind it. A v4-mapped one is its IPv4 form, as addresses of sockets are.
pub(super) fn cidr(value: &DeValue<'_>) -> Result<IpNet, String> {
    let text = string(value, "a network such as \"203.0.113.0/24\"")?;
    let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let net: IpNet =
        net.map_err(|_| format!("{} is not a network such as \"203.0.113.0/24\"", quoted(text)))?;
    if net.addr() != net.network() {
        return Err(format!(
            "{} has bits set behind its prefix, did you mean \"{}\"?",
            quoted(text),
            net.trunc()
        ));
    }
    Ok(canonical_net(net))
}

fn canonical_net(net: IpNet) -> IpNet {
    match net {
        IpNet::V4(_) => net,
        IpNet::V6(v6) => inner_v4(v6).map_or(net, IpNet::V4),
    }
}

/// The IPv4 network of a v4-mapped one, `::ffff:0:0/96` or longer (RFC 4291 section 2.5.5.2).
fn inner_v4(net: Ipv6Net) -> Option<Ipv4Net> {
    let inner: Ipv4Addr = net.addr().to_ipv4_mapped()?;
    Ipv4Net::new(inner, net.prefix_len().checked_sub(96)?).ok()
}

fn string<'v>(value: &'v DeValue<'_>, expected: &str) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| format!("expected {expected}, found a value of type {}", value.type_str()))
}

fn integer<T: TryFrom<i64>>(
    value: &DeValue<'_>,
    expected: &str,
    range: RangeInclusive<i64>,
) -> Result<T, String> {
    let integer = value.as_integer().ok_or_else(|| format!("expected {expected}"))?;
    let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
    let in_range = number.filter(|number| range.contains(number)).and_then(|number| T::try_from(number).ok());
    in_range.ok_or_else(|| out_of_range(&integer.to_string(), &range))
}

fn out_of_range(number: &str, range: &RangeInclusive<i64>) -> String {
    format!("{} is out of range: expected {} to {}", quoted(number), range.start(), range.end())
}

/// The member of a closed set that the value names.
fn one_of<T: Copy>(value: &DeValue<'_>, all: &[T], as_str: fn(T) -> &'static str) -> Result<T, String> {
    let names = all.iter().map(|&member| as_str(member));
    let word = string(value, &listed(names.clone()))?;
    if let Some(member) = all.iter().find(|&&member| as_str(member) == word) {
        return Ok(*member);
    }
    Err(match nearest(word, names.clone()) {
        Some(meant) => format!("{} is not known here, did you mean `{meant}`?", quoted(word)),
        None => format!("{} is not known here, expected {}", quoted(word), listed(names)),
    })
}

/// `` `a`, `b` or `c` ``.
pub(super) fn listed(words: impl IntoIterator<Item = impl Display>) -> String {
    let mut words: Vec<_> = words.into_iter().map(|word| format!("`{word}`")).collect();
    let Some(last) = words.pop() else { return String::new() };
    if words.is_empty() { last } else { format!("{} or {last}", words.join(", ")) }
}

/// Text of the file inside a message: on one line, visible and not longer than is useful.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let shown = text.chars().take(LONGEST).flat_map(char::escape_debug).collect::<String>();
    let cut = if text.chars().nth(LONGEST).is_some() { "…" } else { "" };
    format!("`{shown}{cut}`")
}
