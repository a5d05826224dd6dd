//! Depthwise convolution: one filter a channel, so vectors run across channels and there is nothing to broadcast. Groups of
//! four channels and as many filters go the same way: a vector's channels change places within their groups, so that
//! each filter meets each channel of its group in turn.
//!
//! A band's rows are computed 32 or 16 channels at a time: a strip of neighbouring pixels stays in registers while all kernel
//! elements pass, three neighbouring ones at once, which share the source pixels that they see. See [`strip`].

mod strip;

use std::ops::Range;

use super::phase::{Phase, Tap};
use super::weight_tile::met;
use super::{Epilogue, Pixels, PixelsMut, check_output, check_pixels};
use crate::Cpu;
use crate::geometry::ConvShape;
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, STREAMED, Simd, dispatch, streams};
use strip::{Run, Strip};

/// About the values that a task computes: 20 µs of work.
const TASK: usize = 64 << 10;

/// Forward or data gradient of a depthwise convolution, as grids of targets that see the same taps.
pub(super) struct Depthwise {
    source: [usize; 2],
    target: [usize; 2],
    channels: usize,
    /// Channels of a group: 1 or 4.
    each: usize,
    /// Whether the targets are the convolution's inputs.
    turned: bool,
    pub grids: Vec<Grid>,
    taps: usize,
}

/// A grid of targets.
pub(super) struct Grid {
    phase: Phase,
    runs: Vec<Run>,
    /// Of every so many columns, those that share source columns: how many there are, and which of them see no border.
    columns: Vec<(usize, Range<usize>)>,
    /// Source columns from one that a strip reads to the next, and how many of these lie between its targets: 1, 2, or 0 where
    /// they share none.
    gap: usize,
    share: usize,
}

/// Targets of the shorter strips: with fewer columns of a kind, most of a strip would be computed for nothing.
const STRIP: usize = 4;

impl Grid {
    /// `width`: source columns; `weights`: packed ones of a tap.
    fn new(phase: Phase, width: usize, each: usize, weights: usize) -> Grid {
        let (step, columns) = (phase.source_step[1], phase.count[1]);
        let gap = match phase.taps[..] {
            [ref first, ref second, ..] if first.at[0] == second.at[0] => (second.at[1] - first.at[1]).unsigned_abs(),
            _ => 1,
        };
        // Targets so far apart as elements are share columns, and those that are twice as far.
        let may = each == 1 && gap.is_multiple_of(step) && gap / step * STRIP <= columns;
        let apart = if may { gap / step } else { 1 };
        let share = match apart * step {
            far if far == gap && (gap == 1 || each == 1) => 1,
            2 if gap == 1 && each == 1 => 2,
            _ => 0,
        };
        let mut runs = Vec::new();
        let mut tap = 0;
        while let Some(&Tap { at, .. }) = phase.taps.get(tap) {
            let beside = |(k, next): (usize, &Tap)| next.at == [at[0], at[1] + (k * gap) as isize];
            let three = phase.taps[tap..].len() >= 3 && phase.taps[tap..][..3].iter().enumerate().all(beside);
            let columns = if share > 0 && three { 3 } else { 1 };
            runs.push(Run { at, pixel: at[0] * width as isize + at[1], columns, weights: tap * weights });
            tap += columns;
        }
        let mut inside = 0..phase.count[1];
        for tap in &phase.taps {
            inside = met(inside, step, tap.at[1], width);
        }
        let of = |first: usize, columns: usize| columns.saturating_sub(first).div_ceil(apart);
        let inside = |first: usize| of(first, inside.start.min(inside.end))..of(first, inside.end);
        let columns = (0..apart.min(columns)).map(|first| (of(first, columns), inside(first))).collect();
        Grid { phase, runs, columns, gap: if share > 0 { gap } else { apart * step }, share }
    }
}

