//! Training from the command line: what it prints and leaves, and that the bits repeat.

mod common;
use common::pictures::small_net;
use common::{command, good, json, ocelli};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// `ocelli train` of the small net with all that could disturb the bits, then `more`.
fn arguments<'a>(output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let base = ["train", "small.toml", "--augment", "shift:2", "--batch-size", "50", "--max-steps", "150", "--quiet"];
    base.into_iter().chain(["--output", output]).chain(more.iter().copied()).collect()
}

/// What must be the same bit for bit: the best weights and the whole state of the run.
fn bits(run: &Path) -> [Vec<u8>; 2] {
    ["best.safetensors", "last.ckpt"].map(|file| fs::read(run.join(file)).unwrap())
}

#[test]
fn with_nothing_it_trains_lenet5_on_the_digits_and_prints_commands_that_run() {
    let world = tempfile::tempdir().unwrap();
    fs::create_dir(world.path().join("samples")).unwrap();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples");
    for digit in ["digit-3.png", "digit-7.png"] {
        fs::copy(samples.join(digit), world.path().join("samples").join(digit)).unwrap();
    }
    let ran = ocelli(world.path(), &["train", "--epochs", "1"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("lenet5 (61,706 parameters): 7,000 pictures to train, 1,000 to choose by"),
        "{}",
        ran.stderr
    );
    assert!(ran.stdout.contains("of 2,000 held-out pictures (test)"), "{}", ran.stdout);
    assert!(ran.stdout.contains("95 % interval"), "{}", ran.stdout);
    assert!(ran.stdout.contains("true \\ answer"), "a confusion table: {}", ran.stdout);
    let run = world.path().join("runs/lenet5-mnist-10k-001");
    for file in [
        "args.toml",
        "net.toml",
        "classes.txt",
        "split.csv",
        "best.safetensors",
        "last.ckpt",
        "metrics.csv",
        "steps.csv",
        "curves.png",
        "confusion.png",
    ] {
        assert!(run.join(file).is_file(), "{file}");
    }
    let next: Vec<&str> = ran.stdout.lines().filter_map(|line| line.strip_prefix("  ocelli ")).collect();
    assert_eq!(next.len(), 3, "{}", ran.stdout);
    for line in next {
        good(world.path(), &line.split(' ').collect::<Vec<_>>());
    }
}

#[test]
fn threads_and_instruction_sets_do_not_change_a_bit() {
    let world = tempfile::tempdir().unwrap();
    small_net(world.path());
    good(world.path(), &arguments("threads-1", &["--threads", "1"]));
    let expected = bits(&world.path().join("threads-1"));
    for threads in ["2", "4", "7"] {
        let output = format!("threads-{threads}");
        good(world.path(), &arguments(&output, &["--threads", threads]));
        assert!(bits(&world.path().join(&output)) == expected, "{threads} threads");
    }
    for isa in ["avx2", "avx512"] {
        let ran = command(world.path()).env("OCELLI_ISA", isa).args(arguments(isa, &[])).output().unwrap();
        if !ran.status.success() {
            let why = String::from_utf8_lossy(&ran.stderr).into_owned();
            assert!(why.contains("OCELLI_ISA"), "{why}");
            eprintln!("not compared, this processor lacks {isa}");
            continue;
        }
        assert!(bits(&world.path().join(isa)) == expected, "{isa}");
    }
}

#[test]
fn another_seed_gives_other_weights() {
    let world = tempfile::tempdir().unwrap();
    small_net(world.path());
    for (output, seed) in [("one", "1"), ("two", "2")] {
        good(world.path(), &arguments(output, &["--seed", seed]));
    }
    assert!(bits(&world.path().join("one"))[0] != bits(&world.path().join("two"))[0]);
}

/// Starts a command in the background.
fn start(world: &Path, arguments: &[&str]) -> Child {
    command(world).args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until the run has written a checkpoint after `since`; the process must still be at work then.
fn wait_for_checkpoint(child: &mut Child, run: &Path, since: SystemTime) {
    let begun = Instant::now();
    let written = || fs::metadata(run.join("last.ckpt")).and_then(|file| file.modified()).is_ok_and(|at| at > since);
    while !written() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before its first checkpoint");
        assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint in two minutes");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.try_wait().unwrap().is_none(), "it ended before it could be stopped");
}

fn last_written(run: &Path) -> SystemTime {
    fs::metadata(run.join("last.ckpt")).and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[test]
fn a_run_killed_three_times_ends_with_the_bits_of_one_that_never_stopped() {
    let world = tempfile::tempdir().unwrap();
    small_net(world.path());
    let every = ["--checkpoint-every", "10"];
    good(world.path(), &arguments("whole", &every));
    let run = world.path().join("killed");
    for kill in 0..3 {
        let arguments =
            if kill == 0 { arguments("killed", &every) } else { vec!["train", "--resume", "killed", "--quiet"] };
        let since = last_written(&run);
        let mut child = start(world.path(), &arguments);
        if kill == 0 {
            // The checkpoint of step 0 comes first; the kill is to hit the middle of the training.
            wait_for_checkpoint(&mut child, &run, since);
        }
        let since = if kill == 0 { last_written(&run) } else { since };
        wait_for_checkpoint(&mut child, &run, since);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    good(world.path(), &["train", "--resume", "killed", "--quiet"]);
    assert!(bits(&run) == bits(&world.path().join("whole")));
    let steps = |run: &str| fs::read_to_string(world.path().join(run).join("steps.csv")).unwrap().lines().count();
    assert_eq!(steps("killed"), steps("whole"), "every step is told once");
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    let world = tempfile::tempdir().unwrap();
    small_net(world.path());
    good(world.path(), &arguments("whole", &[]));
    let run = world.path().join("stopped");
    let mut child = start(world.path(), &arguments("stopped", &["--checkpoint-every", "10"]));
    wait_for_checkpoint(&mut child, &run, SystemTime::UNIX_EPOCH);
    let signal = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signal.success());
    let ran = common::Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 130, "{}", ran.stderr);
    let advice = ran.stderr.lines().find_map(|line| line.strip_prefix("  ocelli ")).expect("how to go on");
    assert!(advice.starts_with("train --resume"), "{advice}");
    good(world.path(), &advice.split(' ').chain(["--quiet"]).collect::<Vec<_>>());
    assert!(
        fs::read(run.join("best.safetensors")).unwrap()
            == fs::read(world.path().join("whole/best.safetensors")).unwrap()
    );
}

#[cfg(unix)]
#[test]
fn a_second_ctrl_c_ends_at_once_and_the_run_goes_on_to_the_same_bits() {
    let world = tempfile::tempdir().unwrap();
    // Two steps an epoch, each of them long, so that the second Ctrl-C comes within the step that the first one ends after.
    let long = ["train", "lenet5", "--batch-size", "3500", "--max-steps", "3", "--quiet", "--output"];
    let in_run = |run: &'static str| long.iter().copied().chain([run]).collect::<Vec<_>>();
    good(world.path(), &in_run("whole"));
    let run = world.path().join("stopped");
    let mut child = start(world.path(), &in_run("stopped"));
    wait_for_checkpoint(&mut child, &run, SystemTime::UNIX_EPOCH);
    let interrupt = |child: &Child| {
        let signal = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(signal.success());
    };
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    interrupt(&child);
    let mut told = String::new();
    while !told.contains("Ctrl-C again ends at once") {
        assert!(stderr.read_line(&mut told).unwrap() > 0, "{told}");
    }
    interrupt(&child);
    stderr.read_to_string(&mut told).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{told}");
    assert!(!told.contains("the run is saved"), "it did not wait for the step: {told}");
    good(world.path(), &["train", "--resume", "stopped", "--quiet"]);
    assert!(bits(&run) == bits(&world.path().join("whole")));
}

#[test]
fn a_finished_run_and_args_as_config_repeat_the_result() {
    let world = tempfile::tempdir().unwrap();
    small_net(world.path());
    good(world.path(), &arguments("first", &[]));
    let before = bits(&world.path().join("first"));
    good(world.path(), &["train", "--resume", "first", "--quiet"]);
    assert!(bits(&world.path().join("first")) == before, "a finished run is left as it is");
    good(world.path(), &["train", "--config", "first/args.toml", "--output", "again", "--quiet"]);
    assert!(bits(&world.path().join("again"))[0] == before[0]);
}

#[test]
fn val_tells_the_same_at_any_batch_size_and_as_train_did() {
    let world = tempfile::tempdir().unwrap();
    small_net(world.path());
    let trained = json(&good(world.path(), &arguments("run", &["--json"])));
    let val = |size: &str| json(&good(world.path(), &["val", "run", "--json", "--batch-size", size])).remove(0);
    let told = val("64");
    for size in ["1", "7", "300"] {
        assert_eq!(val(size), told, "batches of {size}");
    }
    assert_eq!(told["images"], 2000);
    assert_eq!(told["split"], "test");
    for key in ["top1", "top5", "loss", "confusion"] {
        assert_eq!(trained[0]["held_out"][key], told[key], "{key}");
    }
}

#[test]
fn training_says_which_pixels_no_window_sees() {
    let world = tempfile::tempdir().unwrap();
    let run = ocelli(world.path(), &["train", "convnetjs-mnist", "--image-size", "27", "--max-steps", "1"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("never seen"), "{}", run.stderr);
}
