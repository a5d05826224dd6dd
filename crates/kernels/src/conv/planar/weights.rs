//! The weight gradient of few channels and filters, of groups too: sums over vectors of pixels.
//!
//! x and dy are copied to planes, picture by picture. A tile of up to 6 filters by 4 kernel elements multiplies vectors of
//! 16 neighbouring pixels: 24 multiply-adds for 10 loads, where 6 filters would fill 6 of 16 lanes. The lanes of a sum are
//! added at the end of a segment, for 16 sums at once.

use super::super::forward;
use super::super::padded::Padded;
use super::super::{Pixels, check_pixels};
use super::FILTERS;
use super::planes::Planes;
use crate::Cpu;
use crate::geometry::ConvShape;
use crate::pool::Shares;
use crate::segments::{Reduction, Segment, Segments};
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Kernel elements of a tile.
const TAPS: usize = 4;
/// Cycles to turn a square of 16 by 16 values, and those that 16 pixels take beside their products in tiles.
const TURN: usize = 64;
const OVERHEAD: usize = 100;
/// Most sums of groups whose planes are copied at once, each a vector: 128 KB. A group alone may have twice as many.
const SUMS: usize = 2048;

pub(in super::super) struct PlanarWeights {
    shape: ConvShape,
    output: [usize; 2],
    segments: Segments,
    x: Planes,
    dy: Planes,
    /// Where in the planes of x each tap finds the first output's value.
    places: Vec<usize>,
    /// Rows from an output row to the next, from output row 0 to the first that it sees, and how many rows it sees.
    step: usize,
    top: isize,
    seen: usize,
    /// Groups of a part, whose planes are copied at once.
    together: usize,
}

impl PlanarWeights {
    /// Where it takes fewer cycles than vectors of filters do.
    pub fn new(shape: &ConvShape) -> Option<PlanarWeights> {
        let phase = forward::phases(shape).swap_remove(0);
        let ([height, width], taps) = (shape.output(), phase.taps.len());
        let (channels, filters) = (shape.group_channels(), shape.group_filters());
        let sums = taps * channels * filters;
        // Pointwise, copies would cost more than the products.
        let pointwise = taps < 2 && channels > 1;
        let [down, step] = phase.source_step;
        if pointwise || sums > 2 * SUMS || height == 0 || width == 0 {
            return None;
        }
        let vectors = filters.div_ceil(LANES);
        let fits = |&groups: &usize| shape.groups.is_multiple_of(groups) && groups * sums <= SUMS;
        let together = (1..=LANES / channels.min(filters).min(LANES)).rev().find(fits).unwrap_or(1);
        let squares = |channels: usize| (together * channels).div_ceil(LANES);
        let copied = if shape.channels > 1 || step > 1 { down * step * squares(channels) } else { 0 };
        let turns = TURN * (squares(filters) + copied) / together;
        let across_pixels = (sums / 2 + turns) * width.next_multiple_of(LANES) / width;
        // Chains of sums hide the latency of a multiply-add: there are as many as a copied kernel row has values, or an element.
        let row = if Padded::new(shape).is_some() { shape.window.kernel[1] } else { 1 };
        let chains = row * channels * vectors;
        let across_filters = LANES * taps * channels * vectors * 8 / chains.clamp(1, 8) / 2 + OVERHEAD;
        // Groups fill a vector of filters badly: of 8 channels and filters, tiles are faster only where rows fill less than half of
        // their vectors. Where they fill it, turning counts twice: pixels of many filters lie far apart.
        let pays = if shape.groups == 1 || [down, step] != [1, 1] {
            across_pixels * 5 <= across_filters * 4
        } else {
            2 * width > width.next_multiple_of(LANES) && (filters <= LANES || across_pixels + turns <= across_filters)
        };
        if !pays {
            return None;
        }
        let at = |axis: usize| phase.taps.iter().map(move |tap| tap.at[axis]);
        let [top, left] = [0, 1].map(|axis| at(axis).min().unwrap_or(0));
        let [bottom, right] = [0, 1].map(|axis| at(axis).max().unwrap_or(0));
        let read = width.next_multiple_of(LANES);
        let [x_channels, dy_channels] = [together * channels, together * filters];
        let columns = read + (right - left) as usize / step;
        let x = Planes { size: shape.input, channels: x_channels, left, step, columns };
        Some(PlanarWeights {
            shape: *shape,
            output: [height, width],
            segments: Segments::new([height, width]),
            places: phase.taps.iter().map(|tap| x.place(top, tap.at)).collect(),
            step: down,
            x,
            dy: Planes { size: [height, width], channels: dy_channels, left: 0, step: 1, columns: read },
            top,
            seen: (bottom - top + 1) as usize,
            together,
        })
    }

    fn sums(&self) -> usize {
        self.places.len() * self.shape.group_channels() * self.dy.channels
    }

