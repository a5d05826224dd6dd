//! Shards from the command line: packed, trained on, stopped in the middle of an epoch, damaged.

mod common;
use common::pictures::{cut, folder, small_net};
use common::{bad, good, json, ocelli};
use std::fs;
use std::path::Path;

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
