//! Products with weights that were transformed before: a task is a point and some tiles.

use std::ops::Range;

use super::super::super::Activation;
use super::super::super::tile::{self, Ahead, Tile};
use super::super::POINTS;
use super::{FEW, Pass};
use crate::Cpu;
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Tiles of a product's task, in units of a register tile: their channels stay in the second-level cache.
const CHUNK: usize = 96;

/// Sums and targets of a block of `count` tiles whose sources are transformed.
pub(super) fn run(cpu: &Cpu, pass: &Pass, packed: &[f32], count: usize) {
    let (chunks, groups) = (count.div_ceil(CHUNK), pass.plan.groups);
    cpu.pool().run(POINTS * groups * chunks, &|task| {
        let (chunk, rest) = (task % chunks, task / chunks);
        let tiles = chunk * CHUNK..count.min((chunk + 1) * CHUNK);
        dispatch(cpu.isa(), Sums { pass, packed, group: rest % groups, point: rest / groups, tiles });
    });
    cpu.pool().run(count.div_ceil(FEW), &|task| {
        let tiles = task * FEW..count.min((task + 1) * FEW);
        dispatch(cpu.isa(), Targets { pass, tiles });
    });
}

/// The product at a point for some tiles and all targets of a group.
struct Sums<'a> {
    pass: &'a Pass<'a>,
    packed: &'a [f32],
    group: usize,
    point: usize,
    tiles: Range<usize>,
}

impl Kernel for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Pass { plan, most, sum_row, .. } = *self.pass;
        let (source_row, mr, panel) = (plan.source_row(), tile::pixels(S::WIDE, plan.width), plan.panel());
        let mut rows = [std::ptr::null::<f32>(); CHUNK];
        let mut targets = [0; CHUNK];
        let first = self.pass.sources.cast_const().wrapping_add(self.point * most * source_row);
        for (i, t) in self.tiles.clone().enumerate() {
            rows[i] = first.wrapping_add(t * source_row + self.group * plan.depth);
            targets[i] = t;
        }
        let weights = (self.group * POINTS + self.point) * plan.plane(plan.width);
        for start in (0..plan.width).step_by(panel) {
            let lanes = plan.lanes(start);
            let sums = self.point * most * sum_row + self.group * plan.width + start;
            for i in (0..self.tiles.len()).step_by(mr) {
                let tile = Tile {
                    rows: rows[i..].as_ptr(),
                    positions: 1,
                    step: None,
                    depth: plan.depth,
                    weights: self.packed[weights + start * plan.depth..].as_ptr(),
                    ahead: Ahead::NOTHING,
                    targets: targets[i..].as_ptr(),
                    first: true,
                    last: false,
                    lanes: LANES - (lanes - (plan.width - start).min(lanes)),
                    target: self.pass.sums.wrapping_add(sums),
                    target_stride: sum_row,
                    stream: false,
                    bias: std::ptr::null(),
                    residual: std::ptr::null(),
                    residual_stride: 0,
                    activation: Activation::None,
                };
                // SAFETY: sources and sums hold the block's tiles, the packed weights all points; tasks write different
                // tiles, points or groups.
                unsafe { tile::run(s, mr.min(self.tiles.len() - i), lanes / LANES, &tile) }
            }
        }
    }
}

/// The outputs of some tiles.
struct Targets<'a> {
    pass: &'a Pass<'a>,
    tiles: Range<usize>,
}

impl Kernel for Targets<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if self.pass.plan.kernel == 3 { self.write::<S, 3>(s) } else { self.write::<S, 5>(s) }
    }
}

impl Targets<'_> {
    #[inline(always)]
    fn write<S: Simd, const R: usize>(&self, s: S) {
        let Pass { plan, sums, sum_row, most, .. } = *self.pass;
        let channels = plan.groups * plan.width;
        for t in self.tiles.clone() {
            for c in (0..channels).step_by(LANES) {
                let sums = sums.cast_const().wrapping_add(t * sum_row + c);
                // SAFETY: the sums hold the block's tiles; tasks write different ones.
                unsafe { self.pass.write::<S, R>(s, t, [c, LANES.min(channels - c)], sums, most * sum_row) }
            }
        }
    }
}
