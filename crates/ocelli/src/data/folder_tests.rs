use super::super::{Pictures, Preparation, Resize, open};
use super::*;
use std::sync::Arc;

/// Writes grey pictures of 4 x 4 at these paths.
fn pictures(root: &Path, paths: &[&str]) {
    for (i, path) in paths.iter().enumerate() {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::GrayImage::from_pixel(4, 4, image::Luma([i as u8])).save(path).unwrap();
    }
}

fn opened(root: &Path) -> Result<Dataset> {
    open(root.to_str().unwrap(), &OpenOptions::default())
}

fn names(data: &Dataset, split: Split) -> Vec<String> {
    (0..data.len(split)).map(|position| data.picture_name(split, position)).collect()
}

#[test]
fn split_folders_give_classes_and_files_in_sorted_order() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["train/dog/2.png", "train/cat/b.png", "train/cat/a.png", "train/dog/deep/1.png"];
    pictures(folder.path(), &paths);
    pictures(folder.path(), &["validation/cat/c.png", "validation/dog/d.png", "test/dog/e.png", "notes/x/y.png"]);
    std::fs::write(folder.path().join("train/cat/.hidden.png"), "").unwrap();
    std::fs::write(folder.path().join("train/cat/Thumbs.db"), "").unwrap();
    let data = opened(folder.path()).unwrap();
    assert_eq!(data.classes, ["cat", "dog"]);
    assert_eq!(
        names(&data, Split::Train),
        ["train/cat/a.png", "train/cat/b.png", "train/dog/2.png", "train/dog/deep/1.png"]
    );
    assert_eq!(names(&data, Split::Val), ["validation/cat/c.png", "validation/dog/d.png"]);
    assert_eq!(data.label(Split::Test, 0), 1);
    assert!(data.warnings()[0][0].contains("test split has no pictures of: cat"), "{:?}", data.warnings());
    assert!(data.notes.iter().any(|note| note.contains("notes: left out")), "{:?}", data.notes);
    let csv = data.split_csv();
    assert!(csv.starts_with("picture,label,split\ntrain/cat/a.png,cat,train\n"), "{csv}");
    assert!(csv.ends_with("test/dog/e.png,dog,test\n"), "{csv}");
}

#[test]
fn one_tree_is_carved_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<String> = (0..40).map(|i| format!("{}/{i:02}.png", if i % 2 == 0 { "x" } else { "y" })).collect();
    pictures(folder.path(), &paths.iter().map(String::as_str).collect::<Vec<_>>());
    let data = opened(folder.path()).unwrap();
    assert_eq!(Split::ALL.map(|split| data.len(split)), [32, 4, 4]);
    assert!(data.notes[0].contains("carved 32 train, 4 val, 4 test of 40"), "{:?}", data.notes);
    assert_eq!(data.one_size().unwrap(), Some([4, 4]));
}

#[test]
fn a_missing_or_empty_folder_and_loose_pictures_are_errors_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    assert!(opened(&folder.path().join("gone")).unwrap_err().is_usage());
    assert!(opened(folder.path()).unwrap_err().to_string().contains("no pictures in it\nPut pictures into a folder"));
    pictures(folder.path(), &["a.png", "b.png"]);
    assert!(opened(folder.path()).unwrap_err().what().contains("2 pictures, but not in folders of classes"));
    std::fs::create_dir(folder.path().join("empty class")).unwrap();
    assert!(opened(folder.path()).is_err());
}

#[test]
fn one_class_only_cannot_be_trained() {
    use super::super::{Loader, Order, TrainingOptions};
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<String> = (0..9).map(|i| format!("only/{i}.png")).collect();
    pictures(folder.path(), &paths.iter().map(String::as_str).collect::<Vec<_>>());
    let data = Arc::new(opened(folder.path()).unwrap());
    let preparation = Preparation::new([4, 4], 1, Resize::Crop).unwrap();
    let pictures = Pictures::load(&data, Split::Train, &preparation, &Default::default()).unwrap();
    let options = TrainingOptions { order: Order { batch_size: 2, ..Default::default() }, ..Default::default() };
    let error = Loader::training(&Arc::new(pictures), &preparation, &options).map(|_| ()).unwrap_err();
    assert!(error.what().contains("one class only (only)"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_link_back_to_a_folder_above_is_an_error_not_a_hang() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), &["x/a.png", "y/b.png"]);
    std::os::unix::fs::symlink(folder.path(), folder.path().join("x/loop")).unwrap();
    assert!(opened(folder.path()).unwrap_err().what().contains("more than 8 folders deep"));
}
