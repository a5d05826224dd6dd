//! Folders of pictures: `train|val|test/CLASS/…` or `CLASS/…`.

use super::dataset::{Dataset, Item, OpenOptions, Source, Split};
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Names that pictures end in. HEIC, AVIF and TIFF belong to them so that they are named with advice, not overlooked.
const EXTENSIONS: [&str; 14] =
    ["png", "jpg", "jpeg", "jpe", "jfif", "bmp", "webp", "gif", "heic", "heif", "avif", "tif", "tiff", "dib"];
/// Folders inside a class that are searched; a link back to a folder above would go on for ever.
const MAX_DEPTH: usize = 8;

/// Opens a folder. Classes are sorted by name, files by path.
pub(super) fn open(root: &Path, options: &OpenOptions) -> Result<Dataset> {
    let layout = "Put pictures into a folder for each class: FOLDER/CLASS/*.jpg, or FOLDER/train/CLASS/*.jpg.";
    let mut notes = Vec::new();
    let class_folders = class_folders(root, &mut notes)?;
    let mut found = Vec::new();
    for (folder, split) in class_folders {
        let class = file_name(&folder);
        let mut files = Vec::new();
        collect(&folder, MAX_DEPTH, &mut files)?;
        if files.is_empty() {
            notes.push(format!("{}: left out, no pictures in it", folder.display()));
        }
        found.extend(files.into_iter().map(|file| (class.clone(), file, split)));
    }
    if found.is_empty() {
        let loose = list(root)?.1.len();
        let what = match loose {
            0 => format!("{}: no pictures in it", root.display()),
            n => format!("{}: {n} pictures, but not in folders of classes", root.display()),
        };
        return Err(Error::new(what).advice(layout));
    }
    let classes: Vec<String> =
        found.iter().map(|(class, ..)| class.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    // The order of a whole tree: by class, then by path.
    found.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    let items = found
        .into_iter()
        .map(|(class, file, split)| Item {
            source: Source::File(file),
            // Sorted, and the class is among them.
            label: classes.partition_point(|other| *other < class) as u32,
            targets: Vec::new(),
            group: None,
            split,
        })
        .collect();
    let mut data = Dataset::assemble(root, classes, Vec::new(), items, options)?;
    data.notes.extend(notes);
    Ok(data)
}

/// Class folders with the split they lie in, sorted by name; `notes` tells what else is there.
fn class_folders(root: &Path, notes: &mut Vec<String>) -> Result<Vec<(PathBuf, Option<Split>)>> {
    let folders = list(root)?.0;
    let split_of = |folder: &PathBuf| file_name(folder).parse::<Split>().ok();
    if !folders.iter().any(|folder| split_of(folder).is_some()) {
        return Ok(folders.into_iter().map(|class| (class, None)).collect());
    }
    let mut class_folders = Vec::new();
    for folder in &folders {
        match split_of(folder) {
            Some(split) => class_folders.extend(list(folder)?.0.into_iter().map(|class| (class, Some(split)))),
            None => notes.push(format!("{}: left out, not train, val or test", file_name(folder))),
        }
    }
    Ok(class_folders)
}

/// Whether there are pictures in class folders.
pub(super) fn has_classes(root: &Path) -> Result<bool> {
    for (folder, _) in class_folders(root, &mut Vec::new())? {
        if !list(&folder)?.1.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a file with this ending, in small letters, is taken for a picture.
pub(super) fn is_picture(ending: &str) -> bool {
    EXTENSIONS.contains(&ending)
}

/// The folders and the pictures of a folder, sorted by name. Hidden ones, and files that are not called like pictures, are
/// left out.
pub(super) fn list(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut folders, mut pictures) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(|error| Error::io(folder, error))? {
        let path = entry.map_err(|error| Error::io(folder, error))?.path();
        if file_name(&path).starts_with('.') {
            continue;
        }
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if path.is_dir() {
            folders.push(path);
        } else if is_picture(&extension) {
            pictures.push(path);
        }
    }
    folders.sort();
    pictures.sort();
    Ok((folders, pictures))
}

pub(super) fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let (folders, pictures) = list(folder)?;
    files.extend(pictures);
    if depth == 0 && !folders.is_empty() {
        return Err(Error::new(format!("{}: more than {MAX_DEPTH} folders deep", folder.display()))
            .advice("Look for a link that leads back to a folder above, or move the pictures up."));
    }
    folders.iter().try_for_each(|inner| collect(inner, depth - 1, files))
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
