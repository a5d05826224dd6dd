//! Forward convolution and data gradient: source transform, 36 products, target transform, over blocks of tiles.
//!
//! All threads share a block. Its transformed source is `[point][tile][channel]`, so the product at a point is the 1x1
//! convolution that [`tile`] computes at 95 % of the machine's peak; transformed weights are read once a block.
//!
//! Weights that change with every run are transformed a piece of 4 MB at a time, used, and forgotten: all of them are four
//! times the weights, 38 MB for 512 to 512 channels, and writing them to memory and reading them takes longer than making
//! them (512 to 512 at 7x7, one picture, on a Zen 3: 10.6 ms).

mod pack;

use std::ops::Range;

use super::super::indirect::WeightSteps;
use super::super::tile::{self, Tile};
use super::super::{Activation, Epilogue, Pixels, PixelsMut, check_pixels};
use super::{POINTS, SIDE, grid, outputs, transform};
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd, dispatch, store_part};
use crate::{Cpu, Isa};
use pack::Pack;

/// Values of a block, transformed sources and sums together, unless that is less than [`FEWEST`] tiles: 4 MB stay in the
/// caches (64 channels at 224x224: 200 GFLOP/s, against 91 with 24 MB).
const BLOCK: usize = 1 << 20;
/// Fewest tiles of a block: what pays for reading the transformed weights.
const FEWEST: usize = 96;
/// Values of a block where weights are transformed by pieces, once a block; and of a piece.
const PIECES_BLOCK: usize = 4 << 20;
const PIECE: usize = 1 << 20;
/// Tiles of a product's task, in units of a register tile: their channels stay in the second-level cache.
const CHUNK: usize = 96;
/// Tiles of a transform's task.
const FEW: usize = 4;

#[derive(Debug)]
pub(in super::super) struct Product {
    pub source: [usize; 2],
    pub target: [usize; 2],
    pub groups: usize,
    /// Source channels of a group.
    pub depth: usize,
    /// Target channels of a group.
    pub width: usize,
    /// Rows and columns of the kernel: 3 or 5.
    pub kernel: usize,
    /// The source pixel at which the first target's window starts.
    pub start: [isize; 2],
    pub weights: WeightSteps,
    /// Whether the kernel is turned by half a turn.
    pub turned: bool,
    pub isa: Isa,
    pub zeros: Vec<f32>,
}

