//! The gradients with respect to weights and bias: dW = dyᵀ·x, vectors along the inputs.
//!
//! A tile of 12 units by 2 vectors stays in registers while a chain runs over 16 rows of the batch (AVX2: 6 by 1); groups
//! of 16 rows are joined by the fixed tree of [`crate::tree`]. dW is written once; or never, where the update follows at
//! once: then a task's part of it stays in the second-level cache.

use std::mem::MaybeUninit;

use super::LinearShape;
use crate::Cpu;
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd, dispatch};
use crate::tree::Tree;
use crate::update::Updated;

/// Rows of a group: what one chain sums.
const GROUP: usize = 16;
/// Inputs of a task: 32 rows of x, 256 KB, stay in the second-level cache.
const INPUTS: usize = 2048;
/// Units of a task.
const UNITS: usize = 48;
/// Levels of the tree: enough for 16 · 2²⁴ rows.
const LEVELS: usize = 25;

/// dW and, where wanted, db from `n` rows of x and dy.
///
/// # Panics
/// A slice is too short: a defect of the plan.
#[allow(clippy::too_many_arguments)]
pub fn weight_gradient(
    cpu: &Cpu,
    shape: &LinearShape,
    n: usize,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    db: Option<&mut [f32]>,
) {
    shape.check(n, x.len(), dw.len(), dy.len());
    let (across, tasks) = tasks(shape);
    let dw = Shares::new(dw);
    cpu.pool().run(tasks, &|task| {
        let block = Block::new(shape, n, x, dy, [task % across, task / across]);
        // SAFETY: every task writes units and inputs of its own, which exist.
        let out = unsafe { dw.pointer().add(block.units.start * shape.inputs + block.inputs.start) };
        dispatch(cpu.isa(), Block { out, out_row: shape.inputs, ..block });
    });
    bias_gradient(cpu, shape, n, dy, db);
}

/// Values of scratch memory that [`update_weights`] needs.
pub const fn update_scratch(threads: usize) -> usize {
    threads * UNITS * SCRATCH_ROW
}

/// A row of a task's part of dW. Not a power of two, which would map a tile's rows to one set of the first-level cache.
const SCRATCH_ROW: usize = INPUTS + LANES;

/// [`weight_gradient`] and the update of the weights by it, to the same bits, in one: dW itself is never written. `scratch`:
/// [`update_scratch`] values.
///
/// # Panics
/// A slice is too short: a defect of the plan.
#[allow(clippy::too_many_arguments)]
pub fn update_weights(
    cpu: &Cpu,
    shape: &LinearShape,
    n: usize,
    x: &[f32],
    dy: &[f32],
    weights: Updated,
    db: Option<&mut [f32]>,
    scratch: &mut [f32],
) {
    shape.check(n, x.len(), weights.w.len(), dy.len());
    assert!(scratch.len() >= update_scratch(cpu.pool().threads()), "scratch: {} values", scratch.len());
    let (across, tasks) = tasks(shape);
    let (weights, scratch) = (weights.shared(), Shares::new(scratch));
    cpu.pool().run_on(tasks, &|task, thread| {
        let block = Block::new(shape, n, x, dy, [task % across, task / across]);
        let (inputs, units) = (block.inputs.clone(), block.units.clone());
        // SAFETY: every thread has a part of its own.
        let part = unsafe { scratch.part(thread * UNITS * SCRATCH_ROW, UNITS * SCRATCH_ROW) };
        dispatch(cpu.isa(), Block { out: part.as_mut_ptr(), out_row: SCRATCH_ROW, ..block });
        for (unit, row) in units.zip(part.chunks(SCRATCH_ROW)) {
            // SAFETY: every task updates units and inputs of its own, which exist.
            unsafe { weights.range(cpu.isa(), unit * shape.inputs + inputs.start, &row[..inputs.len()]) };
        }
    });
    bias_gradient(cpu, shape, n, dy, db);
}

