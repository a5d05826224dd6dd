//! The state of the loop between two steps.

use serde::{Deserialize, Serialize};
use toml::Table;

use super::schedule::Plateau;

/// Everything that the loop knows besides the network: with a checkpoint's tensors it gives the rest of the run, bit for
/// bit. It holds no time, thread count or path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// Steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: u64,
    /// Steps of the running epoch done.
    pub batch: u64,
    /// Sum of the losses of the running epoch's pictures.
    pub loss_sum: f64,
    /// Pictures of the running epoch that were right.
    pub correct: u64,
    /// Pictures of the running epoch.
    pub images: u64,
    /// The best value of the monitor on the validation split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<f64>,
    /// The epoch that it belongs to; 0 before there is one.
    pub best_epoch: u64,
    /// Whether early stopping has ended the run.
    pub stopped: bool,
    /// Steps in a row whose loss was that of guessing.
    pub guessing: u64,
    /// Epochs whose end is in the average of `swa`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub averaged: u64,
    /// SHA-256 of the list of pictures, classes and splits.
    pub data: String,
    /// The plateau rule.
    pub plateau: Plateau,
    /// The settings that the run depends on.
    pub settings: Table,
}

impl RunState {
    /// Before the first step.
    pub fn new(data: String, settings: Table) -> RunState {
        RunState {
            step: 0,
            epoch: 0,
            batch: 0,
            loss_sum: 0.0,
            correct: 0,
            images: 0,
            best: None,
            best_epoch: 0,
            stopped: false,
            guessing: 0,
            averaged: 0,
            data,
            plateau: Plateau::default(),
            settings,
        }
    }

    /// Epochs since the best one.
    pub fn epochs_without_progress(&self) -> u64 {
        self.epoch - self.best_epoch.min(self.epoch)
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
