use super::super::open as open_data;
use super::super::tar::tests::archive;
use super::*;
use std::fs;

fn png(grey: u8) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::GrayImage::from_pixel(8, 8, image::Luma([grey])).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// The kit counts synsets in an order of its own: n03 is 1, n01 is 2, n02 is 3.
const SYNSET_LIST: &str = "n03 1 kit_fox\nn01 2 English_setter\nn02 3 Siberian_husky\n";

/// ILSVRC as it comes: archives in an archive, an archive to validate with, the kit.
fn as_it_comes() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let synsets: Vec<(String, Vec<u8>)> = (1..=3u8)
        .map(|n| {
            let [a, b] = [png(10 * n), png(10 * n + 1)];
            let names = [format!("n0{n}_7.JPEG"), format!("n0{n}_8.JPEG")];
            (format!("n0{n}.tar"), archive(&[(&names[0], &a), (&names[1], &b)]))
        })
        .collect();
    let outer: Vec<(&str, &[u8])> = synsets.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    fs::write(folder.path().join(TRAIN), archive(&outer)).unwrap();
    // Not in the order of the numbers.
    let [first, second] = [png(101), png(102)];
    let val = [("ILSVRC2012_val_00000002.JPEG", &second[..]), ("ILSVRC2012_val_00000001.JPEG", &first)];
    fs::write(folder.path().join(VAL), archive(&val)).unwrap();
    kit(folder.path(), "3\n1\n", SYNSET_LIST);
    folder
}

fn kit(root: &Path, truth: &str, synsets: &str) {
    let data = root.join("ILSVRC2012_devkit_t12/data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("ILSVRC2012_validation_ground_truth.txt"), truth).unwrap();
    fs::write(data.join("map_clsloc.txt"), synsets).unwrap();
}

fn opened(root: &Path) -> Result<Dataset> {
    open_data(root.to_str().unwrap(), &OpenOptions::default())
}

/// Class and grey of each picture of a split.
fn content(data: &Dataset, split: Split) -> Vec<(String, u8)> {
    let of = |i| (data.classes[data.label(split, i) as usize].clone(), data.picture(split, i).unwrap().pixels[0]);
    (0..data.len(split)).map(of).collect()
}

#[test]
fn archives_of_synsets_and_the_ground_truth_are_read_as_they_come() {
    let folder = as_it_comes();
    let data = opened(folder.path()).unwrap();
    assert_eq!(data.classes, ["n01", "n02", "n03"]);
    let train: Vec<(String, u8)> =
        (1..=3u8).flat_map(|n| [(format!("n0{n}"), 10 * n), (format!("n0{n}"), 10 * n + 1)]).collect();
    assert_eq!(content(&data, Split::Train), train);
    assert_eq!(content(&data, Split::Val), [("n02".into(), 101), ("n03".into(), 102)], "3 is n02, 1 is n03");
    assert_eq!(data.len(Split::Test), 0);
    assert_eq!(data.picture_name(Split::Val, 0), "ILSVRC2012_img_val.tar/ILSVRC2012_val_00000001.JPEG");
    assert!(data.notes.iter().any(|note| note.contains("--split val")), "{:?}", data.notes);
}

#[test]
fn it_is_the_same_unpacked_once_or_twice() {
    let packed = as_it_comes();
    let whole = opened(packed.path()).unwrap();
    for deep in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        kit(folder.path(), "3\n1\n", SYNSET_LIST);
        for n in 1..=3u8 {
            let train = folder.path().join("train");
            let [a, b] = [png(10 * n), png(10 * n + 1)];
            let names = [format!("n0{n}_7.JPEG"), format!("n0{n}_8.JPEG")];
            if deep {
                fs::create_dir_all(train.join(format!("n0{n}"))).unwrap();
                fs::write(train.join(format!("n0{n}")).join(&names[0]), a).unwrap();
                fs::write(train.join(format!("n0{n}")).join(&names[1]), b).unwrap();
            } else {
                fs::create_dir_all(&train).unwrap();
                let bytes = archive(&[(&names[0], &a), (&names[1], &b)]);
                fs::write(train.join(format!("n0{n}.tar")), bytes).unwrap();
            }
        }
        fs::create_dir(folder.path().join("val")).unwrap();
        for (n, grey) in [(1, 101), (2, 102)] {
            fs::write(folder.path().join(format!("val/ILSVRC2012_val_0000000{n}.JPEG")), png(grey)).unwrap();
        }
        let data = opened(folder.path()).unwrap();
        assert_eq!(data.classes, whole.classes);
        for split in [Split::Train, Split::Val] {
            assert_eq!(content(&data, split), content(&whole, split), "{split}, unpacked twice: {deep}");
        }
    }
}