    /// Values of a plane of so many output rows, of x and of dy.
    fn planes(&self, rows: usize) -> [usize; 2] {
        [self.x.plane((rows - 1) * self.step + self.seen), self.dy.plane(rows)]
    }

    /// Sums, and those of dy for the bias.
    fn all_sums(&self) -> usize {
        self.sums() + self.dy.channels
    }

    /// Of a part's groups `[filter][channel][tap]`, then one a filter for the bias. The scratch memory holds planes, then a vector a sum.
    fn reduction(&self, n: usize, threads: usize) -> Reduction {
        let wanted = if threads == 1 { 1 } else { 4 * threads };
        let [x, dy] = self.planes(self.segments.most_rows());
        let scratch = x * self.x.channels + dy * self.dy.channels + self.all_sums() * LANES;
        Reduction::new(self.segments, n, self.shape.groups / self.together, self.all_sums(), scratch, wanted)
    }

    pub fn workspace_len(&self, n: usize, threads: usize) -> usize {
        self.reduction(n, threads).workspace_len(threads)
    }

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
        let (shape, sums) = (&self.shape, self.sums());
        check_pixels("x", x.data.len(), x.stride, n * shape.input[0] * shape.input[1], shape.channels);
        check_pixels("dy", dy.data.len(), dy.stride, n * self.output[0] * self.output[1], shape.filters);
        assert!(dw.len() >= shape.weights(), "dw: {} values of {}", dw.len(), shape.weights());
        assert!(db.as_ref().is_none_or(|db| db.len() >= shape.filters), "db: less than {} values", shape.filters);
        let bias = db.is_some();
        let (dw, db) = (Shares::new(dw), db.map(Shares::new));
        let sum = |part: usize, segment: &Segment, scratch: &mut [f32], out: &mut [f32]| {
            dispatch(cpu.isa(), SegmentSum { plan: self, part, segment, x, dy, bias, scratch, out });
        };
        let finish = |part: usize, all: &[f32]| {
            let filters = self.dy.channels;
            // SAFETY: each part has weights of its own; their length was checked above.
            unsafe { dw.part(part * sums, sums) }.copy_from_slice(&all[..sums]);
            if let Some(db) = &db {
                // SAFETY: as above.
                unsafe { db.part(part * filters, filters) }.copy_from_slice(&all[sums..][..filters]);
            }
        };
        self.reduction(n, cpu.pool().threads()).run(cpu, workspace, &sum, &finish);
    }
}

struct SegmentSum<'a> {
    plan: &'a PlanarWeights,
    part: usize,
    segment: &'a Segment,
    x: Pixels<'a>,
    dy: Pixels<'a>,
    bias: bool,
    scratch: &'a mut [f32],
    out: &'a mut [f32],
}

impl Kernel for SegmentSum<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let plan = self.plan;
        let (rows, channels, filters) = (self.segment.rows.clone(), plan.x.channels, plan.dy.channels);
        let x_pixels = Pixels { data: &self.x.data[self.part * channels..], ..self.x };
        let dy_pixels = Pixels { data: &self.dy.data[self.part * filters..], ..self.dy };
        let [x_plane, dy_plane] = plan.planes(rows.len());
        let planes = x_plane * channels + dy_plane * filters;
        assert!(self.scratch.len() >= planes + plan.all_sums() * LANES);
        assert!(self.out.len() >= plan.all_sums().next_multiple_of(LANES));
        let x = self.scratch.as_mut_ptr();
        let (dy, vectors) = (x.wrapping_add(x_plane * channels), x.wrapping_add(planes));
        for image in self.segment.images.clone() {
            let (from, count) = (rows.start as isize, rows.len() as isize);
            let first = image == self.segment.images.start;
            // SAFETY: `run` of the plan checked that x and dy hold all pixels; the scratch memory has room for the planes.
            unsafe {
                let top = from * plan.step as isize + plan.top;
                let seen = top..top + ((rows.len() - 1) * plan.step + plan.seen) as isize;
                plan.x.copy(s, &x_pixels, image, seen, x, x_plane);
                plan.dy.copy(s, &dy_pixels, image, from..from + count, dy, dy_plane);
            }
            let all = Sums { plan, rows: rows.len(), x, dy, planes: [x_plane, dy_plane], first, out: vectors };
            let (of_group, blocks) = (plan.shape.group_filters(), plan.shape.group_filters().div_ceil(FILTERS));
            for i in 0..plan.together * blocks {
                let (group, block) = (i / blocks, i % blocks);
                let at = |block: usize| group * of_group + block * of_group / blocks;
                let (start, filters) = (at(block), at(block + 1) - at(block));
                s.call(Block { sums: &all, group, start, filters, bias: self.bias });
            }
        }
        let sums = if self.bias { plan.all_sums() } else { plan.sums() };
        for i in (0..sums).step_by(LANES) {
            let mut rows = [s.zero(); LANES];
            for j in 0..LANES {
                if i + j < sums {
                    // SAFETY: a vector for each sum.
                    rows[j] = unsafe { s.load(vectors.add((i + j) * LANES)) };
                }
            }
            // SAFETY: whole vectors, as checked.
            unsafe { s.store(self.out.as_mut_ptr().add(i), s.sums(rows)) };
        }
    }
}

