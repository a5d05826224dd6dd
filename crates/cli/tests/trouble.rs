//! Runs that end early or go wrong: what they say, and that what was saved stays.

mod common;
use common::pictures::{folder, small_net};
use common::{Ran, bad, command, good, json, ocelli};
use std::fs;
use std::path::Path;

/// 24 pictures to train of three classes, three steps an epoch.
fn pictures(world: &Path) {
    folder(world, &["dark", "middle", "light"], 10);
}

/// A net whose checkpoint is some 200 KB, for [`pictures`].
const WIDE_NET: &str = r#"format = 1
name = "wide"
input = [3, 8, 8]
layers = [
  { type = "linear", name = "fc1", units = 128 },
  { type = "relu" },
  { type = "linear", name = "fc2", units = "classes" },
]
"#;

/// Pictures and net, as `data` and `wide.toml`.
fn wide_net(world: &Path) {
    pictures(world);
    fs::write(world.join("wide.toml"), WIDE_NET).unwrap();
}

#[test]
fn a_run_that_ends_in_its_first_epoch_says_so_and_is_listed_with_steps_and_loss() {
    let world = tempfile::tempdir().unwrap();
    let here = world.path();
    small_net(here);
    let out = good(here, &["train", "small.toml", "--max-steps", "3", "--quiet"]);
    assert!(out.starts_with("3 steps in "), "{out}");
    assert!(out.contains(", the number asked for: ended before the first epoch was complete"), "{out}");
    assert!(out.contains("of 2,000 held-out pictures"), "its weights are judged all the same: {out}");
    let run = &json(&good(here, &["runs", "--json"]))[0];
    assert_eq!((&run["epochs"], &run["steps"]), (&0.into(), &3.into()));
    assert!(run["last_loss"].as_f64().is_some_and(|loss| loss > 0.0), "{run}");
    let table = good(here, &["runs"]);
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[1], row[2], row[3].len(), row[4]), ("0", "3", "1.2345".len(), "-"), "{table}");
    // A limit that is over before the first step leaves weights to judge, too.
    let out = good(here, &["train", "small.toml", "--max-time", "0.000001s", "--quiet"]);
    assert!(out.starts_with("0 steps in ") && out.contains(", the time is over: ended before"), "{out}");
}

#[test]
fn one_epoch_is_one_epoch() {
    let world = tempfile::tempdir().unwrap();
    wide_net(world.path());
    let out = good(world.path(), &["train", "wide.toml", "--data", "data", "--epochs", "1", "--batch-size", "24"]);
    assert!(out.starts_with("1 epoch, 1 step in "), "{out}");
}

