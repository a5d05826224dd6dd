//! The loop: steps, epochs, checkpoints, the best weights, and every reason to end.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::averaging;
use super::evaluate::evaluate_until;
use super::events::{EpochEvent, Event, Listener, StepEvent};
use super::transfer::{self, Stage};
use super::{Evaluation, Learner, RunState, Schedule};
use super::{Monitor, Settings};
use crate::data::{Batch, Loader};
use crate::exec::StepResult;
use crate::formats::checkpoint;
use crate::formats::run_folder::{BEST, CHECKPOINT, RunFolder};
use crate::model::{Model, check_finite};
use crate::net::{Init, Parameter};
use crate::{Error, Result, Tensors};

/// Steps in a row at the loss of guessing after which the run says so.
const GUESSING_STEPS: u64 = 300;

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All epochs are done.
    Epochs,
    /// Early stopping: no progress for `stop_patience` epochs.
    NoProgress,
    /// `max_steps` are done.
    MaxSteps,
    /// `max_time` is over.
    MaxTime,
    /// The interrupt flag was set.
    Interrupted,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The run folder.
    pub folder: PathBuf,
    /// Why it ended.
    pub ended: Ended,
    /// Steps done, those of earlier sessions included.
    pub steps: u64,
    /// Whole epochs done.
    pub epochs: u64,
    /// The best epoch and its value of the monitor, once an epoch is done.
    pub best: Option<(u64, f64)>,
    /// What the value is.
    pub monitor: Monitor,
    /// The best weights on the validation split; none if interrupted.
    pub val: Option<Evaluation>,
    /// Time of this session.
    pub seconds: f64,
}

/// A run at work.
pub(super) struct Run<'a> {
    pub settings: &'a Settings,
    pub schedule: Schedule,
    pub monitor: Monitor,
    /// Values that the network predicts: classes or targets.
    pub outputs: usize,
    pub learner: &'a mut dyn Learner,
    /// What learns from later epochs on.
    pub stages: &'a [Stage],
    pub train: &'a Loader,
    pub val: &'a Loader,
    pub folder: &'a RunFolder,
    /// What `best.safetensors` holds besides the tensors.
    pub model: Model,
    pub state: RunState,
    pub listeners: Vec<&'a mut dyn Listener>,
    pub interrupt: &'a AtomicBool,
    pub started: Instant,
}

