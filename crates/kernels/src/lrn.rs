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

/// Parts into which the pixels are split; each has a row of the workspace.
const PARTS: usize = 64;

/// Elements of workspace that [`lrn`] and [`lrn_backward`] need.
pub fn workspace(channels: usize) -> usize {
    PARTS * 2 * row(channels)
}

/// A row of a number for each channel, whole cache lines so that threads do not share one.
fn row(channels: usize) -> usize {
    channels.next_multiple_of(LANES)
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
    assert!(space.len() >= workspace(extent.channels), "the workspace of local response normalisation");
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
        let channels = extent.channels;
        let (width, [before, after]) = (row(channels), lrn.reach());
        let (a, k) = (s.splat(lrn.a() as f32), s.splat(lrn.k));
        // SAFETY: this part's rows.
        let (sums, shares) = unsafe { space.part(self.part * 2 * width, 2 * width) }.split_at_mut(width);
        for pixel in self.pixels {
            let at = |[sample, step]: [usize; 2]| pixel / extent.pixels * sample + pixel % extent.pixels * step;
            // SAFETY: pixels of the extent, for which the views were checked; the output pixel is this task's alone.
            let (x, dy, out) = unsafe {
                (
                    std::slice::from_raw_parts(x.0.add(at(x.1)), channels),
                    dy.map(|dy| std::slice::from_raw_parts(dy.0.add(at(dy.1)), channels)),
                    out.0.part(at(out.1), channels),
                )
            };
            window_sums::<true>(x, [before, after], &mut sums[..channels]);
            for c in (0..channels).step_by(LANES) {
                let n = LANES.min(channels - c);
                // SAFETY: n channels are left at c.
                unsafe {
                    let input = load_part(s, x.as_ptr().add(c), n);
                    let scale = s.fma(a, load_part(s, sums.as_ptr().add(c), n), k);
                    let power = power(s, scale, lrn.beta);
                    let Some(dy) = dy else {
                        store_part(s, out.as_mut_ptr().add(c), s.mul(input, power), n);
                        continue;
                    };
                    let direct = s.mul(load_part(s, dy.as_ptr().add(c), n), power);
                    store_part(s, out.as_mut_ptr().add(c), direct, n);
                    store_part(s, shares.as_mut_ptr().add(c), s.div(s.mul(direct, input), scale), n);
                }
            }
            if dy.is_some() {
                // i lies in the window of j where j lies in the mirrored window of i.
                window_sums::<false>(&shares[..channels], [after, before], &mut sums[..channels]);
                let factor = (-2.0 * lrn.a() * f64::from(lrn.beta)) as f32;
                for ((dx, &x), &sum) in out.iter_mut().zip(x).zip(sums.iter()) {
                    *dx += factor * x * sum;
                }
            }
        }
    }
}

/// `sums[i] = Σ x[j]`, or x[j]² where `SQUARE`, over i − before ≤ j ≤ i + after: a pass for each place in the window,
/// plain loops that the compiler turns into vectors.
#[inline(always)]
fn window_sums<const SQUARE: bool>(x: &[f32], [before, after]: [usize; 2], sums: &mut [f32]) {
    let term = |x: f32| if SQUARE { x * x } else { x };
    let channels = x.len();
    sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum = term(x));
    for d in 1..=before.min(channels - 1) {
        sums[d..].iter_mut().zip(x).for_each(|(sum, &x)| *sum += term(x));
    }
    for d in 1..=after.min(channels - 1) {
        sums.iter_mut().zip(&x[d..]).for_each(|(sum, &x)| *sum += term(x));
    }
}
