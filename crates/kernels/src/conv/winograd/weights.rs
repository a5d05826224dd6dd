//! The weight gradient: source and gradient transforms, 36 outer products summed over tiles, and the kernel's transform.
//!
//! The transformed source is `[point][16 channels][tile]`, the gradient `[point][panel of filters][tile]`, so that a
//! register tile reads two runs of memory. This is done for a chunk of pictures at a time, within which tiles are summed
//! in segments joined by the tree of [`crate::segments`]; the chunks' gradients join by the same tree.
//!
//! Sums are four times the weights, 38 MB for 512 filters of 512 channels. So they are made and transformed for a piece of
//! the filters at a time, whose sums need not leave the caches.

mod finish;
mod whole;

use std::ops::Range;

use super::super::weight_tile::{Walk, sum};
use super::super::{Pixels, check_pixels};
use super::{POINTS, grid, outputs, product, transform};
use crate::geometry::ConvShape;
use crate::pool::Shares;
use crate::segments::{self, Reduction, Segment, Segments};
use crate::simd::{Kernel, LANES, Simd, dispatch};
use crate::tree::{Tree, levels};
use crate::{Cpu, Isa};
use finish::Finish;

/// Tiles of a segment for kernels of 3 and of 5: two runs of them, of 16 channels and of a panel, stay in the first-level
/// cache. In the last transform of a kernel of 5 the sums' rounding errors weigh four times as much, so its chains are short.
const TILES: [usize; 2] = [256, 64];
/// Blocks of 16 channels, and vectors of filters, of a task: what it reads of both stays in the second-level cache.
const WIDE_TASK: usize = 8;
/// Fewest and most transformed values of a chunk, unless one picture has more. Few stay in the caches; many share the
/// last transform, so a chunk has eight times as many as sums (512 channels at 14x14: 234 GFLOP/s, against 61 with 4 MB;
/// 64 at 56x56: 152 with 64 MB, against 203).
const CHUNK: [usize; 2] = [2 << 20, 16 << 20];
/// Most pictures of a chunk, so that a batch can be cut between chunks.
const IMAGES: usize = 16;
/// Values of a piece's sums, unless one task's filters have more.
const PIECE: usize = 1 << 20;
/// Tiles of a transform's task.
const FEW: usize = 4;
/// The point that holds the sum of a tile's gradients: 1 in both directions.
const SUM_POINT: usize = 7;

pub(in super::super) struct WeightGradient {
    shape: ConvShape,
    grid: [usize; 2],
    segments: Segments,
    /// Filters of a panel.
    panel: usize,
    zeros: Vec<f32>,
}

/// Some filter panels of a group.
#[derive(Clone)]
struct Piece {
    group: usize,
    panels: Range<usize>,
}

/// A task's share of a piece: some channel blocks by some panels at a point, or, without blocks, the bias.
struct Part {
    point: usize,
    group: usize,
    blocks: Range<usize>,
    panels: Range<usize>,
}

impl WeightGradient {
    pub fn new(shape: &ConvShape, isa: Isa) -> WeightGradient {
        let grid = grid(shape.output(), shape.window.kernel[0]);
        let panel = if isa == Isa::Avx512 { 2 * LANES } else { LANES };
        let zeros = vec![0.0; shape.channels.max(shape.filters)];
        WeightGradient {
            shape: *shape,
            grid,
            segments: Segments::of(grid, TILES[usize::from(shape.window.kernel[0] == 5)]),
            panel,
            zeros,
        }
    }

    /// Blocks of 16 channels of a group.
    fn blocks(&self) -> usize {
        self.shape.group_channels().div_ceil(LANES)
    }

    /// Filters of a group in whole vectors.
    fn padded_filters(&self) -> usize {
        self.shape.group_filters().next_multiple_of(LANES)
    }

    fn panels(&self) -> usize {
        self.shape.group_filters().div_ceil(self.panel)
    }

