//! First layers of 3x3 kernels: all kernel elements of all channels by one vector of filters, in registers.
//!
//! 27 values of x are broadcast against a vector of the output's gradient, which is read where it is and once for all of them:
//! tiles of a kernel row copy it before, and read the copy for each row and for the bias.

use super::super::padded::Padded;
use super::super::phase::Phase;
use super::sum::SegmentSum;
use crate::simd::{LANES, Simd, load_part};

/// Kernel rows, each a tap of the padded copy.
const ROWS: usize = 3;

/// Whether the sums fit registers: those of three kernel rows of 3, 6 or 9 values, and the bias.
pub(super) fn fits(padded: &Padded, phase: &Phase) -> bool {
    phase.taps.len() == ROWS && matches!(padded.depth(), 3 | 6 | 9)
}

impl SegmentSum<'_> {
    /// Sums of the whole segment, over its padded copy, into the tiles that [`super::Tiles`] has them in.
    ///
    /// # Safety
    /// As [`SegmentSum`]'s run; the part has all tiles of its panels, the copy all rows that the segment sees.
    #[inline(always)]
    pub(super) unsafe fn few<S: Simd>(&mut self, s: S, padded: &Padded, copy: *const f32) {
        // SAFETY: handed on from the caller.
        unsafe {
            match padded.depth() {
                3 => self.rows_of::<S, 3>(s, padded, copy),
                6 => self.rows_of::<S, 6>(s, padded, copy),
                _ => self.rows_of::<S, 9>(s, padded, copy),
            }
        }
    }

    /// `D` values of each kernel row, and the bias.
    #[inline(always)]
    unsafe fn rows_of<S: Simd, const D: usize>(&mut self, s: S, padded: &Padded, copy: *const f32) {
        let plan = self.plan;
        let [height, width] = plan.output;
        let [stride_y, stride_x] = plan.shape.window.stride;
        let (row, picture) = (padded.size()[1] * padded.channels(), plan.copied_picture(&self.segment.rows));
        let (tap, has_bias) = (padded.step(), self.part.tiles.len() > ROWS);
        let panels = self.part.panels.clone();
        let mut begins = true;
        for (i, image) in self.segment.images.clone().enumerate() {
            for (j, y) in self.segment.rows.clone().enumerate() {
                let pixel = (image * height + y) * width;
                let dy_row = self.dy.data.as_ptr().wrapping_add(pixel * self.dy.stride);
                let x_row = copy.wrapping_add(i * picture + j * stride_y * row);
                // Of each pixel's cache lines a vector takes one: too far apart to be foreseen. The next row's are asked for.
                let mut ahead = dy_row.wrapping_add(width * self.dy.stride);
                for (p, panel) in panels.clone().enumerate() {
                    let [valid, lanes] = plan.lanes(panel);
                    for first in (0..lanes).step_by(LANES) {
                        let count = LANES.min(valid - first);
                        let out = self.out.as_mut_ptr();
                        let place =
                            |tile: usize, k: usize| (tile * panels.len() + p) * plan.tile_len() + k * lanes + first;
                        let mut sums = [[s.zero(); D]; ROWS];
                        let mut bias = s.zero();
                        // SAFETY: a tile has a row of lanes for each value; the pixels exist, and the copy has all that they see.
                        unsafe {
                            if !begins {
                                for r in 0..ROWS {
                                    for k in 0..D {
                                        sums[r][k] = s.load(out.add(place(r, k)));
                                    }
                                }
                                if has_bias {
                                    bias = s.load(out.add(place(ROWS, 0)));
                                }
                            }
                            let (mut x, mut dy) = (x_row, dy_row.wrapping_add(panel * plan.panel + first));
                            for _ in 0..width {
                                s.prefetch(ahead);
                                ahead = ahead.wrapping_add(LANES);
                                let d = load_part(s, dy, count);
                                for r in 0..ROWS {
                                    for k in 0..D {
                                        sums[r][k] = s.fma(s.splat(*x.add(r * tap + k)), d, sums[r][k]);
                                    }
                                }
                                bias = s.add(bias, d);
                                x = x.wrapping_add(stride_x * padded.channels());
                                dy = dy.wrapping_add(self.dy.stride);
                            }
                            for r in 0..ROWS {
                                for k in 0..D {
                                    s.store(out.add(place(r, k)), sums[r][k]);
                                }
                            }
                            if has_bias {
                                s.store(out.add(place(ROWS, 0)), bias);
                            }
                        }
                    }
                }
                begins = false;
            }
        }
    }
}
