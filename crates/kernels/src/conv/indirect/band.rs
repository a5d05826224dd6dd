//! Few channels: the product on padded copies of bands.

use std::ops::Range;

use super::super::padded::Padded;
use super::super::run_tile::{self, Run};
use super::super::tile;
use super::{Block, Indirect, Pixels};
use crate::Cpu;
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd, dispatch};

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
        let plan = whole.plan;
        let [height, width] = plan.target;
        let [row_step, pixel_step] = padded.steps();
        let (panel, first) = (tile::panel(S::WIDE, plan.width), (image * height + rows.start) * width);
        // SAFETY: `Indirect::run` checked that x covers every pixel and channel; the copy has room for the band.
        unsafe { padded.copy(s, &x, image, padded.seen(&rows), copy) };
        for p in whole.panels.clone() {
            let tile = whole.tile(p, std::ptr::null(), std::ptr::null(), 0);
            let vectors = panel.min(plan.padded_width() - p * panel) / LANES;
            let run = Run {
                pixels: rows.len() * width,
                width,
                source: copy,
                pixel_step,
                row_step,
                tap_step: padded.step(),
                taps: whole.phase.taps.len(),
                depth: plan.depth,
                weights: tile.weights,
                lanes: tile.lanes,
                target: tile.target.wrapping_add(first * tile.target_stride),
                target_stride: tile.target_stride,
                stream: whole.stream,
                bias: tile.bias,
                residual: match tile.residual.is_null() {
                    true => tile.residual,
                    false => tile.residual.wrapping_add(first * tile.residual_stride),
                },
                residual_stride: tile.residual_stride,
                activation: tile.activation,
            };
            // SAFETY: `Indirect::run` checked that target, residual, bias and packed weights cover all pixels and channels;
            // tasks write different rows; the copy holds what the rows see.
            unsafe { run_tile::run(s, vectors, &run) }
        }
        if whole.stream {
            s.fence();
        }
    }
}
