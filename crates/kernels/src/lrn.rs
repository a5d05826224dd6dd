//! Local response normalisation across channels (Krizhevsky, Sutskever and Hinton 2012, section 3.3):
//! y_i = x_i·s_i^−β with s_i = k + a·Σ x_j² over a window of `size` channels around i, clipped at the first and last
//! channel; an even window reaches one channel further back than ahead, as PyTorch's.
//!
//! Backward recomputes the scales: dx_i = dy_i·s_i^−β − 2aβ·x_i·Σ dy_j·x_j·s_j^(−β−1) over the j whose windows hold i.

use crate::Cpu;
use crate::elementwise::{Extent, View, ViewMut};
use crate::math::{exp, log};
use crate::pool::Shares;
use crate::real::Real;
use crate::simd::{Kernel, LANES, Simd, dispatch, load_part, store_part};
use std::ops::Range;

/// The constants of the formula.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lrn {
    /// Channels of a window.
    pub size: usize,
    /// Factor of the sum of squares.
    pub alpha: f32,
    /// Power of the scale.
    pub beta: f32,
    /// What a scale starts from.
    pub k: f32,
    /// Whether alpha is divided by the size, as PyTorch, Caffe and ONNX do; the paper does not.
    pub divide_by_size: bool,
}

impl Lrn {
    fn a(&self) -> f64 {
        f64::from(self.alpha) / if self.divide_by_size { self.size as f64 } else { 1.0 }
    }
    /// Channels before and after i in its window.
    fn reach(&self) -> [usize; 2] {
        [self.size / 2, self.size.saturating_sub(1) / 2]
    }
    fn window(&self, i: usize, channels: usize) -> Range<usize> {
        let [before, after] = self.reach();
        i.saturating_sub(before)..(i + after + 1).min(channels)
    }
}

/// The definition, on `[samples, channels, pixels]`.
pub fn lrn_reference<T: Real>(lrn: &Lrn, extent: Extent, x: &[T], y: &mut [T]) {
    let scales = scales(lrn, extent, x);
    let beta = T::from_f64(f64::from(lrn.beta));
    for ((y, &x), scale) in y.iter_mut().zip(x).zip(scales) {
        *y = x * scale.powf(-beta);
    }
}

/// The gradient of [`lrn_reference`].
pub fn lrn_backward_reference<T: Real>(lrn: &Lrn, extent: Extent, x: &[T], dy: &[T], dx: &mut [T]) {
    let Extent { samples, pixels, channels } = extent;
    let (scales, beta) = (scales(lrn, extent, x), T::from_f64(f64::from(lrn.beta)));
    let factor = T::from_f64(2.0 * lrn.a()) * beta;
    dx.fill(T::ZERO);
    for n in 0..samples {
        for p in 0..pixels {
            let at = |c: usize| (n * channels + c) * pixels + p;
            for j in 0..channels {
                let power = scales[at(j)].powf(-beta);
                dx[at(j)] += dy[at(j)] * power;
                let share = factor * dy[at(j)] * x[at(j)] * power / scales[at(j)];
                for i in lrn.window(j, channels) {
                    dx[at(i)] -= x[at(i)] * share;
                }
            }
        }
    }
}

fn scales<T: Real>(lrn: &Lrn, extent: Extent, x: &[T]) -> Vec<T> {
    let Extent { samples, pixels, channels } = extent;
    assert_eq!(x.len(), extent.elements());
    let scale = |i: usize| {
        let (c, p) = (i / pixels % channels, i % pixels);
        let first = i / (pixels * channels) * channels;
        let squares = lrn.window(c, channels).map(|j| x[(first + j) * pixels + p]).map(|x| x * x);
        T::from_f64(f64::from(lrn.k)) + T::from_f64(lrn.a()) * squares.sum()
    };
    (0..samples * pixels * channels).map(scale).collect()
}

/// Parts into which the pixels are split; each has rows of its own in the workspace.
const PARTS: usize = 64;
/// Pixels that go side by side. A row's windows are read as vectors that reach into its neighbours: the processor waits for
/// what was only just stored, so other pixels' rows come between.
const SIDE_BY_SIDE: usize = 8;

/// Elements of workspace that [`lrn`] and [`lrn_backward`] need.
pub fn workspace(lrn: &Lrn, channels: usize) -> usize {
    PARTS * 2 * SIDE_BY_SIDE * row(lrn, channels)
}

/// How far windows reach before and after a channel, where there are others.
fn reach(lrn: &Lrn, channels: usize) -> [usize; 2] {
    lrn.reach().map(|reach| reach.min(channels.saturating_sub(1)))
}

/// Zeros before and after a row's channels, as far as windows reach.
fn edge(lrn: &Lrn, channels: usize) -> usize {
    reach(lrn, channels)[0].next_multiple_of(LANES)
}

/// A row of a number for each channel between zeros.
fn row(lrn: &Lrn, channels: usize) -> usize {
    2 * edge(lrn, channels) + channels.next_multiple_of(LANES)
}

/// Forward. `workspace`: [`workspace`] elements.
pub fn lrn(cpu: &Cpu, lrn: &Lrn, extent: Extent, x: View, y: ViewMut, workspace: &mut [f32]) {
    run(cpu, lrn, extent, x, None, y, workspace);
}

/// Backward: dx from x and dy. `workspace`: [`workspace`] elements.
pub fn lrn_backward(cpu: &Cpu, lrn: &Lrn, extent: Extent, x: View, dy: View, dx: ViewMut, workspace: &mut [f32]) {
    run(cpu, lrn, extent, x, Some(dy), dx, workspace);
}

