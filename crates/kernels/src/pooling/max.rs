//! Maximum pooling: vectors over channels, the window's position carried along as a float beside the maximum.

use super::extents;
use crate::Cpu;
use crate::elementwise::{View, ViewMut};
use crate::geometry::PoolShape;
use crate::pool::{GRAIN, Shares};
use crate::simd::{Kernel, LANES, Simd, dispatch, load_part, store_part};
use std::ops::Range;

/// The maximum of each window; with `indices` (`index_bytes` an output element, `[n, pixels, channels]`) also where in
/// the window it was: the first of equal ones, a NaN before all numbers.
pub fn max_pool(cpu: &Cpu, shape: &PoolShape, n: usize, x: View, y: ViewMut, indices: Option<&mut [u8]>) {
    let (input, output) = extents(shape, n);
    if output.elements() == 0 {
        return;
    }
    let (x, x_strides) = x.checked(input);
    let (y, y_strides) = y.checked(output);
    let bytes = shape.index_bytes();
    let indices = indices.map(|indices| {
        assert_eq!(indices.len(), output.elements() * bytes, "an index for each output element");
        Shares::new(indices)
    });
    let forward = Forward { shape, x, x_strides, y, y_strides, indices };
    let [oh, ow] = shape.output();
    let rows = |rows: Range<usize>| {
        let forward = &forward;
        match (forward.indices.is_some(), bytes) {
            (false, _) => dispatch(cpu.isa(), ForwardRows::<0> { forward, rows }),
            (true, 1) => dispatch(cpu.isa(), ForwardRows::<1> { forward, rows }),
            (true, _) => dispatch(cpu.isa(), ForwardRows::<4> { forward, rows }),
        }
    };
    if forward.has_strips() {
        // Few ranges: the first two rows of each are read by the one before as well.
        let parts = (4 * cpu.pool().threads()).min(output.elements().div_ceil(GRAIN)).min(n * oh);
        cpu.pool().run(parts, &|part| rows(part * n * oh / parts..(part + 1) * n * oh / parts));
    } else {
        cpu.pool().run_ranges(n * oh, ow * shape.channels, &rows);
    }
}

struct Forward<'a> {
    shape: &'a PoolShape,
    x: *const f32,
    x_strides: [usize; 2],
    y: Shares<f32>,
    y_strides: [usize; 2],
    indices: Option<Shares<u8>>,
}
// SAFETY: `x` is read only; every task writes rows of its own.
unsafe impl Sync for Forward<'_> {}

