//! The indirect product: forward convolution and data gradient as one thing.
//!
//! Both compute, for each pixel of a grid of *targets*, `sum over taps of source[pixel + tap] · weights[tap]`, where a tap
//! is an offset in the source. Forward has one grid, whose source step is the stride. The data gradient has stride² grids
//! (*phases*) whose target step is the stride, each with the taps that meet it; a grid that no tap meets gets zeros.
//!
//! Sums run in the order tap, source channel, in one chain a target value. Tiles, panels and threads cut only across
//! targets, so they never change a bit.
//!
//! Blocks: a task takes some tiles of pixels (their source rows stay in the second-level cache) and walks over panels of
//! weights; a panel of 3x3x512x32 weights is 590 KB and is read once for all tiles of the task.

mod band;
mod grids;
mod look_up;
mod pack;
mod positions;

use std::mem::MaybeUninit;
use std::ops::Range;

use super::padded::Padded;
use super::phase::{Cursor, Phase};
use super::tile::{self, Ahead, MOST_PIXELS, Next, Output, Tile};
use super::{Activation, Epilogue, Pixels, PixelsMut, check_output, check_pixels};
use crate::simd::{Kernel, LANES, STREAMED, STREAMED_AT_ONCE, Simd, dispatch, streams};
use crate::{Cpu, Isa};

/// Addresses in a task's table: 16 KB of its stack.
const TABLE: usize = 2048;
/// Source values that a task's tiles may touch per tap: 384 KB of the second-level cache.
const SOURCE: usize = 96 << 10;
/// Weights from which on they come from farther than the second-level cache, and tiles that use a panel for long enough not
/// to ask for the next.
const MANY_WEIGHTS: usize = 128 << 10;
const FEW_TILES: usize = 16;
/// Products of a target, up to which it is done before the last one is in memory.
const FEW_PRODUCTS: usize = 16;
/// Cycles of a multiply-add of a vector, and to pack a vector of weights.
const PRODUCT: f64 = 9.0 / 16.0;
const PACK: f64 = 7.0;
/// How packed weights are read from PyTorch's layout: element `group * group_step + depth * depth_step +
/// width * width_step + tap`. A depth beyond `channels` means the same channels of the next tap.
#[derive(Clone, Copy, Debug)]
pub(super) struct WeightSteps {
    pub group: usize,
    pub depth: usize,
    pub width: usize,
    pub channels: usize,
}

#[derive(Debug)]
pub(super) struct Indirect {
    pub source: [usize; 2],
    pub target: [usize; 2],
    pub groups: usize,
    /// Source channels of a group.
    pub depth: usize,
    /// Target channels of a group.
    pub width: usize,
    pub phases: Vec<Phase>,
    pub weights: WeightSteps,
    /// Set where the source is a padded copy, made band by band.
    pub padded: Option<Padded>,
    wide: bool,
    zeros: Vec<f32>,
    /// Of a picture's targets, in taps: those that see something, and all of the kernel rows that do.
    products: [usize; 2],
}

/// How a phase is cut into tasks.
struct Split {
    pixels: usize,
    block: usize,
    blocks: usize,
    panels: usize,
    panel_splits: usize,
}

impl Indirect {
    pub fn new(
        source: [usize; 2],
        target: [usize; 2],
        [groups, depth, width]: [usize; 3],
        phases: Vec<Phase>,
        weights: WeightSteps,
        isa: Isa,
    ) -> Indirect {
        let wide = isa == Isa::Avx512;
        let zeros = vec![0.0; depth];
        let plan = Indirect {
            source,
            target,
            groups,
            depth,
            width,
            phases,
            weights,
            padded: None,
            wide,
            zeros,
            products: [0; 2],
        };
        Indirect { products: plan.count_products(), ..plan }
    }

    fn padded_width(&self) -> usize {
        self.width.next_multiple_of(LANES)
    }

    fn panels(&self) -> usize {
        self.width.div_ceil(tile::panel(self.wide, self.width))
    }

    /// Where a phase's weights start in those of a group.
    fn phase_start(&self, phase: usize) -> usize {
        let taps: usize = self.phases[..phase].iter().map(|p| p.taps.len()).sum();
        taps * self.depth * self.padded_width()
    }

    /// Packed weights: `[group][phase][panel][tap][depth][lanes of the panel]`.
    pub fn packed_len(&self) -> usize {
        self.groups * self.phase_start(self.phases.len())
    }

