//! The loop with a learner of a page: what is saved, when a run ends, and that going on gives the same bits.

use std::fs;
use std::sync::atomic::Ordering;

use super::run::Run;
use super::*;
use crate::data::Batch;
use crate::exec::StepResult;
use crate::formats::checkpoint::{self, Checkpoint};
use crate::formats::run_folder::{CHECKPOINT, STEPS};
use crate::metrics::{cross_entropy, rank, softmax};
use crate::{Error, Tensor, Tensors};

/// Softmax regression with momentum: all that the loop needs of a network.
struct Regression {
    tensors: Tensors,
    velocity: Tensors,
    /// The step at which the loss is NaN.
    broken_at: Option<u64>,
    /// The step after which a weight is infinite.
    infinite_at: Option<u64>,
}

impl Regression {
    fn new(task: &Task) -> Regression {
        let tensors = task.start(&Settings::default()).unwrap();
        let velocity = tensors
            .iter()
            .map(|(name, tensor)| (format!("momentum.{name}"), Tensor::zeros(tensor.dims.clone())))
            .collect();
        Regression { tensors, velocity, broken_at: None, infinite_at: None }
    }
}

impl Learner for Regression {
    fn step(&mut self, batch: &Batch, lr: f32, step: u64) -> Result<StepResult> {
        if self.broken_at == Some(step) {
            return Ok(StepResult { loss: f32::NAN, correct: 0, finite: false, grad_norm: None });
        }
        let scores = self.logits(&batch.images, batch.n)?;
        let (classes, inputs) = (self.tensors["fc.bias"].data.len(), batch.images.len() / batch.n);
        let mut gradient = vec![0.0; classes * inputs + classes];
        let (mut loss, mut correct) = (0.0, 0);
        for ((scores, image), label) in scores.chunks(classes).zip(batch.images.chunks(inputs)).zip(&batch.labels) {
            loss += cross_entropy(scores, *label as usize) as f32 / batch.n as f32;
            correct += usize::from(rank(scores, *label as usize) == 0);
            for (class, p) in softmax(scores).into_iter().enumerate() {
                let error = (p - f32::from(class == *label as usize)) / batch.n as f32;
                image.iter().enumerate().for_each(|(i, x)| gradient[class * inputs + i] += error * x);
                gradient[classes * inputs + class] += error;
            }
        }
        for (name, part) in [("fc.weight", &gradient[..classes * inputs]), ("fc.bias", &gradient[classes * inputs..])] {
            let velocity = &mut self.velocity.get_mut(&format!("momentum.{name}")).unwrap().data;
            let weights = &mut self.tensors.get_mut(name).unwrap().data;
            for ((weight, velocity), gradient) in weights.iter_mut().zip(velocity).zip(part) {
                *velocity = 0.9 * *velocity + gradient;
                *weight -= lr * *velocity;
            }
        }
        if self.infinite_at == Some(step) {
            self.tensors.get_mut("fc.bias").unwrap().data[0] = f32::INFINITY;
        }
        Ok(StepResult { loss, correct, finite: true, grad_norm: None })
    }
    fn logits(&mut self, images: &[f32], n: usize) -> Result<Vec<f32>> {
        let (weights, biases) = (&self.tensors["fc.weight"].data, &self.tensors["fc.bias"].data);
        let inputs = images.len() / n;
        let score = |image: &[f32], class: usize| {
            let row = &weights[class * inputs..][..inputs];
            biases[class] + row.iter().zip(image).map(|(w, x)| w * x).sum::<f32>()
        };
        Ok(images.chunks(inputs).flat_map(|image| (0..biases.len()).map(move |class| score(image, class))).collect())
    }
    fn tensors(&mut self) -> Tensors {
        self.tensors.clone()
    }
    fn optimizer_state(&mut self) -> Tensors {
        self.velocity.clone()
    }
    fn restore(&mut self, tensors: &Tensors, state: &Tensors) -> Result<()> {
        (self.tensors, self.velocity) = (tensors.clone(), state.clone());
        Ok(())
    }
    fn name_non_finite(&mut self, _: &Batch, _: u64) -> Result<String> {
        Ok("the output of layer fc holds NaN".into())
    }
}

