//! What the loop needs of a network in training. Apart from [`Training`] only tests implement it.

use crate::data::Batch;
use crate::exec::{StepResult, Training};
use crate::net::Resolved;
use crate::{Result, Tensors};

/// A network that learns a step at a time.
pub trait Learner {
    /// One step at the given rate; `step` counts the steps before it. If the loss is not finite nothing is updated.
    fn step(&mut self, batch: &Batch, lr: f32, step: u64) -> Result<StepResult>;
    /// Scores `[n, outputs]` of pictures `[n, C, H, W]`, in evaluation mode.
    fn logits(&mut self, images: &[f32], n: usize) -> Result<Vec<f32>>;
    /// Parameters and running statistics.
    fn tensors(&mut self) -> Tensors;
    /// The optimiser's state.
    fn optimizer_state(&mut self) -> Tensors;
    /// Goes back to saved parameters and state.
    fn restore(&mut self, tensors: &Tensors, state: &Tensors) -> Result<()>;
    /// Goes on with the same network of which other parameters learn.
    fn learn(&mut self, _net: &Resolved) -> Result<()> {
        Ok(())
    }
    /// Where the first value that is not finite appears.
    fn name_non_finite(&mut self, batch: &Batch, step: u64) -> Result<String>;
    /// Moves the average of the parameters by a share of the way to the present ones, where one is kept.
    fn average(&mut self, _share: f32) -> Result<()> {
        Ok(())
    }
    /// Measures the running statistics of the average on the batches, where there are any.
    fn measure_statistics(&mut self, _batches: &mut dyn Iterator<Item = Result<Batch>>) -> Result<()> {
        Ok(())
    }
    /// The parameters and running statistics that [`Learner::logits`] uses: the average, where one is kept.
    fn averaged(&mut self) -> Tensors {
        self.tensors()
    }
}

impl Learner for Training {
    fn step(&mut self, batch: &Batch, lr: f32, step: u64) -> Result<StepResult> {
        Training::step(self, batch, lr, step)
    }
    fn logits(&mut self, images: &[f32], n: usize) -> Result<Vec<f32>> {
        Training::logits(self, images, n)
    }
    fn tensors(&mut self) -> Tensors {
        Training::tensors(self)
    }
    fn optimizer_state(&mut self) -> Tensors {
        Training::optimizer_state(self)
    }
    fn restore(&mut self, tensors: &Tensors, state: &Tensors) -> Result<()> {
        Training::restore(self, tensors, state)
    }
    fn learn(&mut self, net: &Resolved) -> Result<()> {
        Training::learn(self, net)
    }
    fn name_non_finite(&mut self, batch: &Batch, step: u64) -> Result<String> {
        Training::name_non_finite(self, batch, step)
    }
    fn average(&mut self, share: f32) -> Result<()> {
        Training::average(self, share)
    }
    fn measure_statistics(&mut self, batches: &mut dyn Iterator<Item = Result<Batch>>) -> Result<()> {
        Training::measure_statistics(self, batches)
    }
    fn averaged(&mut self) -> Tensors {
        Training::averaged(self)
    }
}
