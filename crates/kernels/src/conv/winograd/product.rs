//! Forward convolution and data gradient: source transform, 36 products, target transform.
//!
//! A task takes some tiles and some filters of a group all the way, alone, in memory of its own that stays in the
//! second-level cache of one core: it transforms the sources and the weights of 64 channels at a time, adds their products at
//! all points to its sums, and transforms those to outputs. Nothing but sources, weights and outputs passes between cores: to
//! transform again takes less time than to read what another core transformed, which is 2.25 times the sources and four times
//! the weights.

mod few;
mod pack;
mod task;

use super::super::indirect::WeightSteps;
use super::super::tile;
use super::super::{Epilogue, Pixels, PixelsMut, check_output, check_pixels};
use super::{POINTS, SIDE, Tiling};
use crate::pool::Shares;
use crate::simd::{LANES, STREAMED, dispatch, streams};
use crate::{Cpu, Isa};
use pack::Gather;
use task::{Outputs, Pass};

/// Most tiles that a task transforms at once, whole register tiles, and most filters whose sums it keeps: 885 KB. Fewer tiles
/// would use the transformed weights less often, fewer filters the sources.
const TILES: usize = 48;
const FILTERS: usize = 8 * LANES;
/// Fewest filters of a task.
const FEWEST: usize = 2 * LANES;
/// Channels whose sources, 440 KB, and whose weights for a panel of filters, 300 KB, a task transforms at once.
const DEPTH: usize = 64;

#[derive(Debug)]
pub(in super::super) struct Product {
    pub source: [usize; 2],
    /// Tiles over the targets.
    pub tiling: Tiling,
    pub groups: usize,
    /// Source channels of a group.
    pub depth: usize,
    /// Target channels of a group.
    pub width: usize,
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

/// How the tasks share the work.
struct Cut {
    /// Filters of a task.
    filters: usize,
    /// Tiles that a task transforms at once, and all its tiles.
    at_once: usize,
    tiles: usize,
}

impl Product {
    fn panel(&self) -> usize {
        tile::panel(self.isa == Isa::Avx512, self.width)
    }

    /// Lanes of the panel that begins with filter `first`.
    fn lanes(&self, first: usize) -> usize {
        self.panel().min(self.width.next_multiple_of(LANES) - first)
    }

    fn tiles(&self, n: usize) -> usize {
        n * self.tiling.tiles()
    }

    /// Values of a kernel.
    fn taps(&self) -> usize {
        self.tiling.kernel * self.tiling.kernel
    }

    fn weights_len(&self) -> usize {
        self.groups * self.depth * self.width * self.taps()
    }

    /// Packed weights: `[group][vector of filters][channel][element][lane]`.
    pub fn packed_len(&self) -> usize {
        self.packed(self.groups, 0)
    }

    /// Where the packed weights of a group's filters from `first`, a multiple of a vector, on begin.
    fn packed(&self, group: usize, first: usize) -> usize {
        (group * self.width.next_multiple_of(LANES) + first) * self.depth * self.taps()
    }

    /// Whether a task that begins with so many filters keeps their transformed weights for all its tiles.
    fn keeps(&self, filters: usize) -> bool {
        self.depth <= DEPTH && filters <= DEPTH
    }

    /// Values of a panel's transformed weights of so many channels. A cache line more a point here and below: planes of a power
    /// of two would map all points to one set of a cache.
    fn panel_len(depth: usize, lanes: usize) -> usize {
        POINTS * (depth * lanes + LANES)
    }

    /// Values of a task's own transformed weights, sources and sums.
    fn own(&self) -> [usize; 3] {
        let [filters, depth] = [self.width, self.depth].map(|channels| channels.next_multiple_of(LANES));
        let panels = if self.depth <= DEPTH { filters.min(DEPTH).div_ceil(self.panel()) } else { 1 };
        let (filters, depth) = (FILTERS.min(filters), DEPTH.min(depth));
        let [sources, sums] = [TILES * depth, TILES * filters].map(|plane| POINTS * (plane + LANES));
        [panels * Product::panel_len(depth, self.panel()), sources, sums]
    }

    /// Values of scratch memory, with packed weights.
    pub fn workspace_len(&self, threads: usize) -> usize {
        threads * self.own().iter().sum::<usize>()
    }

    /// The same with plain ones, for up to `n` pictures.
    pub fn plain_workspace_len(&self, n: usize, threads: usize) -> usize {
        self.workspace_len(threads) + if self.packs(n) { self.packed_len() } else { 0 }
    }

    /// Whether plain weights are packed first, because more than one run of tiles reads them.
    fn packs(&self, n: usize) -> bool {
        self.tiles(n) > TILES
    }

    pub fn pack(&self, cpu: &Cpu, weights: &[f32], packed: &mut [f32]) {
        let (needed, len) = (self.packed_len(), self.weights_len());
        assert!(packed.len() >= needed, "packed weights: {} of {needed}", packed.len());
        assert!(weights.len() >= len, "weights: {} of {len}", weights.len());
        let (vectors, len) = (self.width.div_ceil(LANES), self.packed(0, LANES));
        let out = Shares::new(packed);
        cpu.pool().run(self.groups * vectors, &|task| {
            // SAFETY: each task has a vector of its own.
            let out = unsafe { out.part(task * len, len) };
            let (group, first) = (task / vectors, task % vectors * LANES);
            dispatch(cpu.isa(), Gather { plan: self, weights, group, first, out });
        });
    }

