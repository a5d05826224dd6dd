//! `concat`: maps of several branches, one after the other.

use crate::graph::lower::Lowering;
use crate::graph::{Op, ValueId};
use crate::net::kind::{Keys, LayerKind};
use crate::shape::{MAX_SIZE, Shape};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// The channels of all inputs in their order (Szegedy et al. 2015); rows and columns have to agree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concat {}

impl Keys for Concat {
    const TYPE: &'static str = "concat";
}

impl LayerKind for Concat {
    fn inputs(&self) -> RangeInclusive<usize> {
        2..=1024
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        if let Some(other) = inputs.iter().find(|shape| shape.size() != inputs[0].size()) {
            return Err(Error::new(format!("cannot concatenate {} and {other}", inputs[0]))
                .advice("Only channels may differ: give the branches the same strides, and \"same\" padding."));
        }
        let channels: usize = inputs.iter().map(Shape::channels).sum();
        if channels > MAX_SIZE {
            return Err(Error::new(format!("{channels} channels are more than {MAX_SIZE}")).advice("Use fewer inputs."));
        }
        Ok(inputs[0].with_channels(channels))
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        let inputs = l.inputs();
        l.push(Op::Concat, &inputs).map(|made| made[0])
    }
}