/// Weights as they are, or as [`Product::pack`] transformed them.
#[derive(Clone, Copy)]
pub(in super::super) enum Weights<'a> {
    Plain(&'a [f32]),
    Packed(&'a [f32]),
}

/// Some filters of some groups: all of them, or some of one.
#[derive(Clone)]
struct Piece {
    groups: Range<usize>,
    filters: Range<usize>,
}

impl Product {
    fn wide(&self) -> bool {
        self.isa == Isa::Avx512
    }

    fn grid(&self) -> [usize; 2] {
        grid(self.target, self.kernel)
    }

    /// Values of a tile's row of channels. Not a power of two, which would map the rows of a register tile to one set
    /// of the first-level cache.
    fn row(channels: usize) -> usize {
        channels.next_multiple_of(LANES) + LANES
    }

    fn panel(&self) -> usize {
        tile::panel(self.wide(), self.width)
    }

    fn whole(&self) -> Piece {
        Piece { groups: 0..self.groups, filters: 0..self.width }
    }

    /// Filters of a piece, where the transformed weights are too many for one.
    fn piece(&self) -> Option<usize> {
        let filters = (PIECE / (POINTS * self.depth) / self.panel()).max(1) * self.panel();
        (self.packed_len() > PIECE && (self.groups > 1 || filters < self.width)).then_some(filters.min(self.width))
    }

    /// Values of a tile's transformed source and of its sums, of so many target channels.
    fn rows(&self, width: usize) -> [usize; 2] {
        [Self::row(self.groups * self.depth), Self::row(width)]
    }

    /// Most tiles of a block of `n` pictures, with sums of `width` channels at a time.
    fn block(&self, n: usize, width: usize, values: usize) -> usize {
        let [h, w] = self.grid();
        let each = POINTS * self.rows(width).iter().sum::<usize>();
        (values / each).max(FEWEST).min(n * h * w)
    }

    /// Packed weights: `[group][point][panel][depth][lanes of the panel]`.
    pub fn packed_len(&self) -> usize {
        self.groups * POINTS * self.plane(self.width)
    }

    /// Values from one point's packed weights to the next one's, of so many filters. A cache line more than they are:
    /// packing writes to all points in turn, and planes of a power of two would map them to one set of each cache.
    fn plane(&self, filters: usize) -> usize {
        self.depth * filters.next_multiple_of(LANES) + LANES
    }

    /// Values of scratch memory for up to `n` pictures, with packed weights.
    pub fn workspace_len(&self, n: usize) -> usize {
        let width = self.groups * self.width;
        POINTS * self.block(n, width, BLOCK) * self.rows(width).iter().sum::<usize>()
    }

    /// The same with plain ones.
    pub fn plain_workspace_len(&self, n: usize) -> usize {
        match self.piece() {
            None => self.packed_len() + self.workspace_len(n),
            Some(filters) => {
                let tiles = self.block(n, filters, PIECES_BLOCK);
                POINTS * (self.plane(filters) + tiles * self.rows(filters).iter().sum::<usize>())
            }
        }
    }

    /// Transforms the weights of all filters.
    pub fn pack(&self, cpu: &Cpu, weights: &[f32], packed: &mut [f32]) {
        self.pack_piece(cpu, weights, &self.whole(), packed);
    }

    fn pack_piece(&self, cpu: &Cpu, weights: &[f32], piece: &Piece, packed: &mut [f32]) {
        let needed = piece.groups.len() * POINTS * self.plane(piece.filters.len());
        assert!(packed.len() >= needed, "packed weights: {} of {needed}", packed.len());
        let count = self.groups * self.depth * self.width * self.kernel * self.kernel;
        assert!(weights.len() >= count, "weights: {} of {count}", weights.len());
        let (groups, out) = (piece.groups.len(), Shares::new(packed));
        let panels = piece.filters.len().div_ceil(self.panel());
        cpu.pool().run(groups * panels * self.depth.div_ceil(LANES), &|task| {
            let (panel, rest) = (task % panels, task / panels);
            let depth = rest / groups * LANES..self.depth.min((rest / groups + 1) * LANES);
            dispatch(cpu.isa(), Pack { plan: self, weights, piece, out: &out, group: rest % groups, panel, depth });
        });
    }

    /// Computes all targets of `n` pictures.
    #[allow(clippy::too_many_arguments)]
    pub fn run(
        &self,
        cpu: &Cpu,
        n: usize,
        source: Pixels,
        weights: Weights,
        epilogue: &Epilogue,
        target: PixelsMut,
        workspace: &mut [f32],
    ) {
        let (source_size, target_size) = (n * self.source[0] * self.source[1], n * self.target[0] * self.target[1]);
        let (depth, width) = (self.groups * self.depth, self.groups * self.width);
        check_pixels("source", source.data.len(), source.stride, source_size, depth);
        check_pixels("target", target.data.len(), target.stride, target_size, width);
        if let Some(residual) = epilogue.residual {
            check_pixels("residual", residual.data.len(), residual.stride, target_size, width);
        }
        assert!(epilogue.bias.is_none_or(|b| b.len() >= width), "bias: less than {width} values");
        let (piece, needed) = match weights {
            Weights::Packed(_) => (None, self.workspace_len(n)),
            Weights::Plain(_) => (self.piece(), self.plain_workspace_len(n)),
        };
        assert!(workspace.len() >= needed, "workspace: {} values of {needed}", workspace.len());
        let filters = piece.unwrap_or(self.groups * self.width);
        let [h, w] = self.grid();
        let tiles = n * h * w;
        let most = self.block(n, filters, if piece.is_some() { PIECES_BLOCK } else { BLOCK });
        // As large as each other, so that none is small.
        let most = tiles.div_ceil(tiles.div_ceil(most.max(1)).max(1));
        let [source_row, sum_row] = self.rows(filters);
        let (sources, rest) = workspace.split_at_mut(POINTS * most * source_row);
        let (sums, own) = rest.split_at_mut(POINTS * most * sum_row);
        match (weights, piece) {
            (Weights::Packed(packed), _) => {
                assert!(packed.len() >= self.packed_len(), "packed: {} values", packed.len())
            }
            (Weights::Plain(weights), None) => self.pack(cpu, weights, own),
            (Weights::Plain(_), Some(_)) => {}
        }
        let pass = Pass {
            plan: self,
            source,
            bias: epilogue.bias,
            residual: epilogue.residual,
            activation: epilogue.activation,
            target: target.data.as_mut_ptr(),
            target_stride: target.stride,
            sources: sources.as_mut_ptr(),
            sums: sums.as_mut_ptr(),
            sum_row,
            first: 0,
            most,
        };
        for first in (0..tiles).step_by(most.max(1)) {
            let pass = Pass { first, ..pass };
            let count = most.min(tiles - first);
            cpu.pool().run(count.div_ceil(FEW), &|task| {
                let tiles = task * FEW..count.min((task + 1) * FEW);
                dispatch(cpu.isa(), Sources { pass: &pass, tiles });
            });
            match (weights, piece) {
                (Weights::Plain(weights), Some(filters)) => {
                    let pieces = self.width.div_ceil(filters);
                    for i in 0..self.groups * pieces {
                        let (group, first) = (i / pieces, i % pieces * filters);
                        let end = self.width.min(first + filters);
                        let piece = Piece { groups: group..group + 1, filters: first..end };
                        self.pack_piece(cpu, weights, &piece, own);
                        self.run_piece(cpu, &pass, count, &piece, own);
                    }
                }
                (Weights::Plain(_), None) => self.run_piece(cpu, &pass, count, &self.whole(), own),
                (Weights::Packed(packed), _) => self.run_piece(cpu, &pass, count, &self.whole(), packed),
            }
        }
    }

    /// Sums and targets of some filters in a block of `count` tiles whose sources are transformed.
    fn run_piece(&self, cpu: &Cpu, pass: &Pass, count: usize, piece: &Piece, packed: &[f32]) {
        let (chunks, groups) = (count.div_ceil(CHUNK), piece.groups.len());
        cpu.pool().run(POINTS * groups * chunks, &|task| {
            let (chunk, rest) = (task % chunks, task / chunks);
            let tiles = chunk * CHUNK..count.min((chunk + 1) * CHUNK);
            let (group, point) = (rest % groups, rest / groups);
            dispatch(cpu.isa(), Sums { pass, piece, packed, group, point, tiles });
        });
        cpu.pool().run(count.div_ceil(FEW), &|task| {
            let tiles = task * FEW..count.min((task + 1) * FEW);
            dispatch(cpu.isa(), Targets { pass, piece, tiles });
        });
    }
}

/// A block on its way, and what all tasks share.
#[derive(Clone, Copy)]
struct Pass<'a> {
    plan: &'a Product,
    source: Pixels<'a>,
    bias: Option<&'a [f32]>,
    residual: Option<Pixels<'a>>,
    activation: Activation,
    target: *mut f32,
    target_stride: usize,
    /// `[point][most][row]` transformed sources.
    sources: *mut f32,
    /// `[point][most][row]` sums over channels.
    sums: *mut f32,
    sum_row: usize,
    /// The block's first tile.
    first: usize,
    most: usize,
}

