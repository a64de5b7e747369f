//! Bytes of a record → event. Never panics, whatever the bytes.

use std::net::{IpAddr, Ipv6Addr};

use thiserror::Error;
use tracer_common::{
    DIRECTION_SENT, FAULT_BYTES, FAULT_PEER, FLAG_NO_BYTES, FLAG_NO_ENDS, FLAG_NO_PEER, FLAG_PORT_BOUND,
    FLAG_REMNANT, FLAG_V6ONLY, FlowKey, HOW_CALL, HOW_FIRST_USE, HOW_HELD, HOW_NONE, KIND_ACCEPT,
    KIND_ATTEMPT, KIND_BIND, KIND_CLOSE, KIND_CONNECT, KIND_ESTABLISHED, KIND_FAILED, KIND_HELD,
    KIND_INCOMING, KIND_LISTEN, KIND_SEEN, KIND_UDP, Record,
};
use zerocopy::FromBytes;

use crate::model::{
    address::canonical,
    event::{
        Attribution, BootNanos, Endpoint, Family, ProcessId, Protocol, SocketChange, SocketEvent, SocketId,
        State,
    },
};

/// A record that is not understood.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Another size than a record has.
    #[error("a record of {0} bytes")]
    Size(usize),
    /// A kind that this version does not know.
    #[error("a record of unknown kind {0}")]
    Kind(u8),
    /// A protocol, family or state that this version does not know.
    #[error("a record with unknown {0} {1}")]
    Value(&'static str, u16),
}

/// What one record said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// When.
    pub at: BootNanos,
    /// What happened to which socket; for [`Meaning::Attempt`] and the iterators' records the change
    /// is decided by the source.
    pub event: SocketEvent,
    /// What kind of record it was.
    pub meaning: Meaning,
    /// The acting task, as the kernel showed it.
    pub task: Option<Task>,
    /// Not a full socket: a connection request, or what is left of a connection. No hook will tell of
    /// it again.
    pub remnant: bool,
    /// Where the socket lies in the kernel's memory; nothing where the hook cannot tell, or where that is
    /// the socket's identity.
    pub address: Option<u64>,
}

/// Kinds of records that are not yet an event by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It is the event.
    Event,
    /// A connect was called; what becomes of it is still to be seen.
    Attempt,
    /// Totals of a UDP flow.
    Flow(FlowKey, u64),
    /// Found in the kernel's tables.
    Seen,
    /// Found among the task's descriptors, under this number.
    Held(u32),
}

/// The acting task, as the kernel showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Identity of its process.
    pub id: ProcessId,
    /// Thread id.
    pub tid: u32,
    /// Process id of the parent.
    pub ppid: u32,
    /// Effective user id.
    pub uid: u32,
    /// Counts its exec calls.
    pub exec_id: u32,
    /// Its name, NUL padded.
    pub comm: [u8; 16],
}

/// Reads one record.
///
/// # Errors
/// When the bytes are not a record that this version knows.
pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let record = Record::read_from_bytes(bytes).map_err(|_| DecodeError::Size(bytes.len()))?;
    let (change, meaning) = change(&record)?;
    let task = task(&record);
    let attribution = match record.how {
        HOW_CALL => Attribution::Exact,
        HOW_FIRST_USE | HOW_HELD => Attribution::Holder,
        _ => Attribution::Unknown,
    };
    let no_ends = record.flags & FLAG_NO_ENDS != 0;
    let event = SocketEvent {
        id: SocketId(key(&record)),
        change,
        netns: (record.netns != 0).then_some(record.netns),
        protocol: protocol(record.protocol)?,
        family: family(record.family)?,
        state: State::from_kernel(record.state).ok_or(DecodeError::Value("state", record.state.into()))?,
        local: (!no_ends).then(|| Endpoint { ip: address(record.local), port: record.local_port }),
        remote: remote(&record),
        v6only: record.flags & FLAG_V6ONLY != 0,
        port_bound: record.flags & FLAG_PORT_BOUND != 0,
        process: task.map(|task| (task.id, attribution)),
    };
    let remnant = record.flags & FLAG_REMNANT != 0;
    let address = (record.cookie != 0 && record.sock != 0).then_some(record.sock);
    Ok(Decoded { at: record.time, event, meaning, task, remnant, address })
}

