//! Products with weights as they are: a task is some filters and tiles.
//!
//! A task transforms the weights of 64 channels at a time into memory of its own and adds their products at all points to
//! sums of its own. Weights and sums so stay in the second-level cache of one core. Transformed weights are four times the
//! weights; reading them from where another core made them took longer than making them (512 to 512 channels at 7x7, one
//! picture, two cores of a Sapphire Rapids: 3.1 ms, now 1.1).

use std::ops::Range;

use super::super::super::Activation;
use super::super::super::tile::{self, Ahead, Tile};
use super::super::POINTS;
use super::pack::Pack;
use super::{Pass, Product, Weights};
use crate::Cpu;
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Filters of a task. It reads its tiles' transformed sources from where all threads have them, once, so they are not few.
const FILTERS: usize = 4 * LANES;
/// Most tiles of a task: its sums are 885 KB.
const TILES: usize = 96;
/// Channels whose weights a task transforms at once: 590 KB.
const DEPTH: usize = 64;

/// Fewest tiles of a block: of eight tasks.
pub(super) fn fewest(plan: &Product) -> usize {
    TILES * 8usize.div_ceil(plan.groups * plan.width.div_ceil(FILTERS))
}

/// Values of a task's own weights and sums.
fn own(plan: &Product) -> [usize; 2] {
    let (filters, depth) = (FILTERS.min(plan.width.next_multiple_of(LANES)), DEPTH.min(plan.depth));
    [depth, TILES].map(|rows| POINTS * (rows * filters + LANES))
}

/// Values that a thread needs for itself.
pub(super) fn own_len(plan: &Product) -> usize {
    own(plan).iter().sum()
}

/// Targets of a block of `count` tiles whose sources are transformed. `scratch` has [`own_len`] values a thread.
pub(super) fn run(cpu: &Cpu, pass: &Pass, weights: Weights, count: usize, scratch: &mut [f32]) {
    let (plan, threads) = (pass.plan, cpu.pool().threads());
    let mr = tile::pixels(cpu.isa() == crate::Isa::Avx512, plan.width);
    let wanted = if threads == 1 { 1 } else { 4 * threads };
    // Fewer filters rather than fewer tiles, for which all weights would be transformed again.
    let parts = |filters: usize| plan.groups * plan.width.div_ceil(filters);
    let few = parts(FILTERS) * count.div_ceil(TILES) < wanted;
    let filters = if few { FILTERS / 2 } else { FILTERS };
    let parts = parts(filters);
    let chunks = count.div_ceil(TILES).max(wanted.div_ceil(parts)).min(count.div_ceil(mr));
    let chunk = count.div_ceil(chunks);
    let (chunks, len, scratch) = (count.div_ceil(chunk), own_len(plan), Shares::new(scratch));
    cpu.pool().run_on(parts * chunks, &|task, thread| {
        let (part, at) = (task / chunks, task % chunks * chunk);
        let (group, first) = (part % plan.groups, part / plan.groups * filters);
        let filters = first..plan.width.min(first + filters);
        // SAFETY: each thread has a part of its own.
        let own = unsafe { scratch.part(thread * len, len) };
        dispatch(cpu.isa(), Outputs { pass, weights, group, filters, tiles: at..count.min(at + chunk), own });
    });
}

/// The outputs of some tiles and of some filters of a group.
struct Outputs<'a> {
    pass: &'a Pass<'a>,
    weights: Weights<'a>,
    group: usize,
    filters: Range<usize>,
    tiles: Range<usize>,
    own: &'a mut [f32],
}

impl Kernel for Outputs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: `Product::run` checked source, weights, target, residual and bias; the task's own memory has room for the
        // weights and sums of so many filters; tasks write different tiles or channels.
        unsafe {
            self.sum(s);
            if self.pass.plan.kernel == 3 { self.write::<S, 3>(s) } else { self.write::<S, 5>(s) }
        }
    }
}

/// A panel of a task's filters.
struct Panel {
    first: usize,
    lanes: usize,
    /// Values before its weights and sums at a point of those of the task.
    before: usize,
}

