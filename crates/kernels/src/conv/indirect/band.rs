//! Runs of pixels, which need no table: on padded copies of bands for few channels, and where the kernel is pointwise.

use std::ops::Range;

use super::super::padded::Padded;
use super::super::phase::Tap;
use super::super::run_tile::{self, Run};
use super::super::tile::Output;
use super::{Block, Indirect, Pixels};
use crate::Cpu;
use crate::pool::Shares;
use crate::simd::{Kernel, Simd, dispatch};

/// Pixels of a task on a padded band.
const BAND: usize = 384;

impl Indirect {
    /// Output rows of a padded band.
    fn band_rows(&self) -> usize {
        (BAND / self.target[1]).clamp(1, self.target[0])
    }

    pub fn workspace_len(&self, threads: usize) -> usize {
        self.padded.as_ref().map_or(0, |padded| threads * padded.band_len(self.band_rows()))
    }

    /// All pictures and groups, a band of a group a task.
    pub(super) fn run_bands(
        &self,
        cpu: &Cpu,
        n: usize,
        padded: &Padded,
        x: Pixels,
        whole: &Block,
        workspace: &mut [f32],
    ) {
        let needed = self.workspace_len(cpu.pool().threads());
        assert!(workspace.len() >= needed, "workspace: {} values of {needed}", workspace.len());
        let (height, rows) = (self.target[0], self.band_rows());
        let (bands, len) = (height.div_ceil(rows), padded.band_len(rows));
        let workspace = Shares::new(workspace);
        cpu.pool().run_on(n * bands * self.groups, &|task, thread| {
            let (task, group) = (task / self.groups, task % self.groups);
            let (image, first) = (task / bands, task % bands * rows);
            let x = Pixels { data: &x.data[group * padded.channels()..], ..x };
            // SAFETY: each thread has a part of its own.
            let copy = unsafe { workspace.part(thread * len, len) }.as_mut_ptr();
            let rows = first..(first + rows).min(height);
            dispatch(cpu.isa(), Band { padded, x, image, rows, copy, block: whole.of_group(group) });
        });
    }
}

/// A task: copies the rows that it sees, then computes all panels.
struct Band<'a> {
    padded: &'a Padded,
    x: Pixels<'a>,
    image: usize,
    rows: Range<usize>,
    copy: *mut f32,
    /// All panels of a group, of all pictures.
    block: Block<'a>,
}

impl Kernel for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Band { padded, x, image, rows, copy, block } = self;
        let [height, width] = block.plan.target;
        let [row_step, pixel_step] = padded.steps();
        // SAFETY: `Indirect::run` checked that x covers every pixel and channel; the copy has room for the band.
        unsafe { padded.copy(s, &x, image, padded.seen(&rows), copy) };
        // As if the rows of all pictures were there.
        let rows = image * height + rows.start..image * height + rows.end;
        for p in block.panels.clone() {
            let run = Run {
                pixels: rows.start * width..rows.end * width,
                width,
                source: copy.wrapping_sub(rows.start * row_step),
                pixel_step,
                row_step,
                tap_step: padded.step(),
                ..block.run_of(p)
            };
            // SAFETY: `Indirect::run` checked that target, residual, bias and packed weights cover all pixels and channels;
            // tasks write different rows; the copy holds what the rows see.
            unsafe { run_tile::run(s, block.vectors::<S>(p), &run) }
        }
        if block.stream {
            s.fence();
        }
    }
}

impl Block<'_> {
    /// Whether a target reads one source pixel, a fixed step from the one before in its row, and rows follow each other by fixed
    /// steps, through all pictures.
    pub(super) fn pointwise(&self) -> bool {
        let (plan, phase) = (self.plan, self.phase);
        let rows = phase.count[0] * phase.source_step[0];
        phase.count == plan.target && rows == plan.source[0] && matches!(phase.taps[..], [Tap { at: [0, 0], .. }])
    }

    /// The block's pixels as they lie.
    ///
    /// # Safety
    /// As for [`Block::in_place`], for what is [`Block::pointwise`].
    #[inline(always)]
    pub(super) unsafe fn side_by_side<S: Simd>(&self, s: S) {
        for p in self.panels.clone() {
            let run = Run { ask_source: p == self.panels.start, ..self.run_of(p) };
            // SAFETY: as the caller vouches.
            unsafe { run_tile::run(s, self.vectors::<S>(p), &run) }
        }
        if self.stream {
            s.fence();
        }
    }

    /// The block's pixels and panel `p`, with one source pixel each.
    #[inline(always)]
    fn run_of(&self, p: usize) -> Run {
        let (plan, phase) = (self.plan, self.phase);
        let tile = self.tile(p, std::ptr::null(), std::ptr::null(), 0);
        let [down, right] = phase.source_step;
        let (pixel_step, row_step) = (right * self.source_stride, down * plan.source[1] * self.source_stride);
        Run {
            pixels: self.pixels.clone(),
            // All rows are one where they follow each other without a gap.
            width: if row_step == plan.target[1] * pixel_step { usize::MAX } else { plan.target[1] },
            source: self.source,
            pixel_step,
            row_step,
            tap_step: 0,
            taps: phase.taps.len(),
            depth: plan.depth,
            weights: tile.weights,
            output: Output { stream: self.stream, ..tile.output },
            ask_source: false,
        }
    }
}
