//! Forward: dot products of rows of x and rows of W, both contiguous, so vectors run along the inputs.
//!
//! A tile of 4 units by 6 rows keeps 24 vectors of partial sums in registers: 10 loads for 24 multiply-adds (AVX2: 2 by
//! 2, 4 loads for 4). A result is 16 chains, one a lane, added by the fixed tree of [`Simd::sum`]. Inputs come in parts of
//! 1,024, between which the sums wait in memory: a part of 48 rows of x, 192 KB, stays in the second-level cache for all
//! units of a task. Without parts AVX-512 read AlexNet's 1.2 MB of x for every 4 units from the third.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::LinearShape;
use crate::Cpu;
use crate::conv::Activation;
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Units of a task: their weights for a part of the inputs, 128 KB, stay in the second-level cache for all rows.
const UNITS: usize = 32;
/// Rows at a time, and rows of a task where there are few units.
const ROWS: usize = 48;
/// Inputs of a part, whole vectors.
const INPUTS: usize = 1024;

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
    units: Range<usize>,
    rows: Range<usize>,
}

impl Kernel for Block<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if S::WIDE { self.part::<S, 4, 6>(s) } else { self.part::<S, 2, 2>(s) }
    }
}

impl Block<'_> {
    #[inline(always)]
    fn part<S: Simd, const U: usize, const R: usize>(&self, s: S) {
        let inputs = self.shape.inputs;
        // Sums that wait for the next inputs, 16 lanes each.
        let mut waiting = [MaybeUninit::<S::V>::uninit(); UNITS * ROWS];
        let waiting = waiting.as_mut_ptr().cast::<S::V>();
        for first_row in self.rows.clone().step_by(ROWS) {
            let rows = first_row..self.rows.end.min(first_row + ROWS);
            for from in (0..inputs).step_by(INPUTS) {
                let to = inputs.min(from + INPUTS);
                let mut unit = self.units.start;
                while unit < self.units.end {
                    let tall = unit + U <= self.units.end;
                    let mut row = rows.start;
                    while row < rows.end {
                        let left = rows.end - row;
                        let at = (unit - self.units.start) * ROWS + row - rows.start;
                        // SAFETY: a task has at most UNITS units, and ROWS rows are taken at a time.
                        let waiting = unsafe { waiting.add(at) };
                        row += match (tall, left) {
                            (true, left) if left >= R => self.tile::<S, U, R>(s, unit, row, from..to, waiting),
                            (true, 4..) => self.tile::<S, U, 4>(s, unit, row, from..to, waiting),
                            (true, 2..) => self.tile::<S, U, 2>(s, unit, row, from..to, waiting),
                            (true, _) => self.tile::<S, U, 1>(s, unit, row, from..to, waiting),
                            (false, left) if left >= R => self.tile::<S, 1, R>(s, unit, row, from..to, waiting),
                            (false, _) => self.tile::<S, 1, 1>(s, unit, row, from..to, waiting),
                        };
                    }
                    unit += if tall { U } else { 1 };
                }
            }
        }
    }

    /// Adds some inputs' products to the sums of `U` units by `R` rows, which wait at `waiting`, and writes results after
    /// the last input. Returns `R`.
    #[inline(always)]
    fn tile<S: Simd, const U: usize, const R: usize>(
        &self,
        s: S,
        unit: usize,
        row: usize,
        part: Range<usize>,
        waiting: *mut S::V,
    ) -> usize {
        let inputs = self.shape.inputs;
        let mut acc = [[s.zero(); R]; U];
        let whole = part.end - (part.end - part.start) % LANES;
        // SAFETY: `check` has seen that x holds `row + R` rows and w `unit + U` rows of `inputs` values; sums wait for
        // every part but the first.
        unsafe {
            if part.start > 0 {
                for u in 0..U {
                    for r in 0..R {
                        acc[u][r] = *waiting.add(u * ROWS + r);
                    }
                }
            }
            let (w, x) = (self.w.as_ptr().add(unit * inputs), self.x.as_ptr().add(row * inputs));
            let mut k = part.start;
            while k < whole {
                let mut weights = [s.zero(); U];
                for u in 0..U {
                    weights[u] = s.load(w.add(u * inputs + k));
                }
                if row == self.rows.start {
                    // The next units' weights: a new page for each, which no stream of addresses announces.
                    for u in U..2 * U {
                        s.prefetch(w.wrapping_add(u * inputs + k));
                    }
                }
                for r in 0..R {
                    let x = s.load(x.add(r * inputs + k));
                    for u in 0..U {
                        acc[u][r] = s.fma(weights[u], x, acc[u][r]);
                    }
                }
                k += LANES;
            }
            if whole < part.end {
                let lanes = part.end - whole;
                for r in 0..R {
                    let x = s.load_n(x.add(r * inputs + whole), lanes);
                    for u in 0..U {
                        acc[u][r] = s.fma(s.load_n(w.add(u * inputs + whole), lanes), x, acc[u][r]);
                    }
                }
            }
            if part.end < inputs {
                for u in 0..U {
                    for r in 0..R {
                        *waiting.add(u * ROWS + r) = acc[u][r];
                    }
                }
                return R;
            }
        }
        // Through memory, once: sums that a loop picks by number would live there during the products too.
        let mut lanes = [[[0.0; LANES]; U]; R];
        for u in 0..U {
            for r in 0..R {
                lanes[r][u] = s.to_array(acc[u][r]);
            }
        }
        let mut bias = [0.0; LANES];
        for i in 0..LANES {
            bias[i] = self.bias.map_or(0.0, |bias| bias[unit + i % U]);
        }
        let (lanes, bias) = (lanes.as_flattened(), s.from_array(&bias));
        let mut results = [0.0; 2 * LANES];
        for i in (0..U * R).step_by(LANES) {
            let mut vectors = [s.zero(); LANES];
            for j in 0..LANES {
                if i + j < U * R {
                    vectors[j] = s.from_array(&lanes[i + j]);
                }
            }
            let sums = self.activation.apply(s, s.add(s.sums(vectors), bias));
            results[i..i + LANES].copy_from_slice(&s.to_array(sums));
        }
        for r in 0..R {
            // SAFETY: every task has units and rows of its own.
            let y = unsafe { self.y.part((row + r) * self.shape.outputs + unit, U) };
            y.copy_from_slice(&results[r * U..][..U]);
        }
        R
    }
}
