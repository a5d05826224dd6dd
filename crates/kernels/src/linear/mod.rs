//! Linear layers: y = x·Wᵀ + b with x `[n, inputs]` and W `[outputs, inputs]`, unpacked.
//!
//! AlexNet's first linear layer has 151 MB of weights, more than any cache: each kernel goes over the weights once for all
//! rows of the batch. The chain of each result follows from the layer's shape alone, so a row's bits do not depend on the
//! batch that it is in.

mod data;
mod forward;
pub mod reference;
#[cfg(test)]
mod tests;
mod weight;

pub(crate) use data::DataGradient;
pub use data::data_gradient;
pub use forward::forward;
pub use weight::{update_scratch, update_weights, weight_gradient};

/// A linear layer's sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinearShape {
    /// Values of a row.
    pub inputs: usize,
    /// Units.
    pub outputs: usize,
}

impl LinearShape {
    /// Panics unless the slices have the layer's sizes: what the unsafe code relies on.
    fn check(&self, n: usize, x: usize, w: usize, y: usize) {
        assert!(x >= n * self.inputs, "{x} values for {n} rows of {}", self.inputs);
        assert!(w >= self.inputs * self.outputs, "{w} weights for {self:?}");
        assert!(y >= n * self.outputs, "{y} values for {n} rows of {}", self.outputs);
    }
}
