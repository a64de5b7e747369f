//! Rules about the file that the owner runs, and about the script, where that is an interpreter. They raise what is unexplained,
//! and say nothing where nothing is.

use super::{
    facts::{Evidence, Facts},
    scope,
};
use crate::model::provenance::{FileState, Layer, Package, Provenance, Script, Shipped};

/// A file that was deleted, or whose name is another file's.
pub(super) fn deleted_executable(facts: &Facts<'_>) -> Option<Evidence> {
    files(facts).find_map(|file| {
        let why = match file.found.file {
            FileState::Deleted => "was deleted while it runs",
            FileState::Replaced => "was replaced while it runs: another file has its name now",
            FileState::Unknown | FileState::Present | FileState::Memory => return None,
        };
        Some(Evidence::raises(facts.says(|| format!("{} {why}", file.named()))))
    })
}

/// A file that was made in memory and never had a name.
pub(super) fn memory_executable(facts: &Facts<'_>) -> Option<Evidence> {
    let file = files(facts).find(|file| file.found.file == FileState::Memory)?;
    Some(Evidence::raises(facts.says(|| format!("{} exists in memory alone (memfd)", file.named()))))
}

/// A file in a place where everybody may put one.
pub(super) fn temp_executable(facts: &Facts<'_>) -> Option<Evidence> {
    files(facts).find_map(|file| {
        let folder = file.found.open_folder.as_ref()?;
        let why = || format!("{} is under {folder}, where everybody may write", file.named());
        Some(Evidence::raises(facts.says(why)))
    })
}

/// A file that no installed package owns; nothing to add where the socket is left aside.
pub(super) fn unpackaged_executable(facts: &Facts<'_>) -> Option<Evidence> {
    let file = files(facts).find(|file| file.found.package == Package::None)?;
    if scope::is_left_aside(facts) {
        return None;
    }
    let since = match file.found.layer {
        Some(Layer::Upper) => {
            ", which was put there or changed after the image below it was made (upper layer of an overlay)"
        }
        Some(Layer::Lower | Layer::Unknown) | None => "",
    };
    Some(Evidence::adds(facts.says(|| format!("no installed package owns {}{since}", file.named()))))
}

/// A file that is not the one which its package shipped.
pub(super) fn modified_executable(facts: &Facts<'_>) -> Option<Evidence> {
    files(facts).find_map(|file| {
        let Package::Owned { name, state: Shipped::Modified, believed: _ } = &file.found.package else {
            return None;
        };
        let why = || format!("{} is not what the package {name} shipped", file.named());
        Some(Evidence::raises(facts.says(why)))
    })
}

/// A file that the owner runs.
struct File<'a> {
    word: &'static str,
    path: &'a str,
    found: &'a Provenance,
}

impl File<'_> {
    fn named(&self) -> String {
        format!("the {} {}", self.word, self.path)
    }
}

/// What is known of the owner's files: the script comes first, because it is the program that a person means.
fn files<'a>(facts: &Facts<'a>) -> impl Iterator<Item = File<'a>> {
    let owner = facts.owner;
    let executable = owner.and_then(|owner| owner.provenance.as_ref());
    let script = executable.and_then(|found| match found.script.as_deref()? {
        Script::File { path, found } => Some(File { word: "script", path, found }),
        Script::Module(_) => None,
    });
    let path = owner.and_then(|owner| owner.exe.as_deref()).unwrap_or("(without a path)");
    script.into_iter().chain(executable.map(|found| File { word: "executable", path, found }))
}