/// A folder with 20 pictures of each of two classes, dark ones and light ones that overlap, and a net of one layer.
pub(super) fn world() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (class, light) in [("dark", 90), ("light", 140)] {
        fs::create_dir_all(folder.path().join("data").join(class)).unwrap();
        for i in 0..20u32 {
            let pixel = |x: u32, y: u32| image::Luma([(light + (i * 37 + x * 11 + y * 53) % 60) as u8]);
            let path = folder.path().join(format!("data/{class}/{i:02}.png"));
            image::GrayImage::from_fn(4, 4, pixel).save(path).unwrap();
        }
    }
    let net = "format = 1\nname = \"one\"\ninput = [1, 4, 4]\nlayers = [{ type = \"linear\", name = \"fc\", units = \"classes\" }]\n";
    fs::write(folder.path().join("one.toml"), net).unwrap();
    folder
}

pub(super) fn settings(world: &Path, text: &str) -> Settings {
    let base = format!(
        "net = '{}'\ndata = '{}'\nepochs = 3\nbatch_size = 5\nlr = 0.1\nval_fraction = 0.25\nworkers = 1",
        world.join("one.toml").display(),
        world.join("data").display()
    );
    let layers = [("base", toml::from_str(&base).unwrap()), ("test", toml::from_str(text).unwrap())];
    Settings::merge(layers).unwrap()
}

/// What a session of a run did.
struct Done {
    ended: Result<Ended>,
    told: Vec<String>,
    checkpoint: Checkpoint<RunState>,
}

/// Trains in `folder`, from its checkpoint if it has one. The interrupt flag is set when the step `stop` is told.
fn session(settings: &Settings, folder: &RunFolder, stop: Option<u64>, prepare: impl FnOnce(&mut Regression)) -> Done {
    let task = Task::open(settings, Net::open(&settings.net).unwrap(), None).unwrap();
    let mut learner = Regression::new(&task);
    let mut state = RunState::new(task.fingerprint.clone(), settings.remembered());
    if let Ok(saved) = checkpoint::read::<RunState>(&folder.file(CHECKPOINT)) {
        learner.restore(&saved.tensors, &saved.optimizer).unwrap();
        state = saved.state;
    }
    prepare(&mut learner);
    let interrupt = AtomicBool::new(false);
    let mut told = Vec::new();
    let mut logs = Logs::open(folder, &state, false).unwrap();
    let mut listener = |event: &Event| {
        match event {
            Event::Step(step) if Some(step.step) == stop => interrupt.store(true, Ordering::Relaxed),
            Event::Warning { what, .. } => told.push(what.clone()),
            Event::Epoch(epoch) => told.push(format!("epoch {} at step {}", epoch.epoch, epoch.step)),
            Event::Checkpoint { step } => told.push(format!("checkpoint {step}")),
            _ => {}
        }
        Ok(())
    };
    let mut run = Run {
        settings,
        schedule: Schedule::new(settings, task.train.batches() as u64),
        monitor: task.monitor,
        outputs: task.net.classes,
        learner: &mut learner,
        train: &task.train,
        val: &task.val,
        folder,
        model: task.model.clone(),
        state,
        listeners: vec![&mut logs, &mut listener],
        interrupt: &interrupt,
        started: Instant::now(),
    };
    let ended = run.go();
    drop(run);
    drop(logs);
    Done { ended, told, checkpoint: checkpoint::read(&folder.file(CHECKPOINT)).unwrap() }
}

fn run_folder(world: &Path, name: &str) -> RunFolder {
    RunFolder::create_at(&world.join(name), false).unwrap()
}

/// What must be the same however often a run was stopped: its logs without the times, the bytes of weights and state.
#[derive(Debug, PartialEq)]
pub(super) struct Remains {
    steps: Vec<Vec<String>>,
    metrics: Vec<Vec<String>>,
    best: Vec<u8>,
    checkpoint: Vec<u8>,
}