#[test]
fn what_looks_wrong_is_a_warning_with_advice_even_when_quiet() {
    let world = tempfile::tempdir().unwrap();
    let here = world.path();
    pictures(here);
    fs::create_dir_all(here.join("split/val")).unwrap();
    fs::rename(here.join("data"), here.join("split/train")).unwrap();
    for class in ["dark", "middle"] {
        fs::create_dir(here.join("split/val").join(class)).unwrap();
        let from = here.join("split/train").join(class).join("00.png");
        fs::rename(from, here.join("split/val").join(class).join("00.png")).unwrap();
    }
    // Weights of 0 and hardly a step: the net answers all classes alike for ever.
    let net = WIDE_NET.replace("units = \"classes\"", "units = \"classes\", init = { weight = 0 }");
    fs::write(here.join("idle.toml"), net).unwrap();
    let ran = ocelli(
        here,
        &["train", "idle.toml", "--data", "split", "--lr", "1e-9", "--batch-size", "14", "--epochs", "150", "--quiet"],
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines: Vec<&str> = ran.stderr.lines().collect();
    for (what, advice) in [
        ("warning: the val split has no pictures of: light", "The best epoch is chosen without them: add pictures"),
        (
            "warning: step 300: for 300 steps the loss has been ln(3) = 1.099, that of guessing",
            "Nothing is learnt: try",
        ),
        ("warning: epoch 1: all 2 validation pictures are taken for 'dark'", "If this stays: try a lower --lr"),
    ] {
        let at = lines.iter().position(|line| *line == what).unwrap_or_else(|| panic!("{what}\n{}", ran.stderr));
        assert!(lines[at + 1].starts_with(advice), "{}", lines[at + 1]);
    }
    // Of biases that start from 1, as AlexNet's do, the advice is what its users needed.
    let net = WIDE_NET.replace("units = 128", "units = 128, init = { bias = 1 }");
    let net = net.replace("units = \"classes\"", "units = \"classes\", init = { weight = 0 }");
    fs::write(here.join("ones.toml"), net).unwrap();
    let idle =
        ["train", "ones.toml", "--data", "split", "--lr", "1e-9", "--batch-size", "14", "--epochs", "150", "--quiet"];
    let ran = ocelli(here, &idle);
    let advice =
        "Biases that start from 1 can do this, as in AlexNet: try 0.1 in the net's init, another --seed, or a tenth";
    assert!(ran.stderr.contains(&format!(", that of guessing\n{advice}")), "{}", ran.stderr);
    let out = good(here, &["data", "info", "split"]);
    assert!(out.contains("warning: the val split has no pictures of: light\n"), "{out}");
}

/// Runs `ocelli` where no file may grow beyond `blocks` of 512 bytes: to the program this looks like a full disk.
#[cfg(unix)]
fn with_little_space(world: &Path, blocks: u32, arguments: &[&str]) -> Ran {
    let ocelli = command(world);
    let mut shell = std::process::Command::new("sh");
    // POSIX counts in blocks of 512 bytes. The signal is ignored, so that the write fails as on a full disk.
    shell.current_dir(world).args(["-c", "trap '' XFSZ; ulimit -f \"$0\" && exec \"$@\"", &blocks.to_string()]);
    shell.arg(ocelli.get_program()).args(arguments);
    shell.output().unwrap().into()
}

#[cfg(unix)]
#[test]
fn on_a_full_disk_a_run_ends_with_an_error_and_its_last_checkpoint_goes_on() {
    let world = tempfile::tempdir().unwrap();
    let here = world.path();
    wide_net(here);
    let train = ["train", "wide.toml", "--data", "data", "--batch-size", "8", "--epochs", "4", "--quiet"];
    let in_run = |run: &str, more: &[&str]| {
        train.iter().chain(&["--output", run]).chain(more).map(|word| word.to_string()).collect::<Vec<String>>()
    };
    let go = |arguments: &[String]| good(here, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    go(&in_run("whole", &[]));
    go(&in_run("run", &["--max-steps", "4"]));
    let files = ["last.ckpt", "best.safetensors"];
    let saved = files.map(|file| fs::read(here.join("run").join(file)).unwrap());
    // 100 blocks, 51,200 bytes: enough for the texts, too little for weights and checkpoint.
    let resume = ["train", "--resume", "run", "--max-steps", "1000", "--quiet"];
    let full = with_little_space(here, 100, &resume);
    assert_eq!(full.code, 1, "{}", full.stderr);
    let lines: Vec<&str> = full.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{}", full.stderr);
    assert!(lines[0].starts_with("error: run/") && lines[0].contains(": cannot be written: "), "{}", lines[0]);
    assert!(lines[1].starts_with("Free some space"), "{}", lines[1]);
    assert!(files.map(|file| fs::read(here.join("run").join(file)).unwrap()) == saved, "what was saved is whole");
    let left: Vec<_> = fs::read_dir(here.join("run")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("part")), "{left:?}");
    good(here, &resume);
    let weights = |run: &str| fs::read(here.join(run).join("best.safetensors")).unwrap();
    assert!(weights("run") == weights("whole"));
    // A log that cannot grow ends a run as well: 40 blocks hold the checkpoint of a small net, but not 900 rows.
    let net = WIDE_NET.replace("units = 128", "units = 2");
    fs::write(here.join("thin.toml"), net).unwrap();
    let logs = ["train", "thin.toml", "--data", "data", "--batch-size", "8", "--epochs", "300", "--quiet"];
    let full = with_little_space(here, 40, &[&logs[..], &["--output", "logs"]].concat());
    assert_eq!(full.code, 1, "{}", full.stderr);
    assert!(full.stderr.starts_with("error: logs/") && full.stderr.contains("\nFree some space"), "{}", full.stderr);
    good(here, &["train", "--resume", "logs", "--max-steps", "1", "--quiet"]);
}

#[cfg(target_os = "linux")]
#[test]
fn results_that_a_full_device_loses_are_an_error() {
    let world = tempfile::tempdir().unwrap();
    let here = world.path();
    wide_net(here);
    good(here, &["train", "wide.toml", "--data", "data", "--batch-size", "8", "--epochs", "1", "--output", "run"]);
    std::os::unix::fs::symlink("/dev/full", here.join("full")).unwrap();
    for arguments in [
        &["val", "run", "--predictions", "full"][..],
        &["predict", "run", "data", "--output", "full"],
        &["val", "run", "--mistakes", "full", "--split", "train"],
    ] {
        let (what, advice) = bad(here, 1, arguments);
        assert!(what.starts_with("full: cannot be written: no storage space"), "{what}");
        assert!(advice.starts_with("Free some space"), "{advice}");
    }
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ran: Ran = command(here).args(["val", "run"]).stdout(full).output().unwrap().into();
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("error: stdout: No space left on device"), "{}", ran.stderr);
}

