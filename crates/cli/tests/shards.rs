//! Shards from the command line: packed, trained on, stopped in the middle of an epoch, damaged.

mod common;
use common::pictures::{cut, folder, small_net};
use common::{bad, good, json, ocelli};
use std::fs;
use std::path::Path;
use std::process::Stdio;

/// A folder `data` of 120 pictures, the same as `shards`, and a net.
fn world() -> tempfile::TempDir {
    let world = tempfile::tempdir().unwrap();
    folder(world.path(), &["dark", "light"], 60);
    small_net(world.path());
    let said = good(world.path(), &["data", "pack", "data", "--output", "shards"]);
    assert!(said.contains("shards: 120 pictures in 3 archives, "), "{said}");
    world
}

/// Step and loss of each step of a run.
fn losses(run: &Path) -> Vec<[String; 3]> {
    let text = fs::read_to_string(run.join("steps.csv")).unwrap();
    let fields = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
    text.lines().skip(1).map(|line| std::array::from_fn(|i| fields(line)[i].clone())).collect()
}

#[test]
fn a_run_on_shards_goes_on_in_the_middle_of_an_epoch_with_the_same_pictures() {
    let world = world();
    let train = |output: &str, steps: &str, workers: &str| {
        let data = ["train", "small.toml", "--data", "shards", "--batch-size", "16", "--augment", "flip", "--quiet"];
        let run = ["--output", output, "--max-steps", steps, "--workers", workers];
        good(world.path(), &[&data[..], &run].concat());
    };
    train("whole", "20", "1");
    train("part", "8", "3");
    good(world.path(), &["train", "--resume", "part", "--max-steps", "20", "--quiet"]);
    let whole = losses(&world.path().join("whole"));
    assert_eq!(whole.len(), 20, "six batches an epoch: step 8 is in the second");
    assert_eq!(losses(&world.path().join("part")), whole);
    let val = json(&good(world.path(), &["val", "whole", "--data", "shards", "--json"]));
    assert_eq!(val[0]["images"], 12);
}

#[test]
fn a_cut_shard_is_named_and_left_out_on_request() {
    let world = world();
    cut(&world.path().join("shards/train-0000.tar"));
    let train = ["train", "small.toml", "--data", "shards", "--max-steps", "1", "--batch-size", "8"];
    let (what, advice) = bad(world.path(), 1, &train);
    assert!(what.contains("train-0000.tar: damaged at byte ") && what.contains("pictures before it"), "{what}");
    assert!(advice.contains("--skip-bad"), "{advice}");
    let ran = ocelli(world.path(), &[&train[..], &["--skip-bad"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("the rest of it is left out"), "{}", ran.stderr);
}

#[test]
fn packing_overwrites_nothing_and_a_wrong_pattern_is_wrong_use() {
    let world = world();
    let (what, _) = bad(world.path(), 2, &["data", "pack", "data", "--output", "shards"]);
    assert_eq!(what, "shards: exists already");
    let (what, _) = bad(world.path(), 2, &["data", "info", "shards/train-{0..x}.tar"]);
    assert!(what.ends_with("not a range of numbers"), "{what}");
    let said = good(world.path(), &["data", "info", "shards/train-{0000..0000}.tar"]);
    assert!(said.contains("no validation split in the data: carved 10 of 96 training pictures"), "{said}");
}

/// Trains on the shards through a buffer; `resized-crop` needs whole files, so that none are kept in memory.
const STREAMED: [&str; 12] = [
    "train",
    "small.toml",
    "--data",
    "shards",
    "--shuffle-buffer",
    "20",
    "--augment",
    "flip,resized-crop",
    "--batch-size",
    "16",
    "--quiet",
    "--output",
];

#[test]
fn a_streamed_run_that_was_killed_goes_on_to_the_same_bits() {
    let world = world();
    let here = world.path();
    good(here, &[&STREAMED[..], &["whole", "--epochs", "3"]].concat());
    let weights = |run: &str| fs::read(here.join(run).join("best.safetensors")).unwrap();
    for n in ["1", "4"] {
        good(here, &[&STREAMED[..], &[n, "--epochs", "3", "--workers", n, "--threads", n]].concat());
        assert!(weights(n) == weights("whole"), "{n} workers and threads");
    }
    let part = ["part", "--epochs", "3", "--checkpoint-every", "1"];
    let mut child = common::command(here).args(STREAMED).args(part).stdout(Stdio::null()).spawn().unwrap();
    let steps = || fs::read_to_string(here.join("part/steps.csv")).map_or(0, |text| text.lines().count());
    while steps() < 9 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (what, _) = bad(here, 2, &["train", "--resume", "part", "--shuffle-buffer", "21"]);
    assert!(what.contains("shuffle_buffer: 20 → 21"), "{what}");
    good(here, &["train", "--resume", "part", "--quiet", "--workers", "3"]);
    assert_eq!(losses(&here.join("part")), losses(&here.join("whole")));
    assert!(weights("part") == weights("whole"));
}

#[test]
fn the_order_shows_that_processes_share_the_pictures_without_overlap_or_loss() {
    let world = world();
    let order = |flags: &[&str]| -> Vec<String> {
        let said = good(world.path(), &[&["data", "order", "shards"], flags].concat());
        said.lines().map(str::to_owned).collect()
    };
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let exact = order(&[]);
    assert_eq!(exact.len(), 96);
    assert_ne!(order(&["--epoch", "2"]), exact);
    assert_ne!(order(&["--seed", "1"]), exact);
    for buffer in [&[][..], &["--shuffle-buffer", "10"]] {
        let of = |rank| order(&[buffer, &["--rank", rank, "--world-size", "2", "--batch-size", "32"]].concat());
        let (first, second) = (of("0"), of("1"));
        assert_eq!([first.len(), second.len()], [48, 48]);
        assert_eq!(sorted([first, second].concat()), sorted(exact.clone()));
    }
    let buffered = json(&good(world.path(), &["data", "order", "shards", "--shuffle-buffer", "1", "--json"]));
    let names: Vec<&str> =
        buffered[0]["pictures"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.is_sorted() && names[0] == "train-0000.tar/00000000.png", "{names:?}");
}

#[test]
fn a_buffer_that_cannot_be_is_one_line_and_what_to_do() {
    let world = world();
    let train = ["train", "small.toml", "--shuffle-buffer"];
    for (flags, what, advice) in [
        (&["10", "--data", "data"][..], "data: a shuffle buffer, but dark/", "ocelli data pack"),
        (&["0", "--data", "shards"], "a shuffle buffer of 0 pictures", "--shuffle-buffer 1 or more"),
        (&["9", "--data", "shards", "--no-shuffle"], "a shuffle buffer for pictures in file order", "Leave one"),
        (&["9", "--data", "shards", "--sampling", "balanced"], "a shuffle buffer with sampling balanced", "Leave one"),
    ] {
        let said = bad(world.path(), 2, &[&train[..], flags].concat());
        assert!(said.0.contains(what) && said.1.contains(advice), "{said:?}");
    }
    let order = ["data", "order", "shards", "--shuffle-buffer", "9", "--rank"];
    for (flags, what) in [
        (&["2", "--world-size", "2"][..], "rank 2 of 2 processes"),
        (&["0", "--world-size", "5"], "a batch of 64 pictures for 5 processes, each with whole groups of 16"),
        (&["0", "--epoch", "0"], "--epoch"),
    ] {
        let said = bad(world.path(), 2, &[&order[..], flags].concat());
        assert!(said.0.contains(what), "{said:?}");
    }
}
