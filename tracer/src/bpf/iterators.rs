//! The iterators: every descriptor of every task, and every socket of the namespace that the
//! calling thread is in.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd},
};

use aya::{
    Btf, Ebpf,
    programs::{Iter, iter::IterLink},
};

use super::{
    attach::explain,
    loader::{LoadError, chain},
};

/// Program and kind of each iterator.
const ITERATORS: [(Target, &str, &str); 3] =
    [(Target::Held, "held", "task_file"), (Target::Tcp, "seen_tcp", "tcp"), (Target::Udp, "seen_udp", "udp")];

/// What an iterator walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every descriptor of every task of the caller's pid namespace.
    Held,
    /// Every TCP socket of a network namespace.
    Tcp,
    /// Every UDP socket of a network namespace.
    Udp,
}

/// The loaded programs; those of a plan live here as well.
pub struct Iterators {
    ebpf: Ebpf,
    refused: Option<String>,
}

/// A walk that has not begun; it begins in the namespace of the thread that opens it.
pub struct Walk(IterLink);

impl Iterators {
    /// Loads the iterator programs of an object; what is refused is kept for [`Iterators::refused`].
    #[must_use]
    pub fn load(mut ebpf: Ebpf, btf: &Btf) -> Self {
        let refused = ITERATORS.into_iter().find_map(|(_, name, kind)| {
            let loaded = iterator(&mut ebpf, name).and_then(|p| p.load(kind, btf).map_err(|e| explain(&e)));
            loaded.err().map(|why| format!("iter {kind}: {why}"))
        });
        Self { ebpf, refused }
    }

    /// Program and kind of each.
    pub(super) const NAMES: [(&'static str, &'static str); 3] = [
        (ITERATORS[0].1, ITERATORS[0].2),
        (ITERATORS[1].1, ITERATORS[1].2),
        (ITERATORS[2].1, ITERATORS[2].2),
    ];

    /// Loads one of the iterator programs alone.
    pub(super) fn try_one(ebpf: &mut Ebpf, btf: &Btf, program: &str) -> Result<(), String> {
        let (_, name, kind) =
            ITERATORS.into_iter().find(|(_, name, _)| *name == program).ok_or("not an iterator")?;
        iterator(ebpf, name)?.load(kind, btf).map_err(|e| explain(&e))
    }

    /// Why the sockets cannot be read by iterators here; nothing when they can.
    #[must_use]
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// The plan's programs that are loaded.
    pub(super) fn programs(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.ebpf.programs().filter_map(|(name, program)| Some((name, program.fd().ok()?.as_fd())))
    }

    /// Prepares a walk.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn walk(&mut self, target: Target) -> Result<Walk, LoadError> {
        if let Some(why) = self.refused() {
            return Err(LoadError::Hook { hook: "baseline".to_owned(), why: why.to_owned() });
        }
        let (_, name, kind) = ITERATORS.into_iter().find(|(t, ..)| *t == target).unwrap_or(ITERATORS[0]);
        let link = iterator(&mut self.ebpf, name).and_then(|program| {
            let id = program.attach().map_err(|e| chain(&e))?;
            program.take_link(id).map_err(|e| chain(&e))
        });
        link.map(Walk).map_err(|why| LoadError::Hook { hook: format!("iter {kind}"), why })
    }
}

impl Walk {
    /// Begins the walk; reading the file gives the records.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(self) -> Result<File, LoadError> {
        self.0.into_file().map_err(|e| LoadError::Hook { hook: "iter".to_owned(), why: chain(&e) })
    }
}

fn iterator<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Iter, String> {
    let program = ebpf.program_mut(name).ok_or("not in the object")?;
    program.try_into().map_err(|e| chain(&e))
}
