//! Few output channels: vectors are 16 neighbouring pixels instead of 16 channels.
//!
//! 6 filters fill 6 of 16 lanes, 20 fill 20 of 32. Where rows are long enough, pixels fill them better: a band of the source
//! is copied to planes, a channel each, with its padding; a tile of up to 6 filters by 4 vectors of pixels (AVX2: by 1)
//! broadcasts weights against neighbouring values of a plane, 24 multiply-adds for 10 loads; squares of 16 filters by 16
//! pixels are turned in registers on their way out. Several groups, and all grids of a data gradient with strides, share the
//! planes of a band. Sums run as in [`super::indirect`], tap by tap and channel by channel, to the same bits.

mod planes;
mod weights;

pub(super) use weights::PlanarWeights;

use std::ops::Range;

use super::indirect::WeightSteps;
use super::lanes;
use super::phase::{Phase, Tap};
use super::{Epilogue, Pixels, PixelsMut, check_output, check_pixels};
use crate::Cpu;
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd, dispatch, load_part, store_part};
use planes::Planes;

/// Most target channels of a group: with more, vectors of channels are full enough.
const MOST: usize = 24;
/// Most filters of a tile.
const FILTERS: usize = 6;
/// Vectors of pixels of a tile where the register file is large.
const VECTORS: usize = 4;
/// About the target pixels of a task.
const BAND: usize = 1024;
/// Cycles to turn a square of 16 by 16 values on its way from or to memory, from every few pixels, and to copy a vector as it is.
const TURN: usize = 128;
const STRIDED_TURN: usize = 192;
const PLAIN_COPY: usize = 16;

/// How vectors of channels find their pixels.
#[derive(Clone, Copy)]
pub(super) enum Beside {
    /// Through a table of addresses.
    LookedUp,
    /// From runs of a padded copy, of one group or of several.
    Copied,
    CopiedGroups,
}

impl Beside {
    /// Cycles that 16 pixels take beside their products.
    fn cycles(self, taps: usize) -> usize {
        match self {
            Beside::LookedUp => 200 + 48 * taps,
            Beside::Copied => 400,
            Beside::CopiedGroups => 700,
        }
    }
}

/// A convolution, or the data gradient of one.
#[derive(Debug)]
pub(super) struct Planar {
    source: [usize; 2],
    target: [usize; 2],
    groups: usize,
    /// Source and target channels of a group.
    depth: usize,
    width: usize,
    weights: WeightSteps,
    grids: Vec<Grid>,
    /// Source rows from a grid row to the next, from grid row 0 to the first that it sees, and how many rows it sees.
    step: usize,
    top: isize,
    seen: usize,
    /// Groups of a task, whose planes are copied at once.
    together: usize,
    planes: Planes,
}

/// A grid of targets.
#[derive(Debug)]
struct Grid {
    phase: Phase,
    /// Where in the planes each tap finds the first target's value.
    places: Vec<usize>,
}

impl Planar {
    /// Where it takes fewer cycles than `elsewhere`. The rule is the same for all instruction sets: the data gradient of few channels
    /// has another order of sums elsewhere.
    pub fn new(
        source: [usize; 2],
        target: [usize; 2],
        [groups, depth, width]: [usize; 3],
        phases: &[Phase],
        weights: WeightSteps,
        elsewhere: usize,
    ) -> Option<Planar> {
        let taps = phases.iter().flat_map(|phase| &phase.taps);
        let ends = |axis: usize| {
            let at = taps.clone().map(move |tap| tap.at[axis]);
            (at.clone().min().unwrap_or(0), at.max().unwrap_or(0))
        };
        let [(top, bottom), (left, right)] = [ends(0), ends(1)];
        // Pointwise, planes would cost more than the products.
        if width > MOST || phases.iter().all(|phase| phase.taps.len() < 2) {
            return None;
        }
        let together = (1..=LANES / depth.max(width).min(LANES)).rev().find(|&some| groups.is_multiple_of(some))?;
        let [down, step] = phases[0].source_step;
        let columns = phases[0].count[1].next_multiple_of(LANES) + (right - left) as usize / step;
        let planes = Planes { size: source, channels: together * depth, left, step, columns };
        let grid = |phase: &Phase| {
            let places = phase.taps.iter().map(|tap| planes.place(top, tap.at)).collect();
            Grid { phase: phase.clone(), places }
        };
        let grids = phases.iter().map(grid).collect();
        let seen = (bottom - top + 1) as usize;
        let plan =
            Planar { source, target, groups, depth, width, weights, grids, step: down, top, seen, together, planes };
        (plan.cycles() * 9 <= elsewhere * 8).then_some(plan)
    }

