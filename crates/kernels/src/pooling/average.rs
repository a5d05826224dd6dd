//! Average pooling: vectors over channels. Global average pooling is the full window.

use super::{AdaptiveShape, extents};
use crate::Cpu;
use crate::elementwise::{Extent, View, ViewMut};
use crate::geometry::PoolShape;
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd, dispatch, load_part, store_part};
use std::ops::Range;

/// Rows (axis 0) or columns (1) that count at output position `o`: those of the window inside the padded picture, or
/// inside the picture. As PyTorch, a window that `ceil_mode` lets reach past the padding is cut there.
pub(super) fn span(shape: &PoolShape, count_padding: bool, axis: usize, o: usize) -> usize {
    let window = shape.window;
    if !count_padding {
        return window.taps(axis, o, shape.input[axis]).0.len();
    }
    let start = (o * window.stride[axis]) as isize - window.padding[axis];
    let end = shape.input[axis] as isize + window.padding[axis + 2];
    (end - start).clamp(0, window.kernel[axis] as isize) as usize
}

/// The mean of each window: a chain over the window in order, then one division. `count_padding`: the padding's zeros
/// count as elements.
pub fn average_pool(cpu: &Cpu, shape: &PoolShape, count_padding: bool, n: usize, x: View, y: ViewMut) {
    forward(cpu, &Sliding { shape, output: shape.output(), count_padding }, extents(shape, n), x, y);
}

/// The gradient of [`average_pool`]: every input element sums its share of dy over the windows that meet it.
pub fn average_pool_backward(cpu: &Cpu, shape: &PoolShape, count_padding: bool, n: usize, dy: View, dx: ViewMut) {
    backward(cpu, &Sliding { shape, output: shape.output(), count_padding }, extents(shape, n), dy, dx);
}

/// The mean of each part of the picture; see [`AdaptiveShape`].
pub fn adaptive_average_pool(cpu: &Cpu, shape: &AdaptiveShape, n: usize, x: View, y: ViewMut) {
    forward(cpu, shape, shape.extents(n), x, y);
}

/// The gradient of [`adaptive_average_pool`].
pub fn adaptive_average_pool_backward(cpu: &Cpu, shape: &AdaptiveShape, n: usize, dy: View, dx: ViewMut) {
    backward(cpu, shape, shape.extents(n), dy, dx);
}

/// Which input positions an output position averages, along axis 0 (rows) and 1 (columns).
trait Windows: Sync {
    /// Rows and columns of input and output, and channels.
    fn sizes(&self) -> ([usize; 2], [usize; 2], usize);
    /// Input positions of output position `o`.
    fn taps(&self, axis: usize, o: usize) -> Range<usize>;
    /// What the sum over the taps is divided by along the axis.
    fn count(&self, axis: usize, o: usize) -> usize;
    /// The output positions whose taps have input position `i`.
    fn meeting(&self, axis: usize, i: usize) -> Range<usize>;
    /// [`Windows::meeting`] of `i` from that of `i − 1`, empty at 0 for the first.
    fn move_on(&self, axis: usize, i: usize, meeting: &mut Range<usize>) {
        *meeting = self.meeting(axis, i);
    }
}

struct Sliding<'a> {
    shape: &'a PoolShape,
    output: [usize; 2],
    count_padding: bool,
}

impl Windows for Sliding<'_> {
    fn sizes(&self) -> ([usize; 2], [usize; 2], usize) {
        (self.shape.input, self.output, self.shape.channels)
    }
    #[inline(always)]
    fn taps(&self, axis: usize, o: usize) -> Range<usize> {
        let (taps, first) = self.shape.window.taps(axis, o, self.shape.input[axis]);
        first..first + taps.len()
    }
    #[inline(always)]
    fn count(&self, axis: usize, o: usize) -> usize {
        span(self.shape, self.count_padding, axis, o)
    }
    fn meeting(&self, axis: usize, i: usize) -> Range<usize> {
        self.shape.window.meeting(axis, i, self.output[axis])
    }
    #[inline(always)]
    fn move_on(&self, axis: usize, i: usize, meeting: &mut Range<usize>) {
        self.shape.window.move_on(axis, i, self.output[axis], meeting);
    }
}

impl Windows for AdaptiveShape {
    fn sizes(&self) -> ([usize; 2], [usize; 2], usize) {
        (self.input, self.output, self.channels)
    }
    fn taps(&self, axis: usize, o: usize) -> Range<usize> {
        AdaptiveShape::taps(self, axis, o)
    }
    fn count(&self, axis: usize, o: usize) -> usize {
        AdaptiveShape::taps(self, axis, o).len()
    }
    fn meeting(&self, axis: usize, i: usize) -> Range<usize> {
        // The parts of the output are to the input what those of the input are to the output.
        AdaptiveShape { input: self.output, output: self.input, channels: self.channels }.taps(axis, i)
    }
}

