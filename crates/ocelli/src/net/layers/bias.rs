//! `bias`: a trained value for every position of every map.

use crate::Result;
use crate::graph::lower::Lowering;
use crate::graph::{Op, ValueId};
use crate::net::kind::{Init, Keys, LayerKind, ParameterRule, Role};
use crate::shape::Shape;
use serde::{Deserialize, Serialize};

/// y = x + b with b of the shape of x, as in LeCun et al. 1989, whose units shared their weights but not their biases. A
/// convolution's own bias is one value for a whole map.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bias {}

impl Keys for Bias {
    const TYPE: &'static str = "bias";
}

impl LayerKind for Bias {
    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        Ok(inputs[0])
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        l.apply(Op::AddBias, &[Role::Bias])
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<ParameterRule> {
        vec![ParameterRule::new(Role::Bias, inputs[0].dims(), Init::Constant(0.0))]
    }

    fn connections(&self, _inputs: &[Shape], output: Shape) -> u64 {
        output.len() as u64
    }
}
