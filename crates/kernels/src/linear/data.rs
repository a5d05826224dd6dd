//! The gradient with respect to the rows: dx = dy·W, vectors along the inputs, one chain over the units in order.
//!
//! A tile of 12 rows by 2 vectors stays in registers over 64 units (AVX2: 6 by 1), then waits in dx itself, so that the
//! weights are read in blocks of 64 rows of 4 KB that stay in the second-level cache for all rows of the batch.

use super::LinearShape;
use crate::Cpu;
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Inputs of a task.
const INPUTS: usize = 1024;
/// Units between two visits to dx.
const UNITS: usize = 64;

/// dx = dy·W for `n` rows.
///
/// # Panics
/// A slice is too short: a defect of the plan.
pub fn data_gradient(cpu: &Cpu, shape: &LinearShape, n: usize, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    shape.check(n, dx.len(), w.len(), dy.len());
    // At least two tasks a thread, of whole vectors.
    let fair = shape.inputs.div_ceil(2 * cpu.pool().threads()).next_multiple_of(2 * LANES);
    let each = INPUTS.min(fair);
    let dx = Shares::new(dx);
    cpu.pool().run(shape.inputs.div_ceil(each), &|task| {
        let inputs = task * each..shape.inputs.min((task + 1) * each);
        dispatch(cpu.isa(), Block { shape, n, dy, w, dx: &dx, inputs });
    });
}

struct Block<'a> {
    shape: &'a LinearShape,
    n: usize,
    dy: &'a [f32],
    w: &'a [f32],
    dx: &'a Shares<f32>,
    inputs: std::ops::Range<usize>,
}

impl Kernel for Block<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let vectors = if S::WIDE { 2 } else { 1 };
        for unit in (0..self.shape.outputs).step_by(UNITS) {
            for k in self.inputs.clone().step_by(vectors * LANES) {
                let lanes = (self.inputs.end - k).min(vectors * LANES);
                let mut row = 0;
                while row < self.n {
                    let left = self.n - row;
                    row += match (S::WIDE, lanes > LANES, left) {
                        (true, true, 12..) => self.tile::<S, 12, 2>(s, unit, row, k, lanes - LANES),
                        (true, true, 4..) => self.tile::<S, 4, 2>(s, unit, row, k, lanes - LANES),
                        (true, true, _) => self.tile::<S, 1, 2>(s, unit, row, k, lanes - LANES),
                        (_, _, 6..) => self.tile::<S, 6, 1>(s, unit, row, k, lanes),
                        _ => self.tile::<S, 1, 1>(s, unit, row, k, lanes),
                    };
                }
            }
        }
    }
}

impl Block<'_> {
    /// `R` rows by `NV` vectors from input `k` on, the last one of `lanes`, over a block of units.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const NV: usize>(
        &self,
        s: S,
        unit: usize,
        row: usize,
        k: usize,
        lanes: usize,
    ) -> usize {
        let LinearShape { inputs, outputs } = *self.shape;
        let dx = self.dx.pointer();
        // SAFETY: `check` has seen the sizes; every task writes inputs of its own.
        unsafe {
            let last = NV - 1;
            let mut acc = [[s.zero(); NV]; R];
            if unit > 0 {
                for (r, acc) in acc.iter_mut().enumerate() {
                    for (v, acc) in acc.iter_mut().enumerate() {
                        let p = dx.add((row + r) * inputs + k + v * LANES);
                        *acc = if v < last || lanes == LANES { s.load(p) } else { s.load_n(p, lanes) };
                    }
                }
            }
            let dy = self.dy.as_ptr().add(row * outputs);
            for o in unit..outputs.min(unit + UNITS) {
                let w = self.w.as_ptr().add(o * inputs + k);
                let mut weights = [s.zero(); NV];
                for (v, weights) in weights.iter_mut().enumerate() {
                    let p = w.add(v * LANES);
                    *weights = if v < last || lanes == LANES { s.load(p) } else { s.load_n(p, lanes) };
                }
                for (r, acc) in acc.iter_mut().enumerate() {
                    let dy = s.splat(*dy.add(r * outputs + o));
                    for (acc, w) in acc.iter_mut().zip(weights) {
                        *acc = s.fma(dy, w, *acc);
                    }
                }
            }
            for (r, acc) in acc.iter().enumerate() {
                for (v, acc) in acc.iter().enumerate() {
                    let p = dx.add((row + r) * inputs + k + v * LANES);
                    if v < last || lanes == LANES { s.store(p, *acc) } else { s.store_n(p, *acc, lanes) }
                }
            }
        }
        R
    }
}