// SAFETY: tasks write different tiles or channels of what the pointers lead to.
unsafe impl Sync for Pass<'_> {}

impl Pass<'_> {
    /// Picture of a tile and its first target pixel.
    #[inline(always)]
    fn place(&self, tile: usize) -> (usize, [usize; 2]) {
        let ([h, w], side) = (self.plan.grid(), outputs(self.plan.kernel));
        let tile = self.first + tile;
        (tile / (h * w), [tile / w % h * side, tile % w * side])
    }
}

struct Sources<'a> {
    pass: &'a Pass<'a>,
    tiles: Range<usize>,
}

impl Kernel for Sources<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Pass { plan, source, most, .. } = *self.pass;
        let channels = plan.groups * plan.depth;
        let row = Product::row(channels);
        for t in self.tiles {
            let (image, [top, left]) = self.pass.place(t);
            let at = [top.wrapping_add_signed(plan.start[0]), left.wrapping_add_signed(plan.start[1])];
            let rows = addresses(&source, plan.source, image, at, &plan.zeros);
            for c in (0..channels).step_by(LANES) {
                // SAFETY: the addresses are of pixels or zeros; the block has room for its tiles.
                unsafe {
                    let out = self.pass.sources.add(t * row + c);
                    transform::source(s, &rows, c, LANES.min(channels - c), out, most * row);
                }
            }
        }
    }
}