impl Forward<'_> {
    /// The columns of the output whose windows of `K` columns are all inside.
    #[inline(always)]
    fn whole_columns<const K: usize>(&self) -> Range<usize> {
        let (w, ow, window) = (self.shape.input[1], self.shape.output()[1], self.shape.window);
        let (stride, left) = (window.stride[1], window.padding[1].max(0) as usize);
        let first = left.div_ceil(stride).min(ow);
        let end =
            if window.padding[1] < 0 || w + left < K { first } else { ((w + left - K) / stride + 1).clamp(first, ow) };
        first..end
    }

    /// Whether neighbouring windows share rows that are worth keeping, so that [`Forward::strips`] does them.
    fn has_strips(&self) -> bool {
        self.indices.is_none() && self.shape.window.kernel == [3, 3] && self.shape.window.stride == [1, 1]
    }

    /// The whole windows of 3 by 3 elements of all `rows`, which lie in one picture and begin at input row `y0`. A row of a window
    /// is the same row of the two windows below: its maximum stays in a register. Its rows in order, the maximum is the same one of
    /// equals.
    #[inline(always)]
    fn strips<S: Simd>(&self, s: S, rows: Range<usize>, y0: usize) {
        let ([_, w], [oh, ow], channels) = (self.shape.input, self.shape.output(), self.shape.channels);
        let (columns, [image_step, step]) = (self.whole_columns::<3>(), self.x_strides);
        let (sample, oy) = (rows.start / oh, rows.start % oh);
        let left = self.shape.window.padding[1].max(0) as usize;
        let (first, y_step) = (sample * self.y_strides[0] + oy * ow * self.y_strides[1], self.y_strides[1]);
        // SAFETY: the windows lie in the input; the outputs belong to these rows alone.
        unsafe {
            let y = self.y.part(first, (rows.len() * ow - 1) * y_step + channels).as_mut_ptr();
            for c in (0..channels).step_by(LANES) {
                let n = LANES.min(channels - c);
                for column in columns.clone() {
                    let x = self.x.add(sample * image_step + (y0 * w + column - left) * step + c);
                    let y = y.add(column * y_step + c);
                    let mut above = row_max(s, x, step, n);
                    let mut here = row_max(s, x.add(w * step), step, n);
                    for i in 0..rows.len() {
                        let below = row_max(s, x.add((i + 2) * w * step), step, n);
                        let best = s.select_gt_or_nan(here, above, here, above);
                        let best = s.select_gt_or_nan(below, best, below, best);
                        store_part(s, y.add(i * ow * y_step), best, n);
                        (above, here) = (here, below);
                    }
                }
            }
        }
    }

    /// The output pixels of a row whose windows of `K` by `K` elements are all inside, from input row `y0` on; and does them.
    /// Nothing but addresses changes from one to the next: of 6 channels a pixel takes a quarter of the time.
    #[inline(always)]
    fn whole_windows<S: Simd, const BYTES: usize, const K: usize>(&self, s: S, row: usize, y0: usize) -> Range<usize> {
        let ([_, w], [oh, ow], window, channels) =
            (self.shape.input, self.shape.output(), self.shape.window, self.shape.channels);
        let (stride, left) = (window.stride[1], window.padding[1].max(0) as usize);
        let Range { start: first, end } = self.whole_columns::<K>();
        let [image_step, step] = self.x_strides;
        let (sample, oy) = (row / oh, row % oh);
        let count = end - first;
        if count == 0 {
            return first..end;
        }
        let x = self.x.wrapping_add(sample * image_step + (y0 * w + first * stride - left) * step);
        // SAFETY: the windows lie in the input; the outputs belong to this row alone.
        unsafe {
            let y = self.y.part(
                sample * self.y_strides[0] + (oy * ow + first) * self.y_strides[1],
                (count - 1) * self.y_strides[1] + channels,
            );
            let index = match &self.indices {
                Some(indices) if BYTES > 0 => {
                    indices.part((row * ow + first) * channels * BYTES, count * channels * BYTES).as_mut_ptr()
                }
                _ => std::ptr::null_mut(),
            };
            for c in (0..channels).step_by(LANES) {
                let n = LANES.min(channels - c);
                for i in 0..count {
                    let taps = Taps {
                        x: x.add(i * stride * step),
                        steps: [w * step, step],
                        rows: K,
                        columns: K,
                        first: 0,
                        kernel_columns: K,
                    };
                    let y = y.as_mut_ptr().add(i * self.y_strides[1]);
                    window_max::<S, BYTES>(s, taps, c, n, y, index.wrapping_add(i * channels * BYTES));
                }
            }
        }
        first..end
    }
}

/// Some of all pictures' output rows; `BYTES` an index, none for 0.
struct ForwardRows<'a, const BYTES: usize> {
    forward: &'a Forward<'a>,
    rows: Range<usize>,
}

/// One window's elements in the input, for one output pixel.
#[derive(Clone, Copy)]
struct Taps {
    /// The first element's address.
    x: *const f32,
    /// Distance between rows and between pixels.
    steps: [usize; 2],
    rows: usize,
    columns: usize,
    /// Position of the first element in the window, and positions from row to row.
    first: usize,
    kernel_columns: usize,
}

impl<const BYTES: usize> Kernel for ForwardRows<'_, BYTES> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let f = self.forward;
        let ([h, w], [oh, ow], window) = (f.shape.input, f.shape.output(), f.shape.window);
        let channels = f.shape.channels;
        let mut stripped = self.rows.start;
        for row in self.rows.clone() {
            let (sample, oy) = (row / oh, row % oh);
            let (ky, y0) = window.taps(0, oy, h);
            let whole = match window.kernel {
                [3, 3] if BYTES == 0 && ky.len() == 3 && f.has_strips() => {
                    if row >= stripped {
                        // With this row, those after it whose windows are whole.
                        stripped = (row + h - y0 - 2).min(row - oy + oh).min(self.rows.end);
                        f.strips(s, row..stripped, y0);
                    }
                    f.whole_columns::<3>()
                }
                [2, 2] if ky.len() == 2 => f.whole_windows::<S, BYTES, 2>(s, row, y0),
                [3, 3] if ky.len() == 3 => f.whole_windows::<S, BYTES, 3>(s, row, y0),
                _ => 0..0,
            };
            for ox in (0..whole.start).chain(whole.end..ow) {
                let (kx, x0) = window.taps(1, ox, w);
                let output = sample * f.y_strides[0] + (oy * ow + ox) * f.y_strides[1];
                // An empty window may start past the end; its address is never read.
                let offset = sample * f.x_strides[0] + (y0 * w + x0) * f.x_strides[1];
                let taps = Taps {
                    x: f.x.wrapping_add(offset),
                    steps: [w * f.x_strides[1], f.x_strides[1]],
                    rows: ky.len(),
                    columns: kx.len(),
                    first: if ky.is_empty() || kx.is_empty() { 0 } else { ky.start * window.kernel[1] + kx.start },
                    kernel_columns: window.kernel[1],
                };
                // SAFETY: taps lie in the input, the outputs belong to this row alone.
                unsafe {
                    let y = f.y.part(output, channels).as_mut_ptr();
                    let index = match &f.indices {
                        Some(indices) if BYTES > 0 => {
                            indices.part((row * ow + ox) * channels * BYTES, channels * BYTES).as_mut_ptr()
                        }
                        _ => std::ptr::null_mut(),
                    };
                    let whole = channels / LANES * LANES;
                    for c in (0..whole).step_by(LANES) {
                        window_max::<S, BYTES>(s, taps, c, LANES, y, index);
                    }
                    if whole < channels {
                        window_max::<S, BYTES>(s, taps, whole, channels - whole, y, index);
                    }
                }
            }
        }
    }
}

