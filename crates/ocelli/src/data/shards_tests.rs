use super::super::tar::tests::archive;
use super::super::{
    LoadOptions, Loader, Order, Pictures, Preparation, Resize, TrainingOptions, open as open_data, pack,
};
use super::*;
use std::fs;

/// A picture of one grey.
fn png(grey: u8) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::GrayImage::from_pixel(8, 8, image::Luma([grey])).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Names and contents.
type Files<'a> = &'a [(&'a str, &'a [u8])];

/// A folder with shards of these files.
fn folder(shards: &[(&str, Files)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, files) in shards {
        fs::write(folder.path().join(name), archive(files)).unwrap();
    }
    folder
}

fn opened(root: &Path) -> Result<Dataset> {
    open_data(root.to_str().unwrap(), &OpenOptions { judged_whole: true, ..Default::default() })
}

fn fault(root: &Path) -> String {
    opened(root).unwrap_err().what().to_owned()
}

/// The number of pictures, and name, class and first grey of each.
fn content(data: &Dataset) -> Vec<(String, String, u8)> {
    let mut all = Vec::new();
    for split in Split::ALL {
        for i in 0..data.len(split) {
            let class = data.classes[data.label(split, i) as usize].clone();
            all.push((data.picture_name(split, i), class, data.picture(split, i).unwrap().pixels[0]));
        }
    }
    all
}

/// A folder `data` of 40 grey pictures of two classes, and the same packed into `shards`.
pub fn packed() -> (tempfile::TempDir, Dataset, Dataset) {
    let world = tempfile::tempdir().unwrap();
    for i in 0..40u8 {
        let class = world.path().join("data").join(["cat", "dog"][usize::from(i % 2)]);
        fs::create_dir_all(&class).unwrap();
        fs::write(class.join(format!("{i:02}.png")), png(i * 5)).unwrap();
    }
    let options = OpenOptions::default();
    let loose = open_data(world.path().join("data").to_str().unwrap(), &options).unwrap();
    let shards = world.path().join("shards");
    let written = pack(&loose, &shards, 20_000, 0).unwrap();
    assert_eq!((written.pictures, written.shards), (40, 6), "train in four, val and test in one each");
    let data = open_data(shards.to_str().unwrap(), &options).unwrap();
    (world, loose, data)
}

#[test]
fn packed_pictures_keep_their_classes_splits_and_bytes() {
    let (_world, loose, data) = packed();
    assert_eq!(data.classes, loose.classes);
    for split in Split::ALL {
        let of = |data: &Dataset| -> BTreeSet<(u8, u32)> {
            (0..data.len(split)).map(|i| (data.picture(split, i).unwrap().pixels[0], data.label(split, i))).collect()
        };
        assert_eq!(of(&data), of(&loose), "{split}");
        assert_eq!(data.len(split), loose.len(split));
    }
    assert!(data.picture_name(Split::Train, 0).starts_with("train-0000.tar/00000000.png"));
}

#[test]
fn packing_repeats_and_overwrites_nothing() {
    let (world, loose, _) = packed();
    let again = world.path().join("again");
    pack(&loose, &again, 20_000, 0).unwrap();
    let bytes = |folder: &str| fs::read(world.path().join(folder).join("train-0001.tar")).unwrap();
    assert!(bytes("again") == bytes("shards"));
    assert!(pack(&loose, &again, 20_000, 0).unwrap_err().what().contains("exists already"));
    fs::write(world.path().join("data/cat/00.png"), "no picture").unwrap();
    assert!(
        pack(&loose, &world.path().join("bad"), 20_000, 0).unwrap_err().what().contains("cat/00.png: not a picture")
    );
    let left: Vec<_> = fs::read_dir(world.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left.len(), 3, "nothing half-written stays: {left:?}");
}

#[test]
fn an_epoch_reads_every_picture_once_whatever_workers_ranks_and_stops() {
    let (_world, _, data) = packed();
    let data = Arc::new(data);
    let preparation = Preparation::for_data(&data, [8, 8], 1, Resize::Crop, &Default::default()).unwrap();
    let pictures = Arc::new(Pictures::load(&data, Split::Train, &preparation, &LoadOptions::default()).unwrap());
    assert_eq!(pictures.len(), 32);
    let loader = |workers, [rank, world_size]: [usize; 2]| {
        let order = Order { batch_size: 20, seed: 3, rank, world_size, ..Default::default() };
        let options = TrainingOptions { order, workers, ..Default::default() };
        Loader::training(&pictures, &preparation, &options).unwrap()
    };
    let indices = |loader: &Loader, first| -> Vec<Vec<usize>> {
        loader.epoch(1, first).map(|batch| batch.unwrap().indices).collect()
    };
    let whole = indices(&loader(1, [0, 1]), 0);
    let mut all = whole.concat();
    all.sort_unstable();
    assert_eq!(all, (0..32).collect::<Vec<_>>());
    assert_eq!(indices(&loader(3, [0, 1]), 0), whole);
    assert_eq!(indices(&loader(2, [0, 1]), 1), whole[1..], "after a stop in the middle of the epoch");
    let parts = [0, 1].map(|rank| indices(&loader(2, [rank, 2]), 0));
    for (batch, whole) in whole.iter().enumerate() {
        let joined = [0, 1].map(|rank| parts[rank][batch].clone()).concat();
        assert_eq!(&joined, whole, "no overlap, no loss, in order");
        assert!(parts.iter().all(|part| part[batch].len().is_multiple_of(16) || whole.ends_with(&part[batch])));
    }
}