    /// About the cycles of a picture.
    pub fn cycles(&self) -> usize {
        let [rows, columns] = self.grids[0].phase.count;
        let (vectors, channels) = (columns.div_ceil(LANES), self.planes.channels);
        let copied = match (self.planes.step, channels) {
            (1, 1) => PLAIN_COPY,
            (1, _) => TURN / 2 * channels.div_ceil(LANES) + 4 * channels,
            _ => STRIDED_TURN * channels.div_ceil(LANES) * self.step * self.planes.step,
        };
        let turned = |phase: &Phase| phase.count[0] * phase.count[1].div_ceil(LANES);
        let sums = |grid: &Grid| {
            let products = products(self.together * grid.places.len() * self.depth * self.width);
            // Of several lines a row, what a tile reads is more than the first-level cache holds.
            let products = if self.planes.step > 1 { products * 4 / 3 } else { products };
            turned(&grid.phase) * (products + TURN * (self.together * self.width).div_ceil(LANES))
        };
        self.groups / self.together * (self.grids.iter().map(sums).sum::<usize>() + copied * rows * vectors)
    }

    /// Filters of a block.
    fn block(&self, block: usize) -> Range<usize> {
        let blocks = self.width.div_ceil(FILTERS);
        block * self.width / blocks..(block + 1) * self.width / blocks
    }

    /// Packed weights: `[group][phase][block of filters][tap][channel][filter]`.
    pub fn packed_len(&self) -> usize {
        self.groups * self.of_group()
    }

    /// Values of a group's weights.
    fn of_group(&self) -> usize {
        self.width * self.depth * self.grids.iter().map(|grid| grid.places.len()).sum::<usize>()
    }

    pub fn pack(&self, weights: &[f32], packed: &mut [f32]) {
        assert!(packed.len() >= self.packed_len(), "packed weights: {} of {}", packed.len(), self.packed_len());
        let mut packed = packed.iter_mut();
        for group in 0..self.groups {
            let weights = &weights[group * self.weights.group..];
            for (phase, block) in
                self.grids.iter().flat_map(|grid| self.blocks().map(move |block| (&grid.phase, block)))
            {
                for tap in &phase.taps {
                    for d in 0..self.depth {
                        for (f, out) in self.block(block).zip(&mut packed) {
                            *out = weights[d * self.weights.depth + f * self.weights.width + tap.kernel];
                        }
                    }
                }
            }
        }
    }

    /// Numbers of a group's blocks of filters.
    fn blocks(&self) -> Range<usize> {
        0..self.width.div_ceil(FILTERS)
    }

    /// Rows of a task in each grid.
    fn band(&self) -> usize {
        let [rows, columns] = self.grids[0].phase.count;
        (BAND / columns.max(1)).clamp(1, rows.max(1))
    }

    fn plane(&self, rows: usize) -> usize {
        self.planes.plane((rows - 1) * self.step + self.seen)
    }

    /// Values of a thread's planes and of the sums of a tile's pixels.
    fn own_len(&self) -> usize {
        (self.planes.channels * self.plane(self.band()) + self.sums_len()).next_multiple_of(LANES)
    }

    /// Values of the sums of a tile's pixels.
    fn sums_len(&self) -> usize {
        self.together * self.width * VECTORS * LANES
    }

    pub fn workspace_len(&self, threads: usize) -> usize {
        threads * self.own_len()
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
        let [source_size, target_size] = [self.source, self.target].map(|[h, w]| n * h * w);
        check_pixels("source", source.data.len(), source.stride, source_size, self.groups * self.depth);
        check_output(&target, epilogue, packed, target_size, self.groups * self.width, self.packed_len());
        let needed = self.workspace_len(cpu.pool().threads());
        assert!(workspace.len() >= needed, "workspace: {} values of {needed}", workspace.len());
        let (band, len, parts) = (self.band(), self.own_len(), self.groups / self.together);
        let rows = self.grids[0].phase.count[0];
        let bands = rows.div_ceil(band);
        let (target_stride, target, workspace) = (target.stride, Shares::new(target.data), Shares::new(workspace));
        cpu.pool().run_on(n * bands * parts, &|task, thread| {
            let (task, part) = (task / parts, task % parts);
            let (image, first) = (task / bands, task % bands * band);
            // SAFETY: each thread has a part of its own.
            let own = unsafe { workspace.part(thread * len, len) }.as_mut_ptr();
            let (rows, target) = (first..rows.min(first + band), target.pointer());
            dispatch(
                cpu.isa(),
                Band { plan: self, image, part, rows, source, packed, epilogue, target, target_stride, own },
            );
        });
    }
}