    /// About the cycles of `n` pictures and of packing their weights.
    pub fn cycles(&self, n: usize) -> f64 {
        let [some, all] = self.products;
        let taps = if n < LANES { all } else { all.min(some * 4 / 3) };
        let each = self.groups * self.depth * self.padded_width() / LANES;
        (n * taps) as f64 * each as f64 * PRODUCT + PACK * (self.packed_len() / LANES) as f64
    }

    /// Tiles whose addresses fit the table and whose source rows fit the cache.
    fn most_tiles(&self, phase: &Phase) -> usize {
        let in_table = (TABLE / MOST_PIXELS / phase.taps.len().max(1)).max(1);
        (SOURCE / MOST_PIXELS / self.depth).clamp(4, 32).min(in_table)
    }

    /// Cuts a phase into tasks: blocks of pixels as large as caches and table allow, then, where that gives less than
    /// four tasks a thread, ranges of panels, then smaller blocks.
    fn split(&self, phase: &Phase, n: usize, threads: usize) -> Split {
        let pixels = n * phase.count[0] * phase.count[1];
        let mr = tile::pixels(self.wide, self.width);
        let tiles = pixels.div_ceil(mr);
        let most = self.most_tiles(phase);
        let wanted = if threads == 1 { 1 } else { 4 * threads };
        let panels = self.panels();
        let blocks = tiles.div_ceil(most);
        let panel_splits = wanted.div_ceil((blocks * self.groups).max(1)).clamp(1, panels);
        let blocks = blocks.max(wanted.div_ceil(panel_splits * self.groups)).min(tiles);
        let block = tiles.div_ceil(blocks.max(1)) * mr;
        Split { pixels, block, blocks: pixels.div_ceil(block.max(1)), panels, panel_splits }
    }

    /// Computes all targets of `n` pictures.
    #[allow(clippy::too_many_arguments)]
    pub fn run(
        &self,
        cpu: &Cpu,
        n: usize,
        source: Pixels,
        packed: &[f32],
        epilogue: &Epilogue,
        target: PixelsMut,
        workspace: &mut [f32],
    ) {
        let target_size = n * self.target[0] * self.target[1];
        let width = self.groups * self.width;
        check_output(&target, epilogue, packed, target_size, width, self.packed_len());
        let taps = self.phases.iter().map(|phase| phase.taps.len()).max().unwrap_or(0);
        let large = if taps * self.depth <= FEW_PRODUCTS { STREAMED_AT_ONCE } else { STREAMED };
        let stream =
            self.width.is_multiple_of(LANES) && streams(target.data.as_ptr(), target_size, target.stride, large);
        let (from, to) = (source.data.as_ptr(), target.data.as_mut_ptr());
        let whole = Block { stream, ..self.block(from, source.stride, packed, epilogue, to, target.stride) };
        if let Some(padded) = &self.padded {
            padded.check(n, &source, self.groups);
            self.run_bands(cpu, n, padded, source, &whole, workspace);
        } else {
            let source_size = n * self.source[0] * self.source[1];
            check_pixels("source", source.data.len(), source.stride, source_size, self.groups * self.depth);
            if self.by_position(n) {
                self.run_positions(cpu, n, &whole);
            } else {
                self.run_blocks(cpu, n, &whole);
            }
        }
    }

    /// All panels of no pixels yet.
    pub fn block<'a>(
        &'a self,
        source: *const f32,
        source_stride: usize,
        weights: &'a [f32],
        epilogue: &Epilogue<'a>,
        target: *mut f32,
        target_stride: usize,
    ) -> Block<'a> {
        Block {
            plan: self,
            phase: &self.phases[0],
            source,
            source_stride,
            weights,
            bias: epilogue.bias,
            residual: epilogue.residual,
            activation: epilogue.activation,
            target,
            target_stride,
            stream: false,
            pixels: 0..0,
            panels: 0..self.panels(),
            next_panel: 0,
        }
    }

    fn run_blocks(&self, cpu: &Cpu, n: usize, whole: &Block) {
        let threads = cpu.pool().threads();
        if let Some(some) = self.grid_rows(n, threads) {
            return self.run_grids(cpu, n, some, whole);
        }
        // All phases' panels are cut alike, so that a thread uses those that it packed.
        let splits = || self.phases.iter().map(|phase| self.split(phase, n, threads));
        let panel_splits = splits().map(|split| split.panel_splits).max().unwrap_or(1);
        let (blocks, parts) = (splits().map(|split| split.blocks).sum::<usize>(), panel_splits * self.groups);
        cpu.pool().run(blocks * parts, &|task| {
            let (mut block, rest) = match self.packed_len() < MANY_WEIGHTS {
                // A pixel's channels side by side in time too: groups may share cache lines, which threads would take from each other.
                true => (task / parts, task % parts),
                false => (task % blocks, task / blocks),
            };
            for (index, (phase, split)) in self.phases.iter().zip(splits()).enumerate() {
                if block >= split.blocks {
                    block -= split.blocks;
                    continue;
                }
                let (part, group) = (rest % panel_splits, rest / panel_splits);
                let at = |part: usize| part * split.panels / panel_splits;
                let of_group = whole.of_group(group);
                let block = Block {
                    phase,
                    source: whole.source.wrapping_add(group * self.depth),
                    weights: &of_group.weights[self.phase_start(index)..],
                    pixels: block * split.block..((block + 1) * split.block).min(split.pixels),
                    panels: at(part)..at(part + 1),
                    // Most likely this thread's next task, of those in this group.
                    next_panel: at((part + (block + threads) / split.blocks) % panel_splits),
                    ..of_group
                };
                dispatch(cpu.isa(), block);
                return;
            }
        });
    }
}

