use super::super::{OpenOptions, open};
use super::*;
use std::path::Path;

/// Waves in colour, of a direction, length and phase for each number.
fn photo(number: u32) -> image::RgbImage {
    let wave = |x: u32, y: u32, channel: u32| {
        let (across, down) = ((number % 7) as f32 - 3.0, (number % 5) as f32 + 0.5);
        let angle = (x as f32 * across + y as f32 * down) / 25.0 + (number * 2 + channel) as f32;
        (127.0 + 100.0 * angle.sin()) as u8
    };
    image::RgbImage::from_fn(64, 48, |x, y| image::Rgb([wave(x, y, 0), wave(x, y, 1), wave(x, y, 2)]))
}

fn save(root: &Path, path: &str, picture: &image::RgbImage) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture.save(path).unwrap();
}

#[test]
fn damaged_files_twins_and_leaks_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for i in 0..6 {
        save(root, &format!("train/cat/{i}.png"), &photo(i));
        save(root, &format!("train/dog/{i}.png"), &photo(10 + i));
        save(root, &format!("val/cat/{i}.png"), &photo(20 + i));
    }
    save(root, "val/dog/own.png", &photo(40));
    save(root, "test/cat/x.bmp", &photo(2)); // the pixels of train/cat/2.png in another format
    save(root, "test/dog/y.jpg", &photo(13)); // train/dog/3.png, compressed
    let brighter = image::imageops::brighten(&photo(21), 9);
    save(root, "train/dog/z.png", &brighter); // val/cat/1.png, brighter, with another label
    std::fs::write(root.join("train/dog/note.jpg"), "not a picture").unwrap();

    let data = open(root.to_str().unwrap(), &OpenOptions::default()).unwrap();
    let report = check(&data, 3).unwrap();
    assert_eq!(report.pictures, 23);
    assert_eq!(report.corrupt.len(), 1);
    assert_eq!(report.corrupt[0].picture, "train/dog/note.jpg");
    assert!(report.corrupt[0].error.contains("a text file"), "{}", report.corrupt[0].error);
    let names = |twins: &[Twins]| -> Vec<(String, String, bool, bool)> {
        let one = |t: &Twins| (t.first.picture.clone(), t.second.picture.clone(), t.leak, t.conflict);
        twins.iter().map(one).collect()
    };
    assert_eq!(names(&report.duplicates), [("train/cat/2.png".into(), "test/cat/x.bmp".into(), true, false)]);
    assert_eq!(
        names(&report.near_duplicates),
        [
            ("train/dog/z.png".into(), "val/cat/1.png".into(), true, true),
            ("train/dog/3.png".into(), "test/dog/y.jpg".into(), true, false)
        ]
    );
    assert_eq!(report.sizes, [([48, 64], 22)]);
    assert_eq!(report.classes[1], ClassCount { class: "dog".into(), train: 8, val: 1, test: 1 });
    assert!(serde_json::to_string(&report).unwrap().contains("\"split\":\"train\""));
}

#[test]
fn the_embedded_digits_have_no_leaks() {
    let data = open("mnist-10k", &OpenOptions::default()).unwrap();
    let report = check(&data, 2).unwrap();
    assert_eq!((report.pictures, report.corrupt.len(), report.duplicates.len()), (10_000, 0, 0));
    assert!(report.near_duplicates.iter().all(|twins| !twins.leak), "{:?}", report.near_duplicates);
}