/// The maxima of `n` channels of three pixels, `step` values apart: the first of equals, the last NaN.
///
/// # Safety
/// They can be read.
#[inline(always)]
unsafe fn row_max<S: Simd>(s: S, x: *const f32, step: usize, n: usize) -> S::V {
    // SAFETY: as the caller vouches.
    unsafe {
        let (a, b, c) = (load_part(s, x, n), load_part(s, x.add(step), n), load_part(s, x.add(2 * step), n));
        let best = s.select_gt_or_nan(b, a, b, a);
        s.select_gt_or_nan(c, best, c, best)
    }
}

/// The maxima of channels `c..c + n` of one window.
///
/// # Safety
/// The taps lie in the input; `y` holds c + n elements, `index` as many of `BYTES`.
#[inline(always)]
unsafe fn window_max<S: Simd, const BYTES: usize>(s: S, t: Taps, c: usize, n: usize, y: *mut f32, index: *mut u8) {
    let empty = t.rows * t.columns == 0;
    // SAFETY: as the caller vouches.
    let mut best = if empty { s.splat(f32::NEG_INFINITY) } else { unsafe { load_part(s, t.x.add(c), n) } };
    let mut at = s.splat(t.first as f32);
    for r in 0..t.rows {
        for k in usize::from(r == 0)..t.columns {
            // SAFETY: a tap in the input, n channels from c.
            let x = unsafe { load_part(s, t.x.add(r * t.steps[0] + k * t.steps[1] + c), n) };
            if BYTES > 0 {
                at = s.select_gt_or_nan(x, best, s.splat((t.first + r * t.kernel_columns + k) as f32), at);
            }
            best = s.select_gt_or_nan(x, best, x, best);
        }
    }
    // SAFETY: as the caller vouches.
    unsafe {
        store_part(s, y.add(c), best, n);
        match BYTES {
            0 => {}
            1 => s.store_bytes(index.add(c), at, n),
            _ => {
                let at = s.to_array(at);
                for (i, &at) in at[..n].iter().enumerate() {
                    index.cast::<u32>().add(c + i).write_unaligned(at as u32);
                }
            }
        }
    }
}

/// The stored positions of `n` channels from `p` on, as numbers.
///
/// # Safety
/// `p` is valid for reads of `n` positions.
#[inline(always)]
unsafe fn positions<S: Simd, const BYTES: usize>(s: S, p: *const u8, n: usize) -> S::V {
    // SAFETY: as the caller vouches.
    unsafe {
        if BYTES == 1 {
            return s.load_bytes(p, n);
        }
        let mut at = [0.0; LANES];
        for (i, at) in at[..n].iter_mut().enumerate() {
            *at = p.cast::<u32>().add(i).read_unaligned() as f32;
        }
        s.from_array(&at)
    }
}

/// The gradient of [`max_pool`]: every input element sums dy over the windows whose maximum it was.
pub fn max_pool_backward(cpu: &Cpu, shape: &PoolShape, n: usize, dy: View, indices: &[u8], dx: ViewMut) {
    let (input, output) = extents(shape, n);
    if input.elements() == 0 {
        return;
    }
    let (dy, dy_strides) = dy.checked(output);
    let (dx, dx_strides) = dx.checked(input);
    let bytes = shape.index_bytes();
    assert_eq!(indices.len(), output.elements() * bytes, "an index for each output element");
    let backward = Backward { shape, dy, dy_strides, indices, dx, dx_strides };
    let [h, w] = shape.input;
    cpu.pool().run_ranges(n * h, w * shape.channels, &|rows| {
        let backward = &backward;
        match bytes {
            1 => dispatch(cpu.isa(), BackwardRows::<1> { backward, rows }),
            _ => dispatch(cpu.isa(), BackwardRows::<4> { backward, rows }),
        }
    });
}