#[test]
fn a_ground_truth_that_does_not_fit_is_an_error() {
    let folder = as_it_comes();
    let fault = |truth: &str, synsets: &str| {
        kit(folder.path(), truth, synsets);
        opened(folder.path()).unwrap_err().what().to_owned()
    };
    assert!(fault("3\n", SYNSET_LIST).ends_with("ground_truth.txt: 1 line for 2 pictures to validate with"));
    assert!(fault("3\n1\n2\n", SYNSET_LIST).ends_with("3 lines for 2 pictures to validate with"));
    assert!(fault("3\n4\n", SYNSET_LIST).ends_with("line 2: 4 is not among the numbers of map_clsloc.txt"));
    assert!(fault("3\n1\n", "n09 3\nn03 1\n").contains("no training pictures of its synset n09"));
    assert!(fault("3\nkit fox\n", SYNSET_LIST).ends_with("line 2: 'kit fox' is not a number from 1"));
    assert!(fault("3\n0\n", SYNSET_LIST).ends_with("line 2: '0' is not a number from 1"));
    fs::remove_file(folder.path().join("ILSVRC2012_devkit_t12/data/map_clsloc.txt")).unwrap();
    let error = opened(folder.path()).unwrap_err();
    assert!(error.what().contains("without a list of synsets") && error.to_string().contains("synsets.txt"), "{error}");
}

#[test]
fn a_list_of_synsets_needs_its_numbers() {
    let fault = |text: &str| parse_synsets(text.as_bytes()).unwrap_err().what().to_owned();
    assert_eq!(fault("n01\nn02\n"), "line 1: 'n01' is not a synset with its number");
    assert_eq!(fault("n01 1\nn01 2\n"), "line 2: the synset n01 or the number 2 is there twice");
    assert_eq!(fault("n01 1\n\nn02 1\n"), "line 3: the synset n02 or the number 1 is there twice");
    assert_eq!(fault("\n"), "no synsets in the list");
    assert_eq!(parse_synsets(b"\xff").unwrap_err().what(), "not a text in UTF-8");
    assert_eq!(parse_synsets(b"\xef\xbb\xbfn01 7 a b c\r\n").unwrap(), HashMap::from([(7, "n01".into())]));
    assert_eq!(parse_ground_truth(b"490\r\n361\r\n").unwrap(), [490, 361]);
}

#[test]
fn the_synsets_of_the_kits_meta_mat_are_read_as_they_come() {
    let folder = as_it_comes();
    let whole = opened(folder.path()).unwrap();
    let data = folder.path().join("ILSVRC2012_devkit_t12/data");
    fs::remove_file(data.join("map_clsloc.txt")).unwrap();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/meta.mat");
    fs::copy(golden, data.join("meta.mat")).unwrap();
    let meta = opened(folder.path()).unwrap();
    assert_eq!(content(&meta, Split::Val), content(&whole, Split::Val));
    assert_eq!(meta.classes, ["n01", "n02", "n03"], "what is above the leaves is no class");
    // A number of a synset above the leaves is no class either.
    fs::write(data.join("ILSVRC2012_validation_ground_truth.txt"), "3\n1001\n").unwrap();
    assert!(opened(folder.path()).unwrap_err().what().ends_with("no training pictures of its synset n99"));
    let bytes = fs::read(golden).unwrap();
    fs::write(data.join("meta.mat"), &bytes[..400]).unwrap();
    let error = opened(folder.path()).unwrap_err();
    assert!(error.what().ends_with("meta.mat: damaged: cut off inside an element"), "{error}");
}

#[test]
fn missing_parts_are_named() {
    let folder = as_it_comes();
    fs::remove_file(folder.path().join("ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt")).unwrap();
    let error = opened(folder.path()).unwrap_err();
    assert!(
        error.what().ends_with("ILSVRC2012_img_val.tar without a file whose name ends in validation_ground_truth.txt"),
        "{error}"
    );
    let folder = as_it_comes();
    fs::remove_file(folder.path().join(VAL)).unwrap();
    assert!(opened(folder.path()).unwrap_err().what().ends_with("no pictures to validate with"));
    fs::remove_file(folder.path().join(TRAIN)).unwrap();
    assert!(opened(folder.path()).unwrap_err().what().ends_with("no training pictures"));
}
