//! The folder of a run: `runs/NET-DATA-NNN` and the names of the files in it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::sweep;
use crate::{Error, Result};

/// The settings, replayable with `--config`.
pub const ARGS: &str = "args.toml";
/// The network.
pub const NET: &str = "net.toml";
/// A class name a line, in the order of the outputs.
pub const CLASSES: &str = "classes.txt";
/// Which picture is in which split.
pub const SPLIT: &str = "split.csv";
/// The weights that did best on the validation split.
pub const BEST: &str = "best.safetensors";
/// The state to resume from.
pub const CHECKPOINT: &str = "last.ckpt";
/// A row an epoch.
pub const METRICS: &str = "metrics.csv";
/// A row a step.
pub const STEPS: &str = "steps.csv";
/// Loss and accuracy over the epochs.
pub const CURVES: &str = "curves.png";
/// What was taken for what, on the validation split.
pub const CONFUSION: &str = "confusion.png";

/// Everything that a run writes by a fixed name.
const FILES: [&str; 10] = [ARGS, NET, CLASSES, SPLIT, BEST, CHECKPOINT, METRICS, STEPS, CURVES, CONFUSION];

/// The folder of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    /// Where it is.
    pub path: PathBuf,
}

impl RunFolder {
    /// Makes `root/NAME-NNN` with the first number that is free. Two processes never get the same folder.
    ///
    /// # Errors
    /// `root` cannot be written.
    pub fn create(root: &Path, name: &str) -> Result<RunFolder> {
        let name = file_name(name);
        fs::create_dir_all(root).map_err(|error| cannot_create(root, error))?;
        let mut number = 1 + highest_number(root, &name);
        loop {
            let path = root.join(format!("{name}-{number:03}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(RunFolder { path }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(cannot_create(&path, error)),
            }
        }
    }

    /// Makes or takes the folder `path`.
    ///
    /// # Errors
    /// It holds something and `overwrite` is not set, or it cannot be made. Overwriting removes a run's own files only.
    pub fn create_at(path: &Path, overwrite: bool) -> Result<RunFolder> {
        fs::create_dir_all(path).map_err(|error| cannot_create(path, error))?;
        let folder = RunFolder { path: path.to_path_buf() };
        let occupied = fs::read_dir(path).map_err(|error| Error::io(path, error))?.next().is_some();
        if occupied && !overwrite {
            let what = format!("{}: the folder is not empty", path.display());
            return Err(Error::new(what).advice("Choose another --output, go on with --resume, or add --overwrite."));
        }
        if occupied {
            folder.clear()?;
        }
        Ok(folder)
    }

    /// Opens the folder of an existing run and removes what a killed process left half-written. `latest` is the run under
    /// `root` that was written to last.
    ///
    /// # Errors
    /// There is no such run.
    pub fn open(name: &str, root: &Path) -> Result<RunFolder> {
        let path = if name == "latest" { latest(root)? } else { PathBuf::from(name) };
        if !path.join(ARGS).is_file() {
            let what = format!("{}: not the folder of a run: it has no {ARGS}", path.display());
            return Err(Error::new(what).advice("`ocelli runs` lists the runs."));
        }
        sweep(&path);
        Ok(RunFolder { path })
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn clear(&self) -> Result<()> {
        let entries = fs::read_dir(&self.path).map_err(|error| Error::io(&self.path, error))?;
        let own = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            FILES.contains(&&*name) || name.starts_with("events.out.tfevents.")
        };
        let files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(own).collect();
        // Looked for first, so that a run that cannot be replaced stays whole.
        if let Some(folder) = files.iter().find(|path| path.is_dir()) {
            return Err(Error::io(folder, ErrorKind::IsADirectory.into()));
        }
        files.iter().try_for_each(|path| fs::remove_file(path).map_err(|error| Error::io(path, error)))
    }
}

/// The folders under `root` that hold a run, the one that was written to last at the end.
pub fn list(root: &Path) -> Vec<PathBuf> {
    let written = |path: &Path| -> Option<SystemTime> {
        let time = |name| fs::metadata(path.join(name)).and_then(|data| data.modified()).ok();
        let args = time(ARGS)?;
        Some(time(CHECKPOINT).map_or(args, |checkpoint| checkpoint.max(args)))
    };
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let mut runs: Vec<(SystemTime, PathBuf)> =
        entries.flatten().filter_map(|entry| Some((written(&entry.path())?, entry.path()))).collect();
    runs.sort();
    runs.into_iter().map(|(_, path)| path).collect()
}

/// The run under `root` that was written to last.
pub fn latest(root: &Path) -> Result<PathBuf> {
    list(root).pop().ok_or_else(|| {
        Error::new(format!("latest: no run in {}", root.display())).advice("Train one first: ocelli train")
    })
}

/// The highest NNN among the folders `name-NNN`.
fn highest_number(root: &Path, name: &str) -> u32 {
    let Ok(entries) = fs::read_dir(root) else { return 0 };
    let number = |entry: fs::DirEntry| -> Option<u32> {
        entry.file_name().to_str()?.strip_prefix(name)?.strip_prefix('-')?.parse().ok()
    };
    entries.flatten().filter_map(number).max().unwrap_or(0)
}

/// Letters, digits, dots and dashes only, as every file system takes them.
fn file_name(name: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' };
    name.chars().map(safe).take(80).collect::<String>().trim_matches(['.', '-']).to_string()
}

fn cannot_create(path: &Path, error: std::io::Error) -> Error {
    Error::new(format!("{}: the folder cannot be made: {error}", path.display()))
        .advice("Choose a place that can be written with --output.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_numbered_and_never_reused() {
        let root = tempfile::tempdir().unwrap();
        let name = |folder: RunFolder| folder.path.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(name(RunFolder::create(root.path(), "lenet5-mnist").unwrap()), "lenet5-mnist-001");
        assert_eq!(name(RunFolder::create(root.path(), "lenet5-mnist").unwrap()), "lenet5-mnist-002");
        fs::remove_dir(root.path().join("lenet5-mnist-001")).unwrap();
        assert_eq!(name(RunFolder::create(root.path(), "lenet5-mnist").unwrap()), "lenet5-mnist-003");
        assert_eq!(name(RunFolder::create(root.path(), "../my net: a/b").unwrap()), "my-net--a-b-001");
    }

    #[test]
    fn many_at_once_get_folders_of_their_own() {
        let root = tempfile::tempdir().unwrap();
        let paths = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| RunFolder::create(root.path(), "race").unwrap().path)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<std::collections::BTreeSet<_>>()
        });
        assert_eq!(paths.len(), 8);
    }

    #[test]
    fn nothing_is_overwritten_unasked_and_only_own_files_when_asked() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("mine");
        RunFolder::create_at(&path, false).unwrap();
        fs::write(path.join("holiday.jpg"), b"keep").unwrap();
        fs::write(path.join(CHECKPOINT), b"old").unwrap();
        let error = RunFolder::create_at(&path, false).unwrap_err();
        assert!(error.to_string().contains("not empty") && error.to_string().contains("--overwrite"), "{error}");
        RunFolder::create_at(&path, true).unwrap();
        assert!(path.join("holiday.jpg").exists() && !path.join(CHECKPOINT).exists());
    }

    #[test]
    fn latest_is_the_run_that_was_written_to_last() {
        let root = tempfile::tempdir().unwrap();
        let error = RunFolder::open("latest", root.path()).unwrap_err();
        assert!(error.to_string().ends_with("Train one first: ocelli train"), "{error}");
        let first = RunFolder::create(root.path(), "a").unwrap();
        let second = RunFolder::create(root.path(), "b").unwrap();
        for (folder, age) in [(&first, 100), (&second, 50)] {
            fs::write(folder.file(ARGS), "").unwrap();
            let file = fs::File::options().write(true).open(folder.file(ARGS)).unwrap();
            file.set_modified(SystemTime::now() - std::time::Duration::from_secs(age)).unwrap();
        }
        assert_eq!(RunFolder::open("latest", root.path()).unwrap(), second);
        fs::write(first.file(CHECKPOINT), "").unwrap();
        assert_eq!(RunFolder::open("latest", root.path()).unwrap(), first);
        assert!(RunFolder::open("no/such/run", root.path()).unwrap_err().what().contains("no args.toml"));
    }
}
