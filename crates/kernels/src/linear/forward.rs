//! Forward: dot products of rows of x and rows of W, both contiguous, so vectors run along the inputs.
//!
//! A tile of 6 units by 4 rows keeps 24 vectors of partial sums in registers: 10 loads for 24 multiply-adds (AVX2: 2 by
//! 2, 4 loads for 4). Its weights, 24 KB, stay in the first-level cache for all rows, which come from the second; each tile asks
//! for its share of the next weights. A result is 16 chains, one a lane, added by the fixed tree of [`Simd::sum`]. Inputs come in parts of
//! 1,024, between which the sums wait in memory: a part of 48 rows of x, 192 KB, stays in the second-level cache for all
//! units of a task. Without parts AVX-512 read AlexNet's 1.2 MB of x for every 4 units from the third. Up to 4 rows are one tile, of all inputs.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::LinearShape;
use crate::Cpu;
use crate::conv::Activation;
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Units of a task: their weights for a part of the inputs, 192 KB, stay in the second-level cache for all rows.
const UNITS: usize = 48;
/// Rows at a time, and rows of a task where there are few units.
const ROWS: usize = 48;
/// Weights that fit the second-level cache beside their pictures: 256 KB.
const FEW_WEIGHTS: usize = 64 << 10;
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
    let threads = cpu.pool().threads();
    let (units, rows) = if shape.inputs * shape.outputs <= FEW_WEIGHTS && n >= 8 * threads {
        // Each thread its own pictures, which it most likely has in its caches, and all weights.
        (shape.outputs, n.div_ceil(2 * threads).next_multiple_of(4))
    } else {
        let units = if shape.outputs >= 8 * UNITS { UNITS } else { 12 };
        // Weights are read once for all rows unless there are too few units to share out.
        (units, if shape.outputs.div_ceil(units) >= 2 * threads { n } else { ROWS })
    };
    let blocks = shape.outputs.div_ceil(units);
    let parts = n.div_ceil(rows);
    let y = Shares::new(y);
    cpu.pool().run(blocks * parts, &|task| {
        let (block, part) = (task % blocks, task / blocks);
        let units = block * units..shape.outputs.min((block + 1) * units);
        let rows = part * rows..n.min((part + 1) * rows);
        dispatch(cpu.isa(), Block { shape, x, w, bias, activation, y: &y, units, rows });
    });
}

/// Some rows and some units of a part of the inputs.
struct Tile {
    part: Range<usize>,
    unit: usize,
    row: usize,
    /// Weights that come after these, and of how many units they are asked for meanwhile: each unit has a page of its own, which
    /// no stream of addresses announces.
    ahead: *const f32,
    asked: usize,
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
        if S::WIDE { self.parts::<S, 6, 4>(s) } else { self.parts::<S, 2, 2>(s) }
    }
}

impl Block<'_> {
    #[inline(always)]
    fn parts<S: Simd, const U: usize, const R: usize>(&self, s: S) {
        let inputs = self.shape.inputs;
        // Sums that wait for the next inputs, 16 lanes each.
        let mut waiting = [MaybeUninit::<S::V>::uninit(); UNITS * ROWS];
        let waiting = waiting.as_mut_ptr().cast::<S::V>();
        for first_row in self.rows.clone().step_by(ROWS) {
            let rows = first_row..self.rows.end.min(first_row + ROWS);
            let step = if rows.len() <= R { INPUTS.max(inputs) } else { INPUTS };
            for from in (0..inputs).step_by(step) {
                let part = from..inputs.min(from + step);
                let mut unit = self.units.start;
                while unit < self.units.end {
                    let height = match self.units.end - unit {
                        left if left >= U => U,
                        2.. => 2,
                        _ => 1,
                    };
                    let next = unit + height;
                    let next = if next < self.units.end { [next, from] } else { [self.units.start, part.end] };
                    // All tiles share what is to be asked for. Where there is one, its units' rows are long streams, which need no asking.
                    let each = if rows.len() <= R { 0 } else { U.div_ceil(rows.len().div_ceil(R)) };
                    let ahead = self.w.as_ptr().wrapping_add(next[0] * inputs + next[1]);
                    let mut tile = Tile { part: part.clone(), unit, row: rows.start, ahead, asked: each };
                    let mut asked = 0;
                    while tile.row < rows.end {
                        let left = rows.end - tile.row;
                        let at = (unit - self.units.start) * ROWS + tile.row - rows.start;
                        // SAFETY: a task has at most UNITS units, and ROWS rows are taken at a time.
                        let waiting = unsafe { waiting.add(at) };
                        tile.row += match (height, left) {
                            (3.., left) if left >= R => self.tile::<S, U, R>(s, &tile, waiting),
                            (3.., 2..) => self.tile::<S, U, 2>(s, &tile, waiting),
                            (3.., _) => self.tile::<S, U, 1>(s, &tile, waiting),
                            (2, left) if left >= R => self.tile::<S, 2, R>(s, &tile, waiting),
                            (2, _) => self.tile::<S, 2, 1>(s, &tile, waiting),
                            (_, left) if left >= R => self.tile::<S, 1, R>(s, &tile, waiting),
                            (_, _) => self.tile::<S, 1, 1>(s, &tile, waiting),
                        };
                        asked += each;
                        tile.ahead = tile.ahead.wrapping_add(each * inputs);
                        tile.asked = if asked < U { each } else { 0 };
                    }
                    unit += height;
                }
            }
        }
    }

    /// Adds some inputs' products to the sums of `U` units by `R` rows, which wait at `waiting`, and writes results after
    /// the last input. Returns `R`.
    #[inline(always)]
    fn tile<S: Simd, const U: usize, const R: usize>(&self, s: S, tile: &Tile, waiting: *mut S::V) -> usize {
        let &Tile { ref part, unit, row, ahead, asked } = tile;
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
                for u in 0..asked {
                    s.prefetch(ahead.wrapping_add(u * inputs + k - part.start));
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
        let mut bias = [0.0; 2 * LANES];
        if let Some(given) = self.bias {
            for r in 0..R {
                bias[r * U..][..U].copy_from_slice(&given[unit..][..U]);
            }
        }
        let lanes = lanes.as_flattened();
        let mut results = [0.0; 2 * LANES];
        for i in (0..U * R).step_by(LANES) {
            let mut vectors = [s.zero(); LANES];
            for j in 0..LANES {
                if i + j < U * R {
                    vectors[j] = s.from_array(&lanes[i + j]);
                }
            }
            // SAFETY: two vectors are there.
            let bias = unsafe { s.load(bias.as_ptr().add(i)) };
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
