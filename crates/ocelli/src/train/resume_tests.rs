//! Whole runs with a real network: the same bits at any number of threads and however often a run is stopped, and what
//! going on refuses.

use std::fs;

use toml::Table;

use super::tests::{Remains, remains, settings, world};
use super::*;
use crate::Error;
use crate::data::Split;
use crate::formats::NUMERICS_VERSION;
use crate::formats::run_folder::CHECKPOINT;
use crate::model::Model;

const NET: &str = "format = 1
name = \"bits\"
input = [1, 8, 8]
layers = [
  { type = \"conv\", name = \"conv\", filters = 4, kernel = 3, padding = 1 },
  { type = \"batch_norm\", name = \"bn\" },
  { type = \"relu\" },
  { type = \"max_pool\", kernel = 2 },
  { type = \"dropout\", rate = 0.3 },
  { type = \"linear\", name = \"fc\", units = \"classes\" },
]
";

/// Two classes, and a net with batch norm and dropout to learn them.
pub(super) fn bits_world() -> tempfile::TempDir {
    let world = world();
    fs::write(world.path().join("one.toml"), NET).unwrap();
    world
}

fn place(output: &Path, threads: usize) -> Place {
    Place { output: Some(output.to_path_buf()), device: Device::cpu(threads), ..Place::default() }
}

/// Trains in `output`; the interrupt flag is set when the step `stop` is told.
pub(super) fn start(settings: &Settings, output: &Path, threads: usize, stop: Option<u64>) -> Result<Outcome> {
    with_stop(stop, |audience| train(settings, &place(output, threads), audience))
}

pub(super) fn go_on(run: &Path, flags: &str, stop: Option<u64>) -> Result<Outcome> {
    let flags: Table = toml::from_str(flags).unwrap();
    with_stop(stop, |audience| resume(&run.to_string_lossy(), flags, &Place::default(), audience))
}

fn with_stop(stop: Option<u64>, run: impl FnOnce(Audience) -> Result<Outcome>) -> Result<Outcome> {
    let interrupt = AtomicBool::new(false);
    let mut listener = |event: &Event| {
        if matches!(event, Event::Step(step) if Some(step.step) == stop) {
            interrupt.store(true, Ordering::Relaxed);
        }
        Ok(())
    };
    run(Audience { listeners: vec![&mut listener], interrupt: &interrupt })
}

pub(super) fn left(run: &Path) -> Remains {
    remains(&RunFolder { path: run.to_path_buf() })
}

#[test]
fn a_run_stopped_three_times_and_any_number_of_threads_give_the_same_bits() {
    let world = bits_world();
    for optimizer in ["sgd", "adam"] {
        let text = format!(
            "optimizer = '{optimizer}'\nlr = 0.01\nschedule = 'cosine'\nwarmup_epochs = 1\nclip = 1\nmean = 'image'\n\
             augment = 'alternating-flip,shift:1,rotate:9,randaugment,jitter,blur,erase:0.5,mixup,cutmix'"
        );
        let settings = settings(world.path(), &text);
        let at = |name: &str| world.path().join(format!("{optimizer}-{name}"));
        let outcome = start(&settings, &at("whole"), 1, None).unwrap();
        assert_eq!((outcome.ended, outcome.steps, outcome.epochs), (Ended::Epochs, 18, 3));
        for threads in [2, 4, 7] {
            let run = at(&threads.to_string());
            start(&settings, &run, threads, None).unwrap();
            assert_eq!(left(&run), left(&at("whole")), "{threads} threads");
        }
        let parts = at("parts");
        assert_eq!(start(&settings, &parts, 2, Some(2)).unwrap().ended, Ended::Interrupted);
        for stop in [6, 11, 13] {
            assert_eq!(go_on(&parts, "", Some(stop)).unwrap().steps, stop);
        }
        let outcome = go_on(&parts, "workers = 3", None).unwrap();
        assert_eq!((outcome.ended, outcome.steps), (Ended::Epochs, 18));
        assert_eq!(left(&parts), left(&at("whole")));
    }
}

#[test]
fn a_run_folder_has_all_its_files_and_its_args_repeat_the_run() {
    let world = bits_world();
    let run = world.path().join("run");
    let outcome = start(&settings(world.path(), ""), &run, 2, None).unwrap();
    for name in [
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
        assert!(run.join(name).is_file(), "{name}");
    }
    assert_eq!(fs::read_to_string(run.join("classes.txt")).unwrap(), "dark\nlight\n");
    assert_eq!(fs::read_to_string(run.join("split.csv")).unwrap().lines().count(), 41);
    let val = outcome.val.unwrap();
    assert_eq!(outcome.best.unwrap().1, val.top1());

    fs::remove_file(world.path().join("one.toml")).unwrap();
    let replayed = Settings::merge([("args.toml", Settings::read_layer(&run.join("args.toml")).unwrap())]).unwrap();
    let again = world.path().join("again");
    start(&replayed, &again, 2, None).unwrap();
    assert_eq!(left(&again), left(&run));
}

#[test]
fn a_model_is_judged_alike_at_any_batch_size_and_as_in_training() {
    let world = bits_world();
    let run = world.path().join("run");
    let outcome = start(&settings(world.path(), ""), &run, 2, None).unwrap();
    let model = Model::load(&run.to_string_lossy(), Path::new("runs")).unwrap();
    let judge = |batch_size: usize, split: Split| {
        let options = data::OpenOptions { val_fraction: 0.25, ..Default::default() };
        let data = data::open(&world.path().join("data").to_string_lossy(), &options).unwrap();
        let options = EvaluateOptions { device: Device::cpu(2), batch_size, workers: 2, skip_bad: false, tta: None };
        evaluate(&mut model.clone(), data, split, &options).unwrap()
    };
    let val = judge(3, Split::Val);
    assert_eq!(val, judge(1, Split::Val));
    assert_eq!(val, judge(64, Split::Val));
    assert_eq!(Evaluation { predictions: vec![], ..val }, outcome.val.unwrap());
    assert_eq!(judge(7, Split::Train).images, 26);
}

#[test]
fn changed_settings_are_refused_by_name_and_limits_are_not() {
    let world = bits_world();
    let run = world.path().join("run");
    start(&settings(world.path(), "max_steps = 4"), &run, 2, None).unwrap();
    let error = go_on(&run, "lr = 0.2\nclip = 1", None).unwrap_err().to_string();
    assert!(error.contains("--resume with changed settings (clip: not set → 1.0, lr: 0.1 → 0.2)\n"), "{error}");
    assert!(error.contains("--init") && error.contains("best.safetensors"), "{error}");
    let error = go_on(&run, "exact = true", None).unwrap_err().to_string();
    assert!(error.contains("(exact: not set → true)"), "{error}");
    assert_eq!(go_on(&run, "max_steps = 7", None).unwrap().steps, 7);
    // A setting that was edited in args.toml is noticed by what the checkpoint remembers.
    let args = fs::read_to_string(run.join(ARGS)).unwrap();
    fs::write(run.join(ARGS), args.replace("momentum = 0.9", "momentum = 0.5")).unwrap();
    assert!(go_on(&run, "", None).unwrap_err().what().contains("(momentum: 0.9 → 0.5)"));
}

#[test]
fn epochs_may_be_raised_where_the_schedule_does_not_depend_on_them() {
    let world = bits_world();
    let more = world.path().join("more");
    start(&settings(world.path(), "schedule = 'step'\nstep_epochs = 2"), &more, 2, None).unwrap();
    let outcome = go_on(&more, "epochs = 5", None).unwrap();
    assert_eq!((outcome.steps, outcome.epochs), (30, 5));
    let whole = world.path().join("whole");
    start(&settings(world.path(), "schedule = 'step'\nstep_epochs = 2\nepochs = 5"), &whole, 2, None).unwrap();
    assert_eq!(left(&more), left(&whole));

    let cosine = world.path().join("cosine");
    start(&settings(world.path(), "schedule = 'cosine'"), &cosine, 2, None).unwrap();
    let error = go_on(&cosine, "epochs = 5", None).unwrap_err().to_string();
    assert!(error.contains("on which its schedule depends (epochs: 3 → 5)") && error.contains("--init"), "{error}");
}

#[test]
fn a_finished_run_only_tells_its_outcome_and_one_without_a_checkpoint_starts_again() {
    let world = bits_world();
    let run = world.path().join("run");
    start(&settings(world.path(), ""), &run, 2, None).unwrap();
    let whole = left(&run);
    let outcome = go_on(&run, "", Some(1)).unwrap();
    assert_eq!((outcome.ended, outcome.steps), (Ended::Epochs, 18));
    assert_eq!(left(&run), whole);
    fs::remove_file(run.join(CHECKPOINT)).unwrap();
    assert_eq!(go_on(&run, "", None).unwrap().steps, 18);
    assert_eq!(left(&run), whole);
}

#[test]
fn going_on_refuses_other_data_damaged_and_newer_files() {
    let world = bits_world();
    let run = world.path().join("run");
    start(&settings(world.path(), "max_steps = 7"), &run, 2, None).unwrap();
    let error = |text: &str| -> Error { go_on(&run, text, None).unwrap_err() };
    let args = fs::read_to_string(run.join(ARGS)).unwrap();
    fs::write(run.join(ARGS), args.replace("format = 1", "format = 9")).unwrap();
    assert!(
        error("").to_string().contains("written in format 9, this ocelli reads up to format 1\nUse a newer ocelli.")
    );
    fs::write(run.join(ARGS), &args).unwrap();

    let checkpoint = fs::read(run.join(CHECKPOINT)).unwrap();
    fs::write(run.join(CHECKPOINT), &checkpoint[..checkpoint.len() / 2]).unwrap();
    assert!(error("").what().contains("last.ckpt: not a whole .safetensors file"));
    let best = run.join(BEST);
    let way_out =
        format!("Or start a new run from its best weights: ocelli train --config {}", run.join(ARGS).display());
    assert!(error("").to_string().ends_with(&format!("{way_out} --init {}", best.display())), "{}", error(""));
    let whole = fs::read(&best).unwrap();
    fs::write(&best, &whole[..whole.len() / 2]).unwrap();
    assert!(!error("").to_string().contains("--init"), "damaged weights are no way out: {}", error(""));
    fs::write(&best, &whole).unwrap();
    fs::write(run.join(CHECKPOINT), &checkpoint).unwrap();

    fs::remove_file(world.path().join("data/dark/00.png")).unwrap();
    assert!(error("").what().contains("its pictures, classes or splits have changed"), "{}", error(""));
    assert!(go_on(&world.path().join("none"), "", None).unwrap_err().what().contains("not the folder of a run"));
}

#[test]
fn a_checkpoint_of_another_arithmetic_is_taken_with_a_warning() {
    let world = bits_world();
    let run = world.path().join("run");
    start(&settings(world.path(), "max_steps = 4"), &run, 2, None).unwrap();
    let (tensors, text) = crate::formats::weights::read(&run.join(CHECKPOINT)).unwrap();
    let text = text.unwrap();
    let version = format!("numerics = {NUMERICS_VERSION}\n");
    assert!(text.contains(&version));
    let older = text.replace(&version, "numerics = 0\n");
    let tensors = tensors.iter().map(|(name, tensor)| (name.as_str().into(), tensor));
    crate::formats::weights::write(&run.join(CHECKPOINT), tensors, &older).unwrap();
    let mut told = Vec::new();
    let mut listener = |event: &Event| {
        if let Event::Warning { what, .. } = event {
            told.push(what.clone());
        }
        Ok(())
    };
    let audience = Audience { listeners: vec![&mut listener], interrupt: &AtomicBool::new(false) };
    resume(&run.to_string_lossy(), Table::new(), &Place::default(), audience).unwrap();
    assert_eq!(told, [format!("the checkpoint is of numerics version 0, this ocelli has {NUMERICS_VERSION}")]);
}

#[test]
fn weights_to_start_from_must_fit_and_are_used() {
    let world = bits_world();
    let first = world.path().join("first");
    start(&settings(world.path(), ""), &first, 2, None).unwrap();
    let init = format!("init = '{}'\nepochs = 1\nlr = 1e-6", first.display());
    let outcome = start(&settings(world.path(), &init), &world.path().join("second"), 2, None).unwrap();
    let steps = fs::read_to_string(outcome.folder.join("steps.csv")).unwrap();
    let loss: f32 = steps.lines().nth(1).unwrap().split(',').nth(2).unwrap().parse().unwrap();
    let before = fs::read_to_string(first.join("steps.csv")).unwrap();
    let untrained: f32 = before.lines().nth(1).unwrap().split(',').nth(2).unwrap().parse().unwrap();
    assert!(loss < untrained, "{loss} from trained weights, {untrained} from random ones");

    fs::write(world.path().join("one.toml"), NET.replace("filters = 4", "filters = 5")).unwrap();
    let other = world.path().join("third");
    let error = start(&settings(world.path(), &init), &other, 2, None).unwrap_err();
    let shapes = "bn.bias has the shape [4] in the file, but [5] in the network";
    assert!(error.what().contains(shapes), "{error}");
    assert!(!other.exists(), "a run that could not begin leaves nothing behind");
}

#[test]
fn a_loss_that_explodes_names_its_layer() {
    let world = bits_world();
    let run = world.path().join("run");
    let error = start(&settings(world.path(), "lr = 1e6\nmomentum = 0.99\nepochs = 50"), &run, 2, None).unwrap_err();
    assert!(error.what().contains("the loss is ") && error.what().contains("layer "), "{error}");
    let (tensors, _) = crate::formats::weights::read(&run.join(CHECKPOINT)).unwrap();
    assert!(crate::model::check_finite(&tensors).is_ok());
}

#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let world = bits_world();
    fs::write(world.path().join("file"), "").unwrap();
    let error = start(&settings(world.path(), ""), &world.path().join("file/run"), 2, None).unwrap_err();
    assert!(error.what().contains("the folder cannot be made"), "{error}");
    let taken = start(&settings(world.path(), ""), &world.path().join("data"), 2, None).unwrap_err();
    assert!(taken.what().contains("the folder is not empty"), "{taken}");
}
