//! The register tile of a run of pixels, each a fixed step from the one before it in its row: on a padded copy, or pointwise.
//!
//! With few products a tile (3x3 on 3 channels: 27 a vector), what comes before and after them counts: here no table of
//! addresses is filled or read, and one call computes all tiles of a run. 3x3 3->32 with stride 2, one core of a Zen 5 (peak
//! 277): 191 GFLOP/s with a table and a call for each tile, 222 without.

use std::ops::Range;

use super::tile::{Output, begin, end, multiply};
use crate::simd::{HALF, Kernel, LANES, Simd};

/// What a run's tiles read and write. All pointers must be valid for what the fields say.
pub(super) struct Run {
    /// Numbers of the output pixels, of rows of `width`. The addresses are as if all pixels from 0 on were there.
    pub pixels: Range<usize>,
    pub width: usize,
    /// Source values of pixel 0 and its first tap; values to those of the next pixel of its row, of the pixel below, of the next tap.
    pub source: *const f32,
    pub pixel_step: usize,
    pub row_step: usize,
    pub tap_step: usize,
    pub taps: usize,
    /// Source values of a tap.
    pub depth: usize,
    /// `[taps][depth][NV * 16]`
    pub weights: *const f32,
    /// Its addresses, too, are as if all pixels from 0 on were there.
    pub output: Output,
    /// Whether full tiles ask for the source of the tile after them: each pixel is a stream too short to be foreseen.
    pub ask_source: bool,
}

impl Run {
    /// What a pixel's first tap reads.
    #[inline(always)]
    fn source_of(&self, pixel: usize) -> *const f32 {
        let (row, column) = (pixel / self.width, pixel % self.width);
        self.source.wrapping_add(row * self.row_step + column * self.pixel_step)
    }
}

/// Computes `nv` vectors of channels of a run. A last vector of at most 8 channels is half a vector.
///
/// # Safety
/// The pointers of `run` are valid, and `nv` is what a panel of that width has (see [`super::tile::panel`]).
#[inline(always)]
pub(super) unsafe fn run<S: Simd>(s: S, nv: usize, run: &Run) {
    let (half, asks) = (run.output.lanes <= HALF, run.ask_source || !run.output.residual.is_null());
    // Full tiles, then smaller and smaller ones.
    macro_rules! tiles {
        ($whole:literal, $half:literal: $full:literal $($part:literal)*) => {{
            let mut end = run.pixels.end - run.pixels.len() % $full;
            if asks {
                s.call(Tiles::<$full, $whole, $half, true>(run, run.pixels.start..end));
            } else {
                s.call(Tiles::<$full, $whole, $half, false>(run, run.pixels.start..end));
            }
            $(
                let first = end;
                end += (run.pixels.end - first) / $part * $part;
                if first < end {
                    s.call(Tiles::<$part, $whole, $half, false>(run, first..end));
                }
            )*
            debug_assert_eq!(end, run.pixels.end);
        }};
    }
    // Not as one match: sizes that an instruction set does not have would be compiled for it.
    if S::WIDE {
        match (nv, half) {
            (1, false) => tiles!(1, 0: 12 8 4 2 1),
            (1, true) => tiles!(0, 1: 12 8 4 2 1),
            (_, false) => tiles!(2, 0: 12 8 4 2 1),
            (_, true) => tiles!(1, 1: 12 8 4 2 1),
        }
    } else {
        match (nv, half) {
            (1, false) => tiles!(1, 0: 6 3 1),
            (1, true) => tiles!(0, 1: 6 3 1),
            _ => tiles!(1, 1: 3 1),
        }
    }
}

/// Some of a run's pixels, by tiles of `MR` pixels by `WHOLE` vectors and `HALVES` (0 or 1) halves.
struct Tiles<'a, const MR: usize, const WHOLE: usize, const HALVES: usize, const ASKS: bool>(&'a Run, Range<usize>);

impl<const MR: usize, const WHOLE: usize, const HALVES: usize, const ASKS: bool> Kernel
    for Tiles<'_, MR, WHOLE, HALVES, ASKS>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for first in self.1.step_by(MR) {
            // SAFETY: the caller of `run` vouches for the pointers and the size.
            unsafe { tile::<S, MR, WHOLE, HALVES, ASKS>(s, self.0, first) }
        }
    }
}

/// The tile of the pixels from `first` on.
#[inline(always)]
unsafe fn tile<S: Simd, const MR: usize, const WHOLE: usize, const HALVES: usize, const ASKS: bool>(
    s: S,
    run: &Run,
    first: usize,
) {
    let column = first % run.width;
    let mut x = [run.source_of(first); MR];
    if column + MR <= run.width {
        for m in 1..MR {
            x[m] = x[m - 1].wrapping_add(run.pixel_step);
        }
    } else {
        // From a row's last pixel to the next row's first.
        let over = run.row_step.wrapping_sub((run.width - 1) * run.pixel_step);
        let mut left = run.width - column;
        for m in 1..MR {
            left -= 1;
            x[m] = x[m - 1].wrapping_add(if left == 0 { over } else { run.pixel_step });
            left = if left == 0 { run.width } else { left };
        }
    }
    let output = &run.output;
    let mut at = [output.target.wrapping_add(first * output.target_stride); MR];
    let mut pixels = [first; MR];
    for m in 1..MR {
        at[m] = at[m - 1].wrapping_add(output.target_stride);
        pixels[m] = first + m;
    }
    let mut acc = [[s.zero(); WHOLE]; MR];
    let mut half = [[s.splat_half(0.0); HALVES]; MR];
    let (mut w, mut asked) = (run.weights, 0);
    // SAFETY: the caller vouches for the pointers of `run`.
    unsafe {
        if !output.first {
            (acc, half) = begin(s, output, &at);
        }
        for _ in 0..run.taps {
            let mut start = 0;
            while start < run.depth {
                let stop = if ASKS { run.depth.min(start + LANES) } else { run.depth };
                if ASKS {
                    asked = ask(s, run, first + MR, [MR, WHOLE + HALVES], start, asked);
                }
                for q in start..stop {
                    multiply(s, &x, q, w, &mut acc, &mut half);
                    w = w.add((WHOLE + HALVES) * LANES);
                }
                start = stop;
            }
            for x in &mut x {
                *x = x.wrapping_add(run.tap_step);
            }
        }
        end(s, output, &pixels, &at, &acc, &half);
    }
}

/// Asks for some of what the tile from pixel `first` on reads, with 16 channels from `channel` on: all at once would keep waiting
/// what is needed now. Returns the lines of the residual asked for so far, `asked` and these.
#[inline(always)]
fn ask<S: Simd>(s: S, run: &Run, first: usize, [mr, nv]: [usize; 2], channel: usize, asked: usize) -> usize {
    if run.ask_source {
        let mut x = run.source_of(first).wrapping_add(channel);
        for _ in 0..mr {
            s.prefetch_first(x);
            x = x.wrapping_add(run.pixel_step);
        }
    }
    if run.output.residual.is_null() {
        return asked;
    }
    let blocks = run.taps * run.depth.div_ceil(LANES);
    let end = (mr * nv).min(asked + (mr * nv).div_ceil(blocks));
    for line in asked..end {
        let pixel = (first + line / nv) * run.output.residual_stride;
        s.prefetch(run.output.residual.wrapping_add(pixel + line % nv * LANES));
    }
    end
}
