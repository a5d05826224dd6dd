//! Softmax over rows: y_c = e^(x_c − max) / Σ e^(x_j − max). With channels-last data every pixel is a row.

use crate::Cpu;
use crate::math::exp;
use crate::pool::Shares;
use crate::real::Real;
use crate::simd::{Kernel, LANES, Simd, dispatch, load_part, store_part};

/// The definition, on rows of `classes`.
pub fn softmax_reference<T: Real>(classes: usize, x: &[T], y: &mut [T]) {
    for (x, y) in x.chunks_exact(classes).zip(y.chunks_exact_mut(classes)) {
        let max = x.iter().fold(T::NEG_INFINITY, |max, &x| if x > max { x } else { max });
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = (x - max).exp());
        let sum: T = y.iter().copied().sum();
        y.iter_mut().for_each(|y| *y = *y / sum);
    }
}

/// The gradient of [`softmax_reference`] from its output: dx = y·(dy − Σ y·dy).
pub fn softmax_backward_reference<T: Real>(classes: usize, y: &[T], dy: &[T], dx: &mut [T]) {
    for ((y, dy), dx) in y.chunks_exact(classes).zip(dy.chunks_exact(classes)).zip(dx.chunks_exact_mut(classes)) {
        let sum: T = y.iter().zip(dy).map(|(&y, &dy)| y * dy).sum();
        dx.iter_mut().zip(y.iter().zip(dy)).for_each(|(dx, (&y, &dy))| *dx = y * (dy - sum));
    }
}

/// Forward.
pub fn softmax(cpu: &Cpu, classes: usize, x: &[f32], y: &mut [f32]) {
    rows(cpu, classes, [x, x], y, |isa, [x, _], y| dispatch(isa, Forward { x, y }));
}

/// Backward, from forward's output.
pub fn softmax_backward(cpu: &Cpu, classes: usize, y: &[f32], dy: &[f32], dx: &mut [f32]) {
    rows(cpu, classes, [y, dy], dx, |isa, [y, dy], dx| dispatch(isa, Backward { y, dy, dx }));
}

fn rows(
    cpu: &Cpu,
    classes: usize,
    inputs: [&[f32]; 2],
    output: &mut [f32],
    row: impl Fn(crate::Isa, [&[f32]; 2], &mut [f32]) + Sync,
) {
    let len = output.len();
    assert!(inputs.iter().all(|x| x.len() == len) && len.is_multiple_of(classes.max(1)), "rows of {classes}");
    let shares = Shares::new(output);
    cpu.pool().run_ranges(len / classes.max(1), classes, &|rows| {
        for i in rows {
            // SAFETY: every row belongs to one task.
            let output = unsafe { shares.part(i * classes, classes) };
            row(cpu.isa(), inputs.map(|x| &x[i * classes..(i + 1) * classes]), output);
        }
    });
}

/// The first `n` lanes at `p`, then `fill`.
///
/// # Safety
/// `p` must be valid for reads of `n` `f32`.
#[inline(always)]
pub(crate) unsafe fn load_or<S: Simd>(s: S, p: *const f32, n: usize, fill: f32) -> S::V {
    // SAFETY: as the caller vouches; the array holds 16.
    unsafe {
        if n == LANES {
            return s.load(p);
        }
        let mut lanes = [fill; LANES];
        s.store_n(lanes.as_mut_ptr(), s.load_n(p, n), n);
        s.from_array(&lanes)
    }
}

/// The largest element of a row.
#[inline(always)]
pub(crate) fn maximum<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut best = s.splat(f32::NEG_INFINITY);
    for i in (0..x.len()).step_by(LANES) {
        // SAFETY: at most the elements left.
        best = s.max(best, unsafe { load_or(s, x.as_ptr().add(i), LANES.min(x.len() - i), f32::NEG_INFINITY) });
    }
    s.to_array(best).into_iter().fold(f32::NEG_INFINITY, |max, x| if x > max { x } else { max })
}

/// Σ e^(x − max) by 16 lanes and their tree; the terms go to `terms`, if given, as many as x has.
#[inline(always)]
pub(crate) fn exp_sum<S: Simd>(s: S, x: &[f32], max: f32, mut terms: Option<&mut [f32]>) -> f32 {
    let mut sum = s.zero();
    for i in (0..x.len()).step_by(LANES) {
        let n = LANES.min(x.len() - i);
        // e^−∞ is 0 in the lanes that the row lacks, whatever the maximum but −∞ itself; then all is NaN.
        // SAFETY: n elements are left at i.
        let x = unsafe { load_or(s, x.as_ptr().add(i), n, f32::NEG_INFINITY) };
        let e = exp(s, s.sub(x, s.splat(max)));
        if let Some(terms) = &mut terms {
            let terms = &mut terms[i..i + n];
            // SAFETY: n elements.
            unsafe { store_part(s, terms.as_mut_ptr(), e, n) };
        }
        sum = s.add(sum, e);
    }
    s.sum(sum)
}

struct Forward<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Forward { x, y } = self;
        let max = maximum(s, x);
        let sum = exp_sum(s, x, max, Some(y));
        y.iter_mut().for_each(|y| *y /= sum);
    }
}

struct Backward<'a> {
    y: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Backward { y, dy, dx } = self;
        let mut sum = s.zero();
        for i in (0..y.len()).step_by(LANES) {
            let n = LANES.min(y.len() - i);
            // SAFETY: n elements are left at i.
            sum = unsafe { s.fma(load_part(s, y.as_ptr().add(i), n), load_part(s, dy.as_ptr().add(i), n), sum) };
        }
        let sum = s.sum(sum);
        dx.iter_mut().zip(y.iter().zip(dy)).for_each(|(dx, (&y, &dy))| *dx = y * (dy - sum));
    }
}
