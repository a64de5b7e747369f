//! A process as records show it: written once, and copied into each record of it.

use std::{collections::HashMap, io, sync::Arc};

use foldhash::fast::FixedState;
use serde::Serialize;

use super::{moment, wall};
use crate::model::{
    belongs::{Belongs, Container},
    event::{Ancestor, Process, ProcessId},
    provenance::{Layer, Package, Provenance, Script, Sha256, Shipped},
};

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
    script: Option<ScriptFields<'a>>,
    package: Option<PackageFields<'a>>,
    #[serde(flatten)]
    contents: ContentsFields,
    uid: Option<u32>,
    user: Option<&'a str>,
    #[serde(flatten)]
    belongs: BelongsFields<'a>,
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
            script: process.provenance.as_ref().and_then(ScriptFields::new),
            package: process.provenance.as_ref().and_then(PackageFields::new),
            contents: process.provenance.as_ref().map(ContentsFields::new).unwrap_or_default(),
            uid: process.uid,
            user: process.user.as_deref(),
            belongs: BelongsFields::new(process.belongs.as_deref()),
            started: wall(process.id.started, clock_offset),
            lineage: &process.lineage,
        }
    }
}

/// What an interpreter runs: one of the two.
#[derive(Serialize)]
struct ScriptFields<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<&'a str>,
    #[serde(flatten)]
    contents: ContentsFields,
}

impl<'a> ScriptFields<'a> {
    fn new(found: &'a Provenance) -> Option<Self> {
        Some(match found.script.as_deref()? {
            Script::File { path, found } => {
                Self { path: Some(path), module: None, contents: ContentsFields::new(found) }
            }
            Script::Module(name) => {
                Self { path: None, module: Some(name), contents: ContentsFields::default() }
            }
        })
    }
}

/// The package that owns the executable, and whether the file is still what that shipped; null where it could not be told.
#[derive(Serialize)]
struct PackageFields<'a> {
    name: &'a str,
    intact: Option<bool>,
}

impl<'a> PackageFields<'a> {
    fn new(found: &'a Provenance) -> Option<Self> {
        let Package::Owned { name, state, believed: _ } = &found.package else { return None };
        let intact = match state {
            Shipped::Intact => Some(true),
            Shipped::Modified => Some(false),
            Shipped::Unverified => None,
        };
        Some(Self { name, intact })
    }
}

/// What the file itself tells: `layer` where it lies on an overlay, `sha256` where it was asked for; null where they could not be told.
#[derive(Default, Serialize)]
struct ContentsFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<Option<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256_unknown: Option<&'static str>,
}

impl ContentsFields {
    fn new(found: &Provenance) -> Self {
        let layer = found.layer.map(|layer| match layer {
            Layer::Upper => Some("upper"),
            Layer::Lower => Some("lower"),
            Layer::Unknown => None,
        });
        let (sha256, sha256_unknown) = match found.sha256.as_deref() {
            None => (None, None),
            Some(Sha256::Is(digest)) => (Some(Some(digest.to_string())), None),
            Some(Sha256::Unknown(why)) => (Some(None), Some(why.as_str())),
        };
        Self { layer, sha256, sha256_unknown }
    }
}

#[derive(Default, Serialize)]
struct BelongsFields<'a> {
    login_uid: Option<u32>,
    login_user: Option<&'a str>,
    session: Option<u32>,
    cgroup: Option<&'a str>,
    unit: Option<&'a str>,
    user_unit: Option<&'a str>,
    container: Option<&'a Container>,
}

impl<'a> BelongsFields<'a> {
    fn new(belongs: Option<&'a Belongs>) -> Self {
        let Some(belongs) = belongs else { return Self::default() };
        Self {
            login_uid: belongs.login_uid,
            login_user: belongs.login_user.as_deref(),
            session: belongs.session,
            cgroup: belongs.cgroup.as_deref(),
            unit: belongs.unit.as_deref(),
            user_unit: belongs.user_unit.as_deref(),
            container: belongs.container.as_ref(),
        }
    }
}
