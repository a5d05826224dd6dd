//! `leaky_relu`: ReLU with a slope below zero.

use super::within;
use crate::Result;
use crate::graph::lower::Lowering;
use crate::graph::{Activation, Op, ValueId};
use crate::net::kind::{Keys, LayerKind};
use crate::shape::Shape;
use serde::{Deserialize, Serialize};

/// x where x > 0, slope·x elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LeakyRelu {
    /// Slope below zero, 0.01 by default.
    pub slope: f64,
}

impl Default for LeakyRelu {
    fn default() -> LeakyRelu {
        LeakyRelu { slope: 0.01 }
    }
}

impl Keys for LeakyRelu {
    const TYPE: &'static str = "leaky_relu";
}

impl LayerKind for LeakyRelu {
    fn check(&self) -> Result<()> {
        within("slope", self.slope, 0.0..=1.0, "a number from 0 to 1")
    }
    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        Ok(inputs[0])
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        l.apply(Op::Activate(Activation::LeakyRelu(self.slope as f32)), &[])
    }
}
