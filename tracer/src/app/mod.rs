//! What was typed becomes what is done: one file for each command that streams, and the exit codes.

mod list;
mod live;
mod pipeline;
mod replay;
mod rung;

use std::{
    io::{self, IsTerminal, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use clap::Parser;
use thiserror::Error;

use crate::{
    cli::{self, Cli, Command, DoctorArgs, ExplainArgs, NetnsArg, PolicyCommand, PrintArgs},
    doctor, man,
    model::event::PolicyFile,
    sink::{
        escape::escape,
        stream::Format,
        text::View,
        writer::{Direct, Ended, Out},
    },
    source::namespaces,
    triage::{
        explain,
        policy::{Policy, PolicyError, parse_bytes},
    },
};

/// The end of a run that did not go as asked.
#[derive(Debug, Error)]
pub enum Failure {
    /// Wrong usage or input, or an output that cannot be written: exit 2.
    #[error("{0}")]
    Input(String),
    /// Not permitted or not supported here: exit 3.
    #[error("{0}")]
    Unsupported(String),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Input(_) => 2,
            Self::Unsupported(_) => 3,
        }
    }
}

/// Runs what the command line says; gives the exit code.
#[must_use]
pub fn run() -> u8 {
    let command = Cli::parse().command();
    let done = match command {
        Command::Live(args) => live::run(&args),
        Command::List(args) => list::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Explain(args) => explain_rules(&args),
        Command::Doctor(args) => examine(args),
        Command::Policy(PolicyCommand::Check { file }) => check_policy(&file),
        Command::Completions(args) => print_by(|out| cli::completions(args.shell, out)),
        Command::Man => print_by(|out| man::render(out)),
    };
    done.unwrap_or_else(|failure| {
        complain(&failure.to_string());
        failure.code()
    })
}

/// Says something on stderr; a stderr that is gone is no reason to fail.
fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "tracer: {message}");
}

fn examine(args: DoctorArgs) -> Result<u8, Failure> {
    if !args.programs {
        return print(doctor::report().as_bytes());
    }
    let text = doctor::programs().map_err(|e| Failure::Unsupported(e.to_string()))?;
    print(text.as_bytes())
}

fn explain_rules(args: &ExplainArgs) -> Result<u8, Failure> {
    let Some(id) = &args.rule else {
        let texts: Vec<String> = explain::RULES.iter().map(ToString::to_string).collect();
        return print(texts.join("\n").as_bytes());
    };
    match explain::find(id) {
        Some(rule) => print(rule.to_string().as_bytes()),
        None => {
            let hint = explain::nearest(id).map(|near| format!(", did you mean `{near}`?"));
            let hint = hint.unwrap_or_else(|| "; `tracer explain` lists all rules".to_owned());
            Err(Failure::Input(format!("no rule `{}`{hint}", escape(id.as_bytes()))))
        }
    }
}

fn check_policy(file: &Path) -> Result<u8, Failure> {
    let (_, policy) = read_policy(file)?;
    let entries = policy.entries().len();
    let plural = if entries == 1 { "entry" } else { "entries" };
    print(format!("{}: {entries} {plural}, nothing wrong\n", shown(file)).as_bytes())
}

fn print_by(render: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<u8, Failure> {
    let mut text = Vec::new();
    render(&mut text).map_err(|e| Failure::Input(e.to_string()))?;
    print(&text)
}

/// Prints a whole text; a reader who has gone is a quiet end.
fn print(text: &[u8]) -> Result<u8, Failure> {
    let mut text = text.to_vec();
    if text.last() != Some(&b'\n') {
        text.push(b'\n');
    }
    let mut out = Direct::stdout().map_err(|e| Failure::Input(format!("standard output: {e}")))?;
    out.send(&text);
    ended(out.ended()).map(|_| 0)
}

/// How a run ends when its output did: true when it ended early.
fn ended(why: Option<Ended>) -> Result<bool, Failure> {
    match why {
        None => Ok(false),
        Some(Ended::Closed) => Ok(true),
        Some(Ended::Failed(errno)) => {
            Err(Failure::Input(format!("standard output: {}", io::Error::from(errno))))
        }
    }
}

/// Text or JSON, with colours where they are wanted.
fn format(print: PrintArgs) -> Format {
    if print.json {
        return Format::Json;
    }
    let no_color = std::env::var_os("NO_COLOR");
    let colour = print.color.wanted(io::stdout().is_terminal(), no_color.as_deref());
    Format::Text(View { colour, home: None })
}

/// Reads and checks all policies before anything else happens.
fn read_policies(files: &[PathBuf]) -> Result<Vec<PolicyFile>, Failure> {
    let mut whole = Policy::default();
    let mut texts = Vec::new();
    for file in files {
        let (text, policy) = read_policy(file)?;
        whole.extend(policy).map_err(|errors| wrong_policy(&errors))?;
        texts.push(text);
    }
    Ok(texts)
}

fn read_policy(file: &Path) -> Result<(PolicyFile, Policy), Failure> {
    let path = shown(file);
    let bytes = std::fs::read(file).map_err(|e| Failure::Input(format!("{path}: {e}")))?;
    let policy = parse_bytes(&path, &bytes).map_err(|errors| wrong_policy(&errors))?;
    Ok((PolicyFile { path, text: String::from_utf8_lossy(&bytes).into_owned() }, policy))
}

fn wrong_policy(errors: &[PolicyError]) -> Failure {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Failure::Input(lines.join("\ntracer: "))
}

/// Inode number of the network namespace that was asked for.
fn only_netns(arg: Option<&NetnsArg>) -> Result<Option<u32>, Failure> {
    let path = match arg {
        None => return Ok(None),
        Some(NetnsArg::Id(number)) => return Ok(Some(*number)),
        Some(NetnsArg::Path(path)) => path.clone(),
        Some(NetnsArg::SelfNs) => PathBuf::from("/proc/self/ns/net"),
    };
    let number = namespaces::inode(&path);
    number.map(Some).map_err(|e| {
        let meant = namespaces::called(&path);
        let advice = meant.map(|path| format!("; the namespace of that name is {}", shown(&path)));
        Failure::Input(format!("--netns {}: {e}{}", shown(&path), advice.unwrap_or_default()))
    })
}

/// Inode number of the namespace that the tracer itself is in.
fn own_netns() -> Option<u32> {
    namespaces::inode(Path::new("/proc/self/ns/net")).ok()
}

/// A path as it may be shown: escaped.
fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}
