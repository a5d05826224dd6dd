//! Average pooling: vectors over channels. Global average pooling is the full window.

use super::extents;
use crate::Cpu;
use crate::elementwise::{View, ViewMut};
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
    let (input, output) = extents(shape, n);
    let (x, x_strides) = x.checked(input);
    let (y, y_strides) = y.checked(output);
    let job = Job { shape, count_padding, from: x, from_strides: x_strides, to: y, to_strides: y_strides };
    let [oh, ow] = shape.output();
    let elements = ow * shape.channels * shape.window.kernel[0] * shape.window.kernel[1];
    cpu.pool().run_ranges(n * oh, elements, &|rows| dispatch(cpu.isa(), Forward { job: &job, rows }));
}

/// The gradient of [`average_pool`]: every input element sums its share of dy over the windows that meet it.
pub fn average_pool_backward(cpu: &Cpu, shape: &PoolShape, count_padding: bool, n: usize, dy: View, dx: ViewMut) {
    let (input, output) = extents(shape, n);
    let (dy, dy_strides) = dy.checked(output);
    let (dx, dx_strides) = dx.checked(input);
    let job = Job { shape, count_padding, from: dy, from_strides: dy_strides, to: dx, to_strides: dx_strides };
    let [h, w] = shape.input;
    cpu.pool().run_ranges(n * h, w * shape.channels, &|rows| dispatch(cpu.isa(), Backward { job: &job, rows }));
}

struct Job<'a> {
    shape: &'a PoolShape,
    count_padding: bool,
    from: *const f32,
    from_strides: [usize; 2],
    to: Shares<f32>,
    to_strides: [usize; 2],
}
// SAFETY: `from` is read only; every task writes rows of its own.
unsafe impl Sync for Job<'_> {}

struct Forward<'a> {
    job: &'a Job<'a>,
    rows: Range<usize>,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Job { shape, count_padding, from, from_strides, ref to, to_strides } = *self.job;
        let ([h, w], [oh, ow], window) = (shape.input, shape.output(), shape.window);
        for row in self.rows {
            let (sample, oy) = (row / oh, row % oh);
            let (ky, y0) = window.taps(0, oy, h);
            let rows = span(shape, count_padding, 0, oy);
            for ox in 0..ow {
                let (kx, x0) = window.taps(1, ox, w);
                let count = s.splat((rows * span(shape, count_padding, 1, ox)).max(1) as f32);
                let first = sample * from_strides[0] + (y0 * w + x0) * from_strides[1];
                // SAFETY: this pixel belongs to this task alone.
                let y = unsafe {
                    to.part(sample * to_strides[0] + (oy * ow + ox) * to_strides[1], shape.channels).as_mut_ptr()
                };
                for c in (0..shape.channels).step_by(LANES) {
                    let n = LANES.min(shape.channels - c);
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

struct Backward<'a> {
    job: &'a Job<'a>,
    rows: Range<usize>,
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Job { shape, count_padding, from, from_strides, ref to, to_strides } = *self.job;
        let ([h, w], [oh, ow], window) = (shape.input, shape.output(), shape.window);
        for row in self.rows {
            let (sample, iy) = (row / h, row % h);
            let oys = window.meeting(0, iy, oh);
            let mut oxs = 0..0;
            for ix in 0..w {
                window.move_on(1, ix, ow, &mut oxs);
                // SAFETY: this pixel belongs to this task alone.
                let dx = unsafe {
                    to.part(sample * to_strides[0] + (iy * w + ix) * to_strides[1], shape.channels).as_mut_ptr()
                };
                for c in (0..shape.channels).step_by(LANES) {
                    let n = LANES.min(shape.channels - c);
                    let mut sum = s.zero();
                    for oy in oys.clone() {
                        let rows = span(shape, count_padding, 0, oy);
                        for ox in oxs.clone() {
                            let count = s.splat((rows * span(shape, count_padding, 1, ox)).max(1) as f32);
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
