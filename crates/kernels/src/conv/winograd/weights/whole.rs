//! Sums over one segment alone: a task takes all points of some channels and filters, whose sums stay with its core, and
//! transforms them itself. Writing them to where another core reads them took longer than making them: 512 to 512 channels
//! at 7x7, one picture, on two cores of a Sapphire Rapids.

use std::ops::Range;

use super::super::POINTS;
use super::finish::Finish;
use super::{Part, Pass, SUM_POINT, SegmentSum, WIDE_TASK, WeightGradient};
use crate::Cpu;
use crate::pool::Shares;
use crate::segments::Segment;
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Most filters of a task: with the channels of [`WIDE_TASK`] blocks its sums are 1.2 MB.
const FILTERS: usize = 64;

/// Most tiles: with more, a task reads more than it saves (256 to 256 channels at 14x14, 16 pictures: 11.7 instead of 10.5 ms).
const TILES: usize = 128;

/// Whether so many pictures are one segment, of few tiles.
pub(super) fn fits(plan: &WeightGradient, images: usize) -> bool {
    let one = plan.segments.most_rows() == plan.grid[0] && plan.segments.units(images) == 1;
    one && images * plan.grid[0] * plan.grid[1] <= TILES
}

/// Values of a task's sums.
pub(super) fn own_len(plan: &WeightGradient) -> usize {
    let (blocks, filters) = (plan.blocks().min(WIDE_TASK), plan.padded_filters().min(FILTERS));
    POINTS * blocks * LANES * filters + filters
}

/// Gradients of weights and bias from a chunk's transformed values. `scratch` has [`own_len`] values a thread.
pub(super) fn run(
    cpu: &Cpu,
    pass: &Pass,
    images: usize,
    dw: &Shares<f32>,
    db: Option<&mut [f32]>,
    scratch: &mut [f32],
) {
    let (plan, threads) = (pass.plan, cpu.pool().threads());
    let (mut blocks, mut panels) = (plan.blocks().min(WIDE_TASK), plan.panels().min(FILTERS / plan.panel));
    let tasks = |blocks, panels| {
        [plan.shape.groups, plan.blocks().div_ceil(blocks), plan.panels().div_ceil(panels)].iter().product::<usize>()
    };
    let wanted = if threads == 1 { 1 } else { 4 * threads };
    while tasks(blocks, panels) < wanted && blocks * panels > 1 {
        if blocks > 1 { blocks = blocks.div_ceil(2) } else { panels = panels.div_ceil(2) }
    }
    let (across, down) = (plan.blocks().div_ceil(blocks), plan.panels().div_ceil(panels));
    let segment = Segment { images: 0..images, rows: 0..plan.grid[0] };
    let (len, scratch, db) = (own_len(plan), Shares::new(scratch), db.map(Shares::new));
    cpu.pool().run_on(plan.shape.groups * across * down, &|task, thread| {
        let (group, first) = (task / (across * down), task / down % across * blocks);
        let panel = task % down * panels;
        // SAFETY: each thread has a part of its own.
        let own = unsafe { scratch.part(thread * len, len) };
        let (blocks, panels) = (first..plan.blocks().min(first + blocks), panel..plan.panels().min(panel + panels));
        let db = db.as_ref().filter(|_| first == 0);
        dispatch(cpu.isa(), Whole { pass, segment: &segment, group, blocks, panels, own, dw, db });
    });
}

struct Whole<'a> {
    pass: &'a Pass<'a>,
    segment: &'a Segment,
    group: usize,
    blocks: Range<usize>,
    panels: Range<usize>,
    own: &'a mut [f32],
    dw: &'a Shares<f32>,
    db: Option<&'a Shares<f32>>,
}

impl Kernel for Whole<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (plan, segment, group) = (self.pass.plan, self.segment, self.group);
        let part =
            |point, blocks: &Range<usize>| Part { point, group, blocks: blocks.clone(), panels: self.panels.clone() };
        let filters: usize = self.panels.clone().map(|panel| plan.lanes(panel)).sum();
        let plane = self.blocks.len() * LANES * filters;
        for (point, out) in self.own[..POINTS * plane].chunks_mut(plane).enumerate() {
            SegmentSum { pass: self.pass, part: part(point, &self.blocks), segment, out }.run(s);
        }
        let mut before = 0;
        for panel in self.panels.clone() {
            let lanes = plan.lanes(panel);
            for block in self.blocks.clone() {
                let channels = block * LANES..plan.shape.group_channels().min((block + 1) * LANES);
                let sums = self.own[before..].as_ptr();
                Finish { plan, group, panel, channels, sums, plane, dw: self.dw }.run(s);
                before += LANES * lanes;
            }
        }
        if let Some(db) = self.db {
            let out = &mut self.own[..filters];
            SegmentSum { pass: self.pass, part: part(SUM_POINT, &(0..0)), segment, out }.run(s);
            let (all, first) = (plan.shape.group_filters(), self.panels.start * plan.panel);
            let count = filters.min(all - first);
            // SAFETY: tasks have filters of their own; `WeightGradient::run` checked that db holds all of them.
            unsafe { db.part(group * all + first, count) }.copy_from_slice(&self.own[..count]);
        }
    }
}