pub(super) fn remains(folder: &RunFolder) -> Remains {
    let rows = |name: &str| -> Vec<Vec<String>> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(folder.file(name)).unwrap();
        let cells = |row: csv::StringRecord| row.iter().map(str::to_string).collect::<Vec<_>>();
        reader
            .records()
            .map(|row| cells(row.unwrap()))
            .map(|mut row| {
                row.pop();
                row
            })
            .collect()
    };
    let bytes = |name: &str| fs::read(folder.file(name)).unwrap();
    Remains { steps: rows(STEPS), metrics: rows(METRICS), best: bytes(BEST), checkpoint: bytes(CHECKPOINT) }
}

// 26 training pictures, 6 steps an epoch, the last of one picture; 18 steps in all.

#[test]
fn a_run_learns_and_leaves_its_files() {
    let world = world();
    let folder = run_folder(world.path(), "run");
    let done = session(&settings(world.path(), ""), &folder, None, |_| ());
    assert_eq!(done.ended, Ok(Ended::Epochs));
    assert_eq!(
        done.told,
        [
            "checkpoint 0",
            "epoch 1 at step 6",
            "checkpoint 6",
            "epoch 2 at step 12",
            "checkpoint 12",
            "epoch 3 at step 18",
            "checkpoint 18"
        ]
    );
    let Remains { steps, metrics, .. } = remains(&folder);
    assert_eq!((steps.len(), metrics.len()), (1 + 18, 1 + 3));
    assert_eq!(steps[0], ["step", "epoch", "loss", "lr"]);
    let loss = |row: usize| steps[row][2].parse::<f32>().unwrap();
    assert!(loss(18) < loss(1), "{} after {}", loss(18), loss(1));
    assert!(metrics[3][6].parse::<f64>().unwrap() >= 0.8, "{:?}", metrics[3]);
    assert_eq!(done.checkpoint.state.step, 18);
    let model = Model::load(&folder.file(BEST).to_string_lossy(), Path::new("runs")).unwrap();
    assert_eq!((model.classes, model.preparation.size), (vec!["dark".into(), "light".into()], [4, 4]));
}

#[test]
fn a_run_interrupted_anywhere_goes_on_to_the_same_bits() {
    let world = world();
    let text = "schedule = 'one_cycle'\nstop_patience = 3\ncheckpoint_every = 4\naugment = 'flip,shift:1'";
    let settings = settings(world.path(), text);
    let whole = run_folder(world.path(), "whole");
    session(&settings, &whole, None, |_| ());
    for stop in [1, 5, 6, 7, 17, 18] {
        let parts = run_folder(world.path(), &format!("stop-{stop}"));
        let first = session(&settings, &parts, Some(stop), |_| ());
        assert_eq!((first.ended, first.checkpoint.state.step), (Ok(Ended::Interrupted), stop));
        assert_eq!(session(&settings, &parts, None, |_| ()).ended, Ok(Ended::Epochs));
        assert_eq!(remains(&parts), remains(&whole), "stopped after step {stop}");
    }
}

#[test]
fn a_run_killed_after_a_checkpoint_repeats_the_lost_steps_and_rows() {
    let world = world();
    let settings = settings(world.path(), "checkpoint_every = 4");
    let whole = run_folder(world.path(), "whole");
    session(&settings, &whole, None, |_| ());
    let killed = run_folder(world.path(), "killed");
    session(&settings, &killed, Some(8), |_| ());
    let checkpoint = fs::read(killed.file(CHECKPOINT)).unwrap();
    session(&settings, &killed, Some(11), |_| ());
    // As if the process had died after step 11: the logs are ahead of the checkpoint, the last row is half-written.
    fs::write(killed.file(CHECKPOINT), checkpoint).unwrap();
    let mut steps = fs::read_to_string(killed.file(STEPS)).unwrap();
    steps.push_str("12,2,0.1");
    fs::write(killed.file(STEPS), steps).unwrap();
    session(&settings, &killed, None, |_| ());
    assert_eq!(remains(&killed), remains(&whole));
}