    /// Lanes of a panel.
    fn lanes(&self, panel: usize) -> usize {
        self.panel.min(self.padded_filters() - panel * self.panel)
    }

    fn pieces(&self) -> impl Iterator<Item = Piece> {
        let (panels, channels) = (self.panels(), self.blocks() * LANES);
        let most = (PIECE / (POINTS * channels * self.panel)).max(1);
        (0..self.shape.groups).flat_map(move |group| {
            (0..panels).step_by(most).map(move |first| Piece { group, panels: first..panels.min(first + most) })
        })
    }

    /// Blocks and panels of a task, of how many tasks in each direction.
    fn cut(&self, piece: &Piece) -> [[usize; 2]; 2] {
        let panels = WIDE_TASK * LANES / self.panel;
        [[WIDE_TASK, self.blocks().div_ceil(WIDE_TASK)], [panels, piece.panels.len().div_ceil(panels)]]
    }

    /// The bias's parts come last.
    fn part(&self, piece: &Piece, part: usize) -> Part {
        let [[blocks, across], [panels, down]] = self.cut(piece);
        let (i, rest) = (part % down, part / down);
        let (first, group) = (piece.panels.start + i * panels, piece.group);
        let panels = first..piece.panels.end.min(first + panels);
        if rest == POINTS * across {
            return Part { point: SUM_POINT, group, blocks: 0..0, panels };
        }
        let (i, point) = (rest % across, rest / across);
        Part { point, group, blocks: i * blocks..self.blocks().min((i + 1) * blocks), panels }
    }

    fn reduction(&self, piece: &Piece, n: usize, threads: usize, bias: bool) -> Reduction {
        let [[_, across], [_, down]] = self.cut(piece);
        let parts = down * (POINTS * across + usize::from(bias));
        let most = WIDE_TASK * WIDE_TASK * LANES * LANES;
        let wanted = if threads == 1 { 1 } else { 4 * threads };
        Reduction::new(self.segments, n, parts, most, 0, wanted)
    }

    /// Sums of a piece: `[point][panel][channel][lanes]`, then the bias's `[filter]`.
    fn sums_len(&self, piece: &Piece) -> usize {
        self.panel_sums(piece, POINTS, piece.panels.start) + piece.panels.len() * self.panel
    }

    /// Sums of all filters.
    fn all_sums(&self) -> usize {
        POINTS * self.shape.groups * self.padded_filters() * self.blocks() * LANES
    }

    /// Transformed values of a picture: of the source, of the gradient.
    fn transformed(&self) -> [usize; 2] {
        let tiles = self.grid[0] * self.grid[1] * POINTS * self.shape.groups;
        [tiles * self.blocks() * LANES, tiles * self.padded_filters()]
    }

    /// Pictures of a chunk: a power of two.
    fn chunk(&self) -> usize {
        let room = (8 * self.all_sums()).clamp(CHUNK[0], CHUNK[1]);
        1 << (room / self.transformed().iter().sum::<usize>()).clamp(1, IMAGES).ilog2()
    }

    /// Gradients that wait in the tree over the chunks.
    fn waiting(&self, n: usize) -> usize {
        let chunks = n.div_ceil(self.chunk());
        if chunks > 1 { levels(chunks - 1) } else { 0 }
    }

    /// Gradients of weights and bias.
    fn gradients_len(&self) -> usize {
        self.shape.weights() + self.shape.filters
    }

    pub fn workspace_len(&self, n: usize, threads: usize) -> usize {
        let chunk = n.min(self.chunk());
        let sums = |piece| self.sums_len(&piece) + self.reduction(&piece, chunk, threads, true).workspace_len(threads);
        let sums = self.pieces().map(sums).max().unwrap_or(0).max(threads * whole::own_len(self));
        chunk * self.transformed().iter().sum::<usize>() + sums + self.waiting(n) * self.gradients_len()
    }

