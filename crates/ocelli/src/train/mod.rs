//! Training: settings, schedules, the loop, events, and going on with a run.
//!
//! [`train()`] makes a run folder and fills it; [`resume()`] goes on with one, to the same bits as if it had never stopped;
//! [`evaluate()`] says how a model does on a split.

mod averaging;
mod calibrate;
mod evaluate;
mod events;
mod judge;
mod learner;
mod logs;
mod lr_find;
mod ranges;
mod resume;
mod run;
mod schedule;
mod settings;
mod setup;
mod state;
mod transfer;
mod values;
mod whiten;

pub use calibrate::{fit_temperature, fit_unsure};
pub use evaluate::{Evaluation, Logits, Prediction};
pub use events::{EpochEvent, Event, Listener, Started, StepEvent};
pub use judge::{EvaluateOptions, check_ensemble, evaluate, evaluate_all};
pub use learner::Learner;
pub use lr_find::{LrRange, LrStep, lr_find, steepest};
pub use resume::resume;
pub use run::{Ended, Outcome};
pub use schedule::{Plateau, Schedule};
pub use settings::Settings;
pub use state::RunState;
pub use values::{ClassWeights, ImageSize, LossName, Mean, Monitor, OptimizerName, PcaName, ScheduleName, Seconds};

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use evaluate::evaluate_until;
use logs::Logs;
use run::Run;
use setup::Task;

use crate::data;
use crate::exec::{Device, Inference, Training};
use crate::formats::run_folder::{ARGS, BEST, CLASSES, CONFUSION, CURVES, METRICS, NET, RunFolder, SPLIT};
use crate::formats::write_atomically;
use crate::net::Net;
use crate::{Result, plot};

/// Where and on what a run happens: nothing of it changes what the run computes.
#[derive(Clone, Debug)]
pub struct Place {
    /// The folder of all runs: `runs`.
    pub root: PathBuf,
    /// The run's own folder, in place of a new one under `root`.
    pub output: Option<PathBuf>,
    /// Whether the files of an older run in `output` may go.
    pub overwrite: bool,
    /// Where known data sets lie.
    pub data_dir: Option<PathBuf>,
    /// What computes.
    pub device: Device,
}

impl Default for Place {
    fn default() -> Place {
        Place { root: "runs".into(), output: None, overwrite: false, data_dir: None, device: Device::default() }
    }
}

impl Place {
    /// What a run with these settings computes on.
    fn device(&self, settings: &Settings) -> Device {
        self.device.exact(settings.exact)
    }
}

/// Who hears of a run, and who can end it.
pub struct Audience<'a> {
    /// Told every event, in order, after the run folder's own logs.
    pub listeners: Vec<&'a mut dyn Listener>,
    /// When set, the run ends after the step, or the batch of an evaluation, that is being computed, with a checkpoint.
    pub interrupt: &'a AtomicBool,
}

/// Trains a network from the start, in a folder of its own.
///
/// # Errors
/// Data, network or settings don't fit together; the folder cannot be written; the loss is not finite. Nothing is left
/// behind of a run that could not begin.
pub fn train(settings: &Settings, place: &Place, audience: Audience) -> Result<Outcome> {
    let started = Instant::now();
    let net = Net::open(&settings.net)?;
    let task = Task::open(settings, net, place.data_dir.clone())?;
    let tensors = task.start(settings)?;
    let training = Training::new(&task.net, tensors, &task.options, &place.device(settings), settings.batch_size)?;
    let folder = match &place.output {
        Some(path) => RunFolder::create_at(path, place.overwrite)?,
        None => RunFolder::create(&place.root, &format!("{}-{}", task.net.name, task.data.name))?,
    };
    let settings = describe(&folder, settings, &task)?;
    let state = RunState::new(task.fingerprint.clone(), settings.remembered());
    Session { settings: &settings, task, training, folder, place, started }.run(state, None, audience)
}

/// Writes what the run is: settings, network, classes, splits. Returns the settings as they can be replayed from anywhere.
fn describe(folder: &RunFolder, settings: &Settings, task: &Task) -> Result<Settings> {
    let absolute = |place: &str| match std::path::absolute(place) {
        Ok(path) if path.exists() => path.to_string_lossy().into_owned(),
        _ => place.to_string(),
    };
    let mut settings = settings.clone();
    settings.lr = Some(settings.lr());
    if Path::new(&settings.net).is_file() {
        settings.net = NET.into();
    }
    if data::known(&settings.data).is_none() {
        settings.data = absolute(&settings.data);
    }
    settings.init = settings.init.as_deref().map(absolute);
    settings.pca = settings.pca.read()?;
    let text = |name: &str, text: &str| write_atomically(&folder.file(name), |file| file.write_all(text.as_bytes()));
    text(NET, &task.model.net.to_toml())?;
    text(CLASSES, &lines(if task.data.is_regression() { &task.data.targets } else { &task.data.classes }))?;
    text(SPLIT, &task.data.split_csv())?;
    // Last, because it is what makes the folder a run.
    settings.write(&folder.file(ARGS))?;
    Ok(settings)
}

