use super::*;

#[test]
fn mnist_10k_is_inside_with_7000_1000_2000_digits_of_every_class() {
    let data = super::super::open("mnist-10k", &OpenOptions::default()).unwrap();
    assert_eq!(Split::ALL.map(|split| data.len(split)), [7000, 1000, 2000]);
    assert_eq!(data.classes, DIGITS);
    assert_eq!(data.one_size().unwrap(), Some([28, 28]));
    for (split, tenth) in [(Split::Train, 700), (Split::Val, 100), (Split::Test, 200)] {
        // The rarest digit, 5, has 863 of 10,000.
        assert!(
            data.counts(split).iter().all(|&n| n > tenth * 8 / 10 && n < tenth * 12 / 10),
            "{:?}",
            data.counts(split)
        );
    }
    let picture = data.picture(Split::Train, 0).unwrap();
    assert_eq!((picture.height, picture.width, picture.channels), (28, 28, 1));
    assert!(data.picture_name(Split::Test, 3).ends_with("test#3"));
}

#[test]
fn no_digit_of_mnist_10k_is_in_two_splits() {
    let data = super::super::open("mnist-10k", &OpenOptions::default()).unwrap();
    let mut seen = std::collections::HashMap::new();
    for split in Split::ALL {
        for position in 0..data.len(split) {
            let pixels = data.picture(split, position).unwrap().pixels;
            assert_eq!(*seen.entry(pixels).or_insert(split), split);
        }
    }
}

fn write_idx(path: &Path, dims: &[u32], data: &[u8]) {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    bytes.extend(dims.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend(data);
    std::fs::write(path, bytes).unwrap();
}

fn options(folder: &Path) -> OpenOptions {
    OpenOptions { data_dir: Some(folder.into()), ..OpenOptions::default() }
}

#[test]
fn mnist_is_read_from_the_data_directory_and_its_validation_split_carved() {
    let folder = tempfile::tempdir().unwrap();
    let mnist = folder.path().join("mnist");
    std::fs::create_dir(&mnist).unwrap();
    write_idx(&mnist.join("train-images-idx3-ubyte"), &[40, 2, 2], &[9; 160]);
    write_idx(&mnist.join("train-labels-idx1-ubyte"), &[40], &[0, 1].repeat(20));
    write_idx(&mnist.join("t10k-images.idx3-ubyte"), &[2, 2, 2], &[9; 8]);
    write_idx(&mnist.join("t10k-labels.idx1-ubyte"), &[2], &[8, 9]);
    let data = super::super::open("mnist", &options(folder.path())).unwrap();
    assert_eq!(Split::ALL.map(|split| data.len(split)), [36, 4, 2]);
    assert_eq!((data.name.as_str(), data.classes.len()), ("mnist", 10));
    assert!(data.notes.iter().any(|note| note.contains("carved 4 of 40")), "{:?}", data.notes);
    // The same files under another name: the classes are the labels.
    let data = super::super::open(mnist.to_str().unwrap(), &OpenOptions::default()).unwrap();
    assert_eq!(data.classes.len(), 10);
}

#[test]
fn files_that_do_not_belong_together_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mnist = folder.path().join("mnist");
    std::fs::create_dir(&mnist).unwrap();
    let open = || super::super::open("mnist", &options(folder.path())).unwrap_err().to_string();
    assert!(open().contains("ocelli data get mnist"), "{}", open());
    write_idx(&mnist.join("train-images-idx3-ubyte"), &[3, 2, 2], &[9; 12]);
    assert!(open().contains("train-labels-idx1-ubyte"), "{}", open());
    write_idx(&mnist.join("train-labels-idx1-ubyte"), &[2], &[0, 1]);
    assert!(open().contains("3 pictures of 2 x 2 with 2 labels"), "{}", open());
    write_idx(&mnist.join("train-labels-idx1-ubyte"), &[3], &[0, 1, 12]);
    assert!(open().contains("label 12, but 10 classes"), "{}", open());
    write_idx(&mnist.join("train-labels-idx1-ubyte"), &[3, 2, 2], &[9; 12]);
    assert!(open().contains("swapped"), "{}", open());
}

#[test]
fn cifar10_is_read_from_its_six_files() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("cifar10/cifar-10-batches-bin");
    std::fs::create_dir_all(&inner).unwrap();
    let records = |labels: [u8; 4]| labels.map(|label| [vec![label], vec![label; 3072]].concat()).concat();
    for batch in 1..=5 {
        std::fs::write(inner.join(format!("data_batch_{batch}.bin")), records([0, 1, 0, 1])).unwrap();
    }
    std::fs::write(inner.join("test_batch.bin"), records([2, 3, 4, 9])).unwrap();
    let data = super::super::open("cifar10", &options(folder.path())).unwrap();
    assert_eq!(Split::ALL.map(|split| data.len(split)), [18, 2, 4]);
    assert_eq!(data.classes[data.label(Split::Test, 3) as usize], "truck");
    assert_eq!(data.picture(Split::Test, 3).unwrap().pixels, vec![9; 3072]);
    std::fs::write(inner.join("data_batch_3.bin"), [0; 100]).unwrap();
    let error = super::super::open("cifar10", &options(folder.path())).unwrap_err();
    assert!(error.what().contains("data_batch_3.bin: 100 bytes"), "{error}");
}

#[test]
fn an_unknown_name_is_answered_with_the_closest() {
    let error = super::super::open("mnst", &OpenOptions::default()).unwrap_err();
    assert!(error.to_string().contains("Did you mean 'mnist'?"), "{error}");
    assert!(error.is_usage());
}