/// About the cycles of a picture by vectors of channels.
pub(super) fn across_channels(phases: &[Phase], [groups, depth, width]: [usize; 3], beside: Beside) -> usize {
    let of = |phase: &Phase| {
        let products = products(phase.taps.len() * depth * width.next_multiple_of(LANES));
        (products + beside.cycles(phase.taps.len())) * groups * phase.count[0] * phase.count[1] / LANES
    };
    phases.iter().map(of).sum()
}

/// About the cycles of so many multiply-adds of a vector.
fn products(vectors: usize) -> usize {
    vectors * 9 / 16
}

/// A task: some rows of all grids of a picture, of some groups.
struct Band<'a> {
    plan: &'a Planar,
    image: usize,
    part: usize,
    rows: Range<usize>,
    source: Pixels<'a>,
    packed: &'a [f32],
    epilogue: &'a Epilogue<'a>,
    target: *mut f32,
    target_stride: usize,
    own: *mut f32,
}

impl Kernel for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let plan = self.plan;
        // SAFETY: `Planar::run` checked source, weights, bias, residual and target; the thread's own memory has room for the
        // planes and sums of a band; tasks write different targets.
        unsafe {
            let first = (self.rows.start * plan.step) as isize + plan.top;
            let seen = first..first + ((self.rows.len() - 1) * plan.step + plan.seen) as isize;
            let source = Pixels { data: &self.source.data[self.part * plan.planes.channels..], ..self.source };
            plan.planes.copy(s, &source, self.image, seen, self.own, plan.plane(self.rows.len()));
            let mut weights = self.part * plan.together * plan.of_group();
            for grid in &plan.grids {
                if S::WIDE {
                    self.sums::<S, VECTORS>(s, grid, weights);
                } else {
                    self.sums::<S, 1>(s, grid, weights);
                }
                weights += plan.width * plan.depth * grid.places.len();
            }
        }
    }
}

impl Band<'_> {
    /// All sums of a grid, by tiles of `V` vectors of pixels. The first group's weights begin at `weights`.
    #[inline(always)]
    unsafe fn sums<S: Simd, const V: usize>(&self, s: S, grid: &Grid, weights: usize) {
        let plan = self.plan;
        let (row, plane) = (plan.step * plan.planes.row(), plan.plane(self.rows.len()));
        let sums = self.own.wrapping_add(plan.own_len() - plan.sums_len());
        let [rows, columns] = grid.phase.count;
        let (vectors, of_group) = (columns.div_ceil(LANES), plan.of_group());
        let total = (rows.min(self.rows.end) - rows.min(self.rows.start)) * vectors;
        for first in (0..total).step_by(V) {
            let mut planes = [self.own.cast_const(); V];
            for v in 0..V {
                // Beyond the last vector the last one again.
                let at = (first + v).min(total - 1);
                planes[v] = planes[v].wrapping_add(at / vectors * row + at % vectors * LANES);
            }
            let met = self.met(&grid.phase, first / vectors..(first + V).min(total).div_ceil(vectors));
            for group in 0..plan.together {
                for block in plan.blocks() {
                    let filters = plan.block(block);
                    let weights = weights + group * of_group + filters.start * plan.depth * grid.places.len();
                    let weights = self.packed[weights + met.start * plan.depth * filters.len()..].as_ptr();
                    let out = sums.wrapping_add((group * plan.width + filters.start) * V * LANES);
                    let (places, depth) = (&grid.places[met.clone()], plan.depth);
                    s.call(Sums { places, depth, filters: filters.len(), planes, plane, weights, out });
                }
                for planes in &mut planes {
                    *planes = planes.wrapping_add(plan.depth * plane);
                }
            }
            if self.epilogue.residual.is_none() {
                // SAFETY: as above.
                unsafe { self.finish(s, sums, V) }
            }
            for v in 0..V.min(total - first) {
                let at = first + v;
                let (row, column, sums) = (at / vectors, at % vectors * LANES, sums.wrapping_add(v * LANES));
                // SAFETY: handed on from the caller.
                unsafe { self.write(s, &grid.phase, row, column, sums, V * LANES) }
            }
        }
    }

    /// The taps that lead some of the task's rows into the picture: above and below it whole kernel rows see zeros alone.
    #[inline(always)]
    fn met(&self, phase: &Phase, rows: Range<usize>) -> Range<usize> {
        let row = |row: usize| ((self.rows.start + row) * self.plan.step) as isize;
        let (first, last) = (row(rows.start), row(rows.end - 1));
        // Taps ascend by rows.
        let inside = |tap: &Tap| last + tap.at[0] >= 0 && first + tap.at[0] < self.plan.source[0] as isize;
        let start = phase.taps.iter().position(inside).unwrap_or(0);
        start..phase.taps.iter().rposition(inside).map_or(start, |last| last + 1)
    }

    /// Target channels of the task, and the first of them.
    #[inline(always)]
    fn channels(&self) -> [usize; 2] {
        let width = self.plan.together * self.plan.width;
        [width, self.part * width]
    }

    /// Bias and activation, while a vector is one filter's.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, sums: *mut f32, vectors: usize) {
        let [width, first] = self.channels();
        for f in 0..width {
            let bias = self.epilogue.bias.map(|bias| bias[first + f]);
            for v in 0..vectors {
                // SAFETY: the sums of all filters.
                unsafe {
                    let p = sums.add((f * vectors + v) * LANES);
                    let sum = s.load(p);
                    let sum = if let Some(bias) = bias { s.add(sum, s.splat(bias)) } else { sum };
                    s.store(p, self.epilogue.activation.apply(s, sum));
                }
            }
        }
    }

    /// The targets of 16 pixels of a grid's row from their sums, a filter's `step` values after another's.
    #[inline(always)]
    unsafe fn write<S: Simd>(&self, s: S, phase: &Phase, row: usize, column: usize, sums: *const f32, step: usize) {
        let (plan, [width, first]) = (self.plan, self.channels());
        let row = phase.start[0] + (self.rows.start + row) * phase.step[0];
        let pixel = (self.image * plan.target[0] + row) * plan.target[1] + phase.start[1] + column * phase.step[1];
        let pixels = LANES.min(phase.count[1] - column);
        let stride = phase.step[1] * self.target_stride;
        for f in (0..width).step_by(LANES) {
            let filters = LANES.min(width - f);
            let at = |i: usize| sums.wrapping_add((f + i) * step);
            let out = self.target.wrapping_add(pixel * self.target_stride + first + f);
            // SAFETY: as the caller vouches.
            unsafe {
                match self.epilogue.residual {
                    None => lanes::scatter(s, at, pixels, filters, out, stride),
                    Some(residual) => {
                        let mut values = [0.0; LANES * LANES];
                        lanes::scatter(s, at, pixels, filters, values.as_mut_ptr(), LANES);
                        let bias = match self.epilogue.bias {
                            Some(bias) => load_part(s, bias.as_ptr().add(first + f), filters),
                            None => s.zero(),
                        };
                        for i in 0..pixels {
                            let pixel = pixel + i * phase.step[1];
                            let more = residual.data.as_ptr().add(pixel * residual.stride + first + f);
                            let mut value = s.load(values.as_ptr().add(i * LANES));
                            if self.epilogue.bias.is_some() {
                                value = s.add(value, bias);
                            }
                            let value = s.add(value, load_part(s, more, filters));
                            let value = self.epilogue.activation.apply(s, value);
                            store_part(s, out.add(i * stride), value, filters);
                        }
                    }
                }
            }
        }
    }
}

