//! One run of QEMU: boots a kernel with an initramfs, shows the serial console line by line, and learns from
//! it how the guest ended. Emulation only: hosts that allow no nested virtualisation are the rule in CI.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::counter;
use super::protocol::EXIT;
use crate::architecture::Architecture;
use crate::command;
use crate::debian::{self, Need};

/// A kernel that rewrites its own code puts a breakpoint (int3) there meanwhile. In emulation on more than one
/// thread a processor can run into the old translation, and the kernel panics: this stands in its last words.
pub(crate) const EMULATION_FAULT: &str = "int3: 0000 [#1]";

/// Processors of a guest whose clock is the host's.
pub(crate) const PROCESSORS: usize = 2;

const POWER_OFF: Duration = Duration::from_secs(10);

/// How the guest ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Init said this exit status and powered off.
    Exit(i32),
    /// QEMU ended without init's last line: a panic, or a kernel that did not boot.
    NoWord,
    /// The time was up and QEMU was ended.
    TimedOut,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(status) => write!(f, "with exit status {status}"),
            Self::NoWord => f.write_str("without a word from init (a panic, or the kernel did not boot)"),
            Self::TimedOut => f.write_str("because its time was up"),
        }
    }
}

/// What the guest's clock tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The time of the host; [`PROCESSORS`], emulated at the same time.
    Host,
    /// The instructions that were executed, a nanosecond each; one processor. Two runs of the same work take the
    /// same time, however busy the host is, and waiting takes none.
    Instructions,
}

/// What is booted.
pub(crate) struct Boot<'a> {
    /// The kernel's image.
    pub(crate) kernel: &'a Path,
    /// The processor that it runs on.
    pub(crate) architecture: Architecture,
    /// The guest's file system.
    pub(crate) initramfs: &'a Path,
    /// More words of the kernel's command line.
    pub(crate) parameters: &'a str,
    /// What its clock tells.
    pub(crate) clock: Clock,
}

/// Sees to it that the emulator is there.
pub(crate) fn ensure(architecture: Architecture) -> Result<()> {
    let (program, package) = emulator(architecture);
    debian::ensure("the virtual machine", &[Need::program(program, package)])
}

/// The emulator with its version, as it says itself; it is installed if it is missing.
pub(crate) fn version(architecture: Architecture) -> Result<String> {
    ensure(architecture)?;
    let said = command::text(Command::new(emulator(architecture).0).arg("--version"))?;
    Ok(said.lines().next().unwrap_or_default().trim().to_owned())
}

/// The program, and the package that has it.
fn emulator(architecture: Architecture) -> (&'static str, &'static str) {
    match architecture {
        Architecture::X86_64 => ("qemu-system-x86_64", "qemu-system-x86"),
        Architecture::Aarch64 => ("qemu-system-aarch64", "qemu-system-arm"),
    }
}

/// Boots and waits for the end, at most `limit`. Each line of the console is given to `see`.
pub(crate) fn boot(boot: &Boot<'_>, limit: Duration, see: impl FnMut(&str)) -> Result<Ending> {
    let mut qemu = invocation(boot);
    let mut child = qemu.spawn().context("cannot start QEMU")?;
    let Some(console) = child.stdout.take() else { bail!("QEMU has no console") };
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(|line| line.ok()) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                break;
            }
        }
    });
    let ending = watch(&lines, Instant::now() + limit, see);
    end(&mut child)?;
    Ok(ending)
}

fn watch(lines: &Receiver<String>, mut deadline: Instant, mut see: impl FnMut(&str)) -> Ending {
    let mut ending = Ending::NoWord;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if let Some(status) = exit_status(&line) {
                    ending = Ending::Exit(status);
                    // What remains is to power off; a guest that cannot has still said how it ended.
                    deadline = deadline.min(Instant::now() + POWER_OFF);
                }
                see(&line);
            }
            Err(RecvTimeoutError::Disconnected) => return ending,
            Err(RecvTimeoutError::Timeout) if ending == Ending::NoWord => return Ending::TimedOut,
            Err(RecvTimeoutError::Timeout) => return ending,
        }
    }
}

