//! Real sockets of this process, found again with their ends, state and holder.

use std::{
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use super::*;
use crate::model::event::{Endpoint, State};

fn end(address: SocketAddr) -> Endpoint {
    Endpoint { ip: address.ip(), port: address.port() }
}

/// Reads the own namespace; gives the socket with this local end and its holders.
fn seen(protocol: Protocol, local: SocketAddr, remote: Option<SocketAddr>) -> (Decoded, Vec<Task>) {
    let own = namespaces::inode(Path::new("/proc/thread-self/ns/net")).unwrap();
    let (found, unread) = read(Some(own));
    let ends = (protocol, Some(end(local)), remote.map(end));
    let mut same = found.sockets.into_iter().filter(|(decoded, _)| {
        let event = &decoded.event;
        (event.protocol, event.local, event.remote) == ends
    });
    let one = same.next().unwrap_or_else(|| panic!("{ends:?} was not found; unread: {unread:?}"));
    assert_eq!(same.next(), None);
    assert_eq!(one.0.event.netns, Some(own));
    one
}

fn assert_held_by_this_process((decoded, tasks): &(Decoded, Vec<Task>)) {
    let task = tasks.iter().find(|task| task.id.pid == std::process::id()).unwrap();
    let comm = fs::read("/proc/self/comm").unwrap();
    assert_eq!(task.comm.split(|byte| *byte == 0).next(), comm.strip_suffix(b"\n"));
    assert_eq!(
        (task.uid, task.ppid),
        (rustix::process::geteuid().as_raw(), std::os::unix::process::parent_id())
    );
    let ids: Vec<_> = tasks.iter().map(|task| task.id).collect();
    assert_eq!(decoded.event.process, Some((ids[0], Attribution::Holder)));
    assert_eq!(decoded.event.change, SocketChange::Seen { holders: ids, stdio: Some(Vec::new()) });
}

#[test]
fn a_listener_is_found_with_its_holder() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let found = seen(Protocol::Tcp, listener.local_addr().unwrap(), None);
    assert_eq!((found.0.event.state, found.0.event.family), (State::Listen, Family::Ipv4));
    assert_held_by_this_process(&found);
}

#[test]
fn a_socket_that_is_the_standard_input_of_a_process_is_found_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let owned = || OwnedFd::from(stream.try_clone().unwrap());
    let mut command = Command::new("/bin/sleep");
    let mut child = command.arg("60").stdin(owned()).stdout(Stdio::null()).stderr(owned()).spawn().unwrap();
    let (decoded, _) = seen(Protocol::Tcp, stream.local_addr().unwrap(), stream.peer_addr().ok());
    child.kill().unwrap();
    child.wait().unwrap();
    let SocketChange::Seen { stdio: Some(stdio), .. } = decoded.event.change else { panic!("{decoded:?}") };
    let found: Vec<_> = stdio.iter().map(|on| (on.socket, on.process.pid, &*on.descriptors)).collect();
    assert_eq!(found, [(decoded.event.id, child.id(), &[0, 2][..])]);
}

#[test]
fn both_ends_of_a_connection_are_found() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    for stream in [&client, &server] {
        let (local, remote) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        let found = seen(Protocol::Tcp, local, Some(remote));
        assert_eq!(found.0.event.state, State::Established);
        assert_held_by_this_process(&found);
    }
}

#[test]
fn a_udp_socket_is_found_and_its_cookie_is_its_identity() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let found = seen(Protocol::Udp, socket.local_addr().unwrap(), None);
    assert_eq!(found.0.event.state, State::Close);
    assert_eq!(found.0.event.id, SocketId(rustix::net::sockopt::socket_cookie(&socket).unwrap()));
    assert_held_by_this_process(&found);
}

#[test]
fn a_port_that_the_kernel_would_not_choose_was_chosen_by_the_program() {
    let range = port_range().unwrap();
    let below = (1024..*range.start()).find_map(|port| UdpSocket::bind(("127.0.0.1", port)).ok()).unwrap();
    assert!(seen(Protocol::Udp, below.local_addr().unwrap(), None).0.event.port_bound);
    let inside = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(!seen(Protocol::Udp, inside.local_addr().unwrap(), None).0.event.port_bound);
    below.connect(inside.local_addr().unwrap()).unwrap();
    let connected = seen(Protocol::Udp, below.local_addr().unwrap(), below.peer_addr().ok()).0.event;
    assert_eq!((connected.port_bound, connected.state), (false, State::Established));
}

#[test]
fn listeners_come_first() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (found, _) = read(None);
    let states = found.sockets.iter().map(|(decoded, _)| decoded.event.state == State::Listen);
    let listens: Vec<bool> = states.collect();
    assert!(listens.contains(&true) && listens.contains(&false) && listens.is_sorted_by(|a, b| a >= b));
}

#[test]
fn holders_are_found_of_sockets_that_are_there_and_of_no_others() {
    let netns = namespaces::inode(Path::new("/proc/thread-self/ns/net")).unwrap();
    let (listener, datagrams) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let cookies = [
        rustix::net::sockopt::socket_cookie(&listener).unwrap(),
        rustix::net::sockopt::socket_cookie(&datagrams).unwrap(),
    ];
    let left = |cookie, protocol| Left { id: SocketId(cookie), netns, protocol, family: Family::Ipv4 };
    let wanted =
        [left(cookies[1], Protocol::Udp), left(cookies[0], Protocol::Tcp), left(1 << 60, Protocol::Tcp)];
    let found = who_holds(&wanted, &BTreeMap::new());
    let pids = |tasks: &[Task]| tasks.iter().map(|task| task.id.pid).collect::<Vec<_>>();
    let found: Vec<_> = found.iter().map(|(id, tasks)| (id.0, pids(tasks))).collect();
    let mut expected = cookies.map(|cookie| (cookie, vec![std::process::id()]));
    expected.sort_unstable();
    assert_eq!(found, expected);
    drop(listener);
    assert_eq!(who_holds(&wanted[1..], &BTreeMap::new()), []);
}

#[test]
fn a_namespace_that_is_not_there_is_named() {
    let (found, unread) = read(Some(1));
    assert!(found.sockets.is_empty() && found.namespaces.is_empty());
    assert!(unread.iter().any(|sentence| sentence.contains("namespace 1, which cannot")), "{unread:?}");
}
