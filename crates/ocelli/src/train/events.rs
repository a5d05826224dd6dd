//! What a run tells: one stream of events, to any number of listeners.

use std::path::Path;

use super::{Evaluation, Outcome, Settings};
use crate::Result;
use crate::net::Resolved;

/// Something that happened in a run. Epochs and steps are counted from 1 here and in all files.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Before the first step of a run or of its continuation.
    Started(Started<'a>),
    /// After a step.
    Step(StepEvent),
    /// After the evaluation that ends an epoch.
    Epoch(&'a EpochEvent),
    /// Something that a person should know about the data: splits that were made, what was left out.
    Note(&'a str),
    /// Something looks wrong: the line, and the line that says what to do.
    Warning {
        /// What was seen.
        what: String,
        /// What to do about it; may be empty.
        advice: String,
    },
    /// Right before a checkpoint is written: what listeners wrote so far will not be told again, so they hand it to the
    /// system now. What they write later is told again if the run goes back to this checkpoint.
    Checkpoint {
        /// Steps done.
        step: u64,
    },
    /// The end, after the last checkpoint.
    Finished(&'a Outcome),
}

/// What a run begins with.
#[derive(Clone, Debug)]
pub struct Started<'a> {
    /// The run folder.
    pub folder: &'a Path,
    /// Its settings.
    pub settings: &'a Settings,
    /// The network.
    pub net: &'a Resolved,
    /// Class names, in the order of the outputs; empty for regression.
    pub classes: &'a [String],
    /// Pictures of the training split.
    pub train_images: usize,
    /// Pictures of the validation split.
    pub val_images: usize,
    /// Steps of an epoch.
    pub steps_per_epoch: u64,
    /// Steps done already, when a run goes on.
    pub resumed_at: Option<u64>,
    /// Epochs done already.
    pub epochs_done: u64,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepEvent {
    /// Number of the step.
    pub step: u64,
    /// Number of the epoch.
    pub epoch: u64,
    /// Steps of the epoch done, this one included.
    pub batch: u64,
    /// Pictures in the step.
    pub images: usize,
    /// Loss before the update, the mean over the batch.
    pub loss: f32,
    /// Fraction of the batch that was right before the update.
    pub accuracy: f32,
    /// Learning rate of the update.
    pub lr: f32,
    /// Norm of all gradients before clipping, where clipping is on.
    pub grad_norm: Option<f32>,
    /// Pictures a second since the step before.
    pub images_per_s: f64,
}

/// An epoch.
#[derive(Clone, Debug)]
pub struct EpochEvent {
    /// Number of the epoch.
    pub epoch: u64,
    /// Steps done.
    pub step: u64,
    /// Mean loss over the epoch's pictures, each before its step's update.
    pub train_loss: f64,
    /// Fraction right, each before its step's update.
    pub train_accuracy: f64,
    /// Learning rate of the last step.
    pub lr: f32,
    /// The validation split after the epoch.
    pub val: Evaluation,
    /// Whether it is the best epoch so far.
    pub best: bool,
    /// Time of the epoch in this session.
    pub seconds: f64,
}

/// Somebody who wants to know.
pub trait Listener {
    /// Takes in an event.
    ///
    /// # Errors
    /// It cannot be kept (a full disk); the run ends then.
    fn event(&mut self, event: &Event) -> Result<()>;
}

impl<F: FnMut(&Event) -> Result<()>> Listener for F {
    fn event(&mut self, event: &Event) -> Result<()> {
        self(event)
    }
}
