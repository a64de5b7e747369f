//! A process as records show it: written once, and copied into each record of it.

use std::{collections::HashMap, io, sync::Arc};

use foldhash::fast::FixedState;
use serde::Serialize;

use super::{moment, wall};
use crate::model::event::{Ancestor, Process, ProcessId};

/// Processes that are kept; past that all are forgotten, and written anew when they come again.
const REMEMBERED: usize = 4096;

/// What was written of the processes that were met.
#[derive(Debug, Default)]
pub(super) struct Processes(HashMap<ProcessId, Written, FixedState>);

#[derive(Debug)]
struct Written {
    process: Arc<Process>,
    clock_offset: i64,
    text: Box<[u8]>,
}

impl Processes {
    /// Adds the JSON of a process.
    pub(super) fn write(
        &mut self,
        process: &Arc<Process>,
        clock_offset: i64,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let written = self.0.get(&process.id);
        let written = written.filter(|w| Arc::ptr_eq(&w.process, process) && w.clock_offset == clock_offset);
        if let Some(written) = written {
            out.extend_from_slice(&written.text);
            return Ok(());
        }
        let begin = out.len();
        serde_json::to_writer(&mut *out, &ProcessFields::new(process, clock_offset))?;
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        let text = out[begin..].into();
        self.0.insert(process.id, Written { process: Arc::clone(process), clock_offset, text });
        Ok(())
    }
}

#[derive(Serialize)]
pub(super) struct ProcessFields<'a> {
    pid: u32,
    ppid: Option<u32>,
    comm: Option<&'a str>,
    exe: Option<&'a str>,
    args: Option<&'a [String]>,
    uid: Option<u32>,
    user: Option<&'a str>,
    #[serde(serialize_with = "moment")]
    started: i64,
    lineage: &'a [Ancestor],
}

impl<'a> ProcessFields<'a> {
    pub(super) fn new(process: &'a Process, clock_offset: i64) -> Self {
        Self {
            pid: process.id.pid,
            ppid: process.ppid,
            comm: process.comm.as_deref(),
            exe: process.exe.as_deref(),
            args: process.args.as_deref(),
            uid: process.uid,
            user: process.user.as_deref(),
            started: wall(process.id.started, clock_offset),
            lineage: &process.lineage,
        }
    }
}
