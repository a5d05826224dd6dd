//! The weight gradient: source and gradient transforms, 36 outer products summed over tiles, and the kernel's transform.
//!
//! A task takes some channels and filters of a group over one segment of the tiles, alone, in memory of its own that stays in
//! the second-level cache of one core: it transforms the sources and gradients of some tiles at a time, adds their products at
//! all points to its sums, and transforms those to gradients of weights, which join by the tree of [`crate::segments`].

use std::ops::Range;

use super::super::weight_tile::{Dy, Start, Walk, sum};
use super::super::{Pixels, check_pixels, lanes};
use super::{POINTS, Place, Tiling, outputs, product, transform};
use crate::geometry::ConvShape;
use crate::pool::Shares;
use crate::segments::{Reduction, Segment, Segments};
use crate::simd::{Kernel, LANES, Simd, dispatch};
use crate::{Cpu, Isa};

/// Fewest and most tiles of a segment, unless one row has more: few where a segment has few parts, so that 16 pictures give
/// tasks for several threads.
const SEGMENT: [usize; 2] = [64, 256];
/// Tiles of a segment for each part.
const FOR_A_PART: usize = 32;
/// Most channels and filters of a task, whole panels: its sums are 1.2 MB.
const CHANNELS: usize = 128;
const FILTERS: usize = 64;
/// Sources that a task transforms at once, tiles by channels: 440 KB. Their products are summed in registers and then added, so
/// that chains stay short: in the last transform of a kernel of 5 the sums' rounding errors weigh four times as much.
const SOURCES: usize = 48 * 64;
/// The point that holds the sum of a tile's gradients: 1 in both directions.
const SUM_POINT: usize = 7;

pub(in super::super) struct WeightGradient {
    shape: ConvShape,
    tiling: Tiling,
    segments: Segments,
    /// Filters of a panel.
    panel: usize,
    zeros: Vec<f32>,
}

/// A task's share: some channels and filters of a group.
struct Part {
    group: usize,
    channels: Range<usize>,
    filters: Range<usize>,
}

impl Part {
    /// Channels and filters in whole vectors.
    fn padded(&self) -> [usize; 2] {
        [&self.channels, &self.filters].map(|range| range.len().next_multiple_of(LANES))
    }

    fn panels(&self, panel: usize) -> impl Iterator<Item = [usize; 2]> + use<> {
        let [_, filters] = self.padded();
        (0..filters).step_by(panel).map(move |first| [first, panel.min(filters - first)])
    }
}

impl WeightGradient {
    pub fn new(shape: &ConvShape, isa: Isa) -> WeightGradient {
        let tiling = Tiling::outputs(shape);
        let panel = if isa == Isa::Avx512 { 2 * LANES } else { LANES };
        let zeros = vec![0.0; shape.channels.max(shape.filters)];
        WeightGradient { shape: *shape, tiling, segments: WeightGradient::segments(shape), panel, zeros }
    }

    /// How a batch is cut, whatever the processor.
    pub fn segments(shape: &ConvShape) -> Segments {
        let parts = shape.groups * shape.group_channels().div_ceil(CHANNELS) * shape.group_filters().div_ceil(FILTERS);
        let tiles = (FOR_A_PART * parts).clamp(SEGMENT[0], SEGMENT[1]);
        Segments::of(Tiling::outputs(shape).grid(), tiles)
    }

    /// How often sources, gradients and sums are transformed for `n` pictures.
    pub fn times(shape: &ConvShape, n: usize) -> [usize; 3] {
        let (channels, filters) = (shape.group_channels().div_ceil(CHANNELS), shape.group_filters().div_ceil(FILTERS));
        [filters, channels, WeightGradient::segments(shape).count(n)]
    }

    fn taps(&self) -> usize {
        self.shape.window.kernel[0] * self.shape.window.kernel[1]
    }

    /// Most channels and filters of a part, in whole vectors.
    fn most(&self) -> [usize; 2] {
        [(CHANNELS, self.shape.group_channels()), (FILTERS, self.shape.group_filters())]
            .map(|(most, all)| most.min(all.next_multiple_of(LANES)))
    }

    /// Most tiles that a task transforms at once.
    fn most_tiles(&self) -> usize {
        SOURCES / self.most()[0].max(64)
    }

