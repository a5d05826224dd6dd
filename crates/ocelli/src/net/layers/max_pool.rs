//! `max_pool`: the largest value under a sliding window.

use crate::graph::lower::Lowering;
use crate::graph::{Op, Pool, ValueId};
use crate::net::keys::{is_default, pair};
use crate::net::kind::{Keys, LayerKind};
use crate::shape::{Padding, Shape, output_size, rows_by_columns};
use crate::{Error, Result};
use ocelli_kernels::geometry::Window;
use serde::{Deserialize, Serialize};

/// The largest value under each position of the window, per channel; padding counts as −∞. No parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxPool {
    /// Rows and columns of the window.
    #[serde(with = "pair")]
    pub kernel: [usize; 2],
    /// Step between two positions; the kernel if absent.
    #[serde(with = "pair::optional", default, skip_serializing_if = "is_default")]
    pub stride: Option<[usize; 2]>,
    /// Rows and columns added around the maps.
    #[serde(default, skip_serializing_if = "is_default")]
    pub padding: Padding,
    /// Rounds the output size up instead of down, as PyTorch does: the last window still starts inside the picture.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ceil_mode: bool,
}

impl Keys for MaxPool {
    const TYPE: &'static str = "max_pool";
}

impl LayerKind for MaxPool {
    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [channels, h, w] = inputs[0].map()?;
        let [h, w] = pooled_size([h, w], &pool_window(self.kernel, self.stride, self.padding, self.ceil_mode, [h, w]))?;
        Ok(Shape::Map([channels, h, w]))
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        let window = pool_window(self.kernel, self.stride, self.padding, false, l.size());
        l.apply(Op::MaxPool(Pool { window, ceil_mode: self.ceil_mode, count_include_pad: false }), &[])
    }

    fn connections(&self, _inputs: &[Shape], output: Shape) -> u64 {
        (output.len() as u64).saturating_mul(self.kernel[0] as u64 * self.kernel[1] as u64)
    }

    fn window(&self, size: [usize; 2]) -> Option<Window> {
        Some(pool_window(self.kernel, self.stride, self.padding, self.ceil_mode, size))
    }
}

/// A pooling layer's window over an input of `size`. With `ceil_mode` the rows and columns that the last windows hang
/// over the edge are part of the padding at the bottom and right.
pub(super) fn pool_window(
    kernel: [usize; 2],
    stride: Option<[usize; 2]>,
    padding: Padding,
    ceil_mode: bool,
    size: [usize; 2],
) -> Window {
    let mut window = padding.apply(size, Window { stride: stride.unwrap_or(kernel), ..Window::new(kernel) });
    if ceil_mode {
        for i in 0..2 {
            let padded = size[i] + (window.padding[i] + window.padding[i + 2]) as usize;
            let rest = padded.saturating_sub(kernel[i]) % window.stride[i];
            // One more window if it starts inside the picture or the padding before it, not in the padding after it.
            let next_start = padded.saturating_sub(kernel[i]) - rest + window.stride[i];
            if rest > 0 && next_start < size[i] + window.padding[i] as usize {
                window.padding[i + 2] += (window.stride[i] - rest) as isize;
            }
        }
    }
    window
}

/// Output size of a pooling window.
///
/// # Errors
/// The window does not fit, or a position would see nothing but padding.
pub(super) fn pooled_size(size: [usize; 2], window: &Window) -> Result<[usize; 2]> {
    let first_sides = [window.padding[0], window.padding[1]];
    if (0..2).any(|i| first_sides[i] >= window.kernel[i] as isize) {
        return Err(Error::new(format!(
            "padding {}x{} is not smaller than the {} window, which would see nothing but padding",
            first_sides[0],
            first_sides[1],
            rows_by_columns(window.kernel)
        ))
        .advice("Use a padding of at most half the kernel."));
    }
    output_size("pooling window", size, window)
}
