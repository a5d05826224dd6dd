//! Maximum and average over sliding windows, and their gradients.
//!
//! The padding counts as −∞ for the maximum and as zeros for the average. Backward gathers: every input element sums
//! over the windows that meet it, in order, so the result does not depend on threads.

mod average;
mod max;
mod reference;

pub use average::{average_pool, average_pool_backward};
pub use max::{max_pool, max_pool_backward};
pub use reference::{
    average_pool_backward_reference, average_pool_reference, max_pool_backward_reference, max_pool_reference,
};

use crate::elementwise::Extent;
use crate::geometry::PoolShape;

/// `n` pictures of input and of output.
fn extents(shape: &PoolShape, n: usize) -> (Extent, Extent) {
    assert_eq!(shape.window.dilation, [1, 1], "pooling windows have dilation 1");
    let of = |[h, w]: [usize; 2]| Extent { samples: n, pixels: h * w, channels: shape.channels };
    (of(shape.input), of(shape.output()))
}
