//! Bytes on disk: weights, checkpoints, TensorBoard events, run folders. Nothing here knows how a network trains.

pub mod checkpoint;
pub mod csv_log;
pub mod run_folder;
pub mod tensorboard;
pub mod weights;

use std::fs;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::Path;

use crate::{Error, Result};

/// Version of the files that ocelli writes: raised when an older ocelli could not read them.
pub const FORMAT_VERSION: u32 = 1;

/// Version of the arithmetic: raised when the same seed no longer gives the same bits.
pub const NUMERICS_VERSION: u32 = 12;

/// Fails when `format` is newer than this program knows.
pub fn check_format(place: impl AsRef<Path>, format: u32) -> Result<()> {
    if format <= FORMAT_VERSION {
        return Ok(());
    }
    let place = place.as_ref().display();
    Err(Error::new(format!("{place}: written in format {format}, this ocelli reads up to format {FORMAT_VERSION}"))
        .advice("Use a newer ocelli."))
}

/// Writes a file so that, whatever happens, `path` holds either all of the old bytes or all of the new ones: a temporary
/// file in the same folder is written, synced and renamed.
///
/// # Errors
/// The folder is missing or read-only, the disk is full, or `write` failed; the old file is intact then.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let is_device = fs::metadata(path).is_ok_and(|data| !data.is_file() && !data.is_dir());
    let written = if is_device { write_through(path, write) } else { replace(path, write) };
    written.map_err(|error| {
        // The kind alone: the text of the error names the temporary file.
        let (kind, advice) = match error.kind() {
            ErrorKind::NotFound => {
                ("its folder does not exist".to_owned(), "Make the folder first, or choose another.")
            }
            ErrorKind::IsADirectory => {
                (error.kind().to_string(), "A folder stands in its place: remove it, or choose another path.")
            }
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                (error.kind().to_string(), "Change the folder's permissions, or choose another; nothing was changed.")
            }
            kind => (kind.to_string(), "Free some space, or choose another folder; what stood there is unchanged."),
        };
        Error::new(format!("{}: cannot be written: {kind}", path.display())).advice(advice)
    })
}

/// Writes into a device or a pipe (`/dev/stdout`), which must not be replaced by a file.
fn write_through(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut writer = BufWriter::new(fs::OpenOptions::new().write(true).open(path)?);
    write(&mut writer)?;
    writer.flush()
}

fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!(".{name}.");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(TEMPORARY);
    // A temporary file is private by default; this one becomes an ordinary file, so the umask decides.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let file = builder.tempfile_in(folder)?;
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    write(&mut writer)?;
    let file = writer.into_inner().map_err(|error| error.into_error())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The rename itself is durable only once the folder is.
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    Ok(())
}

/// The end of the names of temporary files, by which `sweep` knows them.
const TEMPORARY: &str = ".ocelli-part";

/// Removes the temporary files that a killed process left in `folder`.
pub fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().ends_with(TEMPORARY) {
            // Left where it cannot be removed: it is never read.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_fails_half_way_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.ckpt");
        write_atomically(&path, |w| w.write_all(b"old")).unwrap();
        let error = write_atomically(&path, |w| {
            w.write_all(&vec![1; 3 << 20])?;
            Err(std::io::Error::from(std::io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        assert!(error.to_string().contains("last.ckpt"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the temporary file is gone");
        write_atomically(&path, |w| w.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn leftovers_of_a_killed_process_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".last.ckpt.Ab12.ocelli-part"), b"half").unwrap();
        fs::write(folder.path().join("last.ckpt"), b"whole").unwrap();
        sweep(folder.path());
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["last.ckpt"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_is_written_to_and_stays_a_device() {
        use std::os::unix::fs::FileTypeExt;
        // A link, so that a defect could not replace the machine's own device.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let error = write_atomically(&path, |w| w.write_all(b"lost")).unwrap_err();
        assert!(error.what().contains("full: cannot be written: no storage space"), "{error}");
        assert!(error.to_string().contains("\nFree some space"), "{error}");
        assert!(fs::metadata(&path).unwrap().file_type().is_char_device());
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_atomically(&folder.path().join("no/such.ckpt"), |_| Ok(())).unwrap_err();
        assert!(error.what().contains("such.ckpt: cannot be written"), "{error}");
    }
}