    /// Channels and filters of a part: fewer where there would be fewer tasks than threads have use for.
    fn cut(&self, n: usize, threads: usize) -> [usize; 2] {
        let [mut channels, mut filters] = self.most();
        let tasks = |cut| self.shape.groups * self.parts(cut).iter().product::<usize>() * self.segments.count(n);
        while threads > 1 && tasks([channels, filters]) < 2 * threads && channels.max(filters) > LANES {
            let larger = if channels > LANES && channels >= filters { &mut channels } else { &mut filters };
            *larger = (*larger / 2).next_multiple_of(LANES);
        }
        [channels, filters]
    }

    /// How many parts there are along the channels and the filters of a group.
    fn parts(&self, [channels, filters]: [usize; 2]) -> [usize; 2] {
        [self.shape.group_channels().div_ceil(channels), self.shape.group_filters().div_ceil(filters)]
    }

    fn part(&self, part: usize, cut @ [channels, filters]: [usize; 2]) -> Part {
        let [across, down] = self.parts(cut);
        let (group, channel, filter) = (part / (across * down), part / down % across * channels, part % down * filters);
        Part {
            group,
            channels: channel..self.shape.group_channels().min(channel + channels),
            filters: filter..self.shape.group_filters().min(filter + filters),
        }
    }

    /// Values of a task's sums, transformed sources and gradients, with a cache line more a point: planes of a power of two would
    /// map all points to one set of a cache.
    fn own(&self) -> [usize; 3] {
        let [channels, filters] = self.most();
        [channels * filters, self.most_tiles() * channels, self.most_tiles() * filters]
            .map(|plane| POINTS * (plane + LANES))
    }

    /// The results of a part are `[vector of filters][channel][element][lane]`, then the bias's `[filter]`.
    fn reduction(&self, n: usize, threads: usize) -> Reduction {
        let cut @ [channels, filters] = self.cut(n, threads);
        let [across, down] = self.parts(cut);
        let wanted = if threads == 1 { 1 } else { 4 * threads };
        let most = channels * filters * self.taps() + filters;
        let parts = self.shape.groups * across * down;
        Reduction::new(self.segments, n, parts, most, self.own().iter().sum(), wanted)
    }

    pub fn workspace_len(&self, n: usize, threads: usize) -> usize {
        // Fewer pictures are cut into more parts.
        (1..=n).map(|n| self.reduction(n, threads).workspace_len(threads)).max().unwrap_or(0)
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
        db: Option<&mut [f32]>,
        workspace: &mut [f32],
    ) {
        let (shape, output) = (&self.shape, self.shape.output());
        check_pixels("x", x.data.len(), x.stride, n * shape.input[0] * shape.input[1], shape.channels);
        check_pixels("dy", dy.data.len(), dy.stride, n * output[0] * output[1], shape.filters);
        assert!(dw.len() >= shape.weights(), "dw: {} values of {}", dw.len(), shape.weights());
        assert!(db.as_ref().is_none_or(|db| db.len() >= shape.filters), "db: less than {} values", shape.filters);
        let (dw, db) = (Shares::new(dw), db.map(Shares::new));
        let threads = cpu.pool().threads();
        let cut = self.cut(n, threads);
        let sum = |part: usize, segment: &Segment, own: &mut [f32], out: &mut [f32]| {
            dispatch(cpu.isa(), SegmentSum { plan: self, x, dy, part: self.part(part, cut), segment, own, out });
        };
        let finish = |part: usize, sums: &[f32]| {
            let part = self.part(part, cut);
            let place = part.group * shape.group_filters() + part.filters.start;
            if let Some(db) = db.as_ref().filter(|_| part.channels.start == 0) {
                let from = part.padded().iter().product::<usize>() * self.taps();
                // SAFETY: parts have filters of their own; their length was checked above.
                unsafe { db.part(place, part.filters.len()) }.copy_from_slice(&sums[from..][..part.filters.len()]);
            }
            dispatch(cpu.isa(), Write { plan: self, part, sums, dw: &dw });
        };
        self.reduction(n, threads).run(cpu, workspace, &sum, &finish);
    }
}

