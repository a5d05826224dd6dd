//! `dropout`: training sets random values to zero.

use super::within;
use crate::Result;
use crate::graph::lower::Lowering;
use crate::graph::{Op, ValueId};
use crate::net::kind::{Keys, LayerKind};
use crate::shape::Shape;
use serde::{Deserialize, Serialize};

/// In training each value becomes 0 with probability `rate` and the others are divided by 1 − rate, so that evaluation
/// leaves values alone (Srivastava et al. 2014, in the inverted form of PyTorch).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dropout {
    /// Probability of a zero, 0.5 by default.
    pub rate: f64,
}

impl Default for Dropout {
    fn default() -> Dropout {
        Dropout { rate: 0.5 }
    }
}

impl Keys for Dropout {
    const TYPE: &'static str = "dropout";
}

impl LayerKind for Dropout {
    fn check(&self) -> Result<()> {
        within("rate", self.rate, 0.0..1.0, "a number from 0 to below 1")
    }
    fn numbers(&self) -> String {
        self.rate.to_string()
    }
    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        Ok(inputs[0])
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        if !l.training || self.rate == 0.0 {
            return Ok(l.input(0));
        }
        l.apply(Op::Dropout { rate: self.rate as f32, key: l.key() }, &[])
    }
}
