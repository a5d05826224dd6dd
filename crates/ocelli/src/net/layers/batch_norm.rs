//! `batch_norm`: every channel to mean 0 and variance 1, then scaled and shifted.

use super::within;
use crate::Result;
use crate::graph::lower::Lowering;
use crate::graph::{Op, ValueId};
use crate::net::kind::{Init, Keys, LayerKind, ParameterRule, Role};
use crate::shape::Shape;
use serde::{Deserialize, Serialize};

/// γ·(x − mean)/√(variance + eps) + β per channel, with the batch's statistics in training and running ones in
/// evaluation (Ioffe and Szegedy 2015); numbers as PyTorch has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchNorm {
    /// Added to the variance, 1e-5 by default.
    pub eps: f64,
    /// Weight of the newest batch in the running statistics, 0.1 by default.
    pub momentum: f64,
}

impl Default for BatchNorm {
    fn default() -> BatchNorm {
        BatchNorm { eps: 1e-5, momentum: 0.1 }
    }
}

impl Keys for BatchNorm {
    const TYPE: &'static str = "batch_norm";
}

impl LayerKind for BatchNorm {
    fn check(&self) -> Result<()> {
        within("eps", self.eps, 1e-12..=1.0, "a number from 1e-12 to 1")?;
        within("momentum", self.momentum, 0.0..=1.0, "a number from 0 to 1")
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        Ok(inputs[0])
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        let (affine, statistics) = ([Role::Scale, Role::Shift], [Role::RunningMean, Role::RunningVar]);
        let eps = self.eps;
        if !l.training || l.frozen_statistics() {
            return l.apply(Op::BatchNormInfer { eps }, &[affine, statistics].concat());
        }
        let mut inputs = vec![l.input(0)];
        inputs.extend(l.parameters(&affine));
        let made = l.push(Op::BatchNorm { eps, activation: None }, &inputs)?;
        let mut inputs = vec![made[1], made[2]];
        inputs.extend(l.parameters(&statistics));
        l.update_statistics(Op::RunningStatistics { momentum: self.momentum }, inputs);
        Ok(made[0])
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<ParameterRule> {
        [(Role::Scale, 1.0), (Role::Shift, 0.0), (Role::RunningMean, 0.0), (Role::RunningVar, 1.0)]
            .map(|(role, start)| ParameterRule::new(role, [inputs[0].channels()], Init::Constant(start)))
            .into()
    }
}
