//! Forward: dot products of rows of x and rows of W, both contiguous, so vectors run along the inputs.
//!
//! A tile of 4 units by 6 rows keeps 24 vectors of partial sums in registers: 10 loads for 24 multiply-adds (AVX2: 2 by
//! 2, 4 loads for 4). A result is 16 chains, one a lane, added by the fixed tree of [`Simd::sum`].

use super::LinearShape;
use crate::Cpu;
use crate::conv::Activation;
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Units of a task: their weights (32 · 4 KB for 1,024 inputs) stay in the second-level cache for all rows.
const UNITS: usize = 32;
/// Rows of a task where there are few units.
const ROWS: usize = 24;

/// y = activation(x·Wᵀ + b) for `n` rows.
///
/// # Panics
/// A slice is too short: a defect of the plan.
#[allow(clippy::too_many_arguments)]
pub fn forward(
    cpu: &Cpu,
    shape: &LinearShape,
    n: usize,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    activation: Activation,
    y: &mut [f32],
) {
    shape.check(n, x.len(), w.len(), y.len());
    assert!(bias.is_none_or(|bias| bias.len() >= shape.outputs), "a bias for each unit");
    if n == 0 {
        return;
    }
    let units = if shape.outputs >= 8 * UNITS { UNITS } else { 8 };
    let blocks = shape.outputs.div_ceil(units);
    // Weights are read once for all rows unless there are too few units to share out.
    let rows = if blocks >= 2 * cpu.pool().threads() { n } else { ROWS };
    let parts = n.div_ceil(rows);
    let y = Shares::new(y);
    cpu.pool().run(blocks * parts, &|task| {
        let (block, part) = (task % blocks, task / blocks);
        let units = block * units..shape.outputs.min((block + 1) * units);
        let rows = part * rows..n.min((part + 1) * rows);
        dispatch(cpu.isa(), Block { shape, x, w, bias, activation, y: &y, units, rows });
    });
}

struct Block<'a> {
    shape: &'a LinearShape,
    x: &'a [f32],
    w: &'a [f32],
    bias: Option<&'a [f32]>,
    activation: Activation,
    y: &'a Shares<f32>,
    units: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
}

impl Kernel for Block<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut unit = self.units.start;
        while unit < self.units.end {
            let left = self.units.end - unit;
            let taken = match (S::WIDE, left) {
                (true, 4..) => self.rows_of::<S, 4, 6>(s, unit),
                (false, 2..) => self.rows_of::<S, 2, 2>(s, unit),
                _ => self.rows_of::<S, 1, 2>(s, unit),
            };
            unit += taken;
        }
    }
}

impl Block<'_> {
    /// `U` units from `unit` on for all rows, `R` at a time.
    #[inline(always)]
    fn rows_of<S: Simd, const U: usize, const R: usize>(&self, s: S, unit: usize) -> usize {
        let mut row = self.rows.start;
        while row + R <= self.rows.end {
            self.tile::<S, U, R>(s, unit, row);
            row += R;
        }
        while row < self.rows.end {
            self.tile::<S, U, 1>(s, unit, row);
            row += 1;
        }
        U
    }

    #[inline(always)]
    fn tile<S: Simd, const U: usize, const R: usize>(&self, s: S, unit: usize, row: usize) {
        let inputs = self.shape.inputs;
        let mut acc = [[s.zero(); R]; U];
        let whole = inputs - inputs % LANES;
        // SAFETY: `check` has seen that x holds `row + R` rows and w `unit + U` rows of `inputs` values.
        unsafe {
            let w: [*const f32; U] = core::array::from_fn(|u| self.w.as_ptr().add((unit + u) * inputs));
            let x: [*const f32; R] = core::array::from_fn(|r| self.x.as_ptr().add((row + r) * inputs));
            let mut k = 0;
            while k < whole {
                let weights: [S::V; U] = core::array::from_fn(|u| s.load(w[u].add(k)));
                for r in 0..R {
                    let x = s.load(x[r].add(k));
                    for u in 0..U {
                        acc[u][r] = s.fma(weights[u], x, acc[u][r]);
                    }
                }
                k += LANES;
            }
            if whole < inputs {
                let lanes = inputs - whole;
                for r in 0..R {
                    let x = s.load_n(x[r].add(whole), lanes);
                    for u in 0..U {
                        acc[u][r] = s.fma(s.load_n(w[u].add(whole), lanes), x, acc[u][r]);
                    }
                }
            }
        }
        for r in 0..R {
            let mut sums = [0.0; LANES];
            for u in 0..U {
                sums[u] = s.sum(acc[u][r]) + self.bias.map_or(0.0, |bias| bias[unit + u]);
            }
            let sums = s.to_array(self.activation.apply(s, s.from_array(&sums)));
            // SAFETY: every task has units and rows of its own.
            let y = unsafe { self.y.part((row + r) * self.shape.outputs + unit, U) };
            y.copy_from_slice(&sums[..U]);
        }
    }
}
