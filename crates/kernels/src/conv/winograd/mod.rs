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
    kernel && window.stride == [1, 1] && shape.group_channels().min(shape.group_filters()) >= CHANNELS
}

/// The same of the gradients: where an input meets no kernel element, or an element no input, they are zeros, of which the transforms
/// would leave rounding errors.
pub(super) fn gradients_fit(shape: &ConvShape) -> bool {
    let (window, output) = (&shape.window, shape.output());
    let all_meet = |i: usize| {
        let padding = [window.padding[i], window.padding[i + 2]];
        let most = padding[0].max(padding[1]);
        padding[0].min(padding[1]) >= 0 && output[i] as isize > most && output[i] >= window.dilation[i]
    };
    fits(shape) && all_meet(0) && all_meet(1)
}

/// Side of a tile's outputs for a kernel of `kernel` rows.
const fn outputs(kernel: usize) -> usize {
    SIDE + 1 - kernel
}

/// Tiles over the outputs of pictures. A kernel whose elements are `dilation` apart is one without gaps on every dilation-th
/// row and column: the tiles of the first of these come first, then those of the next.
#[derive(Debug)]
pub(super) struct Tiling {
    /// Rows and columns of a picture's outputs.
    pub size: [usize; 2],
    /// Rows and columns of the kernel: 3 or 5.
    pub kernel: usize,
    pub dilation: [usize; 2],
    /// Of a picture's rows and columns of tiles: the first output, and how many outputs there are.
    runs: [Vec<[usize; 2]>; 2],
}

/// Where a tile lies.
struct Place {
    image: usize,
    /// Its first output.
    first: [usize; 2],
    /// Rows and columns of its outputs.
    count: [usize; 2],
}

impl Tiling {
    pub fn new(size: [usize; 2], kernel: usize, dilation: [usize; 2]) -> Tiling {
        let runs = |i: usize| -> Vec<[usize; 2]> {
            let (size, step) = (size[i], dilation[i]);
            let firsts = (0..step.min(size)).flat_map(|start| (start..size).step_by(outputs(kernel) * step));
            firsts.map(|first| [first, (size - first).div_ceil(step).min(outputs(kernel))]).collect()
        };
        Tiling { size, kernel, dilation, runs: [runs(0), runs(1)] }
    }

    /// Over a convolution's outputs.
    pub fn outputs(shape: &ConvShape) -> Tiling {
        Tiling::new(shape.output(), shape.window.kernel[0], shape.window.dilation)
    }

    /// Rows and columns of a picture's tiles.
    pub fn grid(&self) -> [usize; 2] {
        [self.runs[0].len(), self.runs[1].len()]
    }

    /// Tiles of a picture.
    pub fn tiles(&self) -> usize {
        self.runs[0].len() * self.runs[1].len()
    }

    #[inline(always)]
    fn place(&self, tile: usize) -> Place {
        let [h, w] = self.grid();
        let ([top, rows], [left, columns]) = (self.runs[0][tile / w % h], self.runs[1][tile % w]);
        Place { image: tile / (h * w), first: [top, left], count: [rows, columns] }
    }

    /// The first output of a tile among those of all pictures, and how far the next row's and the next column's lie behind it.
    #[inline(always)]
    fn pixels(&self, place: &Place) -> (usize, [usize; 2]) {
        let ([height, width], [top, left]) = (self.size, place.first);
        ((place.image * height + top) * width + left, [self.dilation[0] * width, self.dilation[1]])
    }
}
