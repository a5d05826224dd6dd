//! Forward convolution and data gradient: source transform, 36 products, target transform, over blocks of tiles.
//!
//! All threads share a block's transformed sources, `[point][tile][channel]`. What follows has two forms, of the same bits:
//!
//! - [`points`]: weights were transformed before. A task is a point and some tiles: a 1x1 convolution by the tile of
//!   [`tile`], at 95 % of the machine's peak; then the sums of all points are transformed.
//! - [`panels`]: weights are as they are. A task is some filters and tiles; it transforms the weights for itself.

mod pack;
mod panels;
mod points;

use std::ops::Range;

use super::super::indirect::WeightSteps;
use super::super::tile;
use super::super::{Activation, Epilogue, Pixels, PixelsMut, check_output, check_pixels};
use super::{POINTS, SIDE, grid, outputs, transform};
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd, dispatch, load_part, store_part};
use crate::{Cpu, Isa};
use pack::{Gather, Pack};

/// Values of a block, transformed sources and sums together, unless that is less than [`FEWEST`] tiles: 4 MB stay in the
/// caches (64 channels at 224x224: 200 GFLOP/s, against 91 with 24 MB).
const BLOCK: usize = 1 << 20;
/// Fewest tiles of a block: what pays for reading the transformed weights.
const FEWEST: usize = 96;
/// Tiles of a picture from which on inference keeps transformed weights: with fewer, reading them takes longer than making them.
const KEPT: usize = 64;
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