/// The sums of one part over one segment.
struct SegmentSum<'a> {
    plan: &'a WeightGradient,
    x: Pixels<'a>,
    dy: Pixels<'a>,
    part: Part,
    segment: &'a Segment,
    own: &'a mut [f32],
    out: &'a mut [f32],
}

impl Kernel for SegmentSum<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: `WeightGradient::run` checked x and dy; own and out are as long as the reduction was told.
        unsafe { if self.plan.shape.window.kernel[0] == 3 { self.sum::<S, 3>(s) } else { self.sum::<S, 5>(s) } }
    }
}

impl SegmentSum<'_> {
    #[inline(always)]
    unsafe fn sum<S: Simd, const R: usize>(self, s: S) {
        let SegmentSum { plan, ref part, .. } = self;
        let [channels, filters] = part.padded();
        let Segment { images, rows } = self.segment;
        let [h, w] = plan.tiling.grid();
        // One run of tiles: a band of one picture or whole pictures.
        let (first, count) = ((images.start * h + rows.start) * w, images.len() * rows.len() * w);
        let [own_sums, own_sources, _] = plan.own();
        let sums = self.own.as_mut_ptr();
        let (sources, gradients) = (sums.wrapping_add(own_sums), sums.wrapping_add(own_sums + own_sources));
        let sum_plane = channels * filters + LANES;
        let bias = self.out[channels * filters * R * R..][..filters].as_mut_ptr();
        // As many each time, so that none are few.
        let at_once = count.div_ceil(count.div_ceil(plan.most_tiles()));
        for t in (0..count).step_by(at_once) {
            let tiles = first + t..first + count.min(t + at_once);
            let start = if t == 0 { Start::Zero } else { Start::Added };
            // SAFETY: as the caller vouches.
            unsafe {
                self.transform::<S, R>(s, &tiles, sources, gradients);
                for point in 0..POINTS {
                    let x = sources.wrapping_add(point * (tiles.len() * channels + LANES));
                    let dy = gradients.wrapping_add(point * (tiles.len() * filters + LANES));
                    self.add(s, tiles.len(), x, dy, start, sums.wrapping_add(point * sum_plane));
                    if point == SUM_POINT && part.channels.start == 0 {
                        for [before, lanes] in part.panels(plan.panel) {
                            let walk = walk(&1.0, 0, tiles.len());
                            let dy =
                                Dy { first: dy.wrapping_add(before * tiles.len()), row: lanes, next: std::ptr::null() };
                            sum(s, 1, lanes / LANES, &walk, dy, bias.wrapping_add(before), start);
                        }
                    }
                }
            }
        }
        for [before, lanes] in part.panels(plan.panel) {
            for lane in (0..lanes).step_by(LANES) {
                for channel in 0..part.channels.len() {
                    let from = sums.wrapping_add(before * channels + channel * lanes + lane);
                    let to = (before + lane) * channels + channel * LANES;
                    // SAFETY: the sums hold all points, the results all elements.
                    unsafe {
                        let to = self.out.as_mut_ptr().add(to * R * R);
                        transform::kernel_gradient::<S, R>(s, from, sum_plane, to);
                    }
                }
            }
        }
    }

    /// Adds the products of transformed tiles at a point: `[panel][channel][lanes]`.
    #[inline(always)]
    unsafe fn add<S: Simd>(&self, s: S, tiles: usize, x: *const f32, dy: *const f32, start: Start, out: *mut f32) {
        let [channels, _] = self.part.padded();
        let most = if S::WIDE { 8 } else { 6 };
        for [before, lanes] in self.part.panels(self.plan.panel) {
            for block in (0..channels).step_by(LANES) {
                for row in (0..LANES).step_by(most) {
                    let walk = walk(x.wrapping_add(block * tiles + row), LANES, tiles);
                    let out = out.wrapping_add(before * channels + (block + row) * lanes);
                    // SAFETY: as the caller vouches.
                    unsafe {
                        let dy = Dy { first: dy.wrapping_add(before * tiles), row: lanes, next: std::ptr::null() };
                        sum(s, most.min(LANES - row), lanes / LANES, &walk, dy, out, start);
                    }
                }
            }
        }
    }

    /// Sources `[point][block of channels][tile][16]` and gradients `[point][panel][tile][lanes]`.
    #[inline(always)]
    unsafe fn transform<S: Simd, const R: usize>(
        &self,
        s: S,
        tiles: &Range<usize>,
        sources: *mut f32,
        gradients: *mut f32,
    ) {
        let SegmentSum { plan, ref part, ref x, ref dy, .. } = *self;
        let (shape, side) = (&plan.shape, outputs(R));
        let [top, left, ..] = shape.window.padding;
        let [source_plane, gradient_plane] = part.padded().map(|channels| tiles.len() * channels + LANES);
        let channel = part.group * shape.group_channels() + part.channels.start;
        let filter = part.group * shape.group_filters() + part.filters.start;
        let addresses = |t: usize| {
            let place = plan.tiling.place(t);
            let (pixel, [down, right]) = plan.tiling.pixels(&place);
            let Place { image, first: [row, column], count: [rows, columns] } = place;
            let at = [row.wrapping_add_signed(-top), column.wrapping_add_signed(-left)];
            let first = dy.data.as_ptr().wrapping_add(pixel * dy.stride);
            let [down, right] = [down * dy.stride, right * dy.stride];
            let mut gradients = [plan.zeros.as_ptr(); 16];
            for i in 0..side {
                for j in 0..side {
                    if i < rows && j < columns {
                        gradients[i * side + j] = first.wrapping_add(i * down + j * right);
                    }
                }
            }
            (product::addresses(x, shape.input, image, at, plan.tiling.dilation, &plan.zeros), gradients)
        };
        // This tile's and the next one's, by turns.
        let mut rows = [addresses(tiles.start); 2];
        for (i, t) in tiles.clone().enumerate() {
            rows[(i + 1) % 2] = addresses(tiles.end.min(t + 2) - 1);
            let (rows, next) = (&rows[i % 2], &rows[(i + 1) % 2]);
            for c in (0..part.channels.len()).step_by(LANES) {
                let lanes = LANES.min(part.channels.len() - c);
                let out = sources.wrapping_add(c * tiles.len() + i * LANES);
                transform::ask_source(s, &next.0, channel + c);
                // SAFETY: the addresses are of pixels or zeros; the task's memory has room for its tiles.
                unsafe { transform::source(s, &rows.0, channel + c, lanes, out, source_plane) };
            }
            for [before, lanes] in part.panels(plan.panel) {
                for lane in (0..lanes).step_by(LANES) {
                    let f = before + lane;
                    let out = gradients.wrapping_add(before * tiles.len() + i * lanes + lane);
                    let count = LANES.min(part.filters.len() - f);
                    for pixel in next.1 {
                        s.prefetch_first(pixel.wrapping_add(filter + f));
                    }
                    // SAFETY: as above.
                    unsafe { transform::gradient::<S, R>(s, &rows.1, filter + f, count, out, gradient_plane) };
                }
            }
        }
    }
}

