//! Maximum and average over sliding windows, and their gradients.
//!
//! The padding counts as −∞ for the maximum and as zeros for the average. Backward gathers: every input element sums
//! over the windows that meet it, in order, so the result does not depend on threads.

mod average;
mod max;
mod reference;

pub use average::{adaptive_average_pool, adaptive_average_pool_backward, average_pool, average_pool_backward};
pub use max::{max_pool, max_pool_backward};
pub use reference::{
    adaptive_average_pool_backward_reference, adaptive_average_pool_reference, average_pool_backward_reference,
    average_pool_reference, max_pool_backward_reference, max_pool_reference,
};

use crate::elementwise::Extent;
use crate::geometry::PoolShape;
use std::ops::Range;

/// Average pooling to a given size, as PyTorch's adaptive pooling: of N rows in M parts, part i has the rows from
/// floor(i·N/M) to ceil((i + 1)·N/M); parts overlap where M does not divide N. Pairs are `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveShape {
    /// Input rows and columns.
    pub input: [usize; 2],
    /// Output rows and columns.
    pub output: [usize; 2],
    /// Channels.
    pub channels: usize,
}

impl AdaptiveShape {
    /// The input positions of part `o`.
    fn taps(&self, axis: usize, o: usize) -> Range<usize> {
        let (from, to) = (self.input[axis], self.output[axis]);
        o * from / to..((o + 1) * from).div_ceil(to)
    }
    /// `n` pictures of input and of output.
    fn extents(&self, n: usize) -> (Extent, Extent) {
        let of = |[h, w]: [usize; 2]| Extent { samples: n, pixels: h * w, channels: self.channels };
        (of(self.input), of(self.output))
    }
}

/// `n` pictures of input and of output.
fn extents(shape: &PoolShape, n: usize) -> (Extent, Extent) {
    assert_eq!(shape.window.dilation, [1, 1], "pooling windows have dilation 1");
    let of = |[h, w]: [usize; 2]| Extent { samples: n, pixels: h * w, channels: shape.channels };
    (of(shape.input), of(shape.output()))
}
