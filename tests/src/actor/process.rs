//! Starting an actor and giving it orders.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal};

use super::order::Answer;
use super::root::{Layers, Root};
use super::stage::ARGUMENT;
use super::{Kind, Order, Outcome, SocketOption};
use crate::load::{Made, Traffic};
use crate::net::Netns;

/// The executable file that an actor runs, and the words it is given besides.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    words: Vec<OsString>,
    /// The folder that is its root; that of everybody else where there is none.
    root: Option<PathBuf>,
    /// What that folder is put together from, where it is an overlay.
    layers: Option<Layers>,
    /// A file without a name, which `path` leads to as long as it is open.
    #[expect(dead_code, reason = "keeps the file open")]
    memory: Option<Arc<OwnedFd>>,
}

impl Program {
    /// The test's own binary.
    ///
    /// # Errors
    /// When `/proc/self/exe` cannot be read.
    pub fn own() -> Result<Self> {
        Ok(Self { path: std::env::current_exe()?, words: Vec::new(), root: None, layers: None, memory: None })
    }

    /// A copy of the test's binary at `path`: to the kernel and the tracer another program.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn copied_to(path: PathBuf) -> Result<Self> {
        std::fs::copy(std::env::current_exe()?, &path).with_context(|| format!("copying to {path:?}"))?;
        Ok(Self { path, ..Self::own()? })
    }

    /// A copy of the test's binary in a file that exists in memory alone.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn in_memory() -> Result<Self> {
        let file = memfd_create("program", MemfdFlags::CLOEXEC)?;
        let mut copy = File::from(file.try_clone()?);
        std::io::copy(&mut File::open(std::env::current_exe()?)?, &mut copy)?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        Ok(Self { path, memory: Some(Arc::new(file)), ..Self::own()? })
    }

    /// The program that [`root::furnish`] put at `path` below `root`, with that folder for its root.
    ///
    /// # Errors
    /// Those of [`Self::own`].
    pub fn with_root(root: &Path, path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), root: Some(root.to_owned()), ..Self::own()? })
    }

    /// The program that [`root::furnish`] put at `path` into one of the layers, with their overlay for its root.
    ///
    /// # Errors
    /// Those of [`Self::own`].
    pub fn with_layers(layers: &Layers, path: &Path) -> Result<Self> {
        Ok(Self { layers: Some(layers.clone()), ..Self::with_root(&layers.merged(), path)? })
    }

    /// Adds an argument that the actor ignores, as raw bytes without NUL.
    #[must_use]
    pub fn with_argument(mut self, bytes: &[u8]) -> Self {
        self.words.push(OsString::from_vec(bytes.to_vec()));
        self
    }

    /// Where the executable lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A process in a namespace that does socket calls on order. It is killed when dropped.
pub struct Actor {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Actor {
    /// Starts the test's own binary as an actor in `netns`.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(netns: &Netns) -> Result<Self> {
        Self::start_as(netns, &Program::own()?)
    }