/// Some pixels of a phase by some panels of a group: a task, or a part of one.
#[derive(Clone)]
pub(super) struct Block<'a> {
    plan: &'a Indirect,
    phase: &'a Phase,
    /// As if the whole source were there, of which only what the pixels see is read.
    source: *const f32,
    source_stride: usize,
    weights: &'a [f32],
    bias: Option<&'a [f32]>,
    residual: Option<Pixels<'a>>,
    activation: Activation,
    /// The same, of which only the pixels are written.
    target: *mut f32,
    target_stride: usize,
    stream: bool,
    pub pixels: Range<usize>,
    panels: Range<usize>,
    /// The panel that this thread likely reads after these.
    next_panel: usize,
}

// SAFETY: the pointers are shared by tasks that read the source and write different targets.
unsafe impl Sync for Block<'_> {}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let pixels = self.pixels.clone();
        let mr = tile::pixels(S::WIDE, self.plan.width);
        let most = self.plan.most_tiles(self.phase) * mr;
        for start in pixels.clone().step_by(most) {
            self.pixels = start..(start + most).min(pixels.end);
            // SAFETY: who made the block checked that source, target, residual, bias and packed weights cover its pixels and
            // channels; the blocks of different tasks write different pixels or channels.
            unsafe {
                if self.phase.taps.is_empty() && self.bias.is_none() && self.residual.is_none() {
                    self.clear(s);
                } else if self.pointwise() && !self.asks_for_weights(self.pixels.len().div_ceil(mr)) {
                    self.side_by_side(s);
                } else {
                    self.in_place(s);
                }
            }
        }
    }
}

