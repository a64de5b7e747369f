//! Golden recordings: `tracer replay` of each must print exactly what stands beside it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The tracer that `TRACER` names, else one built now from these sources, so that no stale one is tested.
fn tracer() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("TRACER") {
        return Ok(path.into());
    }
    let this = std::env::current_exe()?;
    let (profile, folder) = if cfg!(debug_assertions) { ("dev", "debug") } else { ("release", "release") };
    let target = this.ancestors().nth(3).context("no target folder")?;
    let cargo = std::env::var_os("CARGO").context("neither TRACER nor CARGO is set")?;
    let build =
        ["build", "--quiet", "--locked", "--package", "tracer", "--bin", "tracer", "--profile", profile];
    let built = Command::new(cargo).args(build).arg("--target-dir").arg(target).status()?;
    ensure!(built.success(), "the tracer does not build");
    Ok(target.join(folder).join("tracer"))
}

fn recordings() -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let files = std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let mut recordings: Vec<_> =
        files.into_iter().filter(|file| file.extension().is_some_and(|kind| kind == "jsonl")).collect();
    recordings.sort();
    ensure!(!recordings.is_empty(), "no recording in {}", folder.display());
    Ok(recordings)
}

/// Replays one recording and compares it with the file of the same name and another ending.
fn compare(recording: &Path, options: &[&str], ending: &str) -> Result<()> {
    let output = Command::new(tracer()?).arg("replay").arg(recording).arg("--all").args(options).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} ended with {}: {stderr}", recording.display(), output.status);
    let expected = recording.with_extension(ending);
    let was =
        std::fs::read_to_string(&expected).with_context(|| format!("reading {}", expected.display()))?;
    let is = String::from_utf8(output.stdout)?;
    let first = was.lines().zip(is.lines()).position(|(was, is)| was != is);
    let at = first.unwrap_or_else(|| was.lines().count().min(is.lines().count()));
    let line = |text: &str| text.lines().nth(at).unwrap_or("(no line)").to_owned();
    ensure!(
        was == is,
        "{}:{}\n  expected {}\n  printed  {}",
        expected.display(),
        at + 1,
        line(&was),
        line(&is)
    );
    Ok(())
}

#[test]
fn recordings_give_the_expected_json() -> Result<()> {
    recordings()?.iter().try_for_each(|recording| compare(recording, &["--json"], "expected.json"))
}

#[test]
fn recordings_give_the_expected_text() -> Result<()> {
    recordings()?.iter().try_for_each(|recording| compare(recording, &[], "expected.txt"))
}
