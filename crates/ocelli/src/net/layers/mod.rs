//! The layer kinds, one file each (the activations without numbers share one).

mod activation;
mod adaptive_avg_pool;
mod add;
mod avg_pool;
mod batch_norm;
mod bias;
mod concat;
mod conv;
mod dropout;
mod flatten;
mod global_avg_pool;
mod leaky_relu;
mod linear;
mod lrn;
mod max_pool;
mod multiply;
mod pad;
mod radial;
mod scaled_tanh;
mod softmax;
mod subsample;

pub use activation::{Gelu, HardSwish, Relu, Relu6, Sigmoid, Tanh};
pub use adaptive_avg_pool::AdaptiveAvgPool;
pub use add::Add;
pub use avg_pool::AvgPool;
pub use batch_norm::BatchNorm;
pub use bias::Bias;
pub use concat::Concat;
pub use conv::Conv;
pub use dropout::Dropout;
pub use flatten::Flatten;
pub use global_avg_pool::GlobalAvgPool;
pub use leaky_relu::LeakyRelu;
pub use linear::{Linear, Units};
pub use lrn::Lrn;
pub use max_pool::MaxPool;
pub use multiply::Multiply;
pub use pad::{Pad, PadMode};
pub use radial::Radial;
pub use scaled_tanh::ScaledTanh;
pub use softmax::Softmax;
pub use subsample::Subsample;

use crate::{Error, Result};

/// The default of switches that are on.
fn yes() -> bool {
    true
}

/// Whether a switch is on, that is at its default.
fn is_yes(value: &bool) -> bool {
    *value
}

/// The default of groups.
fn one() -> usize {
    1
}

/// Whether there is one group.
fn is_one(n: &usize) -> bool {
    *n == 1
}

/// The default of strides and dilations.
fn ones() -> [usize; 2] {
    [1, 1]
}

/// Whether a stride or dilation is 1.
fn is_ones(pair: &[usize; 2]) -> bool {
    *pair == [1, 1]
}

/// A number of a layer that has to lie in a range.
fn within(key: &str, value: f64, range: impl std::ops::RangeBounds<f64>, words: &str) -> Result<()> {
    if value.is_finite() && range.contains(&value) {
        return Ok(());
    }
    Err(Error::new(format!("{key} = {value} is out of range")).advice(format!("Use {words}.")))
}
