//! Sockets that are a process's standard input, output or error: what is told of them. One that is left aside elsewhere is
//! told for as long as a process has it there.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    bpf::decode::Decoded,
    model::event::{Attribution, Fact, ProcessId, SocketChange, SocketEvent, SocketId, State, Stdio},
    research::stdio::Answer,
};

/// The processes that have such a socket.
#[derive(Default)]
pub struct OnStdio {
    users: BTreeMap<SocketId, BTreeSet<ProcessId>>,
}

impl OnStdio {
    /// What an answer tells; with `aside` nothing else is told of its socket.
    pub fn take(&mut self, answer: Answer, aside: bool) -> Vec<Fact> {
        match answer {
            Answer::Found { task, descriptors, socket } => {
                let Decoded { event, .. } = *socket;
                let stdio = Stdio { socket: event.id, process: task.id, descriptors };
                let users = self.users.entry(event.id).or_default();
                let seen = (aside && users.is_empty()).then(|| seen(event, task.id));
                users.insert(task.id);
                seen.into_iter().chain([Fact::Stdio(stdio)]).collect()
            }
            Answer::Gone { id, socket } => {
                let Decoded { event, .. } = *socket;
                let stdio = Stdio { socket: event.id, process: id, descriptors: Vec::new() };
                let is_over = self.users.get_mut(&event.id).is_none_or(|users| {
                    users.remove(&id);
                    users.is_empty()
                });
                if is_over {
                    self.users.remove(&event.id);
                }
                let close = (aside && is_over).then(|| close(event));
                [Fact::Stdio(stdio)].into_iter().chain(close).collect()
            }
        }
    }
}

fn seen(event: SocketEvent, process: ProcessId) -> Fact {
    let change = SocketChange::Seen { holders: vec![process], stdio: None };
    Fact::Socket(SocketEvent { change, process: Some((process, Attribution::Holder)), ..event })
}

fn close(event: SocketEvent) -> Fact {
    let change = SocketChange::Close { sent: None, received: None };
    Fact::Socket(SocketEvent { change, state: State::Close, ..event })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bpf::decode::{Meaning, Task},
        model::event::{Family, Protocol},
    };

    fn socket() -> Box<Decoded> {
        let event = SocketEvent {
            id: SocketId(9),
            change: SocketChange::Seen { holders: Vec::new(), stdio: None },
            netns: Some(1),
            protocol: Protocol::Tcp,
            family: Family::Ipv4,
            state: State::Established,
            local: None,
            remote: None,
            v6only: false,
            port_bound: false,
            process: None,
        };
        Box::new(Decoded { at: 1, event, meaning: Meaning::Seen, task: None, remnant: false, address: None })
    }

    fn id(pid: u32) -> ProcessId {
        ProcessId { pid, started: 1 }
    }

    fn found(pid: u32) -> Answer {
        let task = Task { id: id(pid), tid: pid, ppid: 1, uid: 0, exec_id: 0, comm: [0; 16] };
        Answer::Found { task, descriptors: vec![0], socket: socket() }
    }

    fn told(facts: &[Fact]) -> Vec<&'static str> {
        let word = |fact: &Fact| {
            if let Fact::Stdio(stdio) = fact {
                return if stdio.descriptors.is_empty() { "gone" } else { "stdio" };
            }
            let is_close =
                matches!(fact, Fact::Socket(event) if matches!(event.change, SocketChange::Close { .. }));
            if is_close { "close" } else { "seen" }
        };
        facts.iter().map(word).collect()
    }

    #[test]
    fn a_socket_that_is_left_aside_is_told_as_long_as_a_process_has_it() {
        let mut on_stdio = OnStdio::default();
        assert_eq!(told(&on_stdio.take(found(5), true)), ["seen", "stdio"]);
        assert_eq!(told(&on_stdio.take(found(6), true)), ["stdio"]);
        assert_eq!(told(&on_stdio.take(Answer::Gone { id: id(5), socket: socket() }, true)), ["gone"]);
        assert_eq!(
            told(&on_stdio.take(Answer::Gone { id: id(6), socket: socket() }, true)),
            ["gone", "close"]
        );
        assert!(on_stdio.users.is_empty());
    }

    #[test]
    fn one_that_is_told_anyway_begins_and_ends_by_itself() {
        let mut on_stdio = OnStdio::default();
        assert_eq!(told(&on_stdio.take(found(5), false)), ["stdio"]);
        assert_eq!(told(&on_stdio.take(Answer::Gone { id: id(5), socket: socket() }, false)), ["gone"]);
    }
}