    /// Starts `program` as an actor in `netns`.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start_as(netns: &Netns, program: &Program) -> Result<Self> {
        let mut command = Command::new(&program.path);
        command.arg(ARGUMENT).args(&program.words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let netns = netns.try_clone()?;
        let layers = program.layers.as_ref();
        let root = program.root.as_deref().map(|root| Root::new(root, layers)).transpose()?;
        let prepare = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            netns.join()?;
            root.as_ref().map_or(Ok(()), Root::enter)
        };
        // SAFETY: between fork and exec only system calls are made; nothing is allocated.
        unsafe { command.pre_exec(prepare) };
        let mut child = command.spawn().with_context(|| format!("starting {:?}", program.path))?;
        let orders = child.stdin.take().context("an actor without stdin")?;
        let answers = BufReader::new(child.stdout.take().context("an actor without stdout")?);
        Ok(Self { child, orders, answers })
    }

    /// The process id, as the initial pid namespace has it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives an order without waiting for its answer, which [`Self::answer`] then reads.
    ///
    /// # Errors
    /// When the actor is gone.
    pub fn begin(&mut self, order: &Order) -> Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.orders.write_all(&line).with_context(|| format!("ordering {order:?}"))
    }

    /// Waits for the answer to an order: its outcome, or the errno of the call that failed.
    ///
    /// # Errors
    /// When the actor is gone.
    pub fn answer(&mut self) -> Result<Result<Outcome, Errno>> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("the actor {} ended without an answer", self.pid());
        }
        let answer: Answer = serde_json::from_str(&line)?;
        Ok(answer.map_err(Errno::from_raw_os_error))
    }

    /// Gives an order and waits for its answer.
    ///
    /// # Errors
    /// When the actor is gone.
    pub fn attempt(&mut self, order: &Order) -> Result<Result<Outcome, Errno>> {
        self.begin(order)?;
        self.answer()
    }

    /// Gives an order that must succeed.
    ///
    /// # Errors
    /// When the actor is gone or the call failed.
    pub fn perform(&mut self, order: &Order) -> Result<Outcome> {
        self.attempt(order)?.map_err(|errno| anyhow!("{order:?}: {errno}"))
    }

    /// Makes a load, and waits for its end.
    ///
    /// # Errors
    /// Those of [`Self::perform`].
    pub fn make(&mut self, traffic: Traffic) -> Result<Made> {
        self.begin(&Order::Make(traffic))?;
        self.made()
    }

    /// Waits for the end of a load that was begun.
    ///
    /// # Errors
    /// When the actor is gone or a call failed.
    pub fn made(&mut self) -> Result<Made> {
        let outcome = self.answer()?.map_err(|errno| anyhow!("a load: {errno}"))?;
        Ok(Made { count: outcome.count, nanoseconds: outcome.took_ns })
    }

    /// A new socket of the family of `near`.
    ///
    /// # Errors
    /// Those of [`Self::perform`].
    pub fn socket(&mut self, kind: Kind, near: SocketAddr) -> Result<i32> {
        self.perform(&Order::Socket { kind, v6: near.is_ipv6() })?.fd.context("a socket without a number")
    }

    /// Sets an option of a socket.
    ///
    /// # Errors
    /// Those of [`Self::perform`].
    pub fn set(&mut self, fd: i32, option: SocketOption) -> Result<()> {
        self.perform(&Order::Set { fd, option }).map(drop)
    }

    /// Binds a new TCP socket (`SO_REUSEADDR`) and listens.
    ///
    /// # Errors
    /// Those of [`Self::perform`].
    pub fn listen(&mut self, at: SocketAddr) -> Result<i32> {
        let fd = self.socket(Kind::Tcp, at)?;
        self.set(fd, SocketOption::ReuseAddress)?;
        self.perform(&Order::Bind { fd, to: at })?;
        self.perform(&Order::Listen { fd })?;
        Ok(fd)
    }

    /// Connects a new TCP socket; answers its descriptor.
    ///
    /// # Errors
    /// Those of [`Self::perform`].
    pub fn connect(&mut self, to: SocketAddr) -> Result<i32> {
        let fd = self.socket(Kind::Tcp, to)?;
        self.perform(&Order::Connect { fd, to })?;
        Ok(fd)
    }

    /// Tries to connect a new TCP socket; answers the errno, which must come.
    ///
    /// # Errors
    /// When the actor is gone or the connect succeeds.
    pub fn connect_in_vain(&mut self, to: SocketAddr) -> Result<Errno> {
        let fd = self.socket(Kind::Tcp, to)?;
        match self.attempt(&Order::Connect { fd, to })? {
            Ok(_) => bail!("the connect to {to} succeeded"),
            Err(errno) => {
                self.close(fd)?;
                Ok(errno)
            }
        }
    }

    /// Accepts one connection, asking for the peer's address.
    ///
    /// # Errors
    /// Those of [`Self::perform`].
    pub fn accept(&mut self, fd: i32) -> Result<i32> {
        self.perform(&Order::Accept { fd, with_address: true })?.fd.context("an accept without a socket")
    }

    /// Binds a new UDP socket.
    ///
    /// # Errors
    /// Those of [`Self::perform`].
    pub fn bind_udp(&mut self, at: SocketAddr) -> Result<i32> {
        let fd = self.socket(Kind::Udp, at)?;
        self.perform(&Order::Bind { fd, to: at })?;
        Ok(fd)
    }

    /// The address that a socket has on this side.
    ///
    /// # Errors
    /// Those of [`Self::perform`].
    pub fn local(&mut self, fd: i32) -> Result<SocketAddr> {
        self.perform(&Order::LocalAddress { fd })?.address.context("a socket without an address")
    }

    /// Sends one datagram to `to`.
    ///
    /// # Errors
    /// Those of [`Self::perform`].
    pub fn send_to(&mut self, fd: i32, to: SocketAddr) -> Result<()> {
        self.perform(&Order::SendTo { fd, to, bytes: 20, count: 1, spacing_us: 0 }).map(drop)
    }

    /// Gives a socket to another actor (`SCM_RIGHTS`) and keeps it too; answers the other's descriptor.
    ///
    /// # Errors
    /// Those of [`Self::perform`].
    pub fn give(&mut self, fd: i32, to: &mut Self) -> Result<i32> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("door");
        let opened = to.perform(&Order::OpenDoor { path: path.clone() })?;
        let door = opened.fd.context("a door without a number")?;
        self.perform(&Order::Give { fd, path })?;
        let given = to.perform(&Order::TakeIn { fd: door })?.fd.context("a socket without a number")?;
        to.close(door)?;
        Ok(given)
    }

    /// Ends the process, and waits until it has ended.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn end(mut self) -> Result<()> {
        self.begin(&Order::Exit)?;
        self.child.wait().map(drop).context("waiting for an actor's end")
    }

    /// Closes a socket.
    ///
    /// # Errors
    /// Those of [`Self::perform`].
    pub fn close(&mut self, fd: i32) -> Result<()> {
        self.perform(&Order::Close { fd }).map(drop)
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // Both fail only when the process is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
