//! `softmax`: scores become probabilities.

use crate::Result;
use crate::graph::lower::Lowering;
use crate::graph::{Op, ValueId};
use crate::net::kind::{Keys, LayerKind};
use crate::shape::Shape;
use serde::{Deserialize, Serialize};

/// eˣ / Σ eˣ over the values of a row, or over the channels at each pixel. Nets end in logits: cross-entropy and
/// `predict` apply it themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softmax {}

impl Keys for Softmax {
    const TYPE: &'static str = "softmax";
}

impl LayerKind for Softmax {
    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        Ok(inputs[0])
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        l.apply(Op::Softmax, &[])
    }
}