fn forward<W: Windows>(cpu: &Cpu, windows: &W, (input, output): (Extent, Extent), x: View, y: ViewMut) {
    let ((from, from_strides), (to, to_strides)) = (x.checked(input), y.checked(output));
    let job = Job { windows, from, from_strides, to, to_strides };
    let ([h, w], [oh, _], channels) = windows.sizes();
    // Every input element is read once or more.
    let elements = w * channels * h.div_ceil(oh);
    cpu.pool().run_ranges(output.samples * oh, elements, &|rows| dispatch(cpu.isa(), Forward { job: &job, rows }));
}

fn backward<W: Windows>(cpu: &Cpu, windows: &W, (input, output): (Extent, Extent), dy: View, dx: ViewMut) {
    let ((from, from_strides), (to, to_strides)) = (dy.checked(output), dx.checked(input));
    let job = Job { windows, from, from_strides, to, to_strides };
    let ([h, w], _, channels) = windows.sizes();
    cpu.pool().run_ranges(input.samples * h, w * channels, &|rows| dispatch(cpu.isa(), Backward { job: &job, rows }));
}

struct Job<'a, W> {
    windows: &'a W,
    from: *const f32,
    from_strides: [usize; 2],
    to: Shares<f32>,
    to_strides: [usize; 2],
}
// SAFETY: `from` is read only; every task writes rows of its own.
unsafe impl<W: Sync> Sync for Job<'_, W> {}

struct Forward<'a, W> {
    job: &'a Job<'a, W>,
    rows: Range<usize>,
}

impl<W: Windows> Kernel for Forward<'_, W> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Job { windows, from, from_strides, ref to, to_strides } = *self.job;
        let ([_, w], [oh, ow], channels) = windows.sizes();
        for row in self.rows {
            let (sample, oy) = (row / oh, row % oh);
            let (ky, rows) = (windows.taps(0, oy), windows.count(0, oy));
            for ox in 0..ow {
                let kx = windows.taps(1, ox);
                let count = s.splat((rows * windows.count(1, ox)).max(1) as f32);
                let first = sample * from_strides[0] + (ky.start * w + kx.start) * from_strides[1];
                // SAFETY: this pixel belongs to this task alone.
                let y =
                    unsafe { to.part(sample * to_strides[0] + (oy * ow + ox) * to_strides[1], channels).as_mut_ptr() };
                for c in (0..channels).step_by(LANES) {
                    let n = LANES.min(channels - c);
                    let mut sum = s.zero();
                    for r in 0..ky.len() {
                        for k in 0..kx.len() {
                            // SAFETY: a tap in the input; n channels are left at c.
                            let x = unsafe { load_part(s, from.add(first + (r * w + k) * from_strides[1] + c), n) };
                            sum = s.add(sum, x);
                        }
                    }
                    // SAFETY: n channels are left at c.
                    unsafe { store_part(s, y.add(c), s.div(sum, count), n) };
                }
            }
        }
    }
}

struct Backward<'a, W> {
    job: &'a Job<'a, W>,
    rows: Range<usize>,
}

impl<W: Windows> Kernel for Backward<'_, W> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Job { windows, from, from_strides, ref to, to_strides } = *self.job;
        let ([h, w], [_, ow], channels) = windows.sizes();
        for row in self.rows {
            let (sample, iy) = (row / h, row % h);
            let oys = windows.meeting(0, iy);
            let mut oxs = 0..0;
            for ix in 0..w {
                windows.move_on(1, ix, &mut oxs);
                // SAFETY: this pixel belongs to this task alone.
                let dx =
                    unsafe { to.part(sample * to_strides[0] + (iy * w + ix) * to_strides[1], channels).as_mut_ptr() };
                for c in (0..channels).step_by(LANES) {
                    let n = LANES.min(channels - c);
                    let mut sum = s.zero();
                    for oy in oys.clone() {
                        let rows = windows.count(0, oy);
                        for ox in oxs.clone() {
                            let count = s.splat((rows * windows.count(1, ox)).max(1) as f32);
                            let offset = sample * from_strides[0] + (oy * ow + ox) * from_strides[1] + c;
                            // SAFETY: an output pixel; n channels are left at c.
                            sum = s.add(sum, s.div(unsafe { load_part(s, from.add(offset), n) }, count));
                        }
                    }
                    // SAFETY: n channels are left at c.
                    unsafe { store_part(s, dx.add(c), sum, n) };
                }
            }
        }
    }
}