impl Depthwise {
    /// Whether groups have one channel and one filter, or four of each: the four lanes that a vector can exchange at once.
    pub fn fits(shape: &ConvShape) -> bool {
        shape.groups > 1 && shape.channels == shape.filters && matches!(shape.group_channels(), 1 | 4)
    }

    /// The forward convolution, or, `turned`, its data gradient.
    pub fn new(shape: &ConvShape, turned: bool, phases: Vec<Phase>) -> Depthwise {
        let (channels, each) = (shape.channels, shape.group_channels());
        let (mut source, mut target) = (shape.input, shape.output());
        if turned {
            (source, target) = (target, source);
        }
        let taps = phases.iter().map(|p| p.taps.len()).sum();
        let weights = each * channels.next_multiple_of(LANES);
        let grids = phases.into_iter().map(|phase| Grid::new(phase, source[1], each, weights)).collect();
        Depthwise { source, target, channels, each, turned, grids, taps }
    }

    pub fn name(&self) -> &'static str {
        if self.each == 1 { "depthwise" } else { "grouped" }
    }

    fn padded_channels(&self) -> usize {
        self.channels.next_multiple_of(LANES)
    }

    /// Packed weights: `[phase][tap][source channel of a group][target channels, rounded up to a vector]`.
    pub fn packed_len(&self) -> usize {
        self.taps * self.each * self.padded_channels()
    }

    pub fn pack(&self, weights: &[f32], packed: &mut [f32]) {
        assert!(packed.len() >= self.packed_len(), "packed weights: {} of {}", packed.len(), self.packed_len());
        let (each, kernel) = (self.each, weights.len() / self.channels / self.each);
        let taps = self.grids.iter().flat_map(|grid| &grid.phase.taps);
        let rows = taps.flat_map(|tap| (0..each).map(move |source| (tap.kernel, source)));
        for ((tap, source), row) in rows.zip(packed.chunks_mut(self.padded_channels())) {
            row.fill(0.0);
            for (target, row) in row[..self.channels].iter_mut().enumerate() {
                let (inside, group) = (target % each, target - target % each);
                let [filter, channel] = if self.turned { [group + source, inside] } else { [target, source] };
                *row = weights[(filter * each + channel) * kernel + tap];
            }
        }
    }

    /// Computes all targets of `n` pictures.
    pub fn run(&self, cpu: &Cpu, n: usize, source: Pixels, packed: &[f32], epilogue: &Epilogue, target: PixelsMut) {
        let [source_size, target_size] = [self.source, self.target].map(|[h, w]| n * h * w);
        check_pixels("source", source.data.len(), source.stride, source_size, self.channels);
        check_output(&target, epilogue, packed, target_size, self.channels, self.packed_len());
        let stream =
            self.channels.is_multiple_of(LANES) && streams(target.data.as_ptr(), target_size, target.stride, STREAMED);
        let (target_stride, target) = (target.stride, Shares::new(target.data));
        // All grids of some rows are a task: they share cache lines.
        let [rows, columns] = self.grids[0].phase.count;
        let band =
            (TASK / (self.grids.len() * columns * self.channels).max(1)).min(n * rows / (4 * cpu.pool().threads()));
        let band = band.clamp(1, rows.max(1));
        let bands = rows.div_ceil(band);
        cpu.pool().run(n * bands, &|task| {
            let (image, first) = (task / bands, task % bands * band);
            let mut weights = packed;
            for grid in &self.grids {
                let rows = grid.phase.count[0];
                dispatch(
                    cpu.isa(),
                    Band {
                        plan: self,
                        grid,
                        image,
                        rows: first.min(rows)..(first + band).min(rows),
                        source: source.data.as_ptr(),
                        source_stride: source.stride,
                        weights,
                        epilogue,
                        target: target.pointer(),
                        target_stride,
                        stream,
                    },
                );
                weights = &weights[grid.phase.taps.len() * self.each * self.padded_channels()..];
            }
        });
    }
}