impl Outputs<'_> {
    fn panels(&self) -> impl Iterator<Item = Panel> + use<'_> {
        let plan = self.pass.plan;
        let firsts = self.filters.clone().step_by(plan.panel());
        firsts.map(move |first| Panel { first, lanes: plan.lanes(first), before: first - self.filters.start })
    }

    /// The task's filters in whole vectors.
    fn width(&self) -> usize {
        self.filters.len().next_multiple_of(LANES)
    }

    /// `[point][panel][tile][lanes]`, and values from a point to the next.
    fn sums(&self) -> (*mut f32, usize) {
        let sums = self.own.as_ptr().cast_mut().wrapping_add(own(self.pass.plan)[0]);
        (sums, self.tiles.len() * self.width() + LANES)
    }

    /// The products at all points.
    #[inline(always)]
    unsafe fn sum<S: Simd>(&self, s: S) {
        let Pass { plan, most, .. } = *self.pass;
        let (row, mr) = (plan.source_row(), tile::pixels(S::WIDE, plan.width));
        let (sums, sum_plane) = self.sums();
        let mut targets = [0; TILES];
        for (i, target) in targets.iter_mut().enumerate() {
            *target = i;
        }
        let mut rows = [std::ptr::null::<f32>(); TILES];
        for d in (0..plan.depth).step_by(DEPTH) {
            let depth = DEPTH.min(plan.depth - d);
            // `[point][panel][channel][lanes]`
            let (own, plane) = (self.own.as_ptr().cast_mut(), depth * self.width() + LANES);
            for Panel { first, lanes, before } in self.panels() {
                let (group, out) = (self.group, own.wrapping_add(before * depth));
                Pack { plan, weights: self.weights, group, first, lanes, depth: d..d + depth, out, plane }.run(s);
            }
            for point in 0..POINTS {
                let sources =
                    self.pass.sources.cast_const().wrapping_add(point * most * row + self.group * plan.depth + d);
                for (row_of, t) in rows.iter_mut().zip(self.tiles.clone()) {
                    *row_of = sources.wrapping_add(t * row);
                }
                for Panel { first, lanes, before } in self.panels() {
                    for i in (0..self.tiles.len()).step_by(mr) {
                        let tile = Tile {
                            rows: rows[i..].as_ptr(),
                            positions: 1,
                            step: None,
                            depth,
                            weights: own.cast_const().wrapping_add(point * plane + before * depth),
                            ahead: Ahead::NOTHING,
                            targets: targets[i..].as_ptr(),
                            first: d == 0,
                            last: false,
                            lanes: LANES - (lanes - lanes.min(plan.width - first)),
                            target: sums.wrapping_add(point * sum_plane + before * self.tiles.len()),
                            target_stride: lanes,
                            stream: false,
                            bias: std::ptr::null(),
                            residual: std::ptr::null(),
                            residual_stride: 0,
                            activation: Activation::None,
                        };
                        if before == 0 {
                            // The next tile's sources, runs too short to be foreseen; after the last one those of the next point.
                            let next = (i + mr) % self.tiles.len().next_multiple_of(mr);
                            let further = if next == 0 { most * row } else { 0 };
                            for row in &rows[next..(next + mr).min(self.tiles.len())] {
                                for q in (0..depth).step_by(LANES) {
                                    s.prefetch(row.wrapping_add(further + q));
                                }
                            }
                        }
                        // SAFETY: as the caller vouches.
                        unsafe { tile::run(s, mr.min(self.tiles.len() - i), lanes / LANES, &tile) }
                    }
                }
            }
        }
    }

    /// From sums to outputs.
    #[inline(always)]
    unsafe fn write<S: Simd, const R: usize>(&self, s: S) {
        let plan = self.pass.plan;
        let (sums, plane) = self.sums();
        for (i, t) in self.tiles.clone().enumerate() {
            for Panel { first, lanes, before } in self.panels() {
                for lane in (0..lanes).step_by(LANES) {
                    let sums = sums.cast_const().wrapping_add(before * self.tiles.len() + i * lanes + lane);
                    let channels = [self.group * plan.width + first + lane, LANES.min(plan.width - first - lane)];
                    // SAFETY: as the caller vouches.
                    unsafe { self.pass.write::<S, R>(s, t, channels, sums, plane) }
                }
            }
        }
    }
}
