//! Bad input gives an error of one line and a line of advice, and nothing is lost or left behind.

mod common;
use common::pictures::{claims_to_be, cut, folder, small_net};
use common::{bad, good, ocelli};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const CLASSES: [&str; 3] = ["dark", "light", "middle"];

/// An empty place to work in.
fn world() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Runs a command that must fail, look for `words` in its two lines, and see that no run was begun.
#[track_caller]
fn refused(world: &Path, code: i32, arguments: &[&str], words: &[&str]) {
    let (what, advice) = bad(world, code, arguments);
    for word in words {
        assert!(what.contains(word) || advice.contains(word), "'{word}' is missing in\n{what}\n{advice}");
    }
    assert!(!advice.is_empty());
    assert!(!world.join("runs").exists(), "a run was begun");
}

#[test]
fn folders_without_pictures() {
    let world = world();
    let here = world.path();
    refused(here, 2, &["train", "--data", "nowhere"], &["nowhere", "mnist-10k", "a folder of pictures"]);
    fs::create_dir(here.join("empty")).unwrap();
    refused(here, 1, &["train", "--data", "empty"], &["empty: no pictures in it", "FOLDER/CLASS"]);
    fs::create_dir(here.join("texts")).unwrap();
    fs::write(here.join("texts/a.txt"), "a").unwrap();
    refused(here, 1, &["train", "--data", "texts"], &["texts: no pictures in it"]);
    folder(here, &["alone"], 20);
    refused(here, 1, &["train", "--data", "data"], &["one class only (alone)"]);
}

#[test]
fn a_damaged_picture_is_named_and_counted_or_left_out() {
    let world = world();
    let here = world.path();
    let data = folder(here, &CLASSES, 20);
    cut(&data.join("dark/03.png"));
    let jpeg = data.join("light/20.jpg");
    image::open(data.join("light/00.png")).unwrap().save(&jpeg).unwrap();
    cut(&jpeg);
    fs::write(data.join("middle/20.jpg"), "not a picture").unwrap();
    refused(
        here,
        1,
        &["train", "--data", "data", "--image-size", "8"],
        &["3 of 50 train pictures", "03.png", "--skip-bad"],
    );
    let ran = ocelli(
        here,
        &["train", "--data", "data", "--skip-bad", "--epochs", "1", "--batch-size", "8", "--image-size", "16"],
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("3 pictures left out because of --skip-bad; the first:"), "{}", ran.stderr);
}

#[test]
fn pictures_to_predict_on() {
    let world = world();
    let here = world.path();
    small_net(here);
    good(here, &["train", "small.toml", "--max-steps", "2", "--output", "run", "--quiet"]);
    claims_to_be(&here.join("huge.bmp"), 50_000, 50_000);
    fs::write(here.join("text.jpg"), "not a picture").unwrap();
    fs::write(here.join("empty.png"), "").unwrap();
    for (file, words) in [
        ("huge.bmp", ["50000 x 50000", "Scale the picture down"]),
        ("text.jpg", ["text.jpg: a text file", "PNG, JPEG"]),
        ("empty.png", ["empty.png: an empty file", "Remove it"]),
        ("missing.png", ["missing.png", "Check the path"]),
    ] {
        refused(here, 1, &["predict", "run", file], &words);
    }
    fs::create_dir(here.join("none")).unwrap();
    refused(here, 1, &["predict", "run", "none"], &["none: the folder holds no pictures"]);
    refused(here, 1, &["predict", "nothing", "text.jpg"], &["nothing"]);
    refused(here, 1, &["predict", "latest", "text.jpg"], &["no run in runs", "ocelli train"]);
    fs::write(here.join("damaged.safetensors"), [1, 2, 3]).unwrap();
    refused(here, 1, &["predict", "damaged.safetensors", "text.jpg"], &["damaged.safetensors"]);
}

