//! `multiply`: products value by value, or a factor per channel.

use crate::graph::lower::Lowering;
use crate::graph::{Op, ValueId};
use crate::net::kind::{Keys, LayerKind};
use crate::shape::Shape;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// The product of two inputs of the same shape, or of maps and one factor per channel (1x1 maps or a row of values), as
/// squeeze and excitation scales its maps (Hu et al. 2018).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Multiply {}

impl Keys for Multiply {
    const TYPE: &'static str = "multiply";
}

/// Whether `factors` holds one value per channel of `maps`.
fn per_channel(maps: Shape, factors: Shape) -> bool {
    matches!(maps, Shape::Map(_)) && factors.channels() == maps.channels() && factors.len() == maps.channels()
}

impl LayerKind for Multiply {
    fn inputs(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let (a, b) = (inputs[0], inputs[1]);
        if a == b || per_channel(a, b) {
            Ok(a)
        } else if per_channel(b, a) {
            Ok(b)
        } else {
            Err(Error::new(format!("cannot multiply {a} by {b}"))
                .advice("Give both the same shape, or one of them 1x1 maps with as many channels as the other."))
        }
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        let (mut a, mut b) = (0, 1);
        if l.shape(0) != l.shape(1) && !per_channel(l.shape(0), l.shape(1)) {
            (a, b) = (1, 0);
        }
        let mut inputs = [l.input(a), l.input(b)];
        if let (Shape::Map(_), Shape::Flat(factors)) = (l.shape(a), l.shape(b)) {
            inputs[1] = l.push(Op::Unflatten([factors, 1, 1]), &inputs[1..])?[0];
        }
        l.push(Op::Multiply, &inputs).map(|made| made[0])
    }
}