    /// As [`super::super::WeightGradient::run`], for `n` > 0 pictures.
    #[allow(clippy::too_many_arguments)]
    pub fn run(
        &self,
        cpu: &Cpu,
        n: usize,
        x: Pixels,
        dy: Pixels,
        dw: &mut [f32],
        mut db: Option<&mut [f32]>,
        workspace: &mut [f32],
    ) {
        let (shape, output) = (&self.shape, self.shape.output());
        check_pixels("x", x.data.len(), x.stride, n * shape.input[0] * shape.input[1], shape.channels);
        check_pixels("dy", dy.data.len(), dy.stride, n * output[0] * output[1], shape.filters);
        assert!(dw.len() >= shape.weights(), "dw: {} values of {}", dw.len(), shape.weights());
        assert!(db.as_ref().is_none_or(|db| db.len() >= shape.filters), "db: less than {} values", shape.filters);
        let needed = self.workspace_len(n, cpu.pool().threads());
        assert!(workspace.len() >= needed, "workspace: {} values of {needed}", workspace.len());
        let (waiting, rest) = workspace.split_at_mut(self.waiting(n) * self.gradients_len());
        let mut tree = Tree::default();
        for first in (0..n).step_by(self.chunk()) {
            let images = first..n.min(first + self.chunk());
            if images.end < n {
                let place = tree.place(0);
                let (lower, own) = waiting.split_at_mut(place.level * self.gradients_len());
                let (own_w, own_b) = own[..self.gradients_len()].split_at_mut(shape.weights());
                self.run_chunk(cpu, images, x, dy, own_w, db.is_some().then_some(&mut *own_b), rest);
                place
                    .joins()
                    .for_each(|level| self.join(cpu, lower, level, own_w, db.is_some().then_some(&mut *own_b)));
            } else {
                self.run_chunk(cpu, images, x, dy, dw, db.as_deref_mut(), rest);
                tree.place_last().joins().for_each(|level| self.join(cpu, waiting, level, dw, db.as_deref_mut()));
            }
        }
    }