fn lines(names: &[String]) -> String {
    names.iter().map(|name| format!("{name}\n")).collect()
}

/// A run from here to its end, whether it begins or goes on.
struct Session<'a> {
    settings: &'a Settings,
    task: Task,
    training: Training,
    folder: RunFolder,
    place: &'a Place,
    started: Instant,
}

impl Session<'_> {
    fn run(mut self, state: RunState, resumed_at: Option<u64>, mut audience: Audience) -> Result<Outcome> {
        let task = &self.task;
        let mut logs = Logs::open(&self.folder, &state, task.data.is_regression(), task.data.multi_label)?;
        let mut listeners: Vec<&mut dyn Listener> = vec![&mut logs];
        listeners.extend(audience.listeners.iter_mut().map(|listener| &mut **listener as &mut dyn Listener));
        let outputs = task.net.classes;
        let mut run = Run {
            settings: self.settings,
            schedule: Schedule::new(self.settings, task.train.batches() as u64),
            monitor: task.monitor,
            outputs,
            learner: &mut self.training,
            stages: &task.stages,
            train: &task.train,
            val: &task.val,
            folder: &self.folder,
            model: task.model.clone(),
            state,
            listeners,
            interrupt: audience.interrupt,
            started: self.started,
        };
        let epochs_done = run.state.epoch;
        run.tell(&Event::Started(Started {
            folder: &self.folder.path,
            settings: self.settings,
            net: &task.net,
            classes: &task.data.classes,
            train_images: task.train.len(),
            val_images: task.val.len(),
            steps_per_epoch: task.train.batches() as u64,
            resumed_at,
            epochs_done,
        }))?;
        for note in task.notes.iter().chain(&task.net.notes()) {
            run.tell(&Event::Note(note))?;
        }
        for [what, advice] in task.data.warnings() {
            run.warn(what, advice)?;
        }
        let ended = run.go()?;
        let val = match ended {
            Ended::Interrupted => None,
            _ => task.judge_best(&self.folder, &self.place.device(self.settings), audience.interrupt)?,
        };
        let ended = if val.is_some() { ended } else { Ended::Interrupted };
        let state = &run.state;
        let outcome = Outcome {
            folder: self.folder.path.clone(),
            ended,
            steps: state.step,
            epochs: state.epoch,
            best: state.best.map(|best| (state.best_epoch, best)),
            monitor: task.monitor,
            val,
            seconds: self.started.elapsed().as_secs_f64(),
        };
        run.tell(&Event::Finished(&outcome))?;
        draw(&self.folder, &task.data.classes, &outcome)?;
        Ok(outcome)
    }
}

impl Task {
    /// The best weights on the validation split; none if interrupted.
    fn judge_best(&self, folder: &RunFolder, device: &Device, interrupt: &AtomicBool) -> Result<Option<Evaluation>> {
        let (tensors, _) = crate::formats::weights::read(&folder.file(BEST))?;
        let mut inference = Inference::new(&self.net, tensors, device, 64)?;
        let stop = || interrupt.load(Ordering::Relaxed);
        evaluate_until(&mut |images, n| inference.logits(images, n), &self.val, self.net.classes, false, &stop)
    }
}

/// Draws the curves and, where there are classes, the confusion matrix.
fn draw(folder: &RunFolder, classes: &[String], outcome: &Outcome) -> Result<()> {
    if outcome.epochs > 0 {
        plot::curves(&plot::read_history(&folder.file(METRICS))?).save(&folder.file(CURVES))?;
    }
    match outcome.val.as_ref().and_then(|val| val.confusion.as_ref()) {
        Some(confusion) => plot::confusion(confusion, classes).save(&folder.file(CONFUSION)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod accumulate_tests;
#[cfg(test)]
mod averaging_tests;
#[cfg(test)]
mod judge_tests;
#[cfg(test)]
mod multi_label_tests;
#[cfg(test)]
mod resume_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transfer_tests;