/// Tasks across the inputs, and all.
fn tasks(shape: &LinearShape) -> (usize, usize) {
    let across = shape.inputs.div_ceil(INPUTS);
    (across, across * shape.outputs.div_ceil(UNITS))
}

fn bias_gradient(cpu: &Cpu, shape: &LinearShape, n: usize, dy: &[f32], db: Option<&mut [f32]>) {
    let Some(db) = db else { return };
    // The same sums with an x of ones: `[outputs, 1]`.
    assert!(db.len() >= shape.outputs, "a bias gradient for each unit");
    let db = Shares::new(db);
    dispatch(cpu.isa(), Bias { outputs: shape.outputs, n, dy, db: &db, units: 0..shape.outputs });
}

struct Block<'a> {
    row: usize,
    outputs: usize,
    n: usize,
    x: &'a [f32],
    dy: &'a [f32],
    inputs: std::ops::Range<usize>,
    units: std::ops::Range<usize>,
    /// Where the first unit's gradient for the first input goes.
    out: *mut f32,
    out_row: usize,
}

impl<'a> Block<'a> {
    fn new(shape: &LinearShape, n: usize, x: &'a [f32], dy: &'a [f32], [i, o]: [usize; 2]) -> Block<'a> {
        let (i, o) = (i * INPUTS, o * UNITS);
        Block {
            row: shape.inputs,
            outputs: shape.outputs,
            n,
            x,
            dy,
            inputs: i..shape.inputs.min(i + INPUTS),
            units: o..shape.outputs.min(o + UNITS),
            out: std::ptr::null_mut(),
            out_row: 0,
        }
    }
}

impl Kernel for Block<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let vectors = if S::WIDE { 2 } else { 1 };
        let mut unit = self.units.start;
        while unit < self.units.end {
            let left = self.units.end - unit;
            let (tall, most) = if S::WIDE { (left >= 12, 12) } else { (left >= 6, 6) };
            for k in self.inputs.clone().step_by(vectors * LANES) {
                let lanes = (self.inputs.end - k).min(vectors * LANES);
                match (S::WIDE, lanes > LANES, tall) {
                    (true, true, true) => self.tile::<S, 12, 2>(s, unit, k, lanes - LANES),
                    (true, true, false) => self.tile::<S, 1, 2>(s, unit, k, lanes - LANES),
                    (true, false, true) => self.tile::<S, 12, 1>(s, unit, k, lanes),
                    (false, _, true) => self.tile::<S, 6, 1>(s, unit, k, lanes),
                    (_, _, false) => self.tile::<S, 1, 1>(s, unit, k, lanes),
                }
            }
            unit += if tall { most } else { 1 };
        }
    }
}

impl Block<'_> {
    #[inline(always)]
    fn tile<S: Simd, const U: usize, const NV: usize>(&self, s: S, unit: usize, k: usize, lanes: usize) {
        let sum: [[S::V; NV]; U] = over_groups(s, self.n, &Products { block: self, unit, k, lanes });
        for u in 0..U {
            for v in 0..NV {
                // SAFETY: `out` has room for the block's units and inputs, which no other task writes.
                unsafe {
                    let place = (unit + u - self.units.start) * self.out_row + k - self.inputs.start;
                    let p = self.out.add(place + v * LANES);
                    if v + 1 < NV || lanes == LANES { s.store(p, sum[u][v]) } else { s.store_n(p, sum[u][v], lanes) }
                }
            }
        }
    }
}

/// The sum of a tile over a group of rows, a chain. A trait, not a closure: a closure would be compiled for the plain
/// instruction set, outside of the kernel that it belongs to.
trait Chain<S: Simd, const U: usize, const NV: usize> {
    fn sum(&self, s: S, rows: std::ops::Range<usize>) -> [[S::V; NV]; U];
}