impl Run<'_> {
    /// Goes on to the end, and says why it is the end. There are weights to use then, whatever ended it.
    pub fn go(&mut self) -> Result<Ended> {
        if self.state.step == 0 {
            self.save_checkpoint()?;
        }
        let ended = loop {
            if self.state.stopped {
                break Ended::NoProgress;
            }
            if self.state.epoch >= self.settings.epochs {
                break Ended::Epochs;
            }
            if let Some(ended) = self.interrupted().or_else(|| self.limit()) {
                break ended;
            }
            if let Some(ended) = self.epoch()? {
                break ended;
            }
        };
        // Weights of now if there are no others. The state doesn't count them: the run that goes on is the one that was
        // never stopped.
        if self.state.best.is_none() {
            self.save_best()?;
        }
        Ok(ended)
    }

    /// The rest of the running epoch; what ended the run in it, if anything did.
    fn epoch(&mut self) -> Result<Option<Ended>> {
        let started = Instant::now();
        let next = self.state.epoch + 1;
        if let Some((_, net)) = self.stages.iter().find(|(from, _)| *from == next && self.state.batch == 0) {
            self.learner.learn(net)?;
            self.tell(&Event::Note(&format!("from epoch {next} on {} parameters learn", transfer::trained(net))))?;
        }
        let mut last = Instant::now();
        let mut batches = self.train.epoch(self.state.epoch, self.state.batch as usize);
        while let Some(batch) = batches.next().transpose()? {
            let lr = self.schedule.lr(self.state.step, self.state.plateau.factor);
            let result = self.learner.step(&batch, lr, self.state.step)?;
            if !result.finite || !result.loss.is_finite() {
                return Err(self.not_finite(&batch, result.loss, lr));
            }
            for error in &batch.skipped {
                self.tell(&Event::Warning {
                    what: error.what().into(),
                    advice: "Left out of its batch, because of --skip-bad.".into(),
                })?;
            }
            self.count(&batch, &result);
            if let Some(decay) = self.settings.ema {
                self.learner.average(averaging::ema_share(decay, self.state.step))?;
            }
            let seconds = last.elapsed().as_secs_f64();
            last = Instant::now();
            self.tell(&Event::Step(StepEvent {
                step: self.state.step,
                epoch: self.state.epoch + 1,
                batch: self.state.batch,
                images: batch.n,
                loss: result.loss,
                accuracy: result.correct as f32 / batch.n as f32,
                lr,
                grad_norm: result.grad_norm,
                images_per_s: batch.n as f64 / seconds.max(1e-9),
            }))?;
            if self.state.guessing == GUESSING_STEPS {
                self.warn_of_guessing()?;
            }
            // A limit that falls on the end of an epoch waits for its evaluation.
            let within = self.state.batch < self.train.batches() as u64;
            if let Some(ended) = self.interrupted().or_else(|| self.limit().filter(|_| within)) {
                self.save_checkpoint()?;
                return Ok(Some(ended));
            }
            if within && self.settings.checkpoint_every.is_some_and(|every| self.state.step.is_multiple_of(every)) {
                self.save_checkpoint()?;
            }
            batches.recycle(batch);
        }
        drop(batches);
        self.end_epoch(started)
    }

    fn interrupted(&self) -> Option<Ended> {
        self.interrupt.load(Ordering::Relaxed).then_some(Ended::Interrupted)
    }

    fn count(&mut self, batch: &Batch, result: &StepResult) {
        let state = &mut self.state;
        state.step += 1;
        state.batch += 1;
        state.loss_sum += f64::from(result.loss) * batch.n as f64;
        state.correct += result.correct as u64;
        state.images += batch.n as u64;
        // Guessing all classes alike costs ln(classes); within 2 % of that nothing has been learnt.
        let guess = (self.outputs as f64).ln();
        let guesses = !batch.labels.is_empty() && (f64::from(result.loss) - guess).abs() < 0.02 * guess;
        state.guessing = if guesses { state.guessing + 1 } else { 0 };
    }

    /// Whether `max_steps` or `max_time` is reached.
    fn limit(&self) -> Option<Ended> {
        let over = |time: super::Seconds| self.started.elapsed().as_secs_f64() >= time.0;
        if self.settings.max_steps.is_some_and(|most| self.state.step >= most) {
            Some(Ended::MaxSteps)
        } else if self.settings.max_time.is_some_and(over) {
            Some(Ended::MaxTime)
        } else {
            None
        }
    }

    /// Judges the epoch and counts it. An interrupt leaves before: the run that goes on judges the same weights.
    fn end_epoch(&mut self, started: Instant) -> Result<Option<Ended>> {
        let (learner, interrupt) = (&mut *self.learner, self.interrupt);
        let stop = || interrupt.load(Ordering::Relaxed);
        if let Some(from) = self.settings.swa {
            let epoch = self.state.epoch + 1;
            // An epoch whose judging was interrupted is in the average already.
            if self.state.averaged < epoch {
                learner.average(averaging::swa_share(from, epoch))?;
                self.state.averaged = epoch;
            }
            if epoch >= from {
                let batches = self.train.epoch(self.state.epoch, 0);
                learner.measure_statistics(&mut batches.take_while(|_| !stop()))?;
            }
        }
        let logits = &mut |images: &[f32], n| learner.logits(images, n);
        let Some(val) = evaluate_until(logits, self.val, self.outputs, false, &stop)? else {
            self.save_checkpoint()?;
            return Ok(Some(Ended::Interrupted));
        };
        let value = match self.monitor {
            Monitor::Accuracy => val.top1(),
            Monitor::Loss => val.loss,
        };
        let state = &mut self.state;
        let images = state.images.max(1) as f64;
        let (train_loss, train_accuracy) = (state.loss_sum / images, state.correct as f64 / images);
        let lr = self.schedule.lr(state.step.saturating_sub(1), state.plateau.factor);
        state.epoch += 1;
        (state.batch, state.loss_sum, state.correct, state.images) = (0, 0.0, 0, 0);
        let best = state.best.is_none_or(|best| self.monitor.is_better(value, best)) && !value.is_nan();
        if best {
            (state.best, state.best_epoch) = (Some(value), state.epoch);
        }
        state.plateau.update(value, self.monitor, self.settings.gamma, self.settings.plateau_patience);
        state.stopped = self.settings.stop_patience.is_some_and(|most| state.epochs_without_progress() >= most);
        let event = EpochEvent {
            epoch: state.epoch,
            step: state.step,
            train_loss,
            train_accuracy,
            lr,
            val,
            best,
            seconds: started.elapsed().as_secs_f64(),
        };
        self.tell(&Event::Epoch(&event))?;
        if let Some(class) = event.val.only_answer() {
            let name = self.model.classes.get(class).cloned().unwrap_or(class.to_string());
            self.warn(
                format!("epoch {}: all {} validation pictures are taken for '{name}'", event.epoch, event.val.images),
                "If this stays: try a lower --lr, --warmup-epochs 1, or --class-weights balanced.",
            )?;
        }
        // First the weights, then the state that counts on them.
        if best {
            self.save_best()?;
        }
        self.save_checkpoint()?;
        Ok(None)
    }

    fn save_best(&mut self) -> Result<()> {
        // The mean of no epoch's end is no weights.
        let no_average = self.settings.swa.is_some() && self.state.averaged == 0;
        self.model.tensors = if no_average { self.learner.tensors() } else { self.learner.averaged() };
        self.check_finite(&self.model.tensors)?;
        let saved = self.model.save(&self.folder.file(BEST));
        self.model.tensors.clear(); // A copy of all weights, of no use until the next one.
        saved
    }

    fn save_checkpoint(&mut self) -> Result<()> {
        let (tensors, optimizer) = (self.learner.tensors(), self.learner.optimizer_state());
        self.check_finite(&tensors)?;
        self.check_finite(&optimizer)?;
        self.tell(&Event::Checkpoint { step: self.state.step })?;
        checkpoint::write(&self.folder.file(CHECKPOINT), &tensors, &optimizer, &self.state)
    }

    pub fn tell(&mut self, event: &Event) -> Result<()> {
        self.listeners.iter_mut().try_for_each(|listener| listener.event(event))
    }

    pub fn warn(&mut self, what: impl Into<String>, advice: impl Into<String>) -> Result<()> {
        self.tell(&Event::Warning { what: what.into(), advice: advice.into() })
    }

    fn warn_of_guessing(&mut self) -> Result<()> {
        let (classes, steps) = (self.outputs, self.state.guessing);
        let what = format!(
            "step {}: for {steps} steps the loss has been ln({classes}) = {:.3}, that of guessing",
            self.state.step,
            (classes as f64).ln()
        );
        let from_one = |parameter: &Parameter| {
            parameter.name.ends_with(".bias") && parameter.init == Init::Constant(1.0) && parameter.trainable
        };
        // Caffe's replication of AlexNet needed 0.1; later ones got away by starting again (BVLC/caffe issues 59 and 2085).
        let advice = match self.model.resolve()?.parameters().any(from_one) {
            true => {
                "Biases that start from 1 can do this, as in AlexNet: try 0.1 in the net's init, another --seed, or a tenth of --lr."
            }
            false => "Nothing is learnt: try --lr ten times lower or higher, check labels with `ocelli data check`.",
        };
        self.warn(what, advice)
    }

    /// Fails if the last step left a value that is NaN or infinite.
    fn check_finite(&self, tensors: &Tensors) -> Result<()> {
        check_finite(tensors).map_err(|error| error.at(format!("after step {}", self.state.step)))
    }

    fn not_finite(&mut self, batch: &Batch, loss: f32, lr: f32) -> Error {
        let place = match self.learner.name_non_finite(batch, self.state.step) {
            Ok(place) => place,
            Err(error) => error.what().to_string(),
        };
        let first: Vec<String> = batch.indices.iter().take(8).map(|index| index.to_string()).collect();
        let more = if batch.n > 8 { ", …" } else { "" };
        let what = format!(
            "step {}: the loss is {loss} in epoch {}, batch {} (pictures {}{more} of the training split): {place}",
            self.state.step + 1,
            self.state.epoch + 1,
            self.state.batch + 1,
            first.join(", "),
        );
        let folder = self.folder.path.display();
        Error::new(what).advice(format!(
            "The rate was {lr}: try a lower --lr, --warmup-epochs 1 or --clip 1. The checkpoint in {folder} is from before."
        ))
    }
}
