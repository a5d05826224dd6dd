use super::super::{OpenOptions, Resize, open};
use super::*;

fn folder_with(bad: &[(&str, &[u8])]) -> (tempfile::TempDir, Arc<Dataset>) {
    let folder = tempfile::tempdir().unwrap();
    for (class, value) in [("dark", 51u8), ("light", 204)] {
        let path = folder.path().join("train").join(class);
        std::fs::create_dir_all(&path).unwrap();
        for i in 0..4 {
            image::GrayImage::from_pixel(6, 6, image::Luma([value])).save(path.join(format!("{i}.png"))).unwrap();
        }
    }
    for (name, bytes) in bad {
        std::fs::write(folder.path().join("train").join(name), bytes).unwrap();
    }
    let options = OpenOptions { val_fraction: 0.2, ..Default::default() };
    let data = Arc::new(open(folder.path().to_str().unwrap(), &options).unwrap());
    (folder, data)
}

fn load(data: &Arc<Dataset>, skip_bad: bool) -> Result<Pictures> {
    let preparation = Preparation::new([6, 6], 1, Resize::Crop).unwrap();
    Pictures::load(data, Split::Train, &preparation, &LoadOptions { workers: 3, skip_bad, ..Default::default() })
}

#[test]
fn mean_and_deviation_are_measured_on_the_pixels() {
    let (_folder, data) = folder_with(&[]);
    let pictures = load(&data, false).unwrap();
    // Three pictures of 0.2 and three of 0.8.
    assert_eq!(pictures.len(), 6);
    let (mean, std) = pictures.statistics(2).unwrap();
    assert!((mean[0] - 0.5).abs() < 1e-6 && (std[0] - 0.3).abs() < 1e-6, "{mean:?} {std:?}");
    assert_eq!(pictures.statistics(5).unwrap(), (mean, std));
}

#[test]
fn mnist_10k_has_mnists_mean_and_deviation() {
    let data = Arc::new(open("mnist-10k", &OpenOptions::default()).unwrap());
    let preparation = Preparation::for_data(&data, [28, 28], 1, Resize::Crop, &Augment::default()).unwrap();
    let pictures = Pictures::load(&data, Split::Train, &preparation, &LoadOptions::default()).unwrap();
    let (mean, std) = pictures.statistics(2).unwrap();
    // MNIST's training set: 0.1307 and 0.3081.
    assert!((mean[0] - 0.1307).abs() < 1e-3 && (std[0] - 0.3081).abs() < 1e-3, "{mean:?} {std:?}");
}

#[test]
fn a_mean_image_leaves_each_pixel_with_mean_0() {
    use super::super::Loader;
    let data = Arc::new(open("mnist-10k", &OpenOptions::default()).unwrap());
    let options = LoadOptions { augment: "crop:0".parse().unwrap(), ..Default::default() };
    let mut preparation = Preparation { cover: [28, 28], ..Preparation::new([24, 24], 1, Resize::Crop).unwrap() };
    let pictures = Pictures::load(&data, Split::Val, &preparation, &options).unwrap();
    let image = pictures.mean_image(3).unwrap();
    assert_eq!(image, pictures.mean_image(1).unwrap());
    assert_eq!(image.len(), 24 * 24);
    preparation = Preparation { std: vec![0.5], mean_image: Some(image), ..preparation };
    let again: Preparation = toml::from_str(&toml::to_string(&preparation).unwrap()).unwrap();
    assert_eq!(again, preparation);
    let plain = Arc::new(Pictures::load(&data, Split::Val, &preparation, &LoadOptions::default()).unwrap());
    let batch = Loader::evaluation(&plain, &preparation, 1000, 1).unwrap().epoch(0, 0).next().unwrap().unwrap();
    for pixel in 0..24 * 24 {
        let sum: f64 = batch.images.iter().skip(pixel).step_by(24 * 24).map(|&x| f64::from(x)).sum();
        assert!((sum / 1000.0).abs() < 2e-5, "pixel {pixel}: {sum}");
    }
    let single = preparation.numbers(data.picture(Split::Val, 7).unwrap()).unwrap();
    assert_eq!(single, batch.images[7 * 576..8 * 576]);
    for bad in ["123", "12g4", "+123", "é12"] {
        assert!(super::MeanImage::try_from(bad.to_string()).is_err(), "{bad}");
    }
}

#[test]
fn a_constant_channel_can_be_divided_by() {
    let data = Arc::new(open("mnist-10k", &OpenOptions::default()).unwrap());
    let preparation = Preparation { cover: [28, 28], ..Preparation::new([1, 1], 1, Resize::Crop).unwrap() };
    let pictures = Pictures::load(
        &data,
        Split::Test,
        &preparation,
        &LoadOptions { augment: "crop:0".parse().unwrap(), ..Default::default() },
    )
    .unwrap();
    assert!(pictures.statistics(2).unwrap().1[0] > 0.3);
    let (_folder, data) = folder_with(&[]);
    let mut light = (*data).clone();
    light.match_classes(&["dark".into(), "light".into()]).unwrap();
    let one = Pictures { usable: vec![0], ..load(&Arc::new(light), false).unwrap() };
    assert_eq!(one.statistics(1).unwrap().1, [1.0]);
}

