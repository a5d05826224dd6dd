//! Channels-last pixels as planes, a channel each.

use super::super::{Pixels, lanes};
use crate::simd::{LANES, Simd, load_part};
use std::ops::Range;

/// Rows of pictures of a size, copied to planes: columns from `left` on, with zeros outside the picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planes {
    pub size: [usize; 2],
    pub channels: usize,
    pub left: isize,
    /// Columns that are read.
    pub columns: usize,
}

impl Planes {
    /// Values of a plane's row: what is read, and a vector more that copies may reach.
    pub fn row(&self) -> usize {
        self.columns.next_multiple_of(LANES) + LANES
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
        let ([height, width], row) = (self.size, self.row());
        // Columns before the first that is read, and where the picture begins in a plane.
        let (skipped, start) = (self.left.max(0) as usize, (-self.left).max(0) as usize);
        let count = width.saturating_sub(skipped).min(self.columns.saturating_sub(start));
        for (y, from) in rows.enumerate() {
            let out = out.wrapping_add(y * row);
            let inside = if (from as usize) < height { count } else { 0 };
            // SAFETY: the pixels are in the picture; a plane's row has room for a vector beyond what is read.
            unsafe {
                for d in 0..self.channels {
                    let out = out.add(d * plane);
                    (0..start).step_by(LANES).for_each(|x| s.store(out.add(x), s.zero()));
                }
                for x in (0..inside).step_by(LANES) {
                    let some = LANES.min(inside - x);
                    let pixel = (image * height + from as usize) * width + skipped + x;
                    let from = pixels.data.as_ptr().add(pixel * pixels.stride);
                    let out = out.add(start + x);
                    if self.channels == 1 && pixels.stride == 1 {
                        s.store(out, load_part(s, from, some));
                    } else {
                        lanes::gather(s, from, pixels.stride, some, self.channels, out, plane);
                    }
                }
                for d in 0..self.channels {
                    let out = out.add(d * plane);
                    let filled = if inside == 0 { 0 } else { start + inside };
                    (filled..row - LANES).step_by(LANES).for_each(|x| s.store(out.add(x), s.zero()));
                }
            }
        }
    }
}
