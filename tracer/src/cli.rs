//! What was typed: commands, options and their help texts, from one definition that also gives the shell
//! completions and the man page. What it means is decided elsewhere.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::PathBuf,
    time::Duration,
};

use clap::{
    Args, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint,
    builder::{OsStringValueParser, TypedValueParser},
};
use clap_complete::Shell;

#[cfg(test)]
mod tests;

const EXAMPLES: &str = "\
Examples:
  tracer                          flagged sockets, then flags as they happen, until Ctrl-C
  tracer list                     one picture of every socket, then end
  tracer --all --json             every event, as JSON Lines
  tracer --policy base.toml       with a policy of what is expected
  tracer --record run.jsonl       keep every event ...
  tracer replay run.jsonl         ... and triage it again, anywhere
  tracer explain udp-twin         what a rule means and what to check next
  tracer doctor                   what this kernel and these privileges allow

Exit codes:
  0  done; also when the reader of standard output has gone
  1  something is flagged (only with --exit-code)
  2  wrong usage or input, or an output that cannot be written
  3  not permitted or not supported here

Results go to standard output, everything else to standard error.";

const LIST_EXAMPLES: &str = "\
Examples:
  tracer list                     all sockets of all network namespaces
  tracer list --netns self        those of this one
  tracer list --json --hash       with the SHA-256 of what runs
  tracer list --exit-code         exit 1 when something is flagged, for scripts";

const REPLAY_EXAMPLES: &str = "\
Examples:
  tracer replay run.jsonl
  zcat run.jsonl.gz | tracer replay --json -";

/// Streams triaged socket events: what is talking here, and is any of it wrong?
///
/// Without a command it does what `live` does: reads the sockets that are there, then prints a line for each
/// socket that nothing explains, the moment the kernel changes it.
#[derive(Debug, Parser)]
#[command(name = "tracer", version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
#[command(max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    live: LiveArgs,
}

impl Cli {
    /// The command that was meant: `live` where none was typed.
    #[must_use]
    pub fn command(self) -> Command {
        self.command.unwrap_or(Command::Live(self.live))
    }
}

/// The commands.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Command {
    /// Stream flagged events until SIGINT or SIGTERM (what no command does)
    #[command(after_help = EXAMPLES)]
    Live(LiveArgs),
    /// Print every socket with its verdict, then end
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Triage a recording: the records that the live run gave
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(ReplayArgs),
    /// Explain a rule, why it matters and what to check next; without a name, all rules
    Explain(ExplainArgs),
    /// Tell what this kernel and these privileges allow, and what would stay unseen
    Doctor(DoctorArgs),
    /// Work with policies
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Print the completions for a shell
    Completions(CompletionsArgs),
    /// Print the man page
    Man,
}

/// Options of `tracer live`.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct LiveArgs {
    #[expect(missing_docs, reason = "a doc comment would become its help heading")]
    #[command(flatten)]
    pub print: PrintArgs,
    /// Print every event, not only the flagged ones
    #[arg(long)]
    pub all: bool,
    #[expect(missing_docs, reason = "a doc comment would become its help heading")]
    #[command(flatten)]
    pub watch: WatchArgs,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<Duration>,
    /// Prove every so many seconds that each hook still delivers, by traffic in a network namespace of the
    /// tracer's own, which is not reported; a hook that does not becomes a `degraded` record. 0: only at the
    /// start
    #[arg(long, value_name = "SECONDS", default_value = "180", value_parser = seconds_or_0)]
    pub self_test: Duration,
    /// Create this file once all hooks are attached and the sockets have been read: from then on nothing is
    /// missed
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub ready_file: Option<PathBuf>,
}

/// Options of `tracer list`.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct ListArgs {
    #[expect(missing_docs, reason = "a doc comment would become its help heading")]
    #[command(flatten)]
    pub print: PrintArgs,
    /// Accepted for the sake of habit: all sockets are always listed.
    #[arg(long, hide = true)]
    pub all: bool,
    #[expect(missing_docs, reason = "a doc comment would become its help heading")]
    #[command(flatten)]
    pub watch: WatchArgs,
    /// Add the SHA-256 of every executable and script that holds a socket; of files over 64 MiB the record says why not
    #[arg(long)]
    pub hash: bool,
    /// Exit 1 when something is flagged
    #[arg(long)]
    pub exit_code: bool,
}

