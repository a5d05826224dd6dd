//! Judging several models together, on several views, and how sure they are.

mod common;
use common::pictures::{folder, small_net};
use common::{bad, good, json};
use std::path::Path;

fn train(world: &Path, seed: &str) -> String {
    let output = format!("run-{seed}");
    let base = ["train", "small.toml", "--max-steps", "60", "--quiet", "--seed", seed, "--output", &output];
    good(world, &base);
    output
}

#[test]
fn an_ensemble_reports_each_member_and_the_whole() {
    let world = tempfile::tempdir().unwrap();
    small_net(world.path());
    let (a, b) = (train(world.path(), "1"), train(world.path(), "2"));
    let whole = &json(&good(world.path(), &["val", &a, &b, "--ensemble", "--json"]))[0];
    for (name, member) in [&a, &b].iter().zip(whole["members"].as_array().unwrap()) {
        let alone = &json(&good(world.path(), &["val", name, "--json"]))[0];
        assert_eq!((member["model"].as_str(), &member["top1"]), (Some(name.as_str()), &alone["top1"]));
        assert_ne!(alone["top1"], whole["top1"]);
    }
    let text = good(world.path(), &["val", &a, &b, "--ensemble"]);
    assert!(text.starts_with("2 models on mnist-10k\nmodel "), "{text}");
    assert!(text.contains("\nTogether:\naccuracy "), "{text}");
    assert!(text.contains("calibration error "), "{text}");

    let (what, advice) = bad(world.path(), 2, &["val", &a, &b]);
    assert!(what == "2 models without --ensemble" && advice.contains("--ensemble"), "{what}");
    folder(world.path(), &["cat", "dog"], 12);
    let other = ["train", "--data", "data", "--max-steps", "2", "--batch-size", "4", "--quiet", "--output", "pets"];
    good(world.path(), &other);
    let (what, _) = bad(world.path(), 2, &["val", &a, "pets", "--ensemble"]);
    assert_eq!(what, "run-1 has 10 classes, pets has 2: '0' is only in run-1");
}

#[test]
fn what_is_fitted_is_stored_and_used() {
    let world = tempfile::tempdir().unwrap();
    small_net(world.path());
    let run = train(world.path(), "3");
    let before = &json(&good(world.path(), &["val", &run, "--json"]))[0];
    let text = good(world.path(), &["val", &run, "--temperature", "fit", "--unsure", "0.99"]);
    assert!(text.starts_with("temperature ") && text.contains("sure from %"), "{text}");
    let after = &json(&good(world.path(), &["val", &run, "--json"]))[0];
    assert_eq!(before["top1"], after["top1"]);
    assert_ne!(before["calibration_error"], after["calibration_error"]);
    good(world.path(), &["val", &run, "--temperature", "none", "--quiet"]);
    let back = &json(&good(world.path(), &["val", &run, "--json"]))[0];
    assert_eq!(before["loss"], back["loss"]);

    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/digit-7.png");
    let sample = sample.to_string_lossy();
    let note = |unsure: &str| {
        let answer = &json(&good(world.path(), &["predict", &run, &sample, "--json", "--unsure", unsure]))[0];
        answer["note"].as_str().unwrap().to_owned()
    };
    assert_eq!((note("0").as_str(), note("1").as_str()), ("", "unsure"));
    let views = |tta: &str| json(&good(world.path(), &["predict", &run, &sample, "--json", "--tta", tta])).remove(0);
    assert_ne!(views("flip")["top"], views("multi-scale")["top"]);
    let (what, advice) = bad(world.path(), 2, &["val", &run, "--tta", "ten-crop"]);
    assert!(what.contains("ten-crop of pictures that are prepared at the net's own 28 x 28"), "{what}");
    assert!(advice.contains("--tta flip"), "{advice}");
}
