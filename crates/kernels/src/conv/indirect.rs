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

use std::mem::MaybeUninit;
use std::ops::Range;

use super::tile::{self, MOST_PIXELS, Tile};
use super::{Epilogue, Pixels, PixelsMut, check_pixels};
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd, dispatch};
use crate::{Cpu, Isa};

/// Addresses in a task's table: 16 KB of its stack.
const TABLE: usize = 2048;
/// Source values that a task's tiles may touch per tap: 384 KB of the second-level cache.
const SOURCE: usize = 96 << 10;
/// Most values of a gathered pixel; a tile's buffer takes 12 times 4 KB of the stack.
pub(super) const GATHERED: usize = 1024;
/// With fewer source channels a tile's pixels are gathered first: jumping to a new address for each tap would cost as
/// much as its few products. 11x11 3->96: 45 with a table, 106 with whole kernel rows (GFLOP/s of one core).
pub(super) const FEW: usize = 12;

/// An offset in the source, and which kernel element it multiplies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tap {
    pub at: [isize; 2],
    pub kernel: usize,
}

/// A grid of targets with the same taps. Pairs are `[rows, columns]`.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    pub start: [usize; 2],
    pub step: [usize; 2],
    pub count: [usize; 2],
    pub source_step: [usize; 2],
    /// In the order of the sums; neighbours in a source row stand together.
    pub taps: Vec<Tap>,
}