/// The addresses of a 6x6 square of pixels from `at` on; of zeros outside the picture.
#[inline(always)]
pub(super) fn addresses(
    source: &Pixels,
    [height, width]: [usize; 2],
    image: usize,
    at: [usize; 2],
    zeros: &[f32],
) -> [*const f32; POINTS] {
    let mut rows = [zeros.as_ptr(); POINTS];
    for i in 0..SIDE {
        for j in 0..SIDE {
            // Before the picture is beyond it: the numbers wrap.
            let (y, x) = (at[0].wrapping_add(i), at[1].wrapping_add(j));
            if y < height && x < width {
                rows[i * SIDE + j] =
                    source.data.as_ptr().wrapping_add(((image * height + y) * width + x) * source.stride);
            }
        }
    }
    rows
}

/// The product at a point for some tiles and all targets of a group.
struct Sums<'a> {
    pass: &'a Pass<'a>,
    piece: &'a Piece,
    packed: &'a [f32],
    /// In the piece.
    group: usize,
    point: usize,
    tiles: Range<usize>,
}

impl Kernel for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (Pass { plan, most, sum_row, .. }, piece) = (*self.pass, self.piece);
        let source_row = Product::row(plan.groups * plan.depth);
        let (mr, panel) = (tile::pixels(S::WIDE, plan.width), plan.panel());
        let mut rows = [std::ptr::null::<f32>(); CHUNK];
        let mut targets = [0; CHUNK];
        let first = self.pass.sources.cast_const().wrapping_add(self.point * most * source_row);
        let group = piece.groups.start + self.group;
        for (i, t) in self.tiles.clone().enumerate() {
            rows[i] = first.wrapping_add(t * source_row + group * plan.depth);
            targets[i] = t;
        }
        let filters = piece.filters.len();
        let weights = (self.group * POINTS + self.point) * plan.plane(filters);
        for start in (0..filters).step_by(panel) {
            let lanes = panel.min(filters.next_multiple_of(LANES) - start);
            let sums = (self.point * most * sum_row) + self.group * filters + start;
            for i in (0..self.tiles.len()).step_by(mr) {
                let tile = Tile {
                    rows: rows[i..].as_ptr(),
                    positions: 1,
                    step: None,
                    depth: plan.depth,
                    weights: self.packed[weights + start * plan.depth..].as_ptr(),
                    targets: targets[i..].as_ptr(),
                    first: true,
                    last: false,
                    lanes: LANES - (lanes - (filters - start).min(lanes)),
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
    piece: &'a Piece,
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
        let (Pass { plan, bias, residual, activation, sum_row: row, .. }, piece) = (*self.pass, self.piece);
        let ([height, width], side) = (plan.target, outputs(R));
        let (first, channels) =
            (piece.groups.start * plan.width + piece.filters.start, piece.groups.len() * piece.filters.len());
        for t in self.tiles.clone() {
            let (image, [top, left]) = self.pass.place(t);
            for c in (0..channels).step_by(LANES) {
                let lanes = LANES.min(channels - c);
                // SAFETY: the sums hold the block's tiles; `Product::run` checked target, residual and bias; tasks write
                // different tiles.
                unsafe {
                    let sums = self.pass.sums.cast_const().add(t * row + c);
                    let values = transform::target::<S, R>(s, sums, self.pass.most * row);
                    let bias = match bias {
                        Some(bias) => crate::simd::load_part(s, bias.as_ptr().add(first + c), lanes),
                        None => s.zero(),
                    };
                    for i in 0..side.min(height - top) {
                        for j in 0..side.min(width - left) {
                            let pixel = (image * height + top + i) * width + left + j;
                            let mut value = s.add(values[i][j], bias);
                            if let Some(residual) = residual {
                                let p = residual.data.as_ptr().add(pixel * residual.stride + first + c);
                                value = s.add(value, crate::simd::load_part(s, p, lanes));
                            }
                            let value = activation.apply(s, value);
                            store_part(
                                s,
                                self.pass.target.add(pixel * self.pass.target_stride + first + c),
                                value,
                                lanes,
                            );
                        }
                    }
                }
            }
        }
    }
}