struct Backward<'a> {
    shape: &'a PoolShape,
    dy: *const f32,
    dy_strides: [usize; 2],
    indices: &'a [u8],
    dx: Shares<f32>,
    dx_strides: [usize; 2],
}
// SAFETY: `dy` is read only; every task writes rows of its own.
unsafe impl Sync for Backward<'_> {}

impl Backward<'_> {
    /// A row where each input pixel is in one window, or beyond the last.
    #[inline(always)]
    fn disjoint_row<S: Simd>(&self, s: S, sample: usize, iy: usize) {
        let ([h, w], [oh, ow], window) = (self.shape.input, self.shape.output(), self.shape.window);
        let ([rows, columns], channels) = (window.kernel, self.shape.channels);
        let step = self.dx_strides[1];
        let (oy, ky) = (iy / rows, iy % rows);
        assert!(iy < h, "a row of the picture");
        // SAFETY: this row belongs to this task alone; dy and the indices were checked for the whole output.
        unsafe {
            let dx = self.dx.part(sample * self.dx_strides[0] + iy * w * step, (w - 1) * step + channels).as_mut_ptr();
            let dy = self.dy.add(sample * self.dy_strides[0] + oy * ow * self.dy_strides[1]);
            let indices = self.indices.as_ptr().add((sample * oh + oy) * ow * channels);
            for c in (0..channels).step_by(LANES) {
                let n = LANES.min(channels - c);
                let (first, one) = (s.splat((ky * columns) as f32), s.splat(1.0));
                for ox in 0..ow {
                    let at = s.load_bytes(indices.add(ox * channels + c), n);
                    // As a sum from zero, which has no -0.
                    let dy = s.add(s.zero(), load_part(s, dy.add(ox * self.dy_strides[1] + c), n));
                    let mut position = first;
                    for kx in 0..columns.min(w - ox * columns) {
                        let off = s.abs(s.sub(at, position));
                        let dx = dx.add((ox * columns + kx) * step + c);
                        store_part(s, dx, s.select_gt(s.splat(0.5), off, dy, s.zero()), n);
                        position = s.add(position, one);
                    }
                }
                for ix in ow * columns..w {
                    store_part(s, dx.add(ix * step + c), s.zero(), n);
                }
            }
        }
    }
}

struct BackwardRows<'a, const BYTES: usize> {
    backward: &'a Backward<'a>,
    rows: Range<usize>,
}

impl<const BYTES: usize> Kernel for BackwardRows<'_, BYTES> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let b = self.backward;
        let ([h, w], [oh, ow], window) = (b.shape.input, b.shape.output(), b.shape.window);
        let channels = b.shape.channels;
        let disjoint = window.stride == window.kernel && window.padding == [0; 4] && BYTES == 1;
        for row in self.rows {
            let (sample, iy) = (row / h, row % h);
            let oys = window.meeting(0, iy, oh);
            if disjoint && !oys.is_empty() {
                b.disjoint_row(s, sample, iy);
                continue;
            }
            let mut oxs = 0..0;
            for ix in 0..w {
                window.move_on(1, ix, ow, &mut oxs);
                // SAFETY: this pixel belongs to this task alone.
                let dx = unsafe { b.dx.part(sample * b.dx_strides[0] + (iy * w + ix) * b.dx_strides[1], channels) };
                for c in (0..channels).step_by(LANES) {
                    let n = LANES.min(channels - c);
                    let mut sum = s.zero();
                    for oy in oys.clone() {
                        let ky = (iy as isize + window.padding[0]) as usize - oy * window.stride[0];
                        for ox in oxs.clone() {
                            let kx = (ix as isize + window.padding[1]) as usize - ox * window.stride[1];
                            let (o, position) = (oy * ow + ox, ky * window.kernel[1] + kx);
                            let first = (sample * oh * ow + o) * channels + c;
                            // SAFETY: dy and the indices were checked for the whole output.
                            unsafe {
                                let at = positions::<S, BYTES>(s, b.indices.as_ptr().add(first * BYTES), n);
                                let dy = b.dy.add(sample * b.dy_strides[0] + o * b.dy_strides[1] + c);
                                let off = s.abs(s.sub(at, s.splat(position as f32)));
                                let dy = s.select_gt(s.splat(0.5), off, load_part(s, dy, n), s.zero());
                                sum = s.add(sum, dy);
                            }
                        }
                    }
                    // SAFETY: n channels from c.
                    unsafe { store_part(s, dx.as_mut_ptr().add(c), sum, n) };
                }
            }
        }
    }
}