impl Block<'_> {
    /// A group's weights, and its channels of what is added and written.
    fn of_group(&self, group: usize) -> Self {
        let (plan, first) = (self.plan, group * self.plan.width);
        Block {
            weights: &self.weights[group * plan.phase_start(plan.phases.len())..],
            bias: self.bias.map(|b| &b[first..][..plan.width]),
            residual: self.residual.map(|r| Pixels { data: &r.data[first..], ..r }),
            target: self.target.wrapping_add(first),
            ..self.clone()
        }
    }

    /// Number of the target pixel under the cursor.
    #[inline(always)]
    fn target_pixel(&self, at: &Cursor) -> usize {
        let (phase, [height, width]) = (self.phase, self.plan.target);
        let row = phase.start[0] + at.row * phase.step[0];
        (at.image * height + row) * width + phase.start[1] + at.column * phase.step[1]
    }

    /// Reads the source through a table of addresses.
    #[inline(always)]
    unsafe fn in_place<S: Simd>(&self, s: S) {
        let (plan, phase) = (self.plan, self.phase);
        let mr = tile::pixels(S::WIDE, plan.width);
        let tiles = self.pixels.len().div_ceil(mr);
        let most_taps = TABLE / MOST_PIXELS / tiles;
        let passes = phase.taps.len().div_ceil(most_taps).max(1);
        let mut rows = [MaybeUninit::<*const f32>::uninit(); TABLE];
        let mut targets = [MaybeUninit::<usize>::uninit(); TABLE];
        let mut met_by = [[0; 2]; TABLE / MOST_PIXELS];
        for pass in 0..passes {
            let first_tap = pass * most_taps;
            let taps = &phase.taps[first_tap..(first_tap + most_taps).min(phase.taps.len())];
            self.look_up(taps, mr, &mut rows, &mut targets, &mut met_by);
            let blocks = (taps.len() * plan.depth.div_ceil(LANES)).max(1);
            // Pointwise, each pixel is a stream too short to be foreseen.
            let ask_ahead = phase.taps.len() == 1;
            for p in self.panels.clone() {
                let (next, lines) = self.next(p, tiles, first_tap);
                let vectors = self.vectors::<S>(p);
                let whole = self.tile(p, rows.as_ptr().cast(), targets.as_ptr().cast(), first_tap);
                let whole = Tile {
                    ahead: Ahead { from: next, lines },
                    depth: plan.depth,
                    output: Output {
                        first: pass == 0,
                        last: pass + 1 == passes,
                        stream: self.stream && passes == 1,
                        ..whole.output
                    },
                    ..whole
                };
                for (i, &[first, end]) in met_by[..tiles].iter().enumerate() {
                    let mut tile = Tile {
                        rows: whole.rows.wrapping_add((i * taps.len() + first) * MOST_PIXELS),
                        positions: end - first,
                        weights: whole.weights.wrapping_add(first * plan.depth * vectors * LANES),
                        targets: whole.targets.wrapping_add(i * MOST_PIXELS),
                        ahead: Ahead { from: whole.ahead.from.wrapping_add(i * lines * LANES * blocks), lines },
                        ..whole
                    };
                    let left = self.pixels.len() - i * mr;
                    let next = mr.min(left.saturating_sub(mr));
                    if ask_ahead && p == self.panels.start && lines == 0 {
                        tile.next.pixels = next;
                    } else if ask_ahead && p == self.panels.start {
                        for next in &rows[(i + 1) * MOST_PIXELS..][..next] {
                            // SAFETY: the table was filled for these pixels just now.
                            let next = unsafe { next.assume_init() };
                            for q in (0..plan.depth).step_by(LANES) {
                                s.prefetch(next.wrapping_add(q));
                            }
                        }
                    }
                    if self.residual.is_some() && tile.output.last {
                        // As many as come to all lines of a full tile.
                        tile.next.residual = if next == mr { (2 * mr).div_ceil(blocks) } else { 0 };
                    }
                    // SAFETY: the tables were filled for these pixels, and the next ones, just now.
                    unsafe { tile::run(s, mr.min(left), vectors, &tile) }
                }
            }
        }
        if self.stream {
            s.fence();
        }
    }

    /// Whether so many tiles would wait for weights longer than they use them.
    fn asks_for_weights(&self, tiles: usize) -> bool {
        tiles <= FEW_TILES && self.phase.taps.len() * self.plan.depth * self.plan.padded_width() >= MANY_WEIGHTS
    }

    /// Weights of the panel after `p`, and how many cache lines of them each of `tiles` tiles asks for with every 16 channels.
    #[inline(always)]
    fn next(&self, p: usize, tiles: usize, first_tap: usize) -> (*const f32, usize) {
        let next = if p + 1 == self.panels.end { self.next_panel } else { p + 1 };
        if next == p || !self.asks_for_weights(tiles) {
            return (std::ptr::null(), 0);
        }
        (self.tile(next, std::ptr::null(), std::ptr::null(), first_tap).weights, (2 * LANES).div_ceil(tiles))
    }

    /// What the tiles of panel `p` share, from the given tap on.
    #[inline(always)]
    fn tile(&self, p: usize, rows: *const *const f32, targets: *const usize, first_tap: usize) -> Tile {
        let plan = self.plan;
        let panel = tile::panel(plan.wide, plan.width);
        let start = p * panel;
        let lanes = panel.min(plan.padded_width() - start);
        let weights = (self.phase.taps.len() * start + first_tap * lanes) * plan.depth;
        Tile {
            rows,
            positions: 0,
            step: None,
            depth: 0,
            weights: self.weights.as_ptr().wrapping_add(weights),
            ahead: Ahead::NOTHING,
            next: Next::NOTHING,
            targets,
            output: Output {
                last: true,
                bias: self.bias.map_or(std::ptr::null(), |b| b[start..].as_ptr()),
                residual: self.residual.map_or(std::ptr::null(), |r| r.data[start..].as_ptr()),
                residual_stride: self.residual.map_or(0, |r| r.stride),
                activation: self.activation,
                ..Output::of_sums(
                    self.target.wrapping_add(start),
                    self.target_stride,
                    LANES - (lanes - (plan.width - start).min(lanes)),
                )
            },
        }
    }

    /// Vectors of panel `p`.
    #[inline(always)]
    fn vectors<S: Simd>(&self, p: usize) -> usize {
        let panel = tile::panel(S::WIDE, self.plan.width);
        panel.min(self.plan.padded_width() - p * panel) / LANES
    }
}
