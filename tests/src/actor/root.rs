//! A root folder of an actor's own, in a mount namespace of its own, as a container has it.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Puts a copy of the test's binary at `path` (absolute, as it is seen in there) below `root`, with the libraries that it
/// needs.
///
/// # Errors
/// When a file cannot be copied.
pub fn furnish(root: &Path, path: &Path) -> Result<()> {
    copy(&std::env::current_exe()?, &below(root, path)?)?;
    for library in libraries()? {
        copy(&library, &below(root, &library)?)?;
    }
    Ok(())
}

fn below(root: &Path, path: &Path) -> Result<PathBuf> {
    let relative = path.strip_prefix("/");
    Ok(root.join(relative.with_context(|| format!("{} is not absolute", path.display()))?))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to.parent().context("a file without a folder")?)?;
    std::fs::copy(from, to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// What is mapped into this very process beside its own file; nothing in a static one.
fn libraries() -> Result<Vec<PathBuf>> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let files = maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(5));
    let mut libraries: Vec<PathBuf> = files.filter(|file| file.contains(".so")).map(PathBuf::from).collect();
    libraries.sort_unstable();
    libraries.dedup();
    // Programs name the loader by its link.
    let loader = Path::new("/lib64/ld-linux-x86-64.so.2");
    if !libraries.is_empty() && loader.exists() {
        libraries.push(loader.to_owned());
    }
    Ok(libraries)
}

/// An overlay as a container's root is one: a layer of the image, and one for what is written in the container.
#[derive(Clone, Debug)]
pub struct Layers {
    /// Holds `lower`, `upper` and `work`, and the folder where they are put together.
    folder: PathBuf,
}

impl Layers {
    /// Makes its folders in `folder`, whose path has nothing that an option of mount(2) could not hold.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn new(folder: &Path) -> Result<Self> {
        for name in ["lower", "upper", "work", "merged"] {
            std::fs::create_dir(folder.join(name))?;
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// The layer of the image.
    #[must_use]
    pub fn lower(&self) -> PathBuf {
        self.folder.join("lower")
    }

    /// The layer of what is written.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.folder.join("upper")
    }

    /// Where the layers are one folder.
    #[must_use]
    pub fn merged(&self) -> PathBuf {
        self.folder.join("merged")
    }

    fn options(&self) -> Result<CString> {
        let layer = |name: &str| self.folder.join(name).display().to_string();
        let (lower, upper, work) = (layer("lower"), layer("upper"), layer("work"));
        Ok(CString::new(format!("lowerdir={lower},upperdir={upper},workdir={work}"))?)
    }
}

/// Paths that [`Root::enter`] needs, made before the fork.
pub(super) struct Root {
    folder: CString,
    /// Options of the overlay that is the root; where there is none, the folder is it.
    overlay: Option<CString>,
}

impl Root {
    pub(super) fn new(path: &Path, layers: Option<&Layers>) -> Result<Self> {
        ensure!(path.is_absolute(), "{} is not absolute", path.display());
        let overlay = layers.map(Layers::options).transpose()?;
        Ok(Self { folder: CString::new(path.as_os_str().as_bytes())?, overlay })
    }

    /// Gives the calling process the folder for its root, and nothing else of the file system. Only system calls are made,
    /// so that it may be called between fork and exec.
    pub(super) fn enter(&self) -> std::io::Result<()> {
        let (root, here, none) = (self.folder.as_ptr(), c".".as_ptr(), std::ptr::null());
        let done = |result: i32| if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
        let kind = c"overlay".as_ptr();
        // SAFETY: system calls with strings that live long enough.
        unsafe {
            done(libc::unshare(libc::CLONE_NEWNS))?;
            done(libc::mount(
                c"none".as_ptr(),
                c"/".as_ptr(),
                none,
                libc::MS_REC | libc::MS_PRIVATE,
                none.cast(),
            ))?;
            done(match &self.overlay {
                Some(options) => libc::mount(kind, root, kind, 0, options.as_ptr().cast()),
                None => libc::mount(root, root, none, libc::MS_BIND, none.cast()),
            })?;
            done(libc::chdir(root))?;
            // What a kernel started from an initramfs has for its root cannot be pivoted (pivot_root(2)).
            done(libc::mount(here, c"/".as_ptr(), none, libc::MS_MOVE, none.cast()))?;
            done(libc::chroot(here))?;
            done(libc::chdir(c"/".as_ptr()))
        }
    }
}
