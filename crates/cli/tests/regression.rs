//! Numbers in place of classes: a CSV list from training to prediction.

mod common;
use common::{bad, good, json, ocelli};
use std::fs;
use std::path::Path;

/// 60 grey pictures whose two numbers can be read off them: how light they are, and how much lighter the right half is.
fn list(world: &Path) {
    let mut csv = "path,light,slope\n".to_owned();
    for i in 0..60u32 {
        let (light, slope) = (i % 10 * 15, i / 10 * 12);
        let pixel = |x: u32, _: u32| image::Luma([(40 + light + if x >= 4 { slope } else { 0 }) as u8]);
        image::GrayImage::from_fn(8, 8, pixel).save(world.join(format!("{i:02}.png"))).unwrap();
        csv.push_str(&format!("{i:02}.png,{},{}\n", f64::from(light) / 150.0, f64::from(slope) / 60.0));
    }
    fs::write(world.join("numbers.csv"), csv).unwrap();
    let net = "format = 1\nname = \"two\"\ninput = [1, 8, 8]\nlayers = [{ type = \"linear\", units = \"classes\" }]\n";
    fs::write(world.join("two.toml"), net).unwrap();
}

#[test]
fn numbers_are_learnt_judged_and_predicted() {
    let world = tempfile::tempdir().unwrap();
    let here = world.path();
    list(here);
    let train = ["train", "two.toml", "--data", "numbers.csv", "--batch-size", "8", "--epochs", "60", "--lr", "0.01"];
    let ran = ocelli(here, &[&train[..], &["--output", "run"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("validation loss") && !ran.stderr.contains("accuracy"), "{}", ran.stderr);
    assert!(ran.stdout.contains("mean squared error ") && ran.stdout.contains("held-out pictures (test)"));
    assert!(!ran.stdout.contains("accuracy") && !ran.stdout.contains("true \\ answer"), "{}", ran.stdout);
    for next in ran.stdout.lines().filter_map(|line| line.strip_prefix("  ocelli ")) {
        good(here, &next.split(' ').collect::<Vec<_>>());
    }
    assert_eq!(fs::read_to_string(here.join("run/classes.txt")).unwrap(), "light\nslope\n");
    assert!(here.join("run/curves.png").is_file() && !here.join("run/confusion.png").exists());
    let header = fs::read_to_string(here.join("run/metrics.csv")).unwrap();
    assert!(header.starts_with("epoch,step,lr,train_loss,val_loss,val_mae,best,seconds\n"), "{header}");

    let told = &json(&good(here, &["val", "run", "--json", "--predictions", "p.csv"]))[0];
    assert_eq!((&told["images"], &told["targets"]), (&6.into(), &serde_json::json!(["light", "slope"])));
    assert!(told["mean_absolute_error"].as_f64().unwrap() < 0.1, "{told}");
    assert!(told["loss"].as_f64().unwrap() < 0.02, "{told}");
    let rows = fs::read_to_string(here.join("p.csv")).unwrap();
    assert!(rows.starts_with("image,light,light_predicted,slope,slope_predicted\n"), "{rows}");
    // The mean of the rows' errors is what val tells.
    let errors: Vec<f64> = rows
        .lines()
        .skip(1)
        .flat_map(|row| {
            let cells: Vec<f64> = row.split(',').skip(1).map(|cell| cell.parse().unwrap()).collect();
            [(cells[0] - cells[1]).abs(), (cells[2] - cells[3]).abs()]
        })
        .collect();
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    assert!(errors.len() == 12 && (mean - told["mean_absolute_error"].as_f64().unwrap()).abs() < 1e-6, "{mean} {told}");

    // 14.png: light 60/150 = 0.4, slope 12/60 = 0.2.
    let answer = &json(&good(here, &["predict", "run", "14.png", "--json"]))[0];
    let value = |name: &str| answer["values"][name].as_f64().unwrap();
    assert!((value("light") - 0.4).abs() < 0.2 && (value("slope") - 0.2).abs() < 0.2, "{answer}");
    good(here, &["predict", "run", "14.png", "15.png", "--output", "out.csv"]);
    let csv = fs::read_to_string(here.join("out.csv")).unwrap();
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("image,light,slope"));
    let first: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert_eq!((first[0], lines.count()), ("14.png", 1));
    assert!((first[1].parse::<f64>().unwrap() - value("light")).abs() < 1e-12, "{csv} {answer}");

    let runs = &json(&good(here, &["runs", ".", "--json"]))[0];
    assert!(runs["best"]["val_accuracy"].is_null() && runs["best"]["val_loss"].as_f64().is_some(), "{runs}");
    let info = good(here, &["data", "info", "numbers.csv"]);
    assert!(info.contains("numbers to predict: light, slope"), "{info}");
    good(here, &["train", "--resume", "run", "--epochs", "61", "--quiet"]);
}

#[test]
fn what_belongs_to_classes_is_refused_for_numbers() {
    let world = tempfile::tempdir().unwrap();
    let here = world.path();
    list(here);
    for (flags, words) in [
        (["--class-weights", "balanced"], "class_weights"),
        (["--label-smoothing", "0.1"], "label_smoothing"),
        (["--monitor", "accuracy"], "accuracy"),
        (["--loss", "cross_entropy"], "cross_entropy"),
    ] {
        let (what, _) = bad(here, 2, &[&["train", "two.toml", "--data", "numbers.csv"][..], &flags].concat());
        assert!(what.contains(words), "{what}");
    }
    assert!(!here.join("runs").exists());
    fs::write(here.join("numbers.csv"), "path,light\n00.png,0.5\n01.png,lots\n").unwrap();
    let (what, _) = bad(here, 1, &["train", "two.toml", "--data", "numbers.csv"]);
    assert!(what.contains("line 3: 'lots' is not a finite number"), "{what}");
}
