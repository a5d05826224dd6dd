//! `avg_pool`: the mean under a sliding window.

use super::max_pool::{pool_window, pooled_size};
use super::{is_yes, yes};
use crate::Result;
use crate::graph::lower::Lowering;
use crate::graph::{Op, Pool, ValueId};
use crate::net::keys::{is_default, pair};
use crate::net::kind::{Keys, LayerKind};
use crate::shape::{Padding, Shape};
use ocelli_kernels::geometry::Window;
use serde::{Deserialize, Serialize};

/// The mean under each position of the window, per channel. No parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvgPool {
    /// Rows and columns of the window.
    #[serde(with = "pair")]
    pub kernel: [usize; 2],
    /// Step between two positions; the kernel if absent.
    #[serde(with = "pair::optional", default, skip_serializing_if = "is_default")]
    pub stride: Option<[usize; 2]>,
    /// Rows and columns of zeros added around the maps.
    #[serde(default, skip_serializing_if = "is_default")]
    pub padding: Padding,
    /// Rounds the output size up instead of down, as PyTorch does: the last window still starts inside the picture.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ceil_mode: bool,
    /// Whether `padding` (not what `ceil_mode` adds) counts in the number that the sum is divided by.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub count_include_pad: bool,
}

impl Keys for AvgPool {
    const TYPE: &'static str = "avg_pool";
}

impl LayerKind for AvgPool {
    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [channels, h, w] = inputs[0].map()?;
        let [h, w] = pooled_size([h, w], &pool_window(self.kernel, self.stride, self.padding, self.ceil_mode, [h, w]))?;
        Ok(Shape::Map([channels, h, w]))
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        let window = pool_window(self.kernel, self.stride, self.padding, false, l.size());
        let (ceil_mode, count_include_pad) = (self.ceil_mode, self.count_include_pad);
        l.apply(Op::AvgPool(Pool { window, ceil_mode, count_include_pad }), &[])
    }

    fn connections(&self, _inputs: &[Shape], output: Shape) -> u64 {
        (output.len() as u64).saturating_mul(self.kernel[0] as u64 * self.kernel[1] as u64)
    }

    fn window(&self, size: [usize; 2]) -> Option<Window> {
        Some(pool_window(self.kernel, self.stride, self.padding, self.ceil_mode, size))
    }
}
