use super::super::{Dataset, LoadOptions, OpenOptions, Resize, Sampling, open};
use super::*;

fn digits() -> Arc<Dataset> {
    Arc::new(open("mnist-10k", &OpenOptions::default()).unwrap())
}

fn loader(augment: &str, workers: usize, shuffle: bool) -> Loader {
    let augment: Augment = augment.parse().unwrap();
    let data = digits();
    let preparation = Preparation::for_data(&data, [28, 28], 1, Resize::Crop, &augment).unwrap();
    let pictures = Arc::new(
        Pictures::load(&data, Split::Val, &preparation, &LoadOptions { augment, ..Default::default() }).unwrap(),
    );
    let order = Order { seed: 5, shuffle, ..Default::default() };
    let options = TrainingOptions { order, augment, workers, ..Default::default() };
    Loader::training(&pictures, &preparation, &options).unwrap()
}

fn epoch(loader: &Loader, epoch: u64, first: usize) -> Vec<Batch> {
    loader.epoch(epoch, first).map(|batch| batch.unwrap()).collect()
}

#[test]
fn batches_are_the_same_for_any_number_of_workers_and_can_start_anywhere() {
    let one = epoch(&loader("flip,crop:2,shift:1", 1, true), 3, 0);
    assert_eq!(one.len(), 16);
    assert_eq!(one.iter().map(|batch| batch.n).sum::<usize>(), 1000);
    assert_eq!(one[15].n, 1000 - 15 * 64, "the last batch is delivered too");
    let many = loader("flip,crop:2,shift:1", 7, true);
    assert!(epoch(&many, 3, 0) == one);
    assert!(epoch(&many, 3, 9)[..] == one[9..]);
    assert!(epoch(&many, 3, 16).is_empty());
}

#[test]
fn every_augmentation_gives_the_same_bits_for_1_2_and_4_workers_and_after_going_on() {
    for text in [
        "alternating-flip,resized-crop:0.3,rotate:15,randaugment,jitter,blur,erase,cutout:5,mixup,cutmix",
        "flip,crop:2,shift:1,gray,cutmix",
    ] {
        let one = epoch(&loader(text, 1, true), 3, 0);
        for workers in [2, 4] {
            let many = loader(text, workers, true);
            assert!(epoch(&many, 3, 0) == one, "{text}, {workers} workers");
            assert!(epoch(&many, 3, 9)[..] == one[9..], "{text}, from batch 9");
        }
        assert!(one.iter().all(|batch| batch.mixed.len() == batch.n && batch.images.iter().all(|x| x.is_finite())));
        assert!(epoch(&loader(text, 1, true), 4, 0) != one);
    }
}

#[test]
fn nothing_of_a_recycled_batch_is_left() {
    let plain = loader("none", 1, false);
    let plain = Loader::evaluation(&plain.job.pictures, &plain.job.preparation, 64, 2).unwrap();
    for loader in [loader("flip,crop:2,rotate:15,erase,mixup", 2, true), loader("shift:3", 1, true), plain] {
        let (fresh, mut batches) = (epoch(&loader, 3, 0), loader.epoch(3, 0));
        for fresh in fresh {
            let mut batch = batches.next().unwrap().unwrap();
            assert!(batch == fresh);
            batch.images.fill(f32::NAN);
            batches.recycle(batch);
        }
    }
}

#[test]
fn changes_of_the_numbers_do_not_change_what_is_cut() {
    let (plain, erased) =
        (&epoch(&loader("flip,crop:2", 1, true), 1, 0)[0], &epoch(&loader("flip,crop:2,erase:1", 1, true), 1, 0)[0]);
    assert_eq!(plain.indices, erased.indices);
    let same = plain.images.iter().zip(&erased.images).filter(|(a, b)| a == b).count();
    assert!(plain.images != erased.images && same > plain.images.len() / 2);
    // Through a copy of the part, as changes of bytes need one, and straight from the canvas: the same window.
    let copied = &epoch(&loader("flip,crop:2,rotate:0", 1, true), 1, 0)[0];
    assert!(copied.images == plain.images);
}

#[test]
fn every_picture_comes_once_in_an_order_that_changes_with_the_epoch() {
    let loader = loader("none", 2, true);
    let order = |e| epoch(&loader, e, 0).into_iter().flat_map(|batch| batch.indices).collect::<Vec<_>>();
    let (first, second) = (order(0), order(1));
    assert_ne!(first, second);
    for mut order in [first, second] {
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }
}

#[test]
fn without_shuffling_pictures_come_in_file_order_with_their_labels_and_pixels() {
    let data = digits();
    let batch = &epoch(&loader("none", 2, false), 0, 0)[1];
    assert_eq!(batch.indices, (64..128).collect::<Vec<_>>());
    for (k, &position) in batch.indices.iter().enumerate() {
        assert_eq!(batch.labels[k], data.label(Split::Val, position));
        let pixels = data.picture(Split::Val, position).unwrap().pixels;
        let numbers: Vec<f32> = pixels.iter().map(|&value| f32::from(value) / 255.0).collect();
        assert_eq!(batch.images[k * 784..][..784], numbers);
    }
}