/// A run of tiles, `step` values apart in x.
fn walk(x: *const f32, step: usize, tiles: usize) -> Walk {
    Walk { x, first: 0, counts: [1, 1, tiles], x_steps: [0, 0, step], dy_steps: [0, 0, 1] }
}

/// Writes a part's results in PyTorch's order.
struct Write<'a> {
    plan: &'a WeightGradient,
    part: Part,
    sums: &'a [f32],
    dw: &'a Shares<f32>,
}

impl Kernel for Write<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Write { plan, part, sums, dw } = self;
        let (shape, taps, [channels, _]) = (&plan.shape, plan.taps(), part.padded());
        let row = shape.group_channels() * taps;
        for f in (0..part.filters.len()).step_by(LANES) {
            let filter = part.group * shape.group_filters() + part.filters.start + f;
            let from = sums[f * channels * taps..][..part.channels.len() * taps * LANES].as_ptr();
            let to = dw.pointer().wrapping_add(filter * row + part.channels.start * taps);
            let count = LANES.min(part.filters.len() - f);
            // SAFETY: `WeightGradient::run` checked that dw holds all filters; parts write different channels or filters.
            unsafe { lanes::scatter(s, |i| from.wrapping_add(i * LANES), count, part.channels.len() * taps, to, row) };
        }
    }
}
