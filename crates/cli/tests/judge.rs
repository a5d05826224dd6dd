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

#[test]
fn a_picture_may_have_several_classes() {
    let world = tempfile::tempdir().unwrap();
    let here = world.path();
    small_net(here);
    let mut list = String::from("path,labels\n");
    for i in 0..60u32 {
        let (top, left) = (i % 2 == 0, i / 2 % 2 == 0);
        let light = |x: u32, y: u32| 90 * u32::from(top && y < 14) + 90 * u32::from(left && x < 14);
        let pixel = |x: u32, y: u32| image::Luma([(20 + light(x, y) + (i * 37 + x * 11 + y * 53) % 40) as u8]);
        image::GrayImage::from_fn(28, 28, pixel).save(here.join(format!("{i:02}.png"))).unwrap();
        list += &format!("{i:02}.png,{}\n", ["top|left", "left", "top", ""][(i % 4) as usize]);
    }
    std::fs::write(here.join("tags.csv"), list).unwrap();
    assert!(good(here, &["data", "info", "tags.csv"]).contains("any number of classes a picture"));
    let train =
        ["train", "small.toml", "--data", "tags.csv", "--batch-size", "8", "--epochs", "12", "--output", "tags"];
    let text = good(here, &train);
    assert!(
        text.contains("all classes right in ") && text.contains("mAP ") && !text.contains("true \\ answer"),
        "{text}"
    );
    let text = good(here, &["val", "tags", "--split", "train", "--predictions", "answers.csv"]);
    assert!(text.contains("class  images  precision %  recall %") && text.contains("micro F1 "), "{text}");
    assert!(!text.contains("top-5") && !text.contains("calibration error") && !text.contains("mistakes"), "{text}");
    let answers = std::fs::read_to_string(here.join("answers.csv")).unwrap();
    assert!(answers.starts_with("image,left,left_probability,top,top_probability\n"), "{answers}");
    let value = &json(&good(here, &["val", "tags", "--split", "train", "--json"]))[0];
    assert!(value["exact_match"].as_f64().unwrap() > 0.8 && value["mean_average_precision"].as_f64().unwrap() > 0.9);
    assert!(value.get("top1").is_none() && value["average_precision"].as_array().unwrap().len() == 2);
    let answer = &json(&good(here, &["predict", "tags", "00.png", "--json"]))[0];
    let sum: f64 = answer["top"].as_array().unwrap().iter().map(|one| one["probability"].as_f64().unwrap()).sum();
    assert!(answer["classes"].as_array().unwrap().len() == 2 && sum > 1.0, "{answer}");
    assert!(good(here, &["predict", "tags", "03.png"]).contains("none"));
    good(here, &["predict", "tags", "00.png", "03.png", "--output", "said.csv"]);
    for (what, advice, arguments) in [
        (
            "--unsure for a model that answers several classes a picture",
            "Leave it out",
            &["val", "tags", "--unsure", "0.9"][..],
        ),
        (
            "a temperature for a model of several classes a picture",
            "one class",
            &["val", "tags", "--temperature", "fit"],
        ),
        (
            "--method shift for a model of several",
            "other methods",
            &["explain", "tags", "00.png", "--method", "shift", "--output", "look"],
        ),
        ("loss cross_entropy for tags", "Use --loss bce", &["train", "--data", "tags.csv", "--loss", "cross_entropy"]),
        ("mnist-10k has one class a picture", "column labels", &["val", "tags", "--data", "mnist-10k"]),
        (
            "loss bce for mnist-10k, which has classes",
            "cross_entropy",
            &["train", "--data", "mnist-10k", "--loss", "bce"],
        ),
        ("tags: several classes a picture", "keep the list", &["data", "pack", "tags.csv", "--output", "shards"]),
    ] {
        let (found, then) = bad(here, 2, arguments);
        assert!(found.contains(what) && then.contains(advice), "{found}\n{then}");
    }
}