#[test]
fn bad_files_are_an_error_with_their_number_or_skipped() {
    let png = std::fs::read("../../samples/digit-7.png").unwrap();
    let bad: [(&str, &[u8]); 2] = [("dark/text.jpg", b"I am not a picture"), ("light/cut.png", &png[..png.len() / 2])];
    let (_folder, data) = folder_with(&bad);
    let all = data.len(Split::Train) + data.len(Split::Val);
    assert_eq!(all, 10);
    // Which split they fall into follows from the seed; both splits together hold both.
    let preparation = Preparation::new([6, 6], 1, Resize::Crop).unwrap();
    let load =
        |split, skip_bad| Pictures::load(&data, split, &preparation, &LoadOptions { skip_bad, ..Default::default() });
    let skipped: Vec<Pictures> = [Split::Train, Split::Val].map(|split| load(split, true).unwrap()).into();
    assert_eq!(skipped.iter().map(|pictures| pictures.skipped.len()).sum::<usize>(), 2);
    assert_eq!(skipped.iter().map(Pictures::len).sum::<usize>(), 8);
    let texts: String = skipped.iter().flat_map(|pictures| &pictures.skipped).map(|error| error.to_string()).collect();
    assert!(texts.contains("text.jpg: a text file") && texts.contains("cut.png: a truncated PNG"), "{texts}");
    let errors: Vec<Error> = [Split::Train, Split::Val].iter().filter_map(|&split| load(split, false).err()).collect();
    assert!(!errors.is_empty());
    assert!(errors.iter().all(|error| error.what().contains("cannot be read; the first: ")), "{errors:?}");
    assert!(errors[0].to_string().contains("--skip-bad"));
}

#[test]
fn an_empty_split_is_an_error() {
    let (_folder, data) = folder_with(&[]);
    let preparation = Preparation::new([6, 6], 1, Resize::Crop).unwrap();
    let error = Pictures::load(&data, Split::Test, &preparation, &LoadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("the test split has no pictures\nUse --split val"), "{error}");
}

#[test]
fn classes_are_matched_by_name() {
    let (_folder, data) = folder_with(&[]);
    let mut data = (*data).clone();
    let model: Vec<String> = ["light", "medium", "dark"].map(String::from).into();
    let before: Vec<u32> = (0..6).map(|position| data.label(Split::Train, position)).collect();
    data.match_classes(&model).unwrap();
    let after: Vec<u32> = (0..6).map(|position| data.label(Split::Train, position)).collect();
    assert_eq!(before, [0, 0, 0, 1, 1, 1]);
    assert_eq!(after, [2, 2, 2, 0, 0, 0]);
    assert_eq!(data.counts(Split::Train), [3, 0, 3]);
    let error = data.match_classes(&["dark".into(), "bright".into()]).unwrap_err();
    assert!(
        error.to_string().contains("does not know the class 'light'") && error.to_string().contains("dark, bright"),
        "{error}"
    );
}

#[test]
fn a_set_too_large_to_keep_gives_the_same_batches_and_statistics() {
    use super::super::{Loader, Order, TrainingOptions};
    let (_folder, data) = folder_with(&[]);
    let augment: Augment = "flip,crop:1".parse().unwrap();
    let preparation = Preparation::for_data(&data, [5, 5], 3, Resize::Crop, &augment).unwrap();
    let options = LoadOptions { augment, ..Default::default() };
    let with = |keep| {
        let pictures = Arc::new(Pictures::load_keeping(&data, Split::Train, &preparation, &options, keep).unwrap());
        let order = Order { batch_size: 4, ..Default::default() };
        let options = TrainingOptions { order, augment, workers: 2, ..Default::default() };
        let loader = Loader::training(&pictures, &preparation, &options).unwrap();
        (pictures.statistics(2).unwrap(), loader.epoch(1, 0).map(|batch| batch.unwrap()).collect::<Vec<_>>())
    };
    assert!(with(0) == with(KEEP));
}

#[test]
fn a_picture_found_damaged_on_the_way_is_named_or_left_out() {
    use super::super::Loader;
    let (_folder, data) = folder_with(&[]);
    let preparation = Preparation::new([6, 6], 1, Resize::Crop).unwrap();
    for skip_bad in [false, true] {
        let options = LoadOptions { skip_bad, ..Default::default() };
        let pictures = Arc::new(Pictures::load_keeping(&data, Split::Train, &preparation, &options, 0).unwrap());
        let super::super::Source::File(path) = data.source(Split::Train, 2) else { panic!("a file") };
        let whole = std::fs::read(path).unwrap();
        std::fs::write(path, &whole[..whole.len() - 20]).unwrap();
        let batch = Loader::evaluation(&pictures, &preparation, 4, 1).unwrap().epoch(0, 0).next().unwrap();
        std::fs::write(path, whole).unwrap();
        match batch {
            Ok(batch) => {
                assert!(skip_bad);
                assert_eq!((batch.n, &batch.indices[..], batch.images.len()), (3, &[0, 1, 3][..], 3 * 36));
                assert!(batch.skipped[0].what().contains("truncated PNG"), "{:?}", batch.skipped);
            }
            Err(error) => assert!(!skip_bad && error.what().contains("truncated PNG"), "{error}"),
        }
    }
}
