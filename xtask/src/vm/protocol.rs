//! What xtask and the guest's first process agree on. Both programs include this file.

/// Commands to run, one a line; the words of a line are separated by [`SEPARATOR`].
pub(crate) const COMMANDS: &str = "/etc/commands";
/// Kernel modules to load, one path a line, dependencies first.
pub(crate) const MODULES: &str = "/etc/modules";
/// Separates words of a command; no word holds it.
pub(crate) const SEPARATOR: char = '\t';
/// Begins the line that ends the run; the first exit status of the commands that is not 0 follows, or 0.
pub(crate) const EXIT: &str = "VM-EXIT ";