fn change(record: &Record) -> Result<(SocketChange, Meaning), DecodeError> {
    let seen = || SocketChange::Seen { holders: Vec::new(), stdio: None };
    let change = match record.kind {
        KIND_LISTEN => SocketChange::Listen,
        KIND_BIND => SocketChange::Bind,
        KIND_ATTEMPT => return Ok((SocketChange::Connect, Meaning::Attempt)),
        KIND_CONNECT => SocketChange::Connect,
        KIND_ESTABLISHED => SocketChange::Established,
        KIND_INCOMING => SocketChange::Incoming,
        KIND_FAILED => SocketChange::Failed { errno: (record.error != 0).then_some(record.error) },
        KIND_ACCEPT => SocketChange::Accept,
        KIND_UDP => {
            let sent = record.direction == DIRECTION_SENT;
            let change = SocketChange::Datagrams { sent, count: record.count };
            return Ok((change, Meaning::Flow(flow_key(record), record.count)));
        }
        KIND_CLOSE => {
            let whole = record.faults & FAULT_BYTES == 0 && record.flags & FLAG_NO_BYTES == 0;
            let bytes = |count: u64| whole.then_some(count);
            SocketChange::Close { sent: bytes(record.bytes_sent), received: bytes(record.bytes_received) }
        }
        KIND_SEEN => return Ok((seen(), Meaning::Seen)),
        KIND_HELD => return Ok((seen(), Meaning::Held(record.fd))),
        other => return Err(DecodeError::Kind(other)),
    };
    Ok((change, Meaning::Event))
}

/// By what the kernel's maps know the socket: its cookie, or its address where it has none.
fn key(record: &Record) -> u64 {
    if record.cookie == 0 { record.sock } else { record.cookie }
}

fn flow_key(record: &Record) -> FlowKey {
    FlowKey {
        socket: key(record),
        remote: record.remote,
        remote_port: record.remote_port,
        direction: record.direction.into(),
        reserved: 0,
    }
}

fn task(record: &Record) -> Option<Task> {
    (record.how != HOW_NONE).then_some(Task {
        id: ProcessId { pid: record.pid, started: record.process_start },
        tid: record.tid,
        ppid: record.ppid,
        uid: record.uid,
        exec_id: record.exec_id,
        comm: record.comm,
    })
}

fn remote(record: &Record) -> Option<Endpoint> {
    let end = Endpoint { ip: address(record.remote), port: record.remote_port };
    let hidden = record.flags & (FLAG_NO_PEER | FLAG_NO_ENDS) != 0 || record.faults & FAULT_PEER != 0;
    let none = end.port == 0 && end.ip.is_unspecified();
    (!hidden && !none).then_some(end)
}

fn address(bytes: [u8; 16]) -> IpAddr {
    canonical(IpAddr::V6(Ipv6Addr::from(bytes)))
}

fn protocol(number: u16) -> Result<Protocol, DecodeError> {
    match number {
        6 => Ok(Protocol::Tcp),
        17 => Ok(Protocol::Udp),
        136 => Ok(Protocol::UdpLite),
        other => Err(DecodeError::Value("protocol", other)),
    }
}

fn family(number: u8) -> Result<Family, DecodeError> {
    match number {
        2 => Ok(Family::Ipv4),
        10 => Ok(Family::Ipv6),
        other => Err(DecodeError::Value("family", other.into())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    fn listen() -> Record {
        let mut record = Record::read_from_bytes(&[0; size_of::<Record>()]).unwrap();
        record.kind = KIND_LISTEN;
        record.state = 10;
        record.family = 10;
        record.protocol = 6;
        record.cookie = 7;
        record.local_port = 4444;
        record
    }

    #[test]
    fn a_listener_on_the_any_address_has_no_remote() {
        let decoded = decode(listen().as_bytes()).unwrap();
        assert_eq!(decoded.event.change, SocketChange::Listen);
        assert_eq!(decoded.event.remote, None);
        assert_eq!(decoded.event.local, Some(Endpoint { ip: Ipv6Addr::UNSPECIFIED.into(), port: 4444 }));
    }

    #[test]
    fn a_mapped_address_is_written_as_ipv4() {
        let mut record = listen();
        record.local = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 9, 1, 1, 1];
        let decoded = decode(record.as_bytes()).unwrap();
        assert_eq!(decoded.event.local.unwrap().ip, IpAddr::from([9, 1, 1, 1]));
        assert_eq!(decoded.event.family, Family::Ipv6);
    }

    #[test]
    fn an_unknown_kind_is_an_error_that_names_it() {
        let mut record = listen();
        record.kind = 200;
        assert_eq!(decode(record.as_bytes()), Err(DecodeError::Kind(200)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn no_record_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), size_of::<Record>())) {
            let _ = decode(&bytes);
        }
    }
}
