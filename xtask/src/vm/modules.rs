//! Kernel modules of a Debian kernel package: which files, in which order, and their plain bytes. The package
//! has no modules.dep (depmod writes that on installation), so dependencies are read from the modules
//! themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

/// A module as the guest loads it.
pub(crate) struct Module {
    /// Its name, with underscores.
    pub(crate) name: String,
    /// An ELF file with the signature at its end.
    pub(crate) bytes: Vec<u8>,
}

/// Reads the modules `wanted` from `folder` (the one that holds `kernel/`) with everything that they depend
/// on, dependencies first. Built-in ones are passed over; unknown ones are an error.
pub(crate) fn load(folder: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    index(&folder.join("kernel"), &mut files)?;
    let builtin = std::fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
    let builtin = builtin.lines().filter_map(|line| module_name(Path::new(line))).collect();
    let mut order = Order { files, builtin, seen: BTreeSet::new(), modules: Vec::new() };
    for name in wanted {
        order.add(name)?;
    }
    Ok(order.modules)
}

struct Order {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
    seen: BTreeSet<String>,
    modules: Vec<Module>,
}

impl Order {
    fn add(&mut self, name: &str) -> Result<()> {
        if self.builtin.contains(name) || !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(file) = self.files.get(name) else { bail!("the kernel has no module {name}") };
        let bytes = plain(file)?;
        for dependency in dependencies(&bytes) {
            self.add(&dependency)?;
        }
        self.modules.push(Module { name: name.to_owned(), bytes });
        Ok(())
    }
}

fn index(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            index(&path, files)?;
        } else if let Some(name) = module_name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// `nf_tables` of `…/nf-tables.ko.xz`: the kernel takes both letters for the same.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, _compression) = file.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

fn plain(file: &Path) -> Result<Vec<u8>> {
    let program = match file.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => return std::fs::read(file).with_context(|| format!("cannot read {}", file.display())),
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => bail!("{} is compressed in a way that is not known", file.display()),
    };
    command::bytes(Command::new(program).arg("-dc").arg(file))
}

/// The `depends=` entry of the module's .modinfo: strings ended by NUL. It is found without reading the ELF
/// headers, since the key stands nowhere else after a NUL.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = &module[start + KEY.len()..];
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    let names = String::from_utf8_lossy(&value[..end]);
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(modules: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("kernel/net")).unwrap();
        std::fs::write(folder.path().join("modules.builtin"), "kernel/net/ipv6/ipv6.ko\n").unwrap();
        for (file, depends) in modules {
            let text = format!("ELF\0license=GPL\0depends={depends}\0name=x\0");
            std::fs::write(folder.path().join("kernel/net").join(file), text).unwrap();
        }
        folder
    }

    #[test]
    fn dependencies_come_first_and_once_and_built_in_ones_not_at_all() {
        let folder = kernel(&[("a.ko", "c,b-b"), ("b-b.ko", "c,ipv6"), ("c.ko", ""), ("unused.ko", "")]);
        let names: Vec<_> =
            load(folder.path(), &["a", "ipv6", "c"]).unwrap().into_iter().map(|m| m.name).collect();
        assert_eq!(names, ["c", "b_b", "a"]);
    }

    #[test]
    fn a_missing_module_is_named() {
        let folder = kernel(&[("a.ko", "gone")]);
        let error = load(folder.path(), &["a"]).err().unwrap().to_string();
        assert!(error.contains("gone"), "{error}");
    }
}