#[test]
fn idx_files_with_a_wrong_head_or_length() {
    let world = world();
    let here = world.path();
    let mnist = here.join("sets/mnist");
    fs::create_dir_all(&mnist).unwrap();
    let names =
        ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];
    let write = |images: &[u8]| {
        for name in names {
            let labels: &[u8] = &[0, 0, 8, 1, 0, 0, 0, 2, 0, 1];
            fs::write(mnist.join(name), if name.contains("labels") { labels } else { images }).unwrap();
        }
    };
    let train = ["train", "--data", "mnist", "--data-dir", "sets"];
    write(b"GIF89a, not IDX at all");
    refused(here, 1, &train, &["train-images-idx3-ubyte"]);
    write(&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28, 7]);
    refused(here, 1, &train, &["[2, 28, 28]", "1568 bytes", "has only 1"]);
    write(&[0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]);
    refused(here, 1, &train, &["train-images-idx3-ubyte"]);
}

#[test]
fn networks_that_cannot_be() {
    let world = world();
    let here = world.path();
    let head = "format = 1\nname = \"n\"\ninput = [1, 28, 28]\n";
    let layer = |text: &str| format!("{head}layers = [\n{text}\n]\n");
    for (text, words) in [
        (
            layer("{ type = \"conv\", fitlers = 6, kernel = 5 }"),
            ["unknown key \"fitlers\"", "Did you mean \"filters\"?"],
        ),
        (
            layer(
                "{ type = \"relu\", name = \"a\", inputs = [\"b\"] },\n{ type = \"relu\", name = \"b\", inputs = [\"a\"] }",
            ),
            ["cycle", "a"],
        ),
        (layer("{ type = \"relu\", name = \"a\" },\n{ type = \"relu\", name = \"a\" }"), ["a", "twice"]),
        (
            layer(
                "{ type = \"max_pool\", kernel = 7 },\n{ type = \"conv\", name = \"conv2\", filters = 2, kernel = 5 }",
            ),
            ["conv2: kernel 5x5 does not fit its 4x4 input: (4 - 5 + 2*0)/1 + 1 = 0", "Use padding 2 (\"same\")"],
        ),
        (layer("{ type = \"linear\", units = 7 }"), ["7 values", "10 classes"]),
        ("format = 1\nname = [".to_owned(), ["net.toml", ""]),
    ] {
        fs::write(here.join("net.toml"), text).unwrap();
        refused(here, 1, &["train", "net.toml"], &words);
    }
    refused(here, 2, &["train", "lenet-5"], &["unknown net \"lenet-5\"", "Did you mean \"lenet5\"?"]);
}

#[test]
fn settings_that_cannot_be() {
    let world = world();
    let here = world.path();
    folder(here, &CLASSES, 10);
    for (flags, words) in [
        (&["--batch-size", "0"][..], &["batch"][..]),
        (&["--data", "data", "--batch-size", "500"], &["a batch of 500 of 24", "--batch-size 24 or less"]),
        (&["--lr", "-1"], &["lr"]),
        (&["--schedule", "cosin"], &["cosin", "cosine"]),
        (&["--augment", "flop"], &["flop", "Did you mean 'flip'?"]),
        (&["--augment", "erase:2"], &["'erase:2'", "a number from 0 to 1"]),
        (&["--augment", "crop:4,resized-crop"], &["both crop and resized-crop"]),
        (&["--augment", "pca"], &["pca for a net with 1 channel"]),
        (&["--data", "data", "--cover", "20"], &["64 x 64 pixels cut out of 20 x 20", "--cover"]),
        (&["--mean", "midle"], &["midle", "pixel, image"]),
        (&["--image-size", "0"], &["image_size"]),
        (&["--epochs", "many"], &["--epochs", "many"]),
        (&["--epohcs", "1"], &["--epohcs", "--epochs"]),
    ] {
        let arguments: Vec<&str> = ["train"].into_iter().chain(flags.iter().copied()).collect();
        refused(here, 2, &arguments, words);
    }
    let help = good(here, &["train", "--help"]);
    let missing: Vec<&str> =
        ocelli::data::KINDS.iter().map(|kind| kind.name).filter(|name| !help.contains(name)).collect();
    assert_eq!(missing, [""; 0], "the help names every augmentation");
    fs::write(here.join("colours.toml"), "eigenvalues = [1, 2]\n").unwrap();
    let colours = ["train", "--data", "data", "--augment", "pca", "--pca", "colours.toml"];
    refused(here, 1, &colours, &["colours.toml: no principal components", "ocelli data pca"]);
    refused(
        here,
        2,
        &["data", "preview", "data", "--pictures", "999", "--epochs", "999"],
        &["999 pictures in 999 epochs"],
    );
    refused(here, 2, &["data", "preview", "data", "--augment", "flop"], &["flop"]);
    fs::write(here.join("recipe.toml"), "format = 1\nepohcs = 3\n").unwrap();
    refused(here, 2, &["train", "--config", "recipe.toml"], &["recipe.toml", "epohcs", "epochs"]);
}