fn run(cpu: &Cpu, lrn: &Lrn, extent: Extent, x: View, dy: Option<View>, out: ViewMut, space: &mut [f32]) {
    if extent.elements() == 0 {
        return;
    }
    assert!(space.len() >= workspace(lrn, extent.channels), "the workspace of local response normalisation");
    let dy = dy.map(|dy| dy.checked(extent));
    let job = Job { lrn, extent, x: x.checked(extent), dy, out: out.checked(extent), space: Shares::new(space) };
    let total = extent.samples * extent.pixels;
    // At least 16 K elements a part, as in the other kernels.
    let each = total.div_ceil(PARTS).max((16 * 1024 / extent.channels).max(1));
    cpu.pool().run(total.div_ceil(each), &|part| {
        let pixels = part * each..total.min((part + 1) * each);
        dispatch(cpu.isa(), Pixels { job: &job, part, pixels });
    });
}

struct Job<'a> {
    lrn: &'a Lrn,
    extent: Extent,
    x: (*const f32, [usize; 2]),
    dy: Option<(*const f32, [usize; 2])>,
    out: (Shares<f32>, [usize; 2]),
    space: Shares<f32>,
}
// SAFETY: the inputs are read only; every task writes pixels and workspace of its own.
unsafe impl Sync for Job<'_> {}

struct Pixels<'a> {
    job: &'a Job<'a>,
    part: usize,
    pixels: Range<usize>,
}

/// s^−β: by square roots for the usual β, else by exponential and logarithm.
#[inline(always)]
fn power<S: Simd>(s: S, scale: S::V, beta: f32) -> S::V {
    if beta == 0.75 {
        let root = s.sqrt(scale);
        s.div(s.splat(1.0), s.mul(root, s.sqrt(root)))
    } else {
        exp(s, s.mul(s.splat(-beta), log(s, scale)))
    }
}

impl Kernel for Pixels<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Job { lrn, extent, x, dy, ref out, ref space } = *self.job;
        let (channels, width) = (extent.channels, row(lrn, extent.channels));
        let (edge, [before, after]) = (edge(lrn, channels), reach(lrn, channels));
        let (a, k) = (s.splat(lrn.a() as f32), s.splat(lrn.k));
        let factor = s.splat((-2.0 * lrn.a() * f64::from(lrn.beta)) as f32);
        // SAFETY: this part's rows.
        let rows = unsafe { space.part(self.part * 2 * SIDE_BY_SIDE * width, 2 * SIDE_BY_SIDE * width) };
        rows.fill(0.0);
        let (squares, shares) = rows.split_at_mut(SIDE_BY_SIDE * width);
        let (squares, shares) = (squares.as_mut_ptr().wrapping_add(edge), shares.as_mut_ptr().wrapping_add(edge));
        let at =
            |pixel: usize, [sample, step]: [usize; 2]| pixel / extent.pixels * sample + pixel % extent.pixels * step;
        for first in self.pixels.clone().step_by(SIDE_BY_SIDE) {
            let pixels = first..self.pixels.end.min(first + SIDE_BY_SIDE);
            // SAFETY: pixels of the extent, for which the views were checked; the output's pixels are this task's alone. Rows
            // have zeros as far as windows reach on both sides.
            unsafe {
                for (i, pixel) in pixels.clone().enumerate() {
                    let x = x.0.add(at(pixel, x.1));
                    for c in (0..channels).step_by(LANES) {
                        let n = LANES.min(channels - c);
                        let input = load_part(s, x.add(c), n);
                        store_part(s, squares.add(i * width + c), s.mul(input, input), n);
                    }
                }
                for (i, pixel) in pixels.clone().enumerate() {
                    let x = x.0.add(at(pixel, x.1));
                    let out = out.0.pointer().add(at(pixel, out.1));
                    for c in (0..channels).step_by(LANES) {
                        let n = LANES.min(channels - c);
                        let input = load_part(s, x.add(c), n);
                        let scale = s.fma(a, window(s, squares.add(i * width + c), [before, after]), k);
                        let power = power(s, scale, lrn.beta);
                        let Some(dy) = dy else {
                            store_part(s, out.add(c), s.mul(input, power), n);
                            continue;
                        };
                        let direct = s.mul(load_part(s, dy.0.add(at(pixel, dy.1) + c), n), power);
                        store_part(s, out.add(c), direct, n);
                        store_part(s, shares.add(i * width + c), s.div(s.mul(direct, input), scale), n);
                    }
                }
                if dy.is_none() {
                    continue;
                }
                for (i, pixel) in pixels.enumerate() {
                    let x = x.0.add(at(pixel, x.1));
                    let out = out.0.pointer().add(at(pixel, out.1));
                    for c in (0..channels).step_by(LANES) {
                        let n = LANES.min(channels - c);
                        // i lies in the window of j where j lies in the mirrored window of i.
                        let sum = window(s, shares.add(i * width + c), [after, before]);
                        let indirect = s.mul(s.mul(factor, load_part(s, x.add(c), n)), sum);
                        store_part(s, out.add(c), s.add(load_part(s, out.add(c), n), indirect), n);
                    }
                }
            }
        }
    }
}

/// Sums of the windows from `before` values before to `after` values after 16 places of a row.
///
/// # Safety
/// The row reaches that far, and a vector from there.
#[inline(always)]
unsafe fn window<S: Simd>(s: S, row: *const f32, [before, after]: [usize; 2]) -> S::V {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut sum = s.load(row);
        for d in 1..=before {
            sum = s.add(sum, s.load(row.sub(d)));
        }
        for d in 1..=after {
            sum = s.add(sum, s.load(row.add(d)));
        }
        sum
    }
}
