//! Channels-last pixels as planes, a channel each.

use super::super::{Pixels, lanes};
use crate::simd::{LANES, Simd, load_part};
use std::ops::Range;

/// Rows of pictures of a size, copied to planes: columns from `left` on, with zeros outside the picture. A row is `step` lines,
/// each with every `step`th column, so that neighbouring outputs read neighbouring values whatever their stride.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planes {
    pub size: [usize; 2],
    pub channels: usize,
    pub left: isize,
    pub step: usize,
    /// Columns of a line that are read.
    pub columns: usize,
}

impl Planes {
    /// Values of a line: what is read, and a vector more that copies may reach.
    fn line(&self) -> usize {
        self.columns.next_multiple_of(LANES) + LANES
    }

    /// Values of a plane's row.
    pub fn row(&self) -> usize {
        self.step * self.line()
    }

    /// Where the first output's value at an offset is, in planes from row `top` on.
    pub fn place(&self, top: isize, [y, x]: [isize; 2]) -> usize {
        let (down, right) = ((y - top) as usize, (x - self.left) as usize);
        down * self.row() + right % self.step * self.line() + right / self.step
    }

    /// Values from a plane of so many rows to the next: an odd number of vectors, because of planes 4 KB apart all pixels lie in
    /// one set of the first-level cache.
    pub fn plane(&self, rows: usize) -> usize {
        ((rows * self.row() / LANES) | 1) * LANES
    }

    /// Copies rows of a picture, those outside it too; the planes are `plane` values apart.
    ///
    /// # Safety
    /// `pixels` holds the picture, `out` all planes.
    #[inline(always)]
    pub unsafe fn copy<S: Simd>(
        &self,
        s: S,
        pixels: &Pixels,
        image: usize,
        rows: Range<isize>,
        out: *mut f32,
        plane: usize,
    ) {
        let [height, width] = self.size;
        for line in 0..self.step {
            // The first column of the picture in this line, where it is, and how many follow.
            let left = self.left + line as isize;
            let start = (-left).max(0).unsigned_abs().div_ceil(self.step).min(self.columns);
            let column = left.wrapping_add_unsigned(start * self.step) as usize;
            let count = width.saturating_sub(column).div_ceil(self.step).min(self.columns - start);
            for (y, row) in rows.clone().enumerate() {
                let out = out.wrapping_add(y * self.row() + line * self.line());
                let inside = if (row as usize) < height { count } else { 0 };
                let pixel = ((image * height).wrapping_add_signed(row)).wrapping_mul(width).wrapping_add(column);
                // SAFETY: the pixels are in the picture; a line has room for a vector beyond what is read.
                unsafe { self.line_of(s, pixels, pixel, start..start + inside, out, plane) }
            }
        }
    }

    /// A line of all planes: zeros but for `inside`, which begins with this pixel.
    #[inline(always)]
    unsafe fn line_of<S: Simd>(
        &self,
        s: S,
        pixels: &Pixels,
        first: usize,
        inside: Range<usize>,
        out: *mut f32,
        plane: usize,
    ) {
        // SAFETY: handed on from the caller.
        unsafe {
            for d in 0..self.channels {
                let out = out.add(d * plane);
                (0..inside.start).step_by(LANES).for_each(|x| s.store(out.add(x), s.zero()));
            }
            for x in inside.clone().step_by(LANES) {
                let some = LANES.min(inside.end - x);
                let stride = self.step * pixels.stride;
                let from = pixels.data.as_ptr().add(first * pixels.stride + (x - inside.start) * stride);
                let out = out.add(x);
                if self.channels == 1 && stride == 1 {
                    s.store(out, load_part(s, from, some));
                } else {
                    lanes::gather(s, from, stride, some, self.channels, out, plane);
                }
            }
            for d in 0..self.channels {
                let out = out.add(d * plane);
                let filled = if inside.is_empty() { 0 } else { inside.end };
                (filled..self.line() - LANES).step_by(LANES).for_each(|x| s.store(out.add(x), s.zero()));
            }
        }
    }
}