/// A task: some rows of a grid in one picture.
pub(super) struct Band<'a> {
    pub plan: &'a Depthwise,
    pub grid: &'a Grid,
    pub image: usize,
    pub rows: Range<usize>,
    /// As if every picture were there, of which only what the rows see is read.
    pub source: *const f32,
    pub source_stride: usize,
    pub weights: &'a [f32],
    pub epilogue: &'a Epilogue<'a>,
    /// The same, of which only the rows are written.
    pub target: *mut f32,
    pub target_stride: usize,
    pub stream: bool,
}

impl Kernel for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match (self.plan.each, self.grid.share, self.grid.gap) {
            (1, 2, _) => self.rows::<S, 2, 1, false>(s),
            (1, _, 1) => self.rows::<S, 1, 1, false>(s),
            (1, 1, _) => self.rows::<S, 1, 1, true>(s),
            (1, _, _) => self.rows::<S, 0, 1, true>(s),
            (_, _, 1) => self.rows::<S, 1, 4, false>(s),
            _ => self.rows::<S, 0, 4, true>(s),
        }
        if self.stream {
            s.fence();
        }
    }
}

impl Band<'_> {
    /// `STEP` is the grid's `share`, or 1 where the gap is one column; `G` the channels of a group; `GAP` says that the gap may be
    /// more than one column.
    #[inline(always)]
    fn rows<S: Simd, const STEP: usize, const G: usize, const GAP: bool>(&self, s: S) {
        let (plan, Grid { phase, runs, columns, gap, .. }) = (self.plan, self.grid);
        let apart = columns.len();
        let [height, width] = plan.source;
        for row in self.rows.clone() {
            let pixel = (self.image * plan.target[0] + phase.start[0] + row * phase.step[0]) * plan.target[1];
            let pixel = pixel + phase.start[1];
            let y = row * phase.source_step[0];
            // Rows rise or fall from run to run, so that those in the picture are neighbours.
            let seen = |run: &Run| y.wrapping_add_signed(run.at[0]) < height;
            let first = runs.iter().position(seen).unwrap_or(runs.len());
            let last = runs.iter().rposition(seen).map_or(first, |last| last + 1);
            let runs = &runs[first..last];
            let residual = self.epilogue.residual;
            // Strips take every so many columns.
            for (first, (count, inside)) in columns.iter().enumerate() {
                let pixel = pixel + first * phase.step[1];
                let strip = Strip {
                    runs,
                    x: self.source.wrapping_add((self.image * height + y) * width * self.source_stride),
                    stride: self.source_stride,
                    column: first * phase.source_step[1],
                    step: apart * phase.source_step[1],
                    gap: *gap,
                    far: gap * self.source_stride,
                    width,
                    weights: self.weights.as_ptr(),
                    weights_stride: plan.padded_channels(),
                    target: self.target.wrapping_add(pixel * self.target_stride),
                    target_step: apart * phase.step[1] * self.target_stride,
                    stream: self.stream,
                    bias: self.epilogue.bias.map_or(std::ptr::null(), |b| b.as_ptr()),
                    residual: residual.map_or(std::ptr::null(), |r| r.data.as_ptr().wrapping_add(pixel * r.stride)),
                    residual_step: residual.map_or(0, |r| apart * phase.step[1] * r.stride),
                    activation: self.epilogue.activation,
                };
                // SAFETY: who made the band checked what it reads and writes; tasks write different rows.
                unsafe { strip.row::<S, STEP, G, GAP>(s, *count, inside, plan.channels) };
            }
        }
    }
}

/// Lane `i` of each `G` neighbouring lanes, in all of them.
#[inline(always)]
pub(super) fn of_group<S: Simd, const G: usize>(s: S, x: S::V, i: usize) -> S::V {
    match (G, i) {
        (4, 0) => s.pick::<0b00_00_00_00>(x),
        (4, 1) => s.pick::<0b01_01_01_01>(x),
        (4, 2) => s.pick::<0b10_10_10_10>(x),
        (4, _) => s.pick::<0b11_11_11_11>(x),
        _ => x,
    }
}
