//! `scripts/ablation.py` on a CIFAR-10 of 360 pictures.

mod common;

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Six files of 60 pictures whose colours follow from their classes.
fn cifar(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for file in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"] {
        let picture = |i: usize| {
            let class = (i % 10) as u8;
            let pixels = (0..3072).map(move |p| 20 * class + (p * 7 + i * 13 + file.len()) as u8 % 60);
            std::iter::once(class).chain(pixels)
        };
        fs::write(folder.join(format!("{file}.bin")), (0..60).flat_map(picture).collect::<Vec<u8>>()).unwrap();
    }
}

#[test]
fn the_ablation_runs_goes_on_and_writes_its_table() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("not run: there is no python3");
        return;
    }
    let world = tempfile::tempdir().unwrap();
    cifar(&world.path().join("data/cifar10"));
    let script = |arguments: &str| {
        let mut command = Command::new("python3");
        command.arg(root().join("scripts/ablation.py")).args(["--output", "runs", "--ocelli"]);
        command.arg(env!("CARGO_BIN_EXE_ocelli")).args(arguments.split_whitespace());
        common::Ran::from(command.current_dir(world.path()).output().unwrap())
    };
    let small = "--data-dir data --max-steps 3 --seeds 0,1 --ensemble 3 --jobs 2";

    let late = script(&format!("{small} --minutes 0"));
    assert_eq!((late.code, late.stderr.as_str()), (1, ""), "{}", late.stdout);
    assert_eq!(late.stdout, "0 of 19 runs are done. The same command goes on.\n");

    let ran = script(small);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let stored = fs::read_to_string(world.path().join("runs/results.json")).unwrap();
    let results: Value = serde_json::from_str(&stored).unwrap();
    // Nine variants and ten crops with two seeds, the third run of the base, and the three together.
    assert_eq!(results.as_object().unwrap().len(), 2 * 10 + 1 + 1);
    let images = |name: &str, split: &str| results[name][split]["images"].as_u64();
    for name in ["base-0", "naked-1", "pca-0", "ten-crop-1"] {
        let of = ["train", "val", "test"].map(|split| images(name, split));
        assert_eq!(of, [Some(270), Some(30), Some(60)], "{name}");
    }
    assert_eq!((images("ensemble", "val"), images("ensemble", "test")), (None, Some(60)));
    assert_eq!(results["ensemble"]["test"]["members"][2], results["base-2"]["test"]["top1"]);

    // Each variant's net is the base's but for one thing.
    let net = |name: &str| fs::read_to_string(world.path().join(format!("runs/{name}/net.toml"))).unwrap();
    let count = |name: &str, what: &str| net(name).matches(what).count();
    assert_eq!((count("base-0", "\"lrn\""), count("no-lrn-0", "\"lrn\"")), (2, 0));
    assert_eq!((count("base-0", "\"dropout\""), count("no-dropout-0", "\"dropout\"")), (1, 0));
    assert_eq!((count("plain-pooling-0", "kernel = 3, stride = 2"), count("plain-pooling-0", "\"max_pool\"")), (0, 2));
    assert_eq!((count("stride-0", "\"max_pool\""), count("stride-0", "kernel = 5, stride = 2")), (0, 1));
    assert!(["no-decay-0", "no-augmentation-0", "pca-0"].iter().all(|name| net(name) == net("base-0")));

    // What is done is not done again.
    let again = script(&format!("{small} --minutes 0"));
    assert_eq!((again.code, fs::read_to_string(world.path().join("runs/results.json")).unwrap()), (0, stored));

    let page = world.path().join("page.md");
    fs::write(&page, "before\n<!-- ablation: begin -->\nold\n<!-- ablation: end -->\nafter\n").unwrap();
    assert_eq!(script("--seeds 0,1 --table page.md").code, 0);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.starts_with("before\n") && page.ends_with("\nafter\n") && !page.contains("old"));
    let row = |title: &str| page.lines().find(|line| line.starts_with(&format!("| {title} |"))).unwrap().to_owned();
    let held_out = |name: &str| 100.0 * results[name]["test"]["top1"].as_f64().unwrap();
    let differences = [0, 1].map(|seed| held_out(&format!("stride-{seed}")) - held_out(&format!("base-{seed}")));
    // Of two values the deviation over the root of two is half of their distance; t with one degree of freedom is 12.706.
    let half = 12.706 * (differences[0] - differences[1]).abs() / 2.0;
    let difference = format!("| {:+.2} ± {half:.2} |", (differences[0] + differences[1]) / 2.0);
    assert!(row("stride instead of pooling").contains(&difference), "{page}\nhas no {difference}");
    assert!(row("the base").contains(&format!("| {:.2} |", (held_out("base-0") + held_out("base-1")) / 2.0)), "{page}");
    assert!(row("3 of the base together").contains("| - |"), "{page}");

    // A row that is not judged with every seed is left out.
    let mut part = results.clone();
    part["naked-1"].as_object_mut().unwrap().remove("test");
    fs::write(world.path().join("runs/results.json"), part.to_string()).unwrap();
    let printed = script("--seeds 0,1 --table page.md").stdout;
    assert!(page.contains("none of all these") && !printed.contains("none of all these"), "{printed}");

    let unknown = script("--only bass");
    assert!(
        unknown.code == 2 && unknown.stderr.contains("unknown: bass; there are base, no-lrn"),
        "{}",
        unknown.stderr
    );
}
