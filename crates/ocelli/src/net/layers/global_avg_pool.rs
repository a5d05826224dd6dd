//! `global_avg_pool`: the mean of each map.

use crate::Result;
use crate::graph::lower::Lowering;
use crate::graph::{Op, Pool, ValueId};
use crate::net::kind::{Keys, LayerKind};
use crate::shape::Shape;
use ocelli_kernels::geometry::Window;
use serde::{Deserialize, Serialize};

/// The mean of each channel, as maps of 1x1 (Lin et al., "Network in network", 2014). No parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalAvgPool {}

impl Keys for GlobalAvgPool {
    const TYPE: &'static str = "global_avg_pool";
}

impl LayerKind for GlobalAvgPool {
    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [channels, _, _] = inputs[0].map()?;
        Ok(Shape::Map([channels, 1, 1]))
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        let window = Window::new(l.size());
        l.apply(Op::AvgPool(Pool { window, ceil_mode: false, count_include_pad: true }), &[])
    }

    fn connections(&self, inputs: &[Shape], _output: Shape) -> u64 {
        inputs[0].len() as u64
    }

    fn sees_everything(&self) -> bool {
        true
    }
}