#[test]
fn a_run_whose_files_cannot_be_replaced_ends_with_an_error_and_stays() {
    let world = tempfile::tempdir().unwrap();
    let here = world.path();
    wide_net(here);
    let train = ["train", "wide.toml", "--data", "data", "--batch-size", "8", "--epochs", "4", "--quiet"];
    let run = here.join("run");
    good(here, &[&train[..], &["--output", "run", "--max-steps", "1"]].concat());
    let checkpoint = fs::read(run.join("last.ckpt")).unwrap();
    // Folders in the place of files: nobody, not even root, can replace them.
    for file in ["best.safetensors", "metrics.csv", "net.toml"] {
        let (place, aside) = (run.join(file), here.join("aside"));
        fs::rename(&place, &aside).unwrap();
        fs::create_dir(&place).unwrap();
        let (what, advice) = bad(here, 1, &["train", "--resume", "run", "--max-steps", "1000", "--quiet"]);
        assert!(what.contains(&format!("run/{file}")), "{what}");
        assert!(!advice.is_empty());
        assert!(fs::read(run.join("last.ckpt")).unwrap() == checkpoint, "{file}: the checkpoint stays");
        let (what, _) = bad(here, 1, &[&train[..], &["--output", "run", "--overwrite"]].concat());
        assert!(what.contains(&format!("run/{file}")), "{what}");
        assert!(fs::read(run.join("last.ckpt")).unwrap() == checkpoint, "{file}: overwriting takes all or nothing");
        fs::remove_dir(&place).unwrap();
        fs::rename(&aside, &place).unwrap();
    }
    good(here, &["train", "--resume", "run", "--max-steps", "1000", "--quiet"]);
    fs::write(here.join("file"), "kept").unwrap();
    for flag in
        [&["val", "run", "--predictions", "file/p.csv"][..], &["predict", "run", "data", "--output", "file/p.csv"]]
    {
        let (what, _) = bad(here, 1, flag);
        assert!(what.starts_with("file/p.csv: cannot be written"), "{what}");
    }
    assert_eq!(fs::read_to_string(here.join("file")).unwrap(), "kept");
}