fn exit_status(line: &str) -> Option<i32> {
    line.strip_prefix(EXIT)?.trim().parse().ok()
}

fn end(child: &mut Child) -> Result<()> {
    // It has closed its console or is late: nothing is lost by ending it.
    if child.try_wait()?.is_none() {
        std::thread::sleep(Duration::from_millis(200));
        child.kill().ok();
    }
    child.wait().context("waiting for QEMU")?;
    Ok(())
}

fn invocation(boot: &Boot<'_>) -> Command {
    let mut qemu = Command::new(emulator(boot.architecture).0);
    let console = match boot.architecture {
        Architecture::X86_64 => {
            // Without cmpxchg16b: with it, emulation in QEMU 7.2 lets the guest's allocator crash under load.
            //
            // On a busy host the kernel measures its clock wrongly, finds that out later and rewrites its own code,
            // which emulation can get wrong (see EMULATION_FAULT). The emulated counter is the host's: its rate
            // is told. Where instructions are counted, the counter is the virtual clock, in nanoseconds.
            let (processor, kilohertz) = match boot.clock {
                // Emulation copies and clears byte by byte where the kernel is told that to do so is fast, and walks one
                // level of page tables more than there need be. Without: a tracer starts in 4.1 s in place of 4.7 s.
                // To memmove() of 5.10 and 6.1 fsrm implies erms: with fsrm alone they hang while they boot.
                Clock::Host => ("max,-cx16,-erms,-fsrm,-la57", counter::kilohertz()),
                Clock::Instructions => ("max,-cx16", 1_000_000),
            };
            qemu.args(["-cpu", processor]);
            format!("ttyS0 tsc=reliable tsc_early_khz={kilohertz}")
        }
        Architecture::Aarch64 => {
            // Pointer authentication takes a tenth of the time in emulation even by an algorithm of the emulator's own, and
            // most of it by the architecture's.
            qemu.args(["-machine", "virt", "-cpu", "max,pauth=off"]);
            "ttyAMA0".to_owned()
        }
    };
    match boot.clock {
        Clock::Host => qemu.args(["-accel", "tcg,thread=multi", "-smp", &PROCESSORS.to_string()]),
        Clock::Instructions => {
            qemu.args(["-accel", "tcg,thread=single", "-smp", "1", "-icount", "shift=0,sleep=off"])
        }
    };
    qemu.args(["-m", "1024"]);
    qemu.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]);
    qemu.arg("-append").arg(format!("console={console} quiet panic=-1 {}", boot.parameters));
    qemu.arg("-kernel").arg(boot.kernel).arg("-initrd").arg(boot.initramfs);
    qemu.stdin(Stdio::null()).stdout(Stdio::piped());
    qemu
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(lines: &[&str], limit: Duration) -> Ending {
        let (sender, receiver) = mpsc::channel();
        for line in lines {
            sender.send((*line).to_owned()).unwrap();
        }
        // A guest that is still running keeps its end open.
        let running = limit.is_zero().then(|| sender.clone());
        drop(sender);
        let ending = watch(&receiver, Instant::now() + limit, |_| {});
        drop(running);
        ending
    }

    #[test]
    fn the_status_is_what_init_said() {
        let minute = Duration::from_secs(60);
        assert_eq!(watched(&["boot", "VM-EXIT 0"], minute), Ending::Exit(0));
        assert_eq!(watched(&["VM-EXIT 101"], minute), Ending::Exit(101));
    }

    #[test]
    fn silence_a_panic_and_lateness_are_no_success() {
        let minute = Duration::from_secs(60);
        assert_eq!(watched(&["Kernel panic", "VM-EXIT"], minute), Ending::NoWord);
        assert_eq!(watched(&["the text VM-EXIT 0 inside a line"], minute), Ending::NoWord);
        assert_eq!(watched(&["boot"], Duration::ZERO), Ending::TimedOut);
    }
}