#[test]
fn limits_end_a_run_with_weights_to_use() {
    let world = world();
    let whole = run_folder(world.path(), "whole");
    session(&settings(world.path(), ""), &whole, None, |_| ());
    let folder = run_folder(world.path(), "limited");
    let done = session(&settings(world.path(), "max_steps = 3"), &folder, None, |_| ());
    assert_eq!((done.ended, done.told), (Ok(Ended::MaxSteps), vec!["checkpoint 0".into(), "checkpoint 3".into()]));
    assert!(folder.file(BEST).exists());
    let done = session(&settings(world.path(), "max_steps = 6"), &folder, None, |_| ());
    assert_eq!(
        done.told,
        ["epoch 1 at step 6", "checkpoint 6"],
        "the limit at the end of an epoch waits for its evaluation"
    );
    session(&settings(world.path(), ""), &folder, None, |_| ());
    let (a, b) = (remains(&folder), remains(&whole));
    assert_eq!((a.steps, a.metrics, a.best), (b.steps, b.metrics, b.best));
    let timed = run_folder(world.path(), "timed");
    let done = session(&settings(world.path(), "max_time = 1e-9"), &timed, None, |_| ());
    assert_eq!(done.ended, Ok(Ended::MaxTime));
}

#[test]
fn a_run_without_progress_stops_early_and_stays_stopped() {
    let world = world();
    let settings = settings(world.path(), "epochs = 50\nstop_patience = 2\nlr = 1e-9");
    let folder = run_folder(world.path(), "run");
    let done = session(&settings, &folder, None, |_| ());
    assert_eq!(done.ended, Ok(Ended::NoProgress));
    assert_eq!((done.checkpoint.state.epoch, done.checkpoint.state.best_epoch), (3, 1));
    let again = session(&settings, &folder, None, |_| ());
    assert_eq!((again.ended, again.told), (Ok(Ended::NoProgress), vec![]));
}

#[test]
fn a_loss_that_is_not_finite_names_step_pictures_and_layer_and_keeps_the_old_checkpoint() {
    let world = world();
    let folder = run_folder(world.path(), "run");
    let done = session(&settings(world.path(), ""), &folder, None, |learner| learner.broken_at = Some(8));
    let error = done.ended.unwrap_err().to_string();
    assert!(error.starts_with("step 9: the loss is NaN in epoch 2, batch 3 (pictures "), "{error}");
    assert!(
        error.contains("of the training split): the output of layer fc holds NaN\nThe rate was 0.1: try"),
        "{error}"
    );
    assert_eq!(done.checkpoint.state.step, 6);
}

#[test]
fn weights_that_are_not_finite_are_never_saved() {
    let world = world();
    let folder = run_folder(world.path(), "run");
    let done = session(&settings(world.path(), ""), &folder, None, |learner| learner.infinite_at = Some(17));
    let error = done.ended.unwrap_err();
    assert!(error.what().contains("fc.bias holds NaN or infinity"), "{error}");
    assert_eq!(done.checkpoint.state.step, 12);
    let (tensors, _) = crate::formats::weights::read(&folder.file(BEST)).unwrap();
    assert!(crate::model::check_finite(&tensors).is_ok());
}

#[test]
fn a_loss_that_stays_that_of_guessing_is_noticed_once() {
    let world = world();
    let folder = run_folder(world.path(), "run");
    let zero = |learner: &mut Regression| learner.tensors.values_mut().for_each(|tensor| tensor.data.fill(0.0));
    let done = session(&settings(world.path(), "epochs = 60\nlr = 1e-9"), &folder, None, zero);
    let guess = "step 300: for 300 steps the loss has been ln(2) = 0.693, that of guessing";
    assert_eq!(done.told.iter().filter(|told| *told == guess).count(), 1);
    assert_eq!(done.told.iter().filter(|told| told.contains("that of guessing")).count(), 1);
}

#[test]
fn one_answer_for_all_pictures_is_noticed() {
    let world = world();
    let folder = run_folder(world.path(), "run");
    let biased = |learner: &mut Regression| learner.tensors.get_mut("fc.bias").unwrap().data[1] = 1e3;
    let done = session(&settings(world.path(), "epochs = 1\nlr = 1e-9"), &folder, None, biased);
    assert!(done.told[2].starts_with("epoch 1: all 10 validation pictures are taken for 'light'"), "{:?}", done.told);
}