/// How packed weights are read from PyTorch's layout: element
/// `group * group_step + depth * depth_step + width * width_step + tap`.
#[derive(Clone, Copy, Debug)]
pub(super) struct WeightSteps {
    pub group: usize,
    pub depth: usize,
    pub width: usize,
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
    wide: bool,
    zeros: Vec<f32>,
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
        Indirect { source, target, groups, depth, width, phases, weights, wide, zeros: vec![0.0; depth] }
    }

    fn padded_width(&self) -> usize {
        self.width.next_multiple_of(LANES)
    }

    fn panels(&self) -> usize {
        self.width.div_ceil(tile::panel(self.wide))
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

    pub fn pack(&self, cpu: &Cpu, weights: &[f32], packed: &mut [f32]) {
        assert!(packed.len() >= self.packed_len(), "packed weights: {} of {}", packed.len(), self.packed_len());
        let (panel, panels, phases) = (tile::panel(self.wide), self.panels(), self.phases.len());
        let out = Shares::new(packed);
        cpu.pool().run(self.groups * phases * panels, &|task| {
            let (group, phase, p) = (task / (phases * panels), task / panels % phases, task % panels);
            let lanes = panel.min(self.padded_width() - p * panel);
            let valid = lanes.min(self.width - p * panel);
            let taps = &self.phases[phase].taps;
            let len = taps.len() * self.depth;
            let start = group * self.phase_start(phases) + self.phase_start(phase) + len * p * panel;
            // SAFETY: each task has a panel of its own.
            let out = unsafe { out.part(start, len * lanes) };
            let first = group * self.weights.group + p * panel * self.weights.width;
            for d in 0..self.depth {
                for (t, tap) in taps.iter().enumerate() {
                    let from = first + d * self.weights.depth + tap.kernel;
                    let row = &mut out[(t * self.depth + d) * lanes..][..lanes];
                    row[valid..].fill(0.0);
                    let picked = weights[from..].iter().step_by(self.weights.width);
                    row[..valid].iter_mut().zip(picked).for_each(|(row, &w)| *row = w);
                }
            }
        });
    }

    fn gathers(&self, phase: &Phase) -> bool {
        self.depth < FEW && phase.taps.len() > 1 && phase.taps.len() * self.depth <= GATHERED
    }

    /// Cuts a phase into tasks: blocks of pixels as large as caches and table allow, then, where that gives less than
    /// four tasks a thread, ranges of panels, then smaller blocks.
    fn split(&self, phase: &Phase, n: usize, threads: usize) -> Split {
        let pixels = n * phase.count[0] * phase.count[1];
        let mr = if self.wide { MOST_PIXELS } else { 6 };
        let tiles = pixels.div_ceil(mr);
        let in_table = (TABLE / MOST_PIXELS / phase.taps.len().max(1)).max(1);
        let most = (SOURCE / MOST_PIXELS / self.depth).clamp(4, 32).min(in_table);
        let wanted = if threads == 1 { 1 } else { 4 * threads };
        let panels = self.panels();
        let blocks = tiles.div_ceil(most);
        let panel_splits = wanted.div_ceil((blocks * self.groups).max(1)).clamp(1, panels);
        let blocks = blocks.max(wanted.div_ceil(panel_splits * self.groups)).min(tiles);
        let block = tiles.div_ceil(blocks.max(1)) * mr;
        Split { pixels, block, blocks: pixels.div_ceil(block.max(1)), panels, panel_splits }
    }

    /// Computes all targets of `n` pictures.
    pub fn run(&self, cpu: &Cpu, n: usize, source: Pixels, packed: &[f32], epilogue: &Epilogue, target: PixelsMut) {
        let [source_size, target_size] = [self.source, self.target].map(|[h, w]| n * h * w);
        let width = self.groups * self.width;
        check_pixels("source", source.data.len(), source.stride, source_size, self.groups * self.depth);
        check_pixels("target", target.data.len(), target.stride, target_size, width);
        if let Some(residual) = epilogue.residual {
            check_pixels("residual", residual.data.len(), residual.stride, target_size, width);
        }
        assert!(epilogue.bias.is_none_or(|b| b.len() >= width), "bias: less than {width} values");
        assert!(packed.len() >= self.packed_len(), "packed weights: {} of {}", packed.len(), self.packed_len());
        let threads = cpu.pool().threads();
        let tasks_of = |split: &Split| split.blocks * split.panel_splits * self.groups;
        let tasks = self.phases.iter().map(|p| tasks_of(&self.split(p, n, threads))).sum();
        let (target_stride, target) = (target.stride, Shares::new(target.data));
        cpu.pool().run(tasks, &|mut task| {
            for (index, phase) in self.phases.iter().enumerate() {
                let split = self.split(phase, n, threads);
                if task >= tasks_of(&split) {
                    task -= tasks_of(&split);
                    continue;
                }
                let (block, rest) = (task % split.blocks, task / split.blocks);
                let (part, group) = (rest % split.panel_splits, rest / split.panel_splits);
                let at = |part: usize| part * split.panels / split.panel_splits;
                let block = Block {
                    plan: self,
                    phase,
                    source: &source.data[group * self.depth..],
                    source_stride: source.stride,
                    weights: &packed[group * self.phase_start(self.phases.len()) + self.phase_start(index)..],
                    bias: epilogue.bias.map(|b| &b[group * self.width..][..self.width]),
                    residual: epilogue.residual.map(|r| Pixels { data: &r.data[group * self.width..], ..r }),
                    epilogue,
                    target: target.pointer().wrapping_add(group * self.width),
                    target_stride,
                    pixels: block * split.block..((block + 1) * split.block).min(split.pixels),
                    panels: at(part)..at(part + 1),
                };
                dispatch(cpu.isa(), block);
                return;
            }
        });
    }
}

/// A task: some pixels of a phase by some panels of a group.
struct Block<'a> {
    plan: &'a Indirect,
    phase: &'a Phase,
    source: &'a [f32],
    source_stride: usize,
    weights: &'a [f32],
    bias: Option<&'a [f32]>,
    residual: Option<Pixels<'a>>,
    epilogue: &'a Epilogue<'a>,
    target: *mut f32,
    target_stride: usize,
    pixels: Range<usize>,
    panels: Range<usize>,
}

/// A position on a phase's grid, moved from pixel to pixel without divisions.
pub(super) struct Cursor {
    pub image: usize,
    pub row: usize,
    pub column: usize,
}

