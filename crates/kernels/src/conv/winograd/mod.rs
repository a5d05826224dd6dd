//! Winograd's minimal filtering: fewer multiplications than the definition has.
//!
//! A square of 6x6 source values, taken to six points in each direction (0, ±1, ±2, ∞), needs one product a point: 36
//! instead of 144 for a 4x4 square of outputs of a 3x3 kernel, 36 instead of 100 for a 2x2 square of a 5x5 kernel. Both
//! share the points and so the source's transform. After Winograd, "Arithmetic Complexity of Computations", 1980, and
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015:
//!
//! - forward: Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A, summed over channels between the transforms;
//! - data gradient: the same with the kernel turned by half a turn;
//! - weight gradient: dW = Gᵀ [(Bᵀ d B) ⊙ (A dY Aᵀ)] G, summed over tiles.
//!
//! The sums differ from the definition's by rounding: up to 1e-4 of the outputs' root mean square, see the tests.

mod product;
#[cfg(test)]
mod tests;
mod transform;
mod weights;

pub(super) use product::{Product, Weights};
pub(super) use weights::WeightGradient;

use crate::geometry::ConvShape;

/// Points of a tile, in both directions together.
pub(super) const POINTS: usize = 36;
/// Side of a tile's source.
const SIDE: usize = 6;
/// With fewer channels or filters than these in a group, vectors of them are not full.
const CHANNELS: usize = 16;

/// Whether Winograd's form is possible, and may pay.
pub(super) fn fits(shape: &ConvShape) -> bool {
    let window = &shape.window;
    let kernel = matches!(window.kernel, [3, 3] | [5, 5]);
    kernel
        && window.stride == [1, 1]
        && window.dilation == [1, 1]
        && shape.group_channels().min(shape.group_filters()) >= CHANNELS
}

/// Side of a tile's outputs for a kernel of `kernel` rows.
const fn outputs(kernel: usize) -> usize {
    SIDE + 1 - kernel
}

/// Tiles of a picture of `size` outputs.
pub(super) fn tiles(size: [usize; 2], kernel: usize) -> usize {
    grid(size, kernel).iter().product()
}

/// Tiles over a picture of `size` outputs, as rows and columns.
fn grid(size: [usize; 2], kernel: usize) -> [usize; 2] {
    size.map(|n| n.div_ceil(outputs(kernel)))
}