#[test]
fn batches_that_wait_are_bounded_by_number_and_by_memory() {
    let alexnet = 128 * 227 * 227 * 3 * 4;
    assert_eq!([1, 2, 4, 6, 16, 1000].map(|workers| ahead(workers, alexnet)), [2, 2, 2, 1, 0, 0]);
    assert_eq!(ahead(64, 64 * 28 * 28 * 4), 2, "small batches are not held back");
    assert_eq!(ahead(0, 0), 2);
    assert_eq!(loader("flip", 1, true).job.batch_bytes(), 64 * 28 * 28 * 4);
}

#[test]
fn dropping_an_epoch_early_stops_its_workers() {
    let loader = loader("none", 3, true);
    let mut batches = loader.epoch(0, 0);
    batches.next().unwrap().unwrap();
    let pictures = Arc::clone(&loader.job);
    drop(batches);
    // The loader and this test hold the job; a worker that lived on would hold it too.
    assert_eq!(Arc::strong_count(&pictures), 2);
}

#[test]
fn a_batch_of_nothing_or_of_more_than_there_is_is_refused() {
    let data = digits();
    let augment = Augment::default();
    let preparation = Preparation::for_data(&data, [28, 28], 1, Resize::Crop, &augment).unwrap();
    let pictures = Arc::new(
        Pictures::load(&data, Split::Val, &preparation, &LoadOptions { augment, ..Default::default() }).unwrap(),
    );
    let with = |batch_size| {
        let options = TrainingOptions { order: Order { batch_size, ..Default::default() }, ..Default::default() };
        Loader::training(&pictures, &preparation, &options).map(|_| ()).unwrap_err()
    };
    assert!(with(0).what().contains("a batch of 0"));
    assert!(with(1001).to_string().contains("--batch-size 1000 or less"));
    let evaluation = Loader::evaluation(&pictures, &preparation, 4096, 1).unwrap();
    assert_eq!(epoch(&evaluation, 0, 0)[0].n, 1000);
}

#[test]
fn evaluation_ignores_augmentation_and_takes_the_centre() {
    let data = digits();
    let augment: Augment = "flip,crop:0".parse().unwrap();
    let preparation = Preparation::for_data(&data, [24, 24], 1, Resize::Crop, &augment).unwrap();
    assert_eq!(preparation.cover, [28, 28], "windows of 24 x 24 are cut from the digits as they are");
    let pictures = Arc::new(
        Pictures::load(&data, Split::Val, &preparation, &LoadOptions { augment, ..Default::default() }).unwrap(),
    );
    let batch = &epoch(&Loader::evaluation(&pictures, &preparation, 10, 1).unwrap(), 0, 0)[0];
    let pixels = data.picture(Split::Val, 0).unwrap().pixels;
    for y in 0..24 {
        for x in 0..24 {
            assert_eq!(batch.images[y * 24 + x], f32::from(pixels[(y + 2) * 28 + x + 2]) / 255.0);
        }
    }
}

#[test]
fn balanced_epochs_have_as_many_of_each_class_and_use_all_pictures_alike() {
    let folder = tempfile::tempdir().unwrap();
    for (class, n) in [("rare", 3u8), ("common", 12)] {
        std::fs::create_dir_all(folder.path().join(class)).unwrap();
        for i in 0..n {
            let path = folder.path().join(format!("{class}/{i:02}.png"));
            image::GrayImage::from_pixel(4, 4, image::Luma([17 * i])).save(path).unwrap();
        }
    }
    let options = OpenOptions { val_fraction: 0.25, ..Default::default() };
    let data = Arc::new(open(&folder.path().to_string_lossy(), &options).unwrap());
    let augment = Augment::default();
    let preparation = Preparation::for_data(&data, [4, 4], 1, Resize::Crop, &augment).unwrap();
    let pictures = Arc::new(Pictures::load(&data, Split::Train, &preparation, &LoadOptions::default()).unwrap());
    let n = pictures.len();
    let make = |shuffle, workers| {
        let sampling = Sampling::Balanced;
        let order = Order { batch_size: 4, seed: 3, shuffle, sampling, ..Default::default() };
        let options = TrainingOptions { order, workers, ..Default::default() };
        Loader::training(&pictures, &preparation, &options)
    };
    let loader = make(true, 1).unwrap();
    let mut seen = vec![0usize; n];
    for at in 0..8 {
        let batches = epoch(&loader, at, 0);
        assert!(epoch(&make(true, 3).unwrap(), at, 2)[..] == batches[2..]);
        let labels: Vec<u32> = batches.iter().flat_map(|batch| batch.labels.clone()).collect();
        let ones = labels.iter().filter(|label| **label == 1).count();
        assert!(labels.len() == n && ones.abs_diff(n - ones) <= 1, "{labels:?}");
        batches.iter().flat_map(|batch| &batch.indices).for_each(|&position| seen[position] += 1);
    }
    for class in 0..2 {
        let of_class = (0..n).filter(|&position| data.label(Split::Train, position) == class);
        let counts: Vec<usize> = of_class.map(|position| seen[position]).collect();
        assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
    }
    assert!(make(false, 1).err().unwrap().what().contains("sampling balanced of pictures in file order"));
}