/// The sums of some filters over `V` vectors of pixels.
struct Sums<'a, const V: usize> {
    /// Where in the planes each tap begins.
    places: &'a [usize],
    depth: usize,
    filters: usize,
    /// The first channel's planes from the vectors' first pixels on, and values to the next channel's.
    planes: [*const f32; V],
    plane: usize,
    weights: *const f32,
    out: *mut f32,
}

impl<const V: usize> Kernel for Sums<'_, V> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: `Planar::run` checked the lengths of all that the pointers lead to.
        unsafe {
            match self.filters {
                1 => self.sum::<S, 1>(s),
                2 => self.sum::<S, 2>(s),
                3 => self.sum::<S, 3>(s),
                4 => self.sum::<S, 4>(s),
                5 => self.sum::<S, 5>(s),
                6 => self.sum::<S, 6>(s),
                filters => unreachable!("a block of {filters} filters"),
            }
        }
    }
}

impl<const V: usize> Sums<'_, V> {
    #[inline(always)]
    unsafe fn sum<S: Simd, const F: usize>(&self, s: S) {
        let mut sums = [[s.zero(); V]; F];
        let mut w = self.weights;
        for &place in self.places {
            // Plain loops: a closure might be compiled as a function of its own, and all sums go to memory for the call.
            let mut planes = self.planes;
            for v in 0..V {
                planes[v] = planes[v].wrapping_add(place);
            }
            let mut at = 0;
            for _ in 0..self.depth {
                // SAFETY: as the caller vouches.
                unsafe {
                    let mut x = [s.zero(); V];
                    for v in 0..V {
                        x[v] = s.load(planes[v].add(at));
                    }
                    for f in 0..F {
                        let w = s.splat(*w.add(f));
                        for v in 0..V {
                            sums[f][v] = s.fma(x[v], w, sums[f][v]);
                        }
                    }
                    w = w.add(F);
                }
                at += self.plane;
            }
        }
        for f in 0..F {
            for v in 0..V {
                // SAFETY: as the caller vouches.
                unsafe { s.store(self.out.add((f * V + v) * LANES), sums[f][v]) };
            }
        }
    }
}
