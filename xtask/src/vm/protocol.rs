//! What xtask and the guest's first process agree on. Both programs include this file.

/// Commands to run, one a line; the words of a line are separated by [`SEPARATOR`].
pub(crate) const COMMANDS: &str = "/etc/commands";
/// Kernel modules to load, one path a line, dependencies first.
pub(crate) const MODULES: &str = "/etc/modules";
/// Variables of every command's environment, one `NAME=VALUE` a line.
pub(crate) const ENVIRONMENT: &str = "/etc/environment";
/// Seconds that one command may take, as a number.
pub(crate) const LIMIT: &str = "/etc/limit";
/// Separates words of a command; no word holds it.
pub(crate) const SEPARATOR: char = '\t';
/// Begins the line before a command's output; the command follows.
pub(crate) const BEGIN: &str = "VM-RUN ";
/// Begins the line after a command's output; its exit status and the milliseconds that it took follow.
pub(crate) const END: &str = "VM-END ";
/// Begins the line that ends the run; the first exit status of the commands that is not 0 follows, or 0.
pub(crate) const EXIT: &str = "VM-EXIT ";