#[test]
fn a_checkpoint_that_cannot_be_written_ends_the_run() {
    let world = world();
    let folder = run_folder(world.path(), "run");
    fs::create_dir(folder.file(BEST)).unwrap();
    let done = session(&settings(world.path(), ""), &folder, None, |_| ());
    assert!(done.ended.unwrap_err().what().contains("best.safetensors: cannot be written"));
    assert_eq!(done.checkpoint.state.step, 0, "the state never counts on weights that are not there");
}

#[test]
fn checkpoints_know_no_paths() {
    let world = world();
    let folder = run_folder(world.path(), "run");
    session(&settings(world.path(), ""), &folder, Some(2), |_| ());
    let bytes = String::from_utf8_lossy(&fs::read(folder.file(CHECKPOINT)).unwrap()).into_owned();
    let place = world.path().to_string_lossy().into_owned();
    assert!(!bytes.contains(&place) && !bytes.contains("workers"));
    let best = String::from_utf8_lossy(&fs::read(folder.file(BEST)).unwrap()).into_owned();
    assert!(!best.contains(&place));
}

#[test]
fn settings_that_do_not_fit_the_data_are_errors_with_the_numbers() {
    let world = world();
    let open = |text: &str| -> Error {
        let settings = settings(world.path(), text);
        Net::open(&settings.net).and_then(|net| Task::open(&settings, net, None)).err().unwrap()
    };
    assert!(open("batch_size = 31").what().contains("31 of 26"), "{}", open("batch_size = 31"));
    assert!(
        open("class_weights = [1, 2, 3]")
            .to_string()
            .contains("3 class weights for 2 classes\nGive one for each of: dark, light.")
    );
    assert!(open("loss = 'mse'").what().contains("which has classes"));
    assert!(open("mean = [0.1, 0.2]").what().contains("2 means"));
    assert!(open("net = 'lenet6'").to_string().contains("lenet5"));
    assert!(open("net = 'none.toml'").what().contains("none.toml"));
    assert!(open("data = 'nothing-here'").what().contains("nothing-here"));
}

#[test]
fn balanced_class_weights_make_every_class_count_the_same() {
    let world = world();
    (0..10).for_each(|i| fs::remove_file(world.path().join(format!("data/dark/{i:02}.png"))).unwrap());
    let settings = settings(world.path(), "class_weights = 'balanced'");
    let task = Task::open(&settings, Net::open(&settings.net).unwrap(), None).unwrap();
    let counts = task.data.counts(Split::Train);
    let crate::exec::Loss::CrossEntropy { class_weights: Some(weights), .. } = &task.options.loss else { panic!() };
    let shares: Vec<f32> = counts.iter().zip(weights).map(|(count, weight)| *count as f32 * weight).collect();
    assert!(counts[0] < counts[1] && (shares[0] - shares[1]).abs() < 1e-4, "{counts:?} {weights:?}");
    assert!((shares.iter().sum::<f32>() - counts.iter().sum::<usize>() as f32).abs() < 1e-3);
}

#[test]
fn an_evaluation_does_not_depend_on_the_batch_size() {
    let world = world();
    let evaluate = |batch: &str| {
        let settings = settings(world.path(), batch);
        let task = Task::open(&settings, Net::open(&settings.net).unwrap(), None).unwrap();
        let mut learner = Regression::new(&task);
        evaluate_with(&mut |images, n| learner.logits(images, n), &task.val, 2, true).unwrap()
    };
    let (one, all) = (evaluate("batch_size = 1"), evaluate("batch_size = 26"));
    assert_eq!(one, all);
    assert_eq!((one.images, one.predictions.len()), (10, 10));
    let worst = one.worst(3);
    assert!(worst.iter().all(|p| !p.is_right()) && worst.is_sorted_by(|a, b| a.loss >= b.loss));
    let confusion = one.confusion.as_ref().unwrap();
    assert_eq!(confusion.accuracy(), one.top1());
    assert_eq!(one.top5(), 1.0);
}