/// Weights as PyTorch has them, or as [`Product::pack`] left them.
#[derive(Clone, Copy)]
pub(in super::super) enum Weights<'a> {
    Plain(&'a [f32]),
    Packed(&'a [f32]),
}

impl Product {
    fn grid(&self) -> [usize; 2] {
        grid(self.target, self.kernel)
    }

    /// Values of a tile's row of channels. Not a power of two, which would map the rows of a register tile to one set
    /// of the first-level cache.
    fn row(channels: usize) -> usize {
        channels.next_multiple_of(LANES) + LANES
    }

    fn source_row(&self) -> usize {
        Self::row(self.groups * self.depth)
    }

    fn panel(&self) -> usize {
        tile::panel(self.isa == Isa::Avx512, self.width)
    }

    /// Values of a tile's sums that the threads share: those of all filters, or none.
    fn sum_row(&self, kept: bool) -> usize {
        if kept { Self::row(self.groups * self.width) } else { 0 }
    }

    /// Most tiles of a block of `n` pictures.
    fn block(&self, n: usize, kept: bool) -> usize {
        let [h, w] = self.grid();
        let fewest = if kept { FEWEST } else { panels::fewest(self) };
        (BLOCK / (POINTS * (self.source_row() + self.sum_row(kept)))).max(fewest).min(n * h * w)
    }

    /// Whether [`Product::pack`] transforms the weights.
    pub fn keeps(&self) -> bool {
        let [h, w] = self.grid();
        h * w >= KEPT
    }

    fn weights_len(&self) -> usize {
        self.groups * self.depth * self.width * self.kernel * self.kernel
    }

    /// Packed weights: `[group][point][panel][depth][lanes of the panel]`, or, with few tiles, not transformed:
    /// `[group][vector][depth][element][lane]`.
    pub fn packed_len(&self) -> usize {
        if self.keeps() { self.groups * POINTS * self.plane(self.width) } else { self.gathered(self.groups, 0) }
    }

    /// Where the packed weights of a group's filters from `first`, a multiple of a vector, on begin that are not transformed.
    fn gathered(&self, group: usize, first: usize) -> usize {
        (group * self.width.next_multiple_of(LANES) + first) * self.depth * self.kernel * self.kernel
    }

    /// Values from one point's packed weights to the next one's, of so many filters. A cache line more than they are:
    /// packing writes to all points in turn, and planes of a power of two would map them to one set of each cache.
    fn plane(&self, filters: usize) -> usize {
        self.depth * filters.next_multiple_of(LANES) + LANES
    }

    /// Values of scratch memory for up to `n` pictures, with packed weights.
    pub fn workspace_len(&self, n: usize, threads: usize) -> usize {
        if !self.keeps() {
            return self.plain_workspace_len(n, threads);
        }
        POINTS * self.block(n, true) * (self.source_row() + self.sum_row(true))
    }

    /// The same with plain ones.
    pub fn plain_workspace_len(&self, n: usize, threads: usize) -> usize {
        POINTS * self.block(n, false) * self.source_row() + threads * panels::own_len(self)
    }

    pub fn pack(&self, cpu: &Cpu, weights: &[f32], packed: &mut [f32]) {
        let (needed, len) = (self.packed_len(), self.weights_len());
        assert!(packed.len() >= needed, "packed weights: {} of {needed}", packed.len());
        assert!(weights.len() >= len, "weights: {} of {len}", weights.len());
        if !self.keeps() {
            let (vectors, len) = (self.width.div_ceil(LANES), self.gathered(0, LANES));
            let out = Shares::new(packed);
            return cpu.pool().run(self.groups * vectors, &|task| {
                // SAFETY: each task has a vector of its own.
                let out = unsafe { out.part(task * len, len) };
                let (group, first) = (task / vectors, task % vectors * LANES);
                dispatch(cpu.isa(), Gather { plan: self, weights, group, first, out });
            });
        }
        let out = Shares::new(packed);
        let (panels, plane) = (self.width.div_ceil(self.panel()), self.plane(self.width));
        cpu.pool().run(self.groups * panels * self.depth.div_ceil(LANES), &|task| {
            let (first, rest) = (task % panels * self.panel(), task / panels);
            let (group, d) = (rest % self.groups, rest / self.groups * LANES);
            let lanes = self.lanes(first);
            let start = group * POINTS * plane + first * self.depth + d * lanes;
            let pack = Pack {
                plan: self,
                weights: Weights::Plain(weights),
                group,
                first,
                lanes,
                depth: d..self.depth.min(d + LANES),
                out: out.pointer().wrapping_add(start),
                plane,
            };
            dispatch(cpu.isa(), pack);
        });
    }

    /// Lanes of the panel that begins with filter `first`.
    fn lanes(&self, first: usize) -> usize {
        self.panel().min(self.width.next_multiple_of(LANES) - first)
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
        let threads = cpu.pool().threads();
        let (kept, given, least, needed) = match weights {
            Weights::Packed(packed) => (self.keeps(), packed, self.packed_len(), self.workspace_len(n, threads)),
            Weights::Plain(weights) => (false, weights, self.weights_len(), self.plain_workspace_len(n, threads)),
        };
        check_output(&target, epilogue, given, target_size, width, least);
        assert!(workspace.len() >= needed, "workspace: {} values of {needed}", workspace.len());
        let [h, w] = self.grid();
        let tiles = n * h * w;
        // As large as each other, so that none is small.
        let most = tiles.div_ceil(tiles.div_ceil(self.block(n, kept).max(1)).max(1));
        let sum_row = self.sum_row(kept);
        let (sources, rest) = workspace.split_at_mut(POINTS * most * self.source_row());
        let pass = Pass {
            plan: self,
            source,
            bias: epilogue.bias,
            residual: epilogue.residual,
            activation: epilogue.activation,
            target: target.data.as_mut_ptr(),
            target_stride: target.stride,
            sources: sources.as_mut_ptr(),
            sums: rest.as_mut_ptr(),
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
            match weights {
                Weights::Packed(packed) if kept => points::run(cpu, &pass, packed, count),
                weights => panels::run(cpu, &pass, weights, count, rest),
            }
        }
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
    /// `[point][most][row]` sums over channels, where threads share them.
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

    /// The outputs of tile `t` and of `count` filters from `c` on, whose sums at the points are `plane` values apart.
    ///
    /// # Safety
    /// `Product::run` checked target, residual and bias; tasks write different tiles or filters; the sums hold all points.
    #[inline(always)]
    unsafe fn write<S: Simd, const R: usize>(
        &self,
        s: S,
        t: usize,
        [c, count]: [usize; 2],
        sums: *const f32,
        plane: usize,
    ) {
        let ([height, width], side) = (self.plan.target, outputs(R));
        let (image, [top, left]) = self.place(t);
        // SAFETY: as the caller vouches.
        unsafe {
            let values = transform::target::<S, R>(s, sums, plane);
            let bias = match self.bias {
                Some(bias) => load_part(s, bias.as_ptr().add(c), count),
                None => s.zero(),
            };
            for i in 0..side.min(height - top) {
                for j in 0..side.min(width - left) {
                    let pixel = (image * height + top + i) * width + left + j;
                    let mut value = s.add(values[i][j], bias);
                    if let Some(residual) = self.residual {
                        let p = residual.data.as_ptr().add(pixel * residual.stride + c);
                        value = s.add(value, load_part(s, p, count));
                    }
                    let value = self.activation.apply(s, value);
                    store_part(s, self.target.add(pixel * self.target_stride + c), value, count);
                }
            }
        }
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