    /// How often the sources, targets and weights of so many tiles are transformed, with so many channels in a group.
    pub fn times([depth, width]: [usize; 2], tiles: usize) -> [usize; 3] {
        let sources = if depth <= DEPTH { 1 } else { width.div_ceil(FILTERS) };
        let weights = if depth.max(width) <= DEPTH { 1 } else { tiles.div_ceil(TILES) };
        [sources, 1, weights]
    }

    fn cut(&self, tiles: usize, threads: usize) -> Cut {
        let mr = tile::pixels(self.isa == Isa::Avx512, self.width);
        let parts = |filters: usize| self.groups * self.width.div_ceil(filters);
        let chunks = tiles.div_ceil(TILES);
        // Of few channels, all of whose sources stay, a task takes all filters, or, for many tiles, as many as keep their weights:
        // these take longer to transform than the sources once more.
        let mut filters = match self.depth <= DEPTH {
            true if self.width > DEPTH && chunks * parts(DEPTH) >= 4 * 8 * threads => DEPTH,
            true => self.width.next_multiple_of(FEWEST),
            false => FILTERS,
        };
        // Fewer filters rather than fewer tiles, for which all weights would be transformed again.
        while threads > 1 && parts(filters) * chunks < 2 * threads && filters > FEWEST {
            filters = (filters / 2).next_multiple_of(FEWEST);
        }
        let parts = parts(filters);
        let chunks = chunks.max(threads.div_ceil(parts)).min(tiles.div_ceil(mr));
        let at_once = tiles.div_ceil(chunks).next_multiple_of(mr);
        // Where the weights stay too, they are transformed once for several times as many tiles.
        let times = if self.keeps(filters) { (chunks * parts / (8 * threads)).max(1) } else { 1 };
        Cut { filters, at_once, tiles: times * at_once }
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
        let (source_size, target_size) =
            (n * self.source[0] * self.source[1], n * self.tiling.size[0] * self.tiling.size[1]);
        let (depth, width) = (self.groups * self.depth, self.groups * self.width);
        check_pixels("source", source.data.len(), source.stride, source_size, depth);
        let threads = cpu.pool().threads();
        let (given, least, needed) = match weights {
            Weights::Packed(packed) => (packed, self.packed_len(), self.workspace_len(threads)),
            Weights::Plain(weights) => (weights, self.weights_len(), self.plain_workspace_len(n, threads)),
        };
        check_output(&target, epilogue, given, target_size, width, least);
        assert!(workspace.len() >= needed, "workspace: {} values of {needed}", workspace.len());
        let (own, packed) = workspace.split_at_mut(self.workspace_len(threads));
        let weights = match weights {
            Weights::Plain(plain) if self.packs(n) => {
                self.pack(cpu, plain, packed);
                Weights::Packed(packed)
            }
            weights => weights,
        };
        let stream =
            self.width.is_multiple_of(LANES) && streams(target.data.as_ptr(), target_size, target.stride, STREAMED);
        let pass = Pass {
            plan: self,
            source,
            weights,
            epilogue,
            target: target.data.as_mut_ptr(),
            target_stride: target.stride,
            stream,
        };
        let tiles = self.tiles(n);
        if tiles == 0 {
            return;
        }
        let cut = self.cut(tiles, threads);
        let (parts, ranges) = (self.width.div_ceil(cut.filters), tiles.div_ceil(cut.tiles));
        let (len, own) = (own.len() / threads, Shares::new(own));
        cpu.pool().run_on(self.groups * parts * ranges, &|task, thread| {
            let (range, rest) = (task % ranges, task / ranges);
            let (group, first) = (rest / parts, rest % parts * cut.filters);
            // SAFETY: each thread has a part of its own.
            let own = unsafe { own.part(thread * len, len) };
            let filters = first..self.width.min(first + cut.filters);
            let tiles = range * cut.tiles..tiles.min((range + 1) * cut.tiles);
            dispatch(cpu.isa(), Outputs { pass: &pass, group, filters, tiles, at_once: cut.at_once, own });
        });
    }
}

/// The addresses of a 6x6 square of pixels from `at` on, `step` apart; of zeros outside the picture.
#[inline(always)]
pub(super) fn addresses(
    source: &Pixels,
    [height, width]: [usize; 2],
    image: usize,
    at: [usize; 2],
    step: [usize; 2],
    zeros: &[f32],
) -> [*const f32; POINTS] {
    let mut rows = [zeros.as_ptr(); POINTS];
    // Before the picture is beyond it: the numbers wrap.
    let inside = |at: usize, step: usize, size: usize| at < size && size - at > (SIDE - 1) * step;
    if inside(at[0], step[0], height) && inside(at[1], step[1], width) {
        let first = source.data.as_ptr().wrapping_add(((image * height + at[0]) * width + at[1]) * source.stride);
        let [down, right] = [step[0] * width * source.stride, step[1] * source.stride];
        for i in 0..SIDE {
            for j in 0..SIDE {
                rows[i * SIDE + j] = first.wrapping_add(i * down + j * right);
            }
        }
        return rows;
    }
    for i in 0..SIDE {
        for j in 0..SIDE {
            let (y, x) = (at[0].wrapping_add(i * step[0]), at[1].wrapping_add(j * step[1]));
            if y < height && x < width {
                rows[i * SIDE + j] =
                    source.data.as_ptr().wrapping_add(((image * height + y) * width + x) * source.stride);
            }
        }
    }
    rows
}
