//! Products of few tiles: the weights of a few channels are transformed and used at once, while they are in the first-level cache.
//! More tiles use them often enough to read them from the second.

use super::super::POINTS;
use crate::simd::{LANES, Simd};

/// Most tiles: one 7x7 picture of a 3x3 kernel.
pub(super) const TILES: usize = 4;
/// Channels whose weights for a vector of filters, 18 KB, are transformed at once.
pub(super) const CHANNELS: usize = 8;

/// What [`add`] multiplies, and where sums are.
pub(super) struct Products {
    /// At most [`TILES`].
    pub tiles: usize,
    /// At most [`CHANNELS`].
    pub channels: usize,
    /// `[point][CHANNELS][16]`
    pub weights: *const f32,
    /// `[point][tile][16 channels]`
    pub sources: *const f32,
    /// `[point][tile]` of vectors
    pub sums: *mut f32,
    /// Values from a tile's sums to the next one's, and from a point's.
    pub sum_steps: [usize; 2],
    /// Whether sums start from zero.
    pub first: bool,
}

/// Adds the products of some channels and a vector of filters at all points.
///
/// # Safety
/// The pointers are valid for all points, tiles and channels.
#[inline(always)]
pub(super) unsafe fn add<S: Simd>(s: S, products: &Products) {
    // SAFETY: as the caller vouches.
    unsafe {
        match products.tiles {
            1 => points::<S, 1>(s, products),
            2 => points::<S, 2>(s, products),
            3 => points::<S, 3>(s, products),
            _ => points::<S, TILES>(s, products),
        }
    }
}

/// Two points at once: the sums of one are too few to fill the wait for each.
#[inline(always)]
unsafe fn points<S: Simd, const N: usize>(s: S, products: &Products) {
    let [step, plane] = products.sum_steps;
    let (mut weights, mut sources, mut sums) = (products.weights, products.sources, products.sums);
    for _ in 0..POINTS / 2 {
        let mut acc = [[s.zero(); N]; 2];
        // SAFETY: as the caller vouches.
        unsafe {
            if !products.first {
                for i in 0..N {
                    acc[0][i] = s.load(sums.add(i * step));
                    acc[1][i] = s.load(sums.add(plane + i * step));
                }
            }
            if products.channels == CHANNELS {
                for c in 0..CHANNELS {
                    acc = channel(s, weights.add(c * LANES), sources.add(c), acc);
                }
            } else {
                for c in 0..products.channels {
                    acc = channel(s, weights.add(c * LANES), sources.add(c), acc);
                }
            }
            for i in 0..N {
                s.store(sums.add(i * step), acc[0][i]);
                s.store(sums.add(plane + i * step), acc[1][i]);
            }
        }
        weights = weights.wrapping_add(2 * CHANNELS * LANES);
        sources = sources.wrapping_add(2 * N * LANES);
        sums = sums.wrapping_add(2 * plane);
    }
}

/// Adds a channel's products at two points.
#[inline(always)]
unsafe fn channel<S: Simd, const N: usize>(
    s: S,
    weights: *const f32,
    sources: *const f32,
    mut acc: [[S::V; N]; 2],
) -> [[S::V; N]; 2] {
    // SAFETY: as the caller vouches.
    unsafe {
        let (first, second) = (s.load(weights), s.load(weights.add(CHANNELS * LANES)));
        for i in 0..N {
            acc[0][i] = s.fma(s.splat(*sources.add(i * LANES)), first, acc[0][i]);
            acc[1][i] = s.fma(s.splat(*sources.add((N + i) * LANES)), second, acc[1][i]);
        }
    }
    acc
}