    /// Adds the gradients that wait at a level.
    fn join(&self, cpu: &Cpu, waiting: &[f32], level: usize, dw: &mut [f32], db: Option<&mut [f32]>) {
        let other = &waiting[level * self.gradients_len()..][..self.gradients_len()];
        let (weights, bias) = other.split_at(self.shape.weights());
        let dw = Shares::new(dw);
        // SAFETY: tasks have ranges of their own.
        cpu.pool().run_ranges(weights.len(), 1, &|range| unsafe {
            segments::add(cpu, dw.part(range.start, range.len()), &weights[range]);
        });
        if let Some(db) = db {
            segments::add(cpu, &mut db[..bias.len()], bias);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn run_chunk(
        &self,
        cpu: &Cpu,
        images: Range<usize>,
        x: Pixels,
        dy: Pixels,
        dw: &mut [f32],
        mut db: Option<&mut [f32]>,
        workspace: &mut [f32],
    ) {
        let threads = cpu.pool().threads();
        let [source, gradient] = self.transformed().map(|each| each * images.len());
        let (sources, rest) = workspace.split_at_mut(source);
        let (gradients, rest) = rest.split_at_mut(gradient);
        let tiles = images.len() * self.grid[0] * self.grid[1];
        let (sources, gradients) = (Shares::new(sources), Shares::new(gradients));
        let pass = Pass { plan: self, x, dy, image: images.start, tiles, sources, gradients };
        cpu.pool().run(tiles.div_ceil(FEW), &|task| {
            let tiles = task * FEW..tiles.min((task + 1) * FEW);
            dispatch(cpu.isa(), Transform { pass: &pass, tiles });
        });
        let dw = Shares::new(dw);
        if whole::fits(self, images.len()) {
            return whole::run(cpu, &pass, images.len(), &dw, db, rest);
        }
        for piece in self.pieces() {
            let (sums, rest) = rest.split_at_mut(self.sums_len(&piece));
            let own = Shares::new(sums);
            let sum = |part: usize, segment: &Segment, _: &mut [f32], out: &mut [f32]| {
                dispatch(cpu.isa(), SegmentSum { pass: &pass, part: self.part(&piece, part), segment, out });
            };
            let keep = |part: usize, sums: &[f32]| {
                // SAFETY: the parts are disjoint.
                unsafe { self.keep(&piece, &self.part(&piece, part), sums, own) }
            };
            self.reduction(&piece, images.len(), threads, db.is_some()).run(cpu, rest, &sum, &keep);
            let (blocks, panels, sums) = (self.blocks(), piece.panels.len(), &*sums);
            let plane = self.panel_sums(&piece, 1, piece.panels.start);
            cpu.pool().run(panels * blocks, &|task| {
                let (block, panel) = (task % blocks, piece.panels.start + task / blocks);
                let channels = block * LANES..self.shape.group_channels().min((block + 1) * LANES);
                let first = self.panel_sums(&piece, 0, panel) + channels.start * self.lanes(panel);
                let (group, sums) = (piece.group, sums[first..].as_ptr());
                dispatch(cpu.isa(), Finish { plan: self, group, panel, channels, sums, plane, dw: &dw });
            });
            if let Some(db) = &mut db {
                let (filters, first) = (self.shape.group_filters(), piece.panels.start * self.panel);
                let count = (filters - first).min(piece.panels.len() * self.panel);
                db[piece.group * filters + first..][..count]
                    .copy_from_slice(&sums[self.panel_sums(&piece, POINTS, piece.panels.start)..][..count]);
            }
        }
    }

    /// Where a panel's sums at a point begin in those of its piece.
    fn panel_sums(&self, piece: &Piece, point: usize, panel: usize) -> usize {
        let end = self.padded_filters().min(piece.panels.end * self.panel);
        let filters = point * (end - piece.panels.start * self.panel) + (panel - piece.panels.start) * self.panel;
        filters * self.blocks() * LANES
    }

    /// Copies a part's sums to those of the piece.
    ///
    /// # Safety
    /// No other task has the same part.
    unsafe fn keep(&self, piece: &Piece, part: &Part, mut sums: &[f32], out: Shares<f32>) {
        for panel in part.panels.clone() {
            let lanes = self.lanes(panel);
            let (start, len) = if part.blocks.is_empty() {
                let bias = self.panel_sums(piece, POINTS, piece.panels.start);
                (bias + (panel - piece.panels.start) * self.panel, lanes)
            } else {
                let first = self.panel_sums(piece, part.point, panel);
                (first + part.blocks.start * LANES * lanes, part.blocks.len() * LANES * lanes)
            };
            // SAFETY: as the caller vouches.
            unsafe { out.part(start, len) }.copy_from_slice(&sums[..len]);
            sums = &sums[len..];
        }
    }
}

/// A chunk on its way.
struct Pass<'a> {
    plan: &'a WeightGradient,
    x: Pixels<'a>,
    dy: Pixels<'a>,
    /// The chunk's first picture.
    image: usize,
    tiles: usize,
    /// `[point][group][block][tile][16]`
    sources: Shares<f32>,
    /// `[point][group][panel][tile][lanes]`
    gradients: Shares<f32>,
}

/// Transforms sources and gradients of some tiles.
struct Transform<'a> {
    pass: &'a Pass<'a>,
    tiles: Range<usize>,
}

impl Kernel for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if self.pass.plan.shape.window.kernel[0] == 3 { self.both::<S, 3>(s) } else { self.both::<S, 5>(s) }
    }
}