/// What the tiles of a picture share.
struct Sums<'a> {
    plan: &'a PlanarWeights,
    rows: usize,
    x: *const f32,
    dy: *const f32,
    planes: [usize; 2],
    /// Whether sums begin from zero.
    first: bool,
    out: *mut f32,
}

/// All sums of some filters of a group.
struct Block<'a> {
    sums: &'a Sums<'a>,
    /// Of the part.
    group: usize,
    start: usize,
    filters: usize,
    bias: bool,
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: `SegmentSum::run` checked that the planes and sums are as long as the plan says.
        unsafe {
            match self.filters {
                1 => self.all::<S, 1>(s),
                2 => self.all::<S, 2>(s),
                3 => self.all::<S, 3>(s),
                4 => self.all::<S, 4>(s),
                5 => self.all::<S, 5>(s),
                6 => self.all::<S, 6>(s),
                filters => unreachable!("a block of {filters} filters"),
            }
        }
    }
}

impl Block<'_> {
    #[inline(always)]
    unsafe fn all<S: Simd, const F: usize>(&self, s: S) {
        let plan = self.sums.plan;
        let taps = plan.places.len();
        let together = if S::WIDE { TAPS } else { 1 };
        for channel in 0..plan.shape.group_channels() {
            let mut tap = 0;
            // SAFETY: as the caller vouches.
            unsafe {
                while tap + together <= taps {
                    if S::WIDE {
                        self.tile::<S, F, TAPS>(s, channel, tap)
                    } else {
                        self.tile::<S, F, 1>(s, channel, tap)
                    }
                    tap += together;
                }
                for tap in tap..taps {
                    self.tile::<S, F, 1>(s, channel, tap);
                }
            }
        }
        if self.bias {
            // SAFETY: as the caller vouches.
            unsafe { self.biases::<S, F>(s) }
        }
    }

    /// The sums of `F` filters by `T` taps of a channel over a picture's rows.
    #[inline(always)]
    unsafe fn tile<S: Simd, const F: usize, const T: usize>(&self, s: S, channel: usize, tap: usize) {
        let Sums { plan, rows, x, dy, planes: [x_plane, dy_plane], first, out } = *self.sums;
        let (x_row, dy_row, all_taps) = (plan.step * plan.x.row(), plan.dy.row(), plan.places.len());
        let channels = plan.shape.group_channels();
        let x = x.wrapping_add((self.group * channels + channel) * x_plane);
        let dy = dy.wrapping_add(self.start * dy_plane);
        let mut seen = [x; T];
        for t in 0..T {
            seen[t] = x.wrapping_add(plan.places[tap + t]);
        }
        let out = out.wrapping_add((self.start * channels + channel) * all_taps * LANES + tap * LANES);
        let filter_step = channels * all_taps * LANES;
        let mut sums = [[s.zero(); T]; F];
        // SAFETY: as the caller vouches.
        unsafe {
            if !first {
                for f in 0..F {
                    for t in 0..T {
                        sums[f][t] = s.load(out.add(f * filter_step + t * LANES));
                    }
                }
            }
            for row in 0..rows {
                for column in (0..plan.dy.columns).step_by(LANES) {
                    let mut x = [s.zero(); T];
                    for t in 0..T {
                        x[t] = s.load(seen[t].add(row * x_row + column));
                    }
                    for f in 0..F {
                        let dy = s.load(dy.add(f * dy_plane + row * dy_row + column));
                        for t in 0..T {
                            sums[f][t] = s.fma(x[t], dy, sums[f][t]);
                        }
                    }
                }
            }
            for f in 0..F {
                for t in 0..T {
                    s.store(out.add(f * filter_step + t * LANES), sums[f][t]);
                }
            }
        }
    }

    /// The sums of dy itself.
    #[inline(always)]
    unsafe fn biases<S: Simd, const F: usize>(&self, s: S) {
        let Sums { plan, rows, dy, planes: [_, dy_plane], first, out, .. } = *self.sums;
        let out = out.wrapping_add((plan.sums() + self.start) * LANES);
        for f in 0..F {
            // SAFETY: as the caller vouches.
            unsafe {
                let dy = dy.add((self.start + f) * dy_plane);
                let mut sum = if first { s.zero() } else { s.load(out.add(f * LANES).cast_const()) };
                for row in 0..rows {
                    for column in (0..plan.dy.columns).step_by(LANES) {
                        sum = s.add(sum, s.load(dy.add(row * plan.dy.row() + column)));
                    }
                }
                s.store(out.add(f * LANES), sum);
            }
        }
    }
}
