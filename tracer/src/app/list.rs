//! `tracer list`: one picture of every socket, with verdicts.

use std::{collections::BTreeSet, panic::resume_unwind, thread};

use super::{Failure, complain, ended, format, only_netns, own_netns, pipeline::Pipeline, read_policies};
use crate::{
    bpf::{kernel::Kernel, loader},
    cli::{HooksArg, ListArgs},
    model::event::{Coverage, Event, Fact, Start},
    privileges,
    sink::{stream::Stream, writer::Ahead},
    source::{
        baseline::{self, Baseline},
        live::{boot_now, kernel_release},
        namespaces::Names,
        processes::Processes,
        sockdiag,
    },
};

pub(super) fn run(args: &ListArgs) -> Result<u8, Failure> {
    let policies = read_policies(&args.watch.policy)?;
    let only = only_netns(args.watch.netns.as_ref())?;
    let processes = if args.hash { Processes::hashed() } else { Processes::new() };
    let preparing = thread::spawn(|| processes.prepared());
    let picture = picture(args.watch.hooks, only)?;
    if args.watch.strict && picture.coverage.iter().any(|row| row.why.is_some()) {
        let missing: Vec<_> = picture.coverage.iter().filter_map(|row| row.why.clone()).collect();
        return Err(Failure::Unsupported(format!("--strict: {}", missing.join("; "))));
    }
    let out = Ahead::stdout().map_err(|e| Failure::Input(format!("standard output: {e}")))?;
    let stream = Stream::new(out, format(args.print), true);
    let mut pipeline = Pipeline::new(stream, args.watch.record.as_deref())?;
    let start = Start {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: kernel_release(),
        hooks: picture.by.to_owned(),
        netns: own_netns(),
        provenance: !args.watch.no_provenance,
        coverage: picture.coverage,
    };
    pipeline.begin(start, policies)?;
    let processes = preparing.join().unwrap_or_else(|panic| resume_unwind(panic));
    tell(picture.found, processes, &mut pipeline)?;
    let flagged = pipeline.flagged;
    let left = ended(pipeline.end()?.finish())?;
    Ok(u8::from(flagged && args.exit_code && !left))
}

struct Picture {
    by: &'static str,
    coverage: Vec<Coverage>,
    found: Baseline,
}

/// Reads the sockets by iterators; where they are not to be had, by sock_diag and /proc, and says
/// what that leaves out.
fn picture(hooks: HooksArg, only: Option<u32>) -> Result<Picture, Failure> {
    let why = match hooks {
        HooksArg::Poll => "--hooks poll".to_owned(),
        HooksArg::Auto | HooksArg::Fentry | HooksArg::Kprobe | HooksArg::Tracepoint => match iterate(only) {
            Ok(found) => return Ok(Picture { by: "iterators", coverage: seen("BPF iterators"), found }),
            Err(why) if hooks != HooksArg::Auto => return Err(super::rung::unsupported(&why)),
            Err(why) => why,
        },
    };
    let (found, unread) = sockdiag::read(only);
    let mut coverage = seen("sock_diag and /proc");
    for what in &unread {
        coverage.push(Coverage { event: what.clone(), by: None, why: Some(why.clone()) });
    }
    if !unread.is_empty() {
        let advice = privileges::advice().map(|advice| format!("; to see all, {advice}")).unwrap_or_default();
        complain(&format!("not read: {}{advice}", unread.join("; ")));
    }
    Ok(Picture { by: "sock_diag", coverage, found })
}

fn seen(by: &str) -> Vec<Coverage> {
    vec![Coverage { event: "seen".to_owned(), by: Some(by.to_owned()), why: None }]
}

fn iterate(only: Option<u32>) -> Result<Baseline, String> {
    let kernel = Kernel::read().map_err(|e| e.to_string())?;
    let settings = loader::settings(None, None);
    let mut iterators = loader::load_iterators(&kernel, settings).map_err(|e| e.to_string())?;
    // Its many types go with the program; to take them down one by one takes longer than to print a thousand sockets.
    std::mem::forget(kernel);
    baseline::read(&mut iterators, only).map_err(|e| e.to_string())
}

/// The picture as events: names and addresses of namespaces, then each socket after its holders.
fn tell(found: Baseline, mut processes: Processes, pipeline: &mut Pipeline<Ahead>) -> Result<(), Failure> {
    let at = boot_now();
    let mut facts = Vec::new();
    Names::default().read(at, &mut facts);
    for (netns, namespace) in found.namespaces {
        let own: BTreeSet<_> = namespace.own;
        facts.push(Fact::Addresses { netns, own: own.into_iter().collect() });
    }
    for (decoded, holders) in found.sockets {
        for task in &holders {
            processes.tell(task, at, &mut facts);
        }
        facts.push(Fact::Socket(decoded.event));
        for fact in facts.drain(..) {
            pipeline.take(&Event { at, fact })?;
        }
    }
    facts.push(Fact::Ready);
    facts.into_iter().try_for_each(|fact| pipeline.take(&Event { at, fact }))
}
