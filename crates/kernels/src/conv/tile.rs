//! The register tile of the indirect product: MR output pixels by NV vectors of output channels.
//!
//! One value of each of the MR source pixels is broadcast against NV vectors of packed weights. AVX-512 keeps 12 x 2
//! accumulators in 24 of its 32 registers, so that 24 multiply-adds hide behind 14 loads; AVX2 keeps 6 x 1 (two
//! registers each) in 12 of 16. Measured on one Zen 4 core of peak 115 GFLOP/s: 104 to 113 with 64 to 512 channels.

use super::Activation;
use crate::simd::{Kernel, LANES, Simd};

/// Most pixels of a tile; rows of pointer tables are this long.
pub(super) const MOST_PIXELS: usize = 12;

/// Pixels of a full tile.
pub(super) const fn pixels<S: Simd>() -> usize {
    if S::WIDE { MOST_PIXELS } else { 6 }
}

/// Output channels of a full panel of weights.
pub(super) const fn panel(wide: bool) -> usize {
    if wide { 2 * LANES } else { LANES }
}

/// What a tile reads and writes. All pointers must be valid for what the fields say.
pub(super) struct Tile {
    /// `[positions][MOST_PIXELS]` addresses of `depth` source values, or, with a step, those of the first position.
    pub rows: *const *const f32,
    /// Values from a position's addresses to the next one's.
    pub step: Option<isize>,
    pub positions: usize,
    pub depth: usize,
    /// `[positions][depth][NV * 16]`
    pub weights: *const f32,
    /// The pixels' numbers in target and residual.
    pub targets: *const usize,
    /// Whether the sums start from zero; otherwise from what the target holds.
    pub first: bool,
    /// Whether the sums are complete, so that bias, residual and activation follow.
    pub last: bool,
    /// Channels of the last vector, 1 to 16.
    pub lanes: usize,
    pub target: *mut f32,
    pub target_stride: usize,
    /// As many as channels, or null.
    pub bias: *const f32,
    /// As the target, or null.
    pub residual: *const f32,
    pub residual_stride: usize,
    pub activation: Activation,
}

/// Computes a tile of `mr` pixels by `nv` vectors.
///
/// # Safety
/// The pointers of `tile` are valid, `mr` is in `1..=pixels::<S>()` and `nv` is 1 or, where `S::WIDE`, 2.
#[inline(always)]
pub(super) unsafe fn run<S: Simd>(s: S, mr: usize, nv: usize, tile: &Tile) {
    s.call(Sized { mr, nv, tile })
}

/// A tile and its size. One function for each instruction set: the callers are many and the sizes 24.
struct Sized<'a> {
    mr: usize,
    nv: usize,
    tile: &'a Tile,
}

impl Kernel for Sized<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Sized { mr, nv, tile } = self;
        macro_rules! sizes {
            ($nv:literal: $($mr:literal)*) => {
                match mr {
                    $($mr => sized::<S, $mr, $nv>(s, tile),)*
                    _ => unreachable!("a tile of {mr} pixels"),
                }
            };
        }
        // SAFETY: the caller of `run` vouches for the pointers and the size.
        unsafe {
            if !S::WIDE {
                sizes!(1: 1 2 3 4 5 6)
            } else if nv == 1 {
                sizes!(1: 1 2 3 4 5 6 7 8 9 10 11 12)
            } else {
                sizes!(2: 1 2 3 4 5 6 7 8 9 10 11 12)
            }
        }
    }
}

#[inline(always)]
unsafe fn sized<S: Simd, const MR: usize, const NV: usize>(s: S, tile: &Tile) {
    let mut acc = [[s.zero(); NV]; MR];
    let lanes = |v: usize| if v + 1 == NV { tile.lanes } else { LANES };
    // SAFETY: the caller vouches for the pointers of `tile`; loads and stores touch `lanes` channels of a pixel only.
    unsafe {
        let targets = *tile.targets.cast::<[usize; MR]>();
        if !tile.first {
            for m in 0..MR {
                for v in 0..NV {
                    acc[m][v] =
                        s.load_n(tile.target.add(targets[m] * tile.target_stride + v * LANES).cast_const(), lanes(v));
                }
            }
        }
        let mut w = tile.weights;
        let mut x = *tile.rows.cast::<[*const f32; MR]>();
        for t in 0..tile.positions {
            if t > 0 {
                match tile.step {
                    Some(step) => {
                        for x in &mut x {
                            *x = x.wrapping_offset(step);
                        }
                    }
                    None => x = *tile.rows.add(t * MOST_PIXELS).cast::<[*const f32; MR]>(),
                }
            }
            for q in 0..tile.depth {
                let mut b = [s.zero(); NV];
                for v in 0..NV {
                    b[v] = s.load(w.add(v * LANES));
                }
                w = w.add(NV * LANES);
                for m in 0..MR {
                    let a = s.splat(*x[m].add(q));
                    for v in 0..NV {
                        acc[m][v] = s.fma(a, b[v], acc[m][v]);
                    }
                }
            }
        }
        if tile.last {
            for v in 0..NV {
                if !tile.bias.is_null() {
                    let bias = s.load_n(tile.bias.add(v * LANES), lanes(v));
                    for m in 0..MR {
                        acc[m][v] = s.add(acc[m][v], bias);
                    }
                }
                if !tile.residual.is_null() {
                    for m in 0..MR {
                        let p = tile.residual.add(targets[m] * tile.residual_stride + v * LANES);
                        acc[m][v] = s.add(acc[m][v], s.load_n(p, lanes(v)));
                    }
                }
                for m in 0..MR {
                    acc[m][v] = tile.activation.apply(s, acc[m][v]);
                }
            }
        }
        for m in 0..MR {
            for v in 0..NV {
                let p = tile.target.add(targets[m] * tile.target_stride + v * LANES);
                if lanes(v) == LANES { s.store(p, acc[m][v]) } else { s.store_n(p, acc[m][v], lanes(v)) }
            }
        }
    }
}
