//! One network namespace, held by a descriptor only: when the test's process ends, however it ends,
//! the kernel takes the namespace and everything in it away.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::thread;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::netlink::Netlink;

/// A network namespace.
pub struct Netns {
    file: File,
    inode: u32,
}

impl Netns {
    /// Makes a new, empty namespace with its loopback device down.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN.
    pub fn new() -> Result<Self> {
        let made = thread::scope(|scope| scope.spawn(unshared).join());
        let file = made.map_err(|_| anyhow!("the thread that makes a namespace panicked"))??;
        let inode = u32::try_from(file.metadata()?.ino())?;
        Ok(Self { file, inode })
    }

    /// Makes a new namespace in which the loopback device is up and nothing else is.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN.
    pub fn with_loopback() -> Result<Self> {
        let netns = Self::new()?;
        netns.enter(|| Netlink::open()?.set_up("lo"))?;
        Ok(netns)
    }

    /// A second descriptor of the same namespace.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self { file: self.file.try_clone()?, inode: self.inode })
    }

    /// The number by which the kernel and the tracer name this namespace.
    #[must_use]
    pub fn inode(&self) -> u32 {
        self.inode
    }

    /// Runs `work` on a thread of its own that stands in this namespace.
    ///
    /// # Errors
    /// Those of `work`, and when the namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let inside = || {
            self.join().context("entering a network namespace")?;
            work()
        };
        let done = thread::scope(|scope| scope.spawn(inside).join());
        done.map_err(|_| anyhow!("work in a namespace panicked"))?
    }

    /// Moves the calling thread into this namespace, for good.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN.
    pub fn join(&self) -> rustix::io::Result<()> {
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
    }

    /// Sets a sysctl of this namespace, named by its path below `/proc/sys/net`.
    ///
    /// # Errors
    /// When the kernel does not know it or refuses the value.
    pub fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        self.enter(|| sysctl(path, value))
    }
}

/// As [`Netns::sysctl`], of the namespace that the calling thread stands in.
pub(super) fn sysctl(path: &str, value: &str) -> Result<()> {
    let file = format!("/proc/sys/net/{path}");
    std::fs::write(&file, value).with_context(|| format!("writing {file}"))
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn unshared() -> Result<File> {
    // SAFETY: only the network namespace of this short-lived thread changes; no descriptor table or
    // file system view is unshared that other code could rely on.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
        .context("a new network namespace needs root")?;
    File::open("/proc/thread-self/ns/net").context("opening the new namespace")
}
