//! The gradient with respect to the rows: dx = dy·W, vectors along the inputs, one chain over the units in order.
//!
//! A tile of 12 rows by 2 vectors stays in registers over 64 units (AVX2: 6 by 1), then waits in dx itself, so that the
//! weights are read in blocks of 64 rows of 4 KB that stay in the second-level cache for all rows of the batch. A tile's
//! operands are copied side by side first: AlexNet's first linear layer at 32 pictures 79 -> 49 ms of one core. Meanwhile it asks
//! for a share of the next block, row by row.

use std::ops::Range;

use super::LinearShape;
use crate::Cpu;
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Inputs of a task.
const INPUTS: usize = 1024;
/// Units between two visits to dx.
const UNITS: usize = 64;
/// Rows at a time.
const ROWS: usize = 48;
/// Weights from which on they come from farther than the second-level cache.
const FAR: usize = 128 << 10;
/// Rows of the tallest tile.
const TALL: usize = 12;

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
        let (dx, dy) = ((dx.pointer(), shape.inputs), (dy.as_ptr(), shape.outputs));
        dispatch(cpu.isa(), DataGradient { shape, n, dy, w, dx, inputs });
    });
}

/// The first row's or unit's values, and the distance to the next one's.
type Strided = (*const f32, usize);

/// A task: some inputs of all rows. All pointers must be valid for what the fields say.
pub(crate) struct DataGradient<'a> {
    pub shape: &'a LinearShape,
    pub n: usize,
    pub dy: Strided,
    pub w: &'a [f32],
    /// As if all inputs were there, of which only the task's are written.
    pub dx: (*mut f32, usize),
    pub inputs: Range<usize>,
}

impl Kernel for DataGradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let vectors = if S::WIDE { 2 } else { 1 };
        // dy's values for a block of units, side by side: its rows are often a multiple of 4 KB apart, and then all fall
        // into one set of the first-level cache. Likewise the weights, where several tiles read them.
        let mut packed = [0.0; ROWS * UNITS];
        let mut copy = [0.0; UNITS * 2 * LANES];
        let groups = self.inputs.len().div_ceil(vectors * LANES);
        let far = self.shape.inputs * self.shape.outputs >= FAR;
        for unit in (0..self.shape.outputs).step_by(UNITS) {
            let units = unit..self.shape.outputs.min(unit + UNITS);
            let next = units.end..self.shape.outputs.min(units.end + UNITS);
            for first in (0..self.n).step_by(ROWS) {
                let rows = first..self.n.min(first + ROWS);
                for row in rows.clone() {
                    for o in units.clone() {
                        // SAFETY: as the caller vouches.
                        packed[(o - unit) * ROWS + row - first] = unsafe { *self.dy.0.add(row * self.dy.1 + o) };
                    }
                }
                // Each tile asks for its share of the next units.
                let tiles = groups * rows.len().div_ceil(TALL);
                let mut done = 0;
                for k in self.inputs.clone().step_by(vectors * LANES) {
                    let lanes = (self.inputs.end - k).min(vectors * LANES);
                    let mut w = (self.w.as_ptr().wrapping_add(unit * self.shape.inputs + k), self.shape.inputs);
                    if rows.len() > TALL && lanes == vectors * LANES {
                        for o in 0..units.len() {
                            for v in 0..vectors {
                                // SAFETY: whole vectors of rows that are there.
                                unsafe {
                                    let value = s.load(w.0.add(o * w.1 + v * LANES));
                                    s.store(copy.as_mut_ptr().add((o * 2 + v) * LANES), value);
                                }
                            }
                        }
                        w = (copy.as_ptr(), 2 * LANES);
                    }
                    let mut row = first;
                    while row < rows.end {
                        let (left, dy) = (rows.end - row, (packed[row - first..].as_ptr(), ROWS));
                        let share = |tile: usize| next.end.min(next.start + tile * UNITS / tiles);
                        let asked = if first == 0 && far { share(done)..share(done + 1) } else { 0..0 };
                        let ahead = self.w.as_ptr().wrapping_add(asked.start * self.shape.inputs + self.inputs.start);
                        done += 1;
                        let tile = Tile { units: units.clone(), row, k, lanes, dy, w, ahead, asked: asked.len() };
                        row += match (S::WIDE, lanes > LANES, left) {
                            (true, true, TALL..) => self.tile::<S, TALL, 2>(s, &tile),
                            (true, true, 8..) => self.tile::<S, 8, 2>(s, &tile),
                            (true, true, 4..) => self.tile::<S, 4, 2>(s, &tile),
                            (true, true, _) => self.tile::<S, 1, 2>(s, &tile),
                            (_, _, 6..) => self.tile::<S, 6, 1>(s, &tile),
                            _ => self.tile::<S, 1, 1>(s, &tile),
                        };
                    }
                }
            }
        }
    }
}

/// Some rows by some vectors of inputs over a block of units.
struct Tile {
    units: Range<usize>,
    row: usize,
    /// The first input.
    k: usize,
    /// Inputs, at most as many as the vectors have lanes.
    lanes: usize,
    dy: Strided,
    w: Strided,
    /// Weights of the next block, and of how many units they are asked for meanwhile, along their inputs: the processor then sees
    /// streams of addresses and reads ahead by itself, with more lines under way than a program can ask for.
    ahead: *const f32,
    asked: usize,
}

impl DataGradient<'_> {
    /// `R` rows by `NV` vectors. Returns `R`.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const NV: usize>(&self, s: S, tile: &Tile) -> usize {
        match tile.asked > 0 {
            true => self.sized::<S, R, NV, true>(s, tile),
            false => self.sized::<S, R, NV, false>(s, tile),
        }
        R
    }

    #[inline(always)]
    fn sized<S: Simd, const R: usize, const NV: usize, const AHEAD: bool>(&self, s: S, tile: &Tile) {
        let &Tile { row, k, dy, .. } = tile;
        let lanes = tile.lanes - (NV - 1) * LANES;
        let (dx, step) = self.dx;
        // SAFETY: the caller vouches for the pointers; dy's packed rows are `ROWS` long and reach to row + R.
        unsafe {
            let last = NV - 1;
            let mut acc = [[s.zero(); NV]; R];
            if tile.units.start > 0 {
                for r in 0..R {
                    for v in 0..NV {
                        let p = dx.wrapping_add((row + r) * step + k + v * LANES);
                        acc[r][v] = if v < last || lanes == LANES { s.load(p) } else { s.load_n(p, lanes) };
                    }
                }
            }
            for o in 0..tile.units.len() {
                let w = tile.w.0.add(o * tile.w.1);
                let mut weights = [s.zero(); NV];
                for v in 0..NV {
                    let p = w.add(v * LANES);
                    weights[v] = if v < last || lanes == LANES { s.load(p) } else { s.load_n(p, lanes) };
                }
                if AHEAD && o * LANES < self.inputs.len() {
                    for unit in 0..tile.asked {
                        s.prefetch(tile.ahead.wrapping_add(unit * self.shape.inputs + o * LANES));
                    }
                }
                for r in 0..R {
                    let dy = s.splat(*dy.0.add(o * dy.1 + r));
                    for v in 0..NV {
                        acc[r][v] = s.fma(dy, weights[v], acc[r][v]);
                    }
                }
            }
            for r in 0..R {
                for v in 0..NV {
                    let p = dx.wrapping_add((row + r) * step + k + v * LANES);
                    if v < last || lanes == LANES { s.store(p, acc[r][v]) } else { s.store_n(p, acc[r][v], lanes) }
                }
            }
        }
    }
}
