//! The files of the kernel that is booted: one of the table, fetched from Debian's packages into the cache,
//! or one that the user names.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::kernels::Known;
use crate::architecture::Architecture;
use crate::packages::{self, Lists};
use crate::workspace::Workspace;

/// What a kernel consists of: in newer releases image, modules and the list of what is built in are packages
/// of their own, behind one that only depends on them.
const PARTS: [&str; 4] = ["linux-base-", "linux-image-", "linux-binary-", "linux-modules-"];

/// A bootable kernel.
pub(crate) struct Kernel {
    /// What the boot loader would load.
    pub(crate) image: PathBuf,
    /// The folder that holds `kernel/`, where the kernel has modules.
    pub(crate) modules: Option<PathBuf>,
    /// The processor that it runs on.
    pub(crate) architecture: Architecture,
}

impl Kernel {
    /// The release, as `uname -r` says it, by the folder of its modules; empty where there is none.
    pub(crate) fn release(&self) -> &str {
        let folder = self.modules.as_deref().and_then(Path::file_name);
        folder.and_then(|name| name.to_str()).unwrap_or_default()
    }
}

/// A kernel of the table. Fetched once; after that no network is used.
pub(crate) fn of_debian(known: &Known) -> Result<Kernel> {
    let cache = Workspace::cache()?.join("kernels");
    let unpacked = cache.join(known.name);
    if !unpacked.exists() {
        let lists =
            Lists::of_suite(&cache.join(format!("{}-apt", known.name)), known.suite, known.architecture)?;
        let parts = parts(known.package, |package| lists.dependencies(package))?;
        lists.unpack(&parts, &unpacked)?;
        lists.delete()?;
    }
    in_folder(&unpacked, known.architecture)
}

/// A kernel that the user names, for this machine's processor: a Debian package, or an image without modules.
pub(crate) fn given(path: &Path) -> Result<Kernel> {
    let architecture = Architecture::X86_64;
    if !path.is_file() {
        bail!("there is no kernel {}", path.display());
    }
    if path.extension().is_none_or(|extension| extension != "deb") {
        return Ok(Kernel { image: path.to_path_buf(), modules: None, architecture });
    }
    let name = path.file_stem().context("the package has no name")?;
    let unpacked = Workspace::cache()?.join("kernels").join(name);
    if !unpacked.exists() {
        packages::unpack(&[path.to_path_buf()], &unpacked)?;
    }
    in_folder(&unpacked, architecture)
}

/// The packages of a kernel: `first` and every part that it depends on, over any number of steps.
fn parts(first: &str, dependencies: impl Fn(&str) -> Result<Vec<String>>) -> Result<Vec<String>> {
    let mut parts = vec![first.to_owned()];
    let mut next = 0;
    while let Some(package) = parts.get(next).cloned() {
        let is_part = |name: &String| PARTS.iter().any(|part| name.starts_with(part));
        for name in dependencies(&package)?.into_iter().filter(is_part) {
            if !parts.contains(&name) {
                parts.push(name);
            }
        }
        next += 1;
    }
    Ok(parts)
}

fn in_folder(unpacked: &Path, architecture: Architecture) -> Result<Kernel> {
    let modules =
        ["usr/lib/modules", "lib/modules"].iter().find_map(|folder| child(&unpacked.join(folder), ""));
    // Newer releases keep the image beside its modules.
    let image = child(&unpacked.join("boot"), "vmlinuz-")
        .or_else(|| child(modules.as_deref()?, "vmlinuz"))
        .with_context(|| format!("no kernel image in {}", unpacked.display()))?;
    Ok(Kernel { image, modules, architecture })
}

fn child(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_in_parts_is_found_as_a_whole_and_nothing_else() {
        let depends = |package: &str| {
            let names: &[&str] = match package {
                "linux-image-cloud" => &["linux-base", "linux-image-7", "linux-modules-cloud"],
                "linux-image-7" => &["dracut", "linux-binary-7", "linux-modules-7"],
                "linux-modules-cloud" => &["linux-modules-7"],
                _ => &[],
            };
            Ok(names.iter().map(|name| (*name).to_owned()).collect())
        };
        assert_eq!(
            parts("linux-image-cloud", depends).unwrap(),
            [
                "linux-image-cloud",
                "linux-image-7",
                "linux-modules-cloud",
                "linux-binary-7",
                "linux-modules-7"
            ]
        );
    }

    #[test]
    fn an_unpacked_kernel_is_found_with_its_modules_and_its_release() {
        let folder = tempfile::tempdir().unwrap();
        assert!(in_folder(folder.path(), Architecture::X86_64).is_err());
        std::fs::create_dir_all(folder.path().join("boot")).unwrap();
        std::fs::create_dir_all(folder.path().join("lib/modules/6.1")).unwrap();
        std::fs::write(folder.path().join("boot/config-6.1"), "").unwrap();
        std::fs::write(folder.path().join("boot/vmlinuz-6.1"), "").unwrap();
        let kernel = in_folder(folder.path(), Architecture::X86_64).unwrap();
        assert!(kernel.image.ends_with("boot/vmlinuz-6.1"));
        assert_eq!(kernel.release(), "6.1");
        assert!(kernel.modules.unwrap().ends_with("lib/modules/6.1"));
    }

    #[test]
    fn an_image_beside_its_modules_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let modules = folder.path().join("usr/lib/modules/7.3");
        std::fs::create_dir_all(&modules).unwrap();
        std::fs::write(modules.join("vmlinuz"), "").unwrap();
        let kernel = in_folder(folder.path(), Architecture::X86_64).unwrap();
        assert_eq!((kernel.image, kernel.modules.as_deref()), (modules.join("vmlinuz"), Some(&*modules)));
    }

    #[test]
    fn a_kernel_that_is_not_there_is_an_error() {
        assert!(given(Path::new("/no/such/kernel")).is_err());
    }
}
