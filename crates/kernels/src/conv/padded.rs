//! Pictures of few channels, copied band by band with their padding.
//!
//! Side by side, the channels of a whole kernel row are one run of values, in which nothing needs to be looked up: a 5x5
//! kernel on 3 channels becomes 5 taps of 15 channels. A band is copied once and read by all kernel rows; it is small and
//! stays in the first caches. 11x11 3->96: 45 with a table entry for each kernel element, 106 with whole kernel rows
//! (GFLOP/s of one core).

use std::ops::Range;

use super::phase::Tap;
use super::{Pixels, check_pixels};
use crate::geometry::ConvShape;
use crate::simd::{LANES, Simd};

/// With fewer channels whole kernel rows are read. From 12 on, a tap's products hide the look-up of its addresses.
const FEW: usize = 12;

#[derive(Clone, Debug)]
pub(super) struct Padded {
    shape: ConvShape,
}

impl Padded {
    /// For shapes of few channels whose kernel rows lie side by side.
    pub fn new(shape: &ConvShape) -> Option<Padded> {
        (shape.channels < FEW && Padded::whole_rows(shape)).then_some(Padded { shape: *shape })
    }

    /// The same for each group by itself.
    pub fn of_group(shape: &ConvShape) -> Option<Padded> {
        let (channels, filters) = (shape.group_channels(), shape.group_filters());
        Padded::new(&ConvShape { channels, filters, groups: 1, ..*shape })
    }

    /// Whether what a kernel row sees lies side by side.
    pub fn whole_rows(shape: &ConvShape) -> bool {
        shape.groups == 1 && shape.window.kernel[1] > 1 && shape.window.dilation[1] == 1
    }

    pub fn channels(&self) -> usize {
        self.shape.channels
    }

    /// Panics unless `x` holds `n` pictures of so many groups: what `copy` relies on.
    pub fn check(&self, n: usize, x: &Pixels, groups: usize) {
        let [height, width] = self.shape.input;
        check_pixels("x", x.data.len(), x.stride, n * height * width, groups * self.shape.channels);
    }

    /// Rows and columns with the padding.
    pub fn size(&self) -> [usize; 2] {
        let padding = &self.shape.window.padding;
        [0, 1].map(|i| (self.shape.input[i] as isize + padding[i] + padding[i + 2]) as usize)
    }

    /// Values of a kernel row.
    pub fn depth(&self) -> usize {
        self.shape.window.kernel[1] * self.shape.channels
    }

    /// Kernel rows, as taps in the padded picture.
    pub fn taps(&self) -> Vec<Tap> {
        let [rows, columns] = self.shape.window.kernel;
        let tap = |r: usize| Tap { at: [(r * self.shape.window.dilation[0]) as isize, 0], kernel: r * columns };
        (0..rows).map(tap).collect()
    }

    /// Values from a tap to the next.
    pub fn step(&self) -> usize {
        self.shape.window.dilation[0] * self.size()[1] * self.shape.channels
    }

    /// Values from an output row's source to the next one's, and from an output pixel's to the next one's.
    pub fn steps(&self) -> [usize; 2] {
        let [stride_y, stride_x] = self.shape.window.stride;
        [stride_y * self.size()[1] * self.shape.channels, stride_x * self.shape.channels]
    }

    /// The padded rows that some output rows see.
    pub fn seen(&self, rows: &Range<usize>) -> Range<usize> {
        let stride = self.shape.window.stride[0];
        rows.start * stride..(rows.end - 1) * stride + self.shape.window.span()[0]
    }

    /// Values of a band of so many output rows, with room for a vector more.
    pub fn band_len(&self, rows: usize) -> usize {
        self.seen(&(0..rows)).len() * self.size()[1] * self.shape.channels + LANES
    }

    /// Copies padded rows of a picture.
    ///
    /// # Safety
    /// `x` holds the picture; `out` has room for the rows and a vector more.
    #[inline(always)]
    pub unsafe fn copy<S: Simd>(&self, s: S, x: &Pixels, image: usize, rows: Range<usize>, out: *mut f32) {
        let ([height, width], channels) = (self.shape.input, self.shape.channels);
        let [top, left, ..] = self.shape.window.padding;
        let columns = self.size()[1];
        // Padded columns that the picture has.
        let end = (width as isize + left).clamp(0, columns as isize) as usize;
        let first = (left.max(0) as usize).min(end);
        for (i, row) in rows.enumerate() {
            let out = out.wrapping_add(i * columns * channels);
            let row = row.wrapping_add_signed(-top);
            // SAFETY: reads are of pixels of the picture. A last vector may reach behind the row, which is written next.
            unsafe {
                if row >= height || first >= end {
                    fill(s, out, columns * channels);
                    continue;
                }
                fill(s, out, first * channels);
                let pixel = (image * height + row) * width + first.wrapping_add_signed(-left);
                let from = x.data.as_ptr().add(pixel * x.stride);
                let to = out.add(first * channels);
                if x.stride == channels {
                    copy(s, from, to, (end - first) * channels);
                } else {
                    (0..end - first).for_each(|i| copy(s, from.add(i * x.stride), to.add(i * channels), channels));
                }
                fill(s, out.add(end * channels), (columns - end) * channels);
            }
        }
    }
}

/// Copies `len` values, and zeros up to a whole vector.
#[inline(always)]
unsafe fn copy<S: Simd>(s: S, from: *const f32, to: *mut f32, len: usize) {
    // SAFETY: handed on from the caller.
    unsafe {
        let whole = len - len % LANES;
        for i in (0..whole).step_by(LANES) {
            s.store(to.add(i), s.load(from.add(i)));
        }
        if whole < len {
            s.store(to.add(whole), s.load_n(from.add(whole), len - whole));
        }
    }
}

/// Zeros, up to a whole vector.
#[inline(always)]
unsafe fn fill<S: Simd>(s: S, to: *mut f32, len: usize) {
    for i in (0..len).step_by(LANES) {
        // SAFETY: handed on from the caller.
        unsafe { s.store(to.add(i), s.zero()) };
    }
}