/// Options of `tracer replay`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct ReplayArgs {
    /// The recording; `-` is standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// A file that says what is expected, in place of the recorded ones; may be given more than once
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub policy: Vec<PathBuf>,
    /// Let nothing but policies explain a socket, as with this option of `tracer live`
    #[arg(long)]
    pub no_provenance: bool,
    #[expect(missing_docs, reason = "a doc comment would become its help heading")]
    #[command(flatten)]
    pub print: PrintArgs,
    /// Print every event, not only the flagged ones
    #[arg(long)]
    pub all: bool,
    /// Exit 1 when something is flagged
    #[arg(long)]
    pub exit_code: bool,
}

/// How records are printed.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrintArgs {
    /// Print JSON Lines instead of text: one record a line
    #[arg(long)]
    pub json: bool,
    /// When to use colours; `auto` is on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
}

/// What is watched, and how.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct WatchArgs {
    /// A file that says what is expected; may be given more than once
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub policy: Vec<PathBuf>,
    /// Let nothing but policies explain a socket: else TCP listeners and UDP server ports of programs are explained that
    /// are as their installed package shipped them and run as a service of this system
    #[arg(long)]
    pub no_provenance: bool,
    /// Only sockets of this network namespace: its inode number, a path such as /run/netns/NAME, or `self`
    #[arg(long, value_name = "ID|PATH|self", value_hint = ValueHint::FilePath)]
    #[arg(value_parser = OsStringValueParser::new().try_map(netns))]
    pub netns: Option<NetnsArg>,
    /// The hook plan; one other than `auto` is used or fails, never replaced
    #[arg(long, value_name = "PLAN", default_value = "auto")]
    pub hooks: HooksArg,
    /// Refuse to start (exit 3) when anything of the base set would stay unseen, or a hook does not deliver
    #[arg(long)]
    pub strict: bool,
    /// Keep every event in this file, for `tracer replay`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub record: Option<PathBuf>,
}

/// Options of `tracer doctor`.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoctorArgs {
    /// Print tab-separated lines instead: for each program its plan, name, attach point, `loaded` or why not,
    /// verified instructions and size in bytes; then each plan, and the one that `live` would use
    #[arg(long)]
    pub programs: bool,
}

/// Arguments of `tracer explain`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct ExplainArgs {
    /// Id of the rule, as records name it
    pub rule: Option<String>,
}

/// The commands of `tracer policy`.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum PolicyCommand {
    /// Check a policy: what is wrong, with line and column
    Check {
        /// The policy
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}

/// Arguments of `tracer completions`.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// A hook plan, or the best that loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HooksArg {
    /// The first plan that this kernel and these privileges allow; `poll`, with a warning, where none is
    Auto,
    /// Trampolines on kernel functions
    Fentry,
    /// Breakpoints on kernel functions
    Kprobe,
    /// Tracepoints, cgroup programs and iterators
    Tracepoint,
    /// No hooks, no privileges: the sockets are read twice a second, short-lived ones are missed
    Poll,
}

/// A network namespace, as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetnsArg {
    /// By its inode number.
    Id(u32),
    /// By a file such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    Path(PathBuf),
    /// The tracer's own.
    SelfNs,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Color {
    /// Whether to use colours, given whether standard output is a terminal and the value of the environment's
    /// `NO_COLOR`, which counts when it is not empty (no-color.org).
    #[must_use]
    pub fn wanted(self, terminal: bool, no_color: Option<&OsStr>) -> bool {
        match self {
            Self::Auto => terminal && no_color.is_none_or(OsStr::is_empty),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) | Err(_) => Err("must be more than 0 seconds, and finite".to_owned()),
    }
}

fn seconds_or_0(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "must be 0 or more seconds, and finite".to_owned())
}

fn netns(name: OsString) -> Result<NetnsArg, String> {
    match name.to_str() {
        Some("") => Err("an inode number, a path or `self` is needed".to_owned()),
        Some("self") => Ok(NetnsArg::SelfNs),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
            .parse()
            .map(NetnsArg::Id)
            .map_err(|_| "inode numbers of namespaces have 32 bits".to_owned()),
        Some(_) | None => Ok(NetnsArg::Path(name.into())),
    }
}

/// Writes the completions for a shell.
///
/// # Errors
/// Those of `out`.
pub fn completions(shell: Shell, out: &mut dyn io::Write) -> io::Result<()> {
    // It panics when a write fails, and memory does not.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command_definition(), "tracer", &mut text);
    out.write_all(&text)
}

impl Cli {
    /// The definition of commands and options.
    #[must_use]
    pub fn command_definition() -> clap::Command {
        <Self as CommandFactory>::command()
    }
}