impl Transform<'_> {
    #[inline(always)]
    fn both<S: Simd, const R: usize>(&self, s: S) {
        let Pass { plan, x, dy, image, tiles, .. } = self.pass;
        let (shape, output, side) = (&plan.shape, plan.shape.output(), outputs(R));
        let [h, w] = plan.grid;
        let [top, left, ..] = shape.window.padding;
        let (channels, filters) = (shape.group_channels(), shape.group_filters());
        let source_plane = shape.groups * plan.blocks() * tiles * LANES;
        let gradient_plane = shape.groups * plan.padded_filters() * tiles;
        for t in self.tiles.clone() {
            let (image, row, column) = (image + t / (h * w), t / w % h * side, t % w * side);
            let at = [row.wrapping_add_signed(-top), column.wrapping_add_signed(-left)];
            let rows = product::addresses(x, shape.input, image, at, &plan.zeros);
            let mut outputs = [plan.zeros.as_ptr(); 16];
            for i in 0..side.min(output[0] - row) {
                for j in 0..side.min(output[1] - column) {
                    let pixel = (image * output[0] + row + i) * output[1] + column + j;
                    outputs[i * side + j] = dy.data.as_ptr().wrapping_add(pixel * dy.stride);
                }
            }
            for group in 0..shape.groups {
                for block in 0..plan.blocks() {
                    let lanes = LANES.min(channels - block * LANES);
                    let first = ((group * plan.blocks() + block) * tiles + t) * LANES;
                    // SAFETY: the addresses are of pixels or zeros; the chunk has room for its tiles.
                    unsafe {
                        let out = self.pass.sources.pointer().add(first);
                        transform::source(s, &rows, group * channels + block * LANES, lanes, out, source_plane);
                    }
                }
                for lane in (0..plan.padded_filters()).step_by(LANES) {
                    let (panel, offset) = (lane / plan.panel, lane % plan.panel);
                    let first = (group * plan.padded_filters() + panel * plan.panel) * tiles;
                    let first = first + t * plan.lanes(panel) + offset;
                    let lanes = LANES.min(filters - lane);
                    // SAFETY: as above.
                    unsafe {
                        let out = self.pass.gradients.pointer().add(first);
                        transform::gradient::<S, R>(s, &outputs, group * filters + lane, lanes, out, gradient_plane);
                    }
                }
            }
        }
    }
}

/// The sums of one part over one segment: `[panel][channel][lanes]`, of the bias `[panel][lanes]`.
struct SegmentSum<'a> {
    pass: &'a Pass<'a>,
    part: Part,
    segment: &'a Segment,
    out: &'a mut [f32],
}

impl Kernel for SegmentSum<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Pass { plan, tiles, sources, gradients, .. } = self.pass;
        let Part { point, group, ref blocks, ref panels } = self.part;
        let Segment { images, rows } = self.segment;
        let [h, w] = plan.grid;
        // One run of tiles: a band of one picture or whole pictures.
        let (first, count) = ((images.start * h + rows.start) * w, images.len() * rows.len() * w);
        let place = point * plan.shape.groups + group;
        let most = if S::WIDE { 8 } else { 6 };
        let mut done = 0;
        for panel in panels.clone() {
            let lanes = plan.lanes(panel);
            let dy = (place * plan.padded_filters() + panel * plan.panel) * tiles + first * lanes;
            let dy = gradients.pointer().cast_const().wrapping_add(dy);
            let walk = |x: *const f32, step: usize| Walk {
                x,
                first: 0,
                counts: [1, 1, count],
                x_steps: [0, 0, step],
                dy_steps: [0, 0, 1],
            };
            if blocks.is_empty() {
                let out = self.out[done..][..lanes].as_mut_ptr();
                // SAFETY: the chunk holds the segment's tiles.
                unsafe { sum(s, 1, lanes / LANES, &walk(&1.0, 0), dy, out, true) };
                done += lanes;
            }
            for block in blocks.clone() {
                let x = ((place * plan.blocks() + block) * tiles + first) * LANES;
                let x = sources.pointer().cast_const().wrapping_add(x);
                for row in (0..LANES).step_by(most) {
                    let rows = most.min(LANES - row);
                    let out = self.out[done..][..rows * lanes].as_mut_ptr();
                    // SAFETY: as above.
                    unsafe { sum(s, rows, lanes / LANES, &walk(x.wrapping_add(row), LANES), dy, out, true) };
                    done += rows * lanes;
                }
            }
        }
    }
}