#[test]
fn the_index_is_made_once_and_anew_when_the_archive_changes() {
    let folder = folder(&[("all.tar", &[("cat/a.png", &png(1)), ("dog/b.png", &png(2))])]);
    let (tar, index) = (folder.path().join("all.tar"), folder.path().join("all.tar.index"));
    assert_eq!(opened(folder.path()).unwrap().len(Split::Test), 2);
    let first = fs::read(&index).unwrap();
    // A mark that only a reader of the index sees.
    let marked = String::from_utf8(first.clone()).unwrap().replace("dog/b.png", "fox/b.png");
    fs::write(&index, &marked).unwrap();
    assert_eq!(opened(folder.path()).unwrap().classes, ["cat", "fox"], "the index is used");
    for broken in ["", "rubbish", &marked[..marked.len() - 20], &marked.replace("fox/b.png,", "fox/b.png,9")] {
        fs::write(&index, broken).unwrap();
        assert_eq!(opened(folder.path()).unwrap().classes, ["cat", "dog"], "made anew instead of {broken:?}");
        assert_eq!(fs::read(&index).unwrap(), first);
    }
    fs::write(&tar, archive(&[("cat/a.png", &png(1)), ("cow/c.png", &png(3))])).unwrap();
    assert_eq!(opened(folder.path()).unwrap().classes, ["cat", "cow"], "the archive changed");
}

#[test]
fn classes_are_numbers_names_folders_or_archives() {
    let numbers =
        folder(&[("data-000.tar", &[("a.png", &png(1)), ("a.cls", b"10"), ("b.png", &png(2)), ("b.cls", b"2")])]);
    assert_eq!(opened(numbers.path()).unwrap().classes, ["2", "10"], "in the order of the numbers");
    let names = folder(&[(
        "data-000.tar",
        &[("a.png", &png(1)), ("a.cls", b"red fox"), ("b.png", &png(2)), ("b.cls", b"cat")],
    )]);
    assert_eq!(
        content(&opened(names.path()).unwrap()),
        [("data-000.tar/a.png".into(), "red fox".into(), 1), ("data-000.tar/b.png".into(), "cat".into(), 2)]
    );
    let synsets = folder(&[("n01.tar", &[("x.png", &png(1))]), ("n02.tar", &[("y.png", &png(2))])]);
    assert_eq!(opened(synsets.path()).unwrap().classes, ["n01", "n02"]);
    let none = folder(&[("data-000.tar", &[("a.png", &png(1))])]);
    assert!(fault(none.path()).ends_with("data-000.tar: 'a.png' has no class"));
    let empty = folder(&[("data-000.tar", &[("a.png", &png(1)), ("a.cls", b"\n")])]);
    assert!(fault(empty.path()).ends_with("'a.png': an empty .cls"));
}

#[test]
fn lists_of_classes_that_disagree_are_an_error() {
    let picture = png(1);
    let of = |list: Option<&'static [u8]>, class: &'static [u8]| -> Vec<(&'static str, Vec<u8>)> {
        let list = list.map(|list| (CLASSES, list.to_vec()));
        list.into_iter().chain([("a.png", picture.clone()), ("a.cls", class.to_vec())]).collect()
    };
    let both = |first: Vec<(&'static str, Vec<u8>)>, second: Vec<(&'static str, Vec<u8>)>| {
        let view = |files: &Vec<(&'static str, Vec<u8>)>| -> Vec<u8> {
            archive(&files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect::<Vec<_>>())
        };
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("train-0.tar"), view(&first)).unwrap();
        fs::write(folder.path().join("train-1.tar"), view(&second)).unwrap();
        fault(folder.path())
    };
    let list = Some(&b"cat\ndog\n"[..]);
    assert!(both(of(list, b"0"), of(Some(b"cat\ncow\n"), b"1")).contains("class 1 is 'dog' in"));
    assert!(both(of(list, b"0"), of(Some(b"cat\n"), b"0")).contains("train-0.tar lists 2 classes"));
    assert!(both(of(list, b"0"), of(None, b"1")).contains("train-1.tar has no list"));
    assert!(both(of(list, b"0"), of(list, b"2")).ends_with("'a.png': class 2, but the list has 2"));
    assert!(both(of(list, b"0"), of(list, b"cow")).contains("class 'cow' is not in the list"));
    assert!(both(of(Some(b"cat\ncat\n"), b"0"), of(list, b"0")).contains("the class 'cat' is empty or there twice"));
}

