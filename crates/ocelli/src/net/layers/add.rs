//! `add`: the sum of equal shapes, the end of a residual block.

use crate::graph::lower::Lowering;
use crate::graph::{Op, ValueId};
use crate::net::kind::{Keys, LayerKind};
use crate::shape::Shape;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// The sum of two or more inputs of the same shape (He et al. 2016).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {}

impl Keys for Add {
    const TYPE: &'static str = "add";
}

impl LayerKind for Add {
    fn inputs(&self) -> RangeInclusive<usize> {
        2..=64
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        match inputs.iter().find(|shape| **shape != inputs[0]) {
            None => Ok(inputs[0]),
            Some(other) => Err(Error::new(format!("cannot add {} and {other}", inputs[0])).advice(
                match (inputs[0].size(), other.size()) {
                    (Some(a), Some(b)) if a != b => {
                        "Give both branches the same strides and padding, or bring one to size with a 1x1 conv of that stride."
                    }
                    _ => "Give both branches the same number of channels, for example with a 1x1 conv.",
                },
            )),
        }
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        let inputs = l.inputs();
        let mut sum = inputs[0];
        for &input in &inputs[1..] {
            sum = l.push(Op::Add, &[sum, input])?[0];
        }
        Ok(sum)
    }
}
