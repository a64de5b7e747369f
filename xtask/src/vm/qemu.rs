//! One run of QEMU: boots a kernel with an initramfs, shows the serial console line by line, and learns from
//! it how the guest ended. Emulation only: hosts that allow no nested virtualisation are the rule in CI.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::protocol::EXIT;

const PROGRAM: &str = "qemu-system-x86_64";
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

/// Boots and waits for the end, at most `limit`. Each line of the console is given to `see`.
pub(crate) fn boot(
    kernel: &Path,
    initramfs: &Path,
    limit: Duration,
    see: impl FnMut(&str),
) -> Result<Ending> {
    let mut qemu = command(kernel, initramfs);
    let mut child = qemu.spawn().with_context(|| format!("cannot start {PROGRAM}"))?;
    let Some(console) = child.stdout.take() else { bail!("{PROGRAM} has no console") };
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
    child.wait().with_context(|| format!("waiting for {PROGRAM}"))?;
    Ok(())
}

fn command(kernel: &Path, initramfs: &Path) -> Command {
    let mut qemu = Command::new(PROGRAM);
    // Without cmpxchg16b: with it, emulation in QEMU 7.2 lets the guest's allocator crash under load.
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max,-cx16", "-m", "1024", "-smp", "2"]);
    qemu.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]);
    qemu.args(["-append", "console=ttyS0 quiet panic=-1"]);
    qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
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