impl Cursor {
    pub fn new(phase: &Phase, pixel: usize) -> Cursor {
        let [rows, columns] = phase.count;
        Cursor { image: pixel / (rows * columns), row: pixel / columns % rows, column: pixel % columns }
    }
    #[inline(always)]
    pub fn advance(&mut self, phase: &Phase) {
        self.column += 1;
        if self.column == phase.count[1] {
            (self.column, self.row) = (0, self.row + 1);
            if self.row == phase.count[0] {
                (self.row, self.image) = (0, self.image + 1);
            }
        }
    }
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: `Indirect::run` checked that source, target, residual, bias and packed weights cover every pixel and
        // channel of the plan; the blocks of different tasks write different pixels or channels.
        unsafe {
            if self.plan.gathers(self.phase) {
                self.gathered(s);
            } else {
                self.in_place(s);
            }
        }
    }
}

impl Block<'_> {
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
        let mr = tile::pixels::<S>();
        let tiles = self.pixels.len().div_ceil(mr);
        let most_taps = TABLE / MOST_PIXELS / tiles;
        let passes = phase.taps.len().div_ceil(most_taps).max(1);
        let mut rows = [MaybeUninit::<*const f32>::uninit(); TABLE];
        let mut targets = [MaybeUninit::<usize>::uninit(); TABLE];
        let [height, width] = plan.source.map(|n| n as isize);
        for pass in 0..passes {
            let first_tap = pass * most_taps;
            let taps = &phase.taps[first_tap..(first_tap + most_taps).min(phase.taps.len())];
            let mut at = Cursor::new(phase, self.pixels.start);
            for pixel in 0..self.pixels.len() {
                let (i, m) = (pixel / mr, pixel % mr);
                targets[i * MOST_PIXELS + m].write(self.target_pixel(&at));
                let row = (at.row * phase.source_step[0]) as isize;
                let column = (at.column * phase.source_step[1]) as isize;
                let image =
                    self.source.as_ptr().wrapping_add(at.image * plan.source[0] * plan.source[1] * self.source_stride);
                for (t, tap) in taps.iter().enumerate() {
                    let (y, x) = (row + tap.at[0], column + tap.at[1]);
                    let inside = (y as usize) < height as usize && (x as usize) < width as usize;
                    let address = image.wrapping_offset((y * width + x) * self.source_stride as isize);
                    let address = if inside { address } else { plan.zeros.as_ptr() };
                    rows[(i * taps.len() + t) * MOST_PIXELS + m].write(address);
                }
                at.advance(phase);
            }
            for p in self.panels.clone() {
                for i in 0..tiles {
                    let mr = mr.min(self.pixels.len() - i * mr);
                    let rows = rows.as_ptr().wrapping_add(i * taps.len() * MOST_PIXELS).cast();
                    let targets = targets.as_ptr().wrapping_add(i * MOST_PIXELS).cast();
                    let tile =
                        Tile { first: pass == 0, last: pass + 1 == passes, ..self.tile(p, rows, targets, first_tap) };
                    // SAFETY: the tables were filled for `mr` pixels just now.
                    unsafe { self.product(s, p, mr, Tile { positions: taps.len(), depth: plan.depth, ..tile }) }
                }
            }
        }
    }

    /// Copies the taps of a tile's pixels side by side first.
    #[inline(always)]
    unsafe fn gathered<S: Simd>(&self, s: S) {
        let mr = tile::pixels::<S>();
        let len = self.phase.taps.len() * self.plan.depth;
        let mut buffer = [MaybeUninit::<f32>::uninit(); MOST_PIXELS * (GATHERED + LANES)];
        let buffer = buffer.as_mut_ptr().cast::<f32>();
        let mut rows = [std::ptr::null(); MOST_PIXELS];
        let mut targets = [0; MOST_PIXELS];
        let (source, phase) = (self.source.as_ptr(), self.phase);
        let gather =
            Gather { source, stride: self.source_stride, size: self.plan.source, depth: self.plan.depth, phase };
        let mut at = Cursor::new(phase, self.pixels.start);
        for i in 0..self.pixels.len().div_ceil(mr) {
            let mr = mr.min(self.pixels.len() - i * mr);
            for m in 0..mr {
                let row = buffer.wrapping_add(m * (len + LANES));
                rows[m] = row.cast_const();
                targets[m] = self.target_pixel(&at);
                // SAFETY: the buffer has room for `len` values and a vector more in each row.
                unsafe { gather.pixel(s, &at, row) };
                at.advance(self.phase);
            }
            for p in self.panels.clone() {
                let tile = self.tile(p, rows.as_ptr(), targets.as_ptr(), 0);
                // SAFETY: the buffer and the tables were filled for `mr` pixels just now.
                unsafe { self.product(s, p, mr, Tile { positions: 1, depth: len, ..tile }) }
            }
        }
    }

    /// What the tiles of panel `p` share, from the given tap on.
    #[inline(always)]
    fn tile(&self, p: usize, rows: *const *const f32, targets: *const usize, first_tap: usize) -> Tile {
        let plan = self.plan;
        let panel = tile::panel(plan.wide);
        let start = p * panel;
        let lanes = panel.min(plan.padded_width() - start);
        let weights = (self.phase.taps.len() * start + first_tap * lanes) * plan.depth;
        Tile {
            rows,
            positions: 0,
            depth: 0,
            weights: self.weights.as_ptr().wrapping_add(weights),
            targets,
            first: true,
            last: true,
            lanes: LANES - (lanes - (plan.width - start).min(lanes)),
            target: self.target.wrapping_add(start),
            target_stride: self.target_stride,
            bias: self.bias.map_or(std::ptr::null(), |b| b[start..].as_ptr()),
            residual: self.residual.map_or(std::ptr::null(), |r| r.data[start..].as_ptr()),
            residual_stride: self.residual.map_or(0, |r| r.stride),
            activation: self.epilogue.activation,
        }
    }

    #[inline(always)]
    unsafe fn product<S: Simd>(&self, s: S, p: usize, mr: usize, tile: Tile) {
        let panel = tile::panel(S::WIDE);
        let vectors = panel.min(self.plan.padded_width() - p * panel) / LANES;
        // SAFETY: as the caller vouches.
        unsafe { tile::run(s, mr, vectors, &tile) }
    }
}

