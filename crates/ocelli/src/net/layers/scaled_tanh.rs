//! `scaled_tanh`: the hyperbolic tangent, stretched both ways.

use super::within;
use crate::Result;
use crate::graph::lower::Lowering;
use crate::graph::{Activation, Op, ValueId};
use crate::net::kind::{Keys, LayerKind};
use crate::shape::Shape;
use serde::{Deserialize, Serialize};

/// amplitude·tanh(slope·x). With LeCun's numbers (1998, appendix A) f(±1) = ±1 and the second derivative is largest there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScaledTanh {
    /// The values' limit, 1.7159 by default.
    pub amplitude: f64,
    /// The factor inside, 2/3 by default.
    pub slope: f64,
}

impl Default for ScaledTanh {
    fn default() -> ScaledTanh {
        ScaledTanh { amplitude: 1.7159, slope: 2.0 / 3.0 }
    }
}

impl Keys for ScaledTanh {
    const TYPE: &'static str = "scaled_tanh";
}

impl LayerKind for ScaledTanh {
    fn check(&self) -> Result<()> {
        within("amplitude", self.amplitude, 1e-6..=1e6, "a number from 1e-6 to 1e6")?;
        within("slope", self.slope, 1e-6..=1e6, "a number from 1e-6 to 1e6")
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        Ok(inputs[0])
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        let inside = l.apply(Op::Scale(self.slope as f32), &[])?;
        let tanh = l.push(Op::Activate(Activation::Tanh), &[inside])?[0];
        l.push(Op::Scale(self.amplitude as f32), &[tanh]).map(|made| made[0])
    }
}