/// Products of dy's units with x's inputs, the last vector of `lanes`.
struct Products<'a> {
    block: &'a Block<'a>,
    unit: usize,
    k: usize,
    lanes: usize,
}

impl<S: Simd, const U: usize, const NV: usize> Chain<S, U, NV> for Products<'_> {
    #[inline(always)]
    fn sum(&self, s: S, rows: std::ops::Range<usize>) -> [[S::V; NV]; U] {
        let Block { x, dy, row, outputs, .. } = *self.block;
        let mut acc = [[s.zero(); NV]; U];
        for i in rows {
            // SAFETY: `check` has seen that x and dy hold `n` rows.
            unsafe {
                let from = x.as_ptr().add(i * row + self.k);
                let mut x = [s.zero(); NV];
                for v in 0..NV {
                    let p = from.add(v * LANES);
                    x[v] = if v + 1 < NV || self.lanes == LANES { s.load(p) } else { s.load_n(p, self.lanes) };
                }
                let dy = dy.as_ptr().add(i * outputs + self.unit);
                for u in 0..U {
                    let dy = s.splat(*dy.add(u));
                    for v in 0..NV {
                        acc[u][v] = s.fma(dy, x[v], acc[u][v]);
                    }
                }
            }
        }
        acc
    }
}

/// Sums a tile over groups of rows: `chain` gives the sum of the rows of a group.
#[inline(always)]
fn over_groups<S: Simd, const U: usize, const NV: usize>(
    s: S,
    n: usize,
    chain: &impl Chain<S, U, NV>,
) -> [[S::V; NV]; U] {
    if n <= GROUP {
        return chain.sum(s, 0..n);
    }
    // Not set beforehand: clearing 25 levels of a tile would take as long as its products.
    let mut levels = [[[MaybeUninit::<S::V>::uninit(); NV]; U]; LEVELS];
    let mut tree = Tree::default();
    let groups = n.div_ceil(GROUP);
    for group in 0..groups {
        let mut acc = chain.sum(s, group * GROUP..n.min((group + 1) * GROUP));
        let last = group + 1 == groups;
        let place = if last { tree.place_last() } else { tree.place(0) };
        for level in place.joins() {
            for u in 0..U {
                for v in 0..NV {
                    // SAFETY: the tree joins only levels at which it placed a sum before.
                    acc[u][v] = s.add(unsafe { levels[level][u][v].assume_init() }, acc[u][v]);
                }
            }
        }
        if last {
            return acc;
        }
        for u in 0..U {
            for v in 0..NV {
                levels[place.level][u][v].write(acc[u][v]);
            }
        }
    }
    unreachable!("there is a last group")
}

struct Bias<'a> {
    outputs: usize,
    n: usize,
    dy: &'a [f32],
    db: &'a Shares<f32>,
    units: std::ops::Range<usize>,
}

impl Kernel for Bias<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for unit in self.units.clone().step_by(LANES) {
            let lanes = LANES.min(self.outputs - unit);
            let [[sum]] = over_groups(s, self.n, &Ones { bias: &self, unit, lanes });
            // SAFETY: db holds a value for each unit.
            unsafe { s.store_n(self.db.pointer().add(unit), sum, lanes) };
        }
    }
}

/// dy's units, as if x were ones.
struct Ones<'a> {
    bias: &'a Bias<'a>,
    unit: usize,
    lanes: usize,
}

impl<S: Simd> Chain<S, 1, 1> for Ones<'_> {
    #[inline(always)]
    fn sum(&self, s: S, rows: std::ops::Range<usize>) -> [[S::V; 1]; 1] {
        let Bias { dy, outputs, .. } = *self.bias;
        let mut acc = s.zero();
        for i in rows {
            // SAFETY: `check` has seen that dy holds `n` rows.
            acc = s.add(acc, unsafe { s.load_n(dy.as_ptr().add(i * outputs + self.unit), self.lanes) });
        }
        [[acc]]
    }
}
