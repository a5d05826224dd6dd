//! `flatten`: maps become one row of values.

use crate::Result;
use crate::graph::ValueId;
use crate::graph::lower::Lowering;
use crate::net::kind::{Keys, LayerKind};
use crate::shape::Shape;
use serde::{Deserialize, Serialize};

/// `[channels, height, width]` becomes channels·height·width values, channels first. `linear` does it by itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flatten {}

impl Keys for Flatten {
    const TYPE: &'static str = "flatten";
}

impl LayerKind for Flatten {
    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        Ok(Shape::Flat(inputs[0].len()))
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        l.features()
    }
}
