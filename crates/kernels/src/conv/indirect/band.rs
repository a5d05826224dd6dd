//! Runs of pixels, which need no table: on padded copies of bands for few channels, and where the kernel is pointwise.

use std::ops::Range;

use super::super::padded::Padded;
use super::super::phase::Tap;
use super::super::run_tile::{self, Run};
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

    /// All pictures, a band a task.
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
        cpu.pool().run_on(n * bands, &|task, thread| {
            let (image, first) = (task / bands, task % bands * rows);
            // SAFETY: each thread has a part of its own.
            let copy = unsafe { workspace.part(thread * len, len) }.as_mut_ptr();
            let rows = first..(first + rows).min(height);
            dispatch(cpu.isa(), Band { padded, x, image, rows, copy, whole });
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
    /// All panels of all pictures.
    whole: &'a Block<'a>,
}

impl Kernel for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Band { padded, x, image, rows, copy, whole } = self;
        let [height, width] = whole.plan.target;
        let [row_step, pixel_step] = padded.steps();
        // SAFETY: `Indirect::run` checked that x covers every pixel and channel; the copy has room for the band.
        unsafe { padded.copy(s, &x, image, padded.seen(&rows), copy) };
        for p in whole.panels.clone() {
            let run = Run {
                pixels: rows.len() * width,
                width,
                source: copy,
                pixel_step,
                row_step,
                tap_step: padded.step(),
                ..whole.run_of(p, (image * height + rows.start) * width)
            };
            // SAFETY: `Indirect::run` checked that target, residual, bias and packed weights cover all pixels and channels;
            // tasks write different rows; the copy holds what the rows see.
            unsafe { run_tile::run(s, whole.vectors::<S>(p), &run) }
        }
        if whole.stream {
            s.fence();
        }
    }
}

impl Block<'_> {
    /// Whether source and target have the same pixels, and a target reads its own alone.
    pub(super) fn pointwise(&self) -> bool {
        let (plan, phase) = (self.plan, self.phase);
        plan.source == plan.target && phase.count == plan.target && matches!(phase.taps[..], [Tap { at: [0, 0], .. }])
    }

    /// The block's pixels as they lie.
    ///
    /// # Safety
    /// As for [`Block::in_place`], for what is [`Block::pointwise`].
    #[inline(always)]
    pub(super) unsafe fn side_by_side<S: Simd>(&self, s: S) {
        let first = self.pixels.start;
        for p in self.panels.clone() {
            let run = Run {
                pixels: self.pixels.len(),
                source: self.source.wrapping_add(first * self.source_stride),
                ask_source: p == self.panels.start,
                ..self.run_of(p, first)
            };
            // SAFETY: as the caller vouches.
            unsafe { run_tile::run(s, self.vectors::<S>(p), &run) }
        }
        if self.stream {
            s.fence();
        }
    }

    /// What panel `p` reads and writes from target pixel `first` on, but for the pixels and their sources.
    #[inline(always)]
    fn run_of(&self, p: usize, first: usize) -> Run {
        let plan = self.plan;
        let tile = self.tile(p, std::ptr::null(), std::ptr::null(), 0);
        let residual = tile.residual.wrapping_add(first * tile.residual_stride);
        Run {
            pixels: 0,
            width: usize::MAX,
            source: std::ptr::null(),
            pixel_step: self.source_stride,
            row_step: 0,
            tap_step: 0,
            taps: self.phase.taps.len(),
            depth: plan.depth,
            weights: tile.weights,
            lanes: tile.lanes,
            continued: false,
            target: tile.target.wrapping_add(first * tile.target_stride),
            target_stride: tile.target_stride,
            stream: self.stream,
            bias: tile.bias,
            residual: if tile.residual.is_null() { std::ptr::null() } else { residual },
            residual_stride: tile.residual_stride,
            activation: tile.activation,
            ask_source: false,
        }
    }
}
