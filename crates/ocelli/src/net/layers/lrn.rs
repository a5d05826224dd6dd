//! `lrn`: local response normalisation across channels.

use super::{is_one, is_yes, one, within, yes};
use crate::graph::lower::Lowering;
use crate::graph::{Op, ValueId};
use crate::net::keys::count;
use crate::net::kind::{Keys, LayerKind};
use crate::shape::Shape;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// x / (k + alpha'·Σ x²)^beta over `size` neighbouring channels, clipped at the first and last channel (Krizhevsky et al.
/// 2012, §3.3). alpha' is alpha/size where `divide_by_size` is true, as PyTorch, Caffe, ONNX and Krizhevsky's own code
/// have it, and alpha as the paper's formula and TensorFlow have it otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lrn {
    /// Channels in the sum: size/2 before (rounded down) and the rest from the channel on.
    #[serde(with = "count", default = "five")]
    pub size: usize,
    /// Weight of the squares.
    #[serde(default = "alpha")]
    pub alpha: f64,
    /// The power.
    #[serde(default = "beta")]
    pub beta: f64,
    /// What the sum is added to.
    #[serde(default = "k")]
    pub k: f64,
    /// Parts of the channels that are normalised each by itself, like those of AlexNet's two GPUs.
    #[serde(with = "count", default = "one", skip_serializing_if = "is_one")]
    pub groups: usize,
    /// Whether alpha is divided by `size`.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub divide_by_size: bool,
}

fn five() -> usize {
    5
}
fn alpha() -> f64 {
    1e-4
}
fn beta() -> f64 {
    0.75
}
fn k() -> f64 {
    1.0
}

impl Keys for Lrn {
    const TYPE: &'static str = "lrn";
}

impl LayerKind for Lrn {
    fn check(&self) -> Result<()> {
        within("alpha", self.alpha, 0.0..=1e6, "a number from 0 to 1e6")?;
        within("beta", self.beta, 0.0..=16.0, "a number from 0 to 16")?;
        within("k", self.k, 1e-6..=1e6, "a number from 1e-6 to 1e6")
    }

    /// Which of the formulas, and whether groups are apart, is what nets of the same shapes differ in.
    fn numbers(&self) -> String {
        let divided = if self.divide_by_size { format!("/{}", self.size) } else { String::new() };
        let beta = if self.beta == beta() { String::new() } else { format!(", beta {}", self.beta) };
        let groups = if self.groups == 1 { String::new() } else { format!(", {} groups", self.groups) };
        format!("{}, k {}, alpha {:e}{divided}{beta}{groups}", self.size, self.k, self.alpha)
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [channels, _, _] = inputs[0].map()?;
        if !channels.is_multiple_of(self.groups) {
            return Err(Error::new(format!("{channels} channels do not divide into {} groups", self.groups))
                .advice("Use groups that divide the channels."));
        }
        Ok(inputs[0])
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        let attributes = ocelli_kernels::lrn::Lrn {
            size: self.size,
            alpha: self.alpha as f32,
            beta: self.beta as f32,
            k: self.k as f32,
            divide_by_size: self.divide_by_size,
        };
        l.apply(Op::Lrn { lrn: attributes, groups: self.groups }, &[])
    }
}
