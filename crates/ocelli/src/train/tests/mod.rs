//! The loop with a learner of a page, and what it leaves.

mod setup;
mod stopping;
mod trouble;

use std::fs;

use super::run::Run;
use super::*;
use std::sync::Arc;

use crate::data::{Batch, Split};
use crate::exec::StepResult;
use crate::formats::checkpoint::{self, Checkpoint};
use crate::formats::run_folder::{CHECKPOINT, STEPS};
use crate::metrics::{cross_entropy, rank, softmax};
use crate::model::Model;
use crate::{Error, Tensor, Tensors};

/// Softmax regression with momentum: all that the loop needs of a network.
struct Regression {
    tensors: Tensors,
    velocity: Tensors,
    /// The step at which the loss is NaN.
    broken_at: Option<u64>,
    /// The step after which a weight is infinite.
    infinite_at: Option<u64>,
    /// Batches that were judged.
    judged: usize,
    /// The judged batch in which the interrupt flag is set.
    interrupt_in: Option<usize>,
    interrupt: Arc<AtomicBool>,
}

impl Regression {
    fn new(task: &Task) -> Regression {
        let tensors = task.start(&Settings::default()).unwrap();
        let velocity = tensors
            .iter()
            .map(|(name, tensor)| (format!("momentum.{name}"), Tensor::zeros(tensor.dims.clone())))
            .collect();
        Regression {
            tensors,
            velocity,
            broken_at: None,
            infinite_at: None,
            judged: 0,
            interrupt_in: None,
            interrupt: Arc::default(),
        }
    }

    fn scores(&self, images: &[f32], n: usize) -> Vec<f32> {
        let (weights, biases) = (&self.tensors["fc.weight"].data, &self.tensors["fc.bias"].data);
        let inputs = images.len() / n;
        let score = |image: &[f32], class: usize| {
            let row = &weights[class * inputs..][..inputs];
            biases[class] + row.iter().zip(image).map(|(w, x)| w * x).sum::<f32>()
        };
        images.chunks(inputs).flat_map(|image| (0..biases.len()).map(move |class| score(image, class))).collect()
    }
}

impl Learner for Regression {
    fn step(&mut self, batch: &Batch, lr: f32, step: u64) -> Result<StepResult> {
        if self.broken_at == Some(step) {
            return Ok(StepResult { loss: f32::NAN, correct: 0, finite: false, grad_norm: None });
        }
        let scores = self.scores(&batch.images, batch.n);
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
        self.judged += 1;
        self.interrupt.fetch_or(self.interrupt_in == Some(self.judged), Ordering::Relaxed);
        Ok(self.scores(images, n))
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
    judged: usize,
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
    let interrupt = learner.interrupt.clone();
    let mut told = Vec::new();
    let mut logs = Logs::open(folder, &state, false, false).unwrap();
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
        stages: &[],
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
    Done { ended, told, judged: learner.judged, checkpoint: checkpoint::read(&folder.file(CHECKPOINT)).unwrap() }
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