#[test]
fn weights_of_another_network_are_named_with_both_shapes() {
    let world = world();
    let here = world.path();
    good(here, &["train", small_net(here), "--max-steps", "2", "--output", "run", "--quiet"]);
    let wider = common::pictures::SMALL_NET.replace("filters = 8", "filters = 12");
    fs::write(here.join("wider.toml"), wider).unwrap();
    let init = ["train", "wider.toml", "--init", "run/best.safetensors"];
    refused(here, 1, &init, &["batch_norm1.bias", "[8]", "[12]"]);
}

#[test]
fn a_run_is_not_overwritten_nor_changed_nor_read_when_newer() {
    let world = world();
    let here = world.path();
    good(here, &["train", small_net(here), "--max-steps", "2", "--output", "run", "--quiet"]);
    let files = || {
        let mut files: Vec<_> = fs::read_dir(here.join("run")).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect::<Vec<_>>()
    };
    let before = files();
    refused(here, 1, &["train", "small.toml", "--output", "run"], &["run: the folder is not empty", "--overwrite"]);
    refused(here, 2, &["train", "--resume", "run", "--lr", "0.5"], &["changed settings", "lr", "0.5"]);
    refused(here, 2, &["train", "--resume", "run", "--batch-size", "32"], &["batch_size", "64", "32"]);
    refused(here, 1, &["train", "--resume", "elsewhere"], &["elsewhere", "ocelli runs"]);
    assert!(files() == before, "a refused command changed the run");
    let args = fs::read_to_string(here.join("run/args.toml")).unwrap();
    fs::write(here.join("run/args.toml"), args.replace("format = 1", "format = 99")).unwrap();
    refused(here, 1, &["train", "--resume", "run"], &["99"]);
}

#[test]
fn an_output_that_cannot_be_made() {
    let world = world();
    let here = world.path();
    small_net(here);
    fs::write(here.join("file"), "kept").unwrap();
    refused(here, 1, &["train", "small.toml", "--max-steps", "2", "--output", "file/run"], &["file/run"]);
    assert_eq!(fs::read_to_string(here.join("file")).unwrap(), "kept");
    // Not even root can make a folder there.
    #[cfg(target_os = "linux")]
    refused(here, 1, &["train", "small.toml", "--max-steps", "2", "--output", "/proc/run"], &["/proc/run"]);
}

#[test]
fn parts_of_a_batch_and_plans_of_unfreezing() {
    let world = world();
    let here = world.path();
    refused(here, 2, &["train", "--accumulate", "3"], &["accumulate 3 for a batch of 64", "Choose --accumulate 2"]);
    let part = ["train", "--batch-size", "40", "--accumulate", "2"];
    refused(here, 2, &part, &["parts must have 16, 32, 64", "Choose --batch-size 32"]);
    for (plan, words) in [
        ("fc1", ["unfreeze 'fc1' cannot be", "LAYER@EPOCH"]),
        ("fc1@30", ["unfreeze fc1@30: the epoch must be after 1, 20 at most", "--freeze-until"]),
        ("fc1@3,conv1@2", ["unfreeze conv1@2: the epoch must be after 3", "in order"]),
        ("fc3@2", ["unfreeze fc3@2: all from fc3 on learns before", "from the last to the first"]),
        ("fd1@2", ["unfreeze fd1: lenet5 has no such layer", "Did you mean fc1?"]),
    ] {
        refused(here, 2, &["train", "lenet5", "--freeze-until", "fc3", "--unfreeze", plan], &words);
    }
    refused(here, 2, &["train", "lenet5", "--unfreeze", "fc1@2"], &["without freeze_until", "--freeze-until LAYER"]);
}