/// Copies what all taps of a phase see.
pub(super) struct Gather<'a> {
    pub source: *const f32,
    pub stride: usize,
    pub size: [usize; 2],
    pub depth: usize,
    pub phase: &'a Phase,
}

impl Gather<'_> {
    /// Writes `[taps][depth]` source values of a pixel to `out`, and up to a vector of anything behind them.
    ///
    /// # Safety
    /// The source holds the picture under the cursor, `out` has room.
    #[inline(always)]
    pub unsafe fn pixel<S: Simd>(&self, s: S, at: &Cursor, mut out: *mut f32) {
        let (phase, depth) = (self.phase, self.depth);
        let [height, width] = self.size.map(|n| n as isize);
        let (row, column) = ((at.row * phase.source_step[0]) as isize, (at.column * phase.source_step[1]) as isize);
        let image = self.source.wrapping_add(at.image * self.size[0] * self.size[1] * self.stride);
        let mut t = 0;
        while t < phase.taps.len() {
            let [y, x] = phase.taps[t].at;
            let mut run = 1;
            while t + run < phase.taps.len() && phase.taps[t + run].at == [y, x + run as isize] {
                run += 1;
            }
            let (y, x) = (row + y, column + x);
            let from = image.wrapping_offset((y * width + x) * self.stride as isize);
            // SAFETY: reads are of pixels inside the picture; writes are within the buffer as the caller vouches.
            unsafe {
                if y >= 0 && y < height && x >= 0 && x + run as isize <= width && self.stride == depth {
                    let len = run * depth;
                    let mut i = 0;
                    while i + LANES <= len {
                        s.store(out.add(i), s.load(from.add(i)));
                        i += LANES;
                    }
                    if i < len {
                        s.store(out.add(i), s.load_n(from.add(i), len - i));
                    }
                } else {
                    for i in 0..run {
                        let x = x + i as isize;
                        let inside = y >= 0 && y < height && x >= 0 && x < width;
                        for d in 0..depth {
                            let value = if inside { *from.wrapping_add(i * self.stride + d) } else { 0.0 };
                            *out.add(i * depth + d) = value;
                        }
                    }
                }
                out = out.add(run * depth);
            }
            t += run;
        }
    }
}
