//! The register tile of the weight gradient: some channels by some filters, summed over pixels.

use std::ops::Range;

use crate::simd::{Kernel, LANES, Simd};

/// How many pixels ahead a copy asks for: parts of pixels are runs too short to be foreseen.
const AHEAD: usize = 8;

/// Pixels of a sum, as three nested loops with fixed steps in `x` and, from pixel `first` on, in `dy`.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    pub x: *const f32,
    pub first: usize,
    pub counts: [usize; 3],
    pub x_steps: [usize; 3],
    /// In pixels.
    pub dy_steps: [usize; 3],
}

/// The outputs among `range` whose tap at offset `at` lies inside `0..size`.
pub(super) fn met(range: Range<usize>, stride: usize, at: isize, size: usize) -> Range<usize> {
    let first = if at < 0 { at.unsigned_abs().div_ceil(stride) } else { 0 };
    let end = (size as isize - at).max(0) as usize;
    let end = end.div_ceil(stride);
    range.start.max(first)..range.end.min(end)
}

/// Copies `lanes` channels of pixels, the first of which is at `dy`, to the places `pixels` of panels of channels, which are
/// padded with zeros to whole vectors: `[panel][place][lanes of the panel]`, for `[lanes of a whole panel, places]`.
///
/// # Safety
/// The pixels exist and `packed` has room for them.
#[inline(always)]
pub(super) unsafe fn pack<S: Simd>(
    s: S,
    dy: *const f32,
    stride: usize,
    pixels: Range<usize>,
    lanes: usize,
    [panel, places]: [usize; 2],
    packed: *mut f32,
) {
    let padded = lanes.next_multiple_of(LANES);
    // SAFETY: handed on from the caller.
    unsafe {
        for (i, place) in pixels.enumerate() {
            let from = dy.add(i * stride);
            for lane in (0..padded).step_by(LANES) {
                s.prefetch(from.wrapping_add(AHEAD * stride + lane));
            }
            for first in (0..padded).step_by(panel) {
                let row = panel.min(padded - first);
                let to = packed.add(first * places + place * row);
                for lane in (0..row).step_by(LANES) {
                    let left = lanes - first - lane;
                    let v = if left >= LANES {
                        s.load(from.add(first + lane))
                    } else {
                        s.load_n(from.add(first + lane), left)
                    };
                    s.store(to.add(lane), v);
                }
            }
        }
    }
}

/// What becomes of the sums that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// They are replaced.
    Zero,
    /// They go on: one chain.
    Continued,
    /// The new sums are added to them when they are complete: short chains.
    Added,
}

/// The lanes of dy that a sum takes, pixel after pixel.
#[derive(Clone, Copy)]
pub(super) struct Dy {
    pub first: *const f32,
    /// Values from a pixel to the next.
    pub row: usize,
    /// What is asked for meanwhile, a cache line with each pixel, as far apart: the next pixels' lanes. Where it is null, x of the
    /// next tile's channels, which follow.
    pub next: *const f32,
}

/// `out[rows][nv * 16] = sum over the walk of x[row] * dy[lane]`.
///
/// # Safety
/// The walk stays inside x and dy, `out` has room; `rows` is 1 to 12 and `nv` 2, or 1 to 16 and 1; without `S::WIDE`
/// 1 to 6 and 1.
#[inline(always)]
pub(super) unsafe fn sum<S: Simd>(s: S, rows: usize, nv: usize, walk: &Walk, dy: Dy, out: *mut f32, start: Start) {
    s.call(Sized { rows, nv, walk, dy, out, start })
}

/// A sum and its size. One function for each instruction set, which both callers share.
struct Sized<'a> {
    rows: usize,
    nv: usize,
    walk: &'a Walk,
    dy: Dy,
    out: *mut f32,
    start: Start,
}

impl Kernel for Sized<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Sized { rows, nv, walk, dy, out, start } = self;
        macro_rules! sizes {
            ($nv:literal: $($rows:literal)*) => {
                match rows {
                    $($rows => s.call(Fixed::<$rows, $nv> { walk, dy, out, start }),)*
                    _ => unreachable!("a tile of {rows} rows"),
                }
            };
        }
        if !S::WIDE {
            sizes!(1: 1 2 3 4 5 6)
        } else if nv == 1 {
            sizes!(1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
        } else {
            sizes!(2: 1 2 3 4 5 6 7 8 9 10 11 12)
        }
    }
}

/// A sum of a size known to the compiler: functions of their own, as those of [`super::tile`].
struct Fixed<'a, const ROWS: usize, const NV: usize> {
    walk: &'a Walk,
    dy: Dy,
    out: *mut f32,
    start: Start,
}

impl<const ROWS: usize, const NV: usize> Kernel for Fixed<'_, ROWS, NV> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: the caller of `sum` vouches for the walk and the size.
        unsafe { sized::<S, ROWS, NV>(s, self.walk, self.dy, self.out, self.start) }
    }
}

#[inline(always)]
unsafe fn sized<S: Simd, const ROWS: usize, const NV: usize>(s: S, walk: &Walk, dy: Dy, out: *mut f32, start: Start) {
    let mut acc = [[s.zero(); NV]; ROWS];
    let mut next = dy.next;
    // SAFETY: handed on from the caller.
    unsafe {
        if start == Start::Continued {
            for m in 0..ROWS {
                for v in 0..NV {
                    acc[m][v] = s.load(out.add((m * NV + v) * LANES));
                }
            }
        }
        for i in 0..walk.counts[0] {
            for j in 0..walk.counts[1] {
                let mut x = walk.x.add(i * walk.x_steps[0] + j * walk.x_steps[1]);
                let pixel = walk.first + i * walk.dy_steps[0] + j * walk.dy_steps[1];
                let mut lanes = dy.first.add(pixel * dy.row);
                for _ in 0..walk.counts[2] {
                    s.prefetch_first(if dy.next.is_null() { x.wrapping_add(2 * ROWS - 1) } else { next });
                    next = next.wrapping_add(dy.row);
                    let mut b = [s.zero(); NV];
                    for v in 0..NV {
                        b[v] = s.load(lanes.add(v * LANES));
                    }
                    for m in 0..ROWS {
                        let a = s.splat(*x.add(m));
                        for v in 0..NV {
                            acc[m][v] = s.fma(a, b[v], acc[m][v]);
                        }
                    }
                    x = x.wrapping_add(walk.x_steps[2]);
                    lanes = lanes.wrapping_add(dy.row);
                }
            }
        }
        if start == Start::Added {
            for m in 0..ROWS {
                for v in 0..NV {
                    acc[m][v] = s.add(s.load(out.add((m * NV + v) * LANES)), acc[m][v]);
                }
            }
        }
        for m in 0..ROWS {
            for v in 0..NV {
                s.store(out.add((m * NV + v) * LANES), acc[m][v]);
            }
        }
    }
}