#[test]
fn a_damaged_shard_is_named_with_its_place_and_skipped_on_request() {
    let [a, b, c] = [1, 2, 3].map(png);
    let folder = folder(&[("all.tar", &[("x/a.png", &a), ("y/b.png", &b), ("x/c.png", &c)])]);
    let path = folder.path().join("all.tar");
    let bytes = fs::read(&path).unwrap();
    let third = 2 * (512 + a.len().div_ceil(512) * 512);
    fs::write(&path, &bytes[..third + 600]).unwrap();
    let error = fault(folder.path());
    assert!(error.contains(&format!("all.tar: damaged at byte {third}: ")), "{error}");
    assert!(error.contains("cut off; 2 pictures before it"), "{error}");
    let options = OpenOptions { skip_bad: true, judged_whole: true, ..Default::default() };
    let data = open_data(folder.path().to_str().unwrap(), &options).unwrap();
    assert_eq!(content(&data).len(), 2);
    assert!(data.notes.iter().any(|note| note.contains("the rest of it is left out, 2 pictures before it are used")));
    assert!(!folder.path().join("all.tar.index").exists(), "a damaged archive is looked at again");
}

#[test]
fn a_picture_that_is_damaged_inside_a_shard_is_named() {
    let folder = folder(&[("all.tar", &[("x/a.png", &png(1)), ("y/b.png", b"no picture at all")])]);
    let data = opened(folder.path()).unwrap();
    let faults: Vec<Error> = Split::ALL
        .iter()
        .flat_map(|&split| (0..data.len(split)).filter_map(|i| data.picture(split, i).err()).collect::<Vec<_>>())
        .collect();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].what().starts_with("all.tar/y/b.png: "), "{}", faults[0]);
    fs::write(folder.path().join("all.tar"), [0; 512]).unwrap();
    assert!(data.picture(Split::Test, 0).unwrap_err().what().contains("'x/a.png' at byte 512"), "the archive shrank");
}

#[test]
fn a_pattern_means_its_archives() {
    let names = |spec: &str| -> Vec<String> {
        pattern(spec).unwrap().unwrap().iter().map(|path| path.display().to_string()).collect()
    };
    assert_eq!(names("s/train-{0009..0011}.tar"), ["s/train-0009.tar", "s/train-0010.tar", "s/train-0011.tar"]);
    assert_eq!(names("{1..2}/{0..1}.tar"), ["1/0.tar", "1/1.tar", "2/0.tar", "2/1.tar"]);
    for bad in [
        "a{1..}.tar",
        "a{2..1}.tar",
        "a{x..y}.tar",
        "a{1,2}.tar",
        "a{1..2.tar",
        "a{0..99999999999}.tar",
        "{0..999}{0..999}.tar",
    ] {
        assert!(pattern(bad).unwrap_err().is_usage(), "{bad}");
    }
    assert!(pattern("mnist").unwrap().is_none() && pattern("gone.tar").unwrap().is_none());
    let missing = open_data("gone-{0..1}.tar", &OpenOptions::default()).unwrap_err();
    assert!(missing.what().starts_with("gone-0.tar: "), "{missing}");
}

#[test]
fn an_archive_beside_the_folders_that_it_was_unpacked_into_is_not_read() {
    let (world, loose, _) = packed();
    let data = world.path().join("data");
    fs::write(data.join("data.tar"), archive(&[("cow/a.png", &png(1))])).unwrap();
    let again = open_data(data.to_str().unwrap(), &OpenOptions::default()).unwrap();
    assert_eq!(again.classes, loose.classes);
}

#[test]
fn splits_are_folders_or_the_names_of_archives() {
    let files: Files = &[("cat/a.png", &png(1)), ("dog/b.png", &png(2))];
    let named = folder(&[("train-0.tar", files), ("val.tar", files), ("test_1.tar", files)]);
    let lens = |data: Dataset| Split::ALL.map(|split| data.len(split));
    assert_eq!(lens(opened(named.path()).unwrap()), [2, 2, 2]);
    let deep = tempfile::tempdir().unwrap();
    for split in ["train", "val"] {
        fs::create_dir(deep.path().join(split)).unwrap();
        fs::write(deep.path().join(split).join("00.tar"), archive(files)).unwrap();
    }
    assert_eq!(lens(opened(deep.path()).unwrap()), [2, 2, 0]);
}
