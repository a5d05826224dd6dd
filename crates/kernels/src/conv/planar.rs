//! Few output channels: vectors are 16 neighbouring pixels instead of 16 channels.
//!
//! 6 filters fill 6 of 16 lanes, 20 fill 20 of 32. Where rows are long enough, pixels fill them better: a band of the source
//! is copied to planes, a channel each, with its padding; a tile of up to 6 filters by 4 vectors of pixels (AVX2: by 1)
//! broadcasts weights against neighbouring values of a plane, 24 multiply-adds for 10 loads; squares of 16 filters by 16
//! pixels are turned in registers on their way out. Sums run as in [`super::indirect`], tap by tap and channel by channel,
//! to the same bits.

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

/// Most target channels: with more, vectors of channels are full enough.
const MOST: usize = 24;
/// Most filters of a tile.
const FILTERS: usize = 6;
/// Vectors of pixels of a tile where the register file is large.
const VECTORS: usize = 4;
/// About the target pixels of a task.
const BAND: usize = 1024;
/// Cycles to turn a square of 16 by 16 values, and those that 16 pixels take beside their products elsewhere.
const TURN: usize = 64;
const OVERHEAD: usize = 600;

/// A convolution of stride 1 in one group, or the data gradient of one.
#[derive(Debug)]
pub(super) struct Planar {
    source: [usize; 2],
    target: [usize; 2],
    /// Source and target channels.
    depth: usize,
    width: usize,
    taps: Vec<Tap>,
    weights: WeightSteps,
    /// Rows and columns from a target pixel to the first that it sees, and how many rows it sees.
    first: [isize; 2],
    seen: usize,
    planes: Planes,
}

impl Planar {
    /// Where it takes fewer cycles than vectors of channels do. The rule is the same for all instruction sets: the data gradient
    /// of few channels has another order of sums elsewhere.
    pub fn new(
        source: [usize; 2],
        target: [usize; 2],
        [groups, depth, width]: [usize; 3],
        phases: &[Phase],
        weights: WeightSteps,
    ) -> Option<Planar> {
        let [phase] = phases else { return None };
        // Pointwise, planes would cost more than the products.
        if groups > 1 || width > MOST || phase.source_step != [1, 1] || phase.taps.len() < 2 {
            return None;
        }
        let across_channels = phase.taps.len() * depth * width.next_multiple_of(LANES) / 2 + OVERHEAD;
        let across_pixels =
            Self::vector_cycles(phase.taps.len(), depth, width) * target[1].next_multiple_of(LANES) / target[1].max(1);
        if across_pixels * 5 > across_channels * 4 {
            return None;
        }
        let ends = |axis: usize| {
            let at = phase.taps.iter().map(move |tap| tap.at[axis]);
            (at.clone().min().unwrap_or(0), at.max().unwrap_or(0))
        };
        let [(top, bottom), (left, right)] = [ends(0), ends(1)];
        let columns = target[1].next_multiple_of(LANES) + (right - left) as usize;
        let planes = Planes { size: source, channels: depth, left, columns };
        let (taps, seen) = (phase.taps.clone(), (bottom - top + 1) as usize);
        Some(Planar { source, target, depth, width, taps, weights, first: [top, left], seen, planes })
    }

    /// About the cycles of a picture.
    pub fn cycles(&self) -> usize {
        self.target[0] * self.target[1].div_ceil(LANES) * Self::vector_cycles(self.taps.len(), self.depth, self.width)
    }

    /// Those of a vector of pixels.
    fn vector_cycles(taps: usize, depth: usize, width: usize) -> usize {
        taps * depth * width / 2 + TURN * (width.div_ceil(LANES) + depth.div_ceil(LANES))
    }

    /// Filters of a block.
    fn block(&self, block: usize) -> Range<usize> {
        let blocks = self.width.div_ceil(FILTERS);
        block * self.width / blocks..(block + 1) * self.width / blocks
    }

    /// Packed weights: `[block of filters][tap][channel][filter]`.
    pub fn packed_len(&self) -> usize {
        self.width * self.depth * self.taps.len()
    }

    pub fn pack(&self, weights: &[f32], packed: &mut [f32]) {
        assert!(packed.len() >= self.packed_len(), "packed weights: {} of {}", packed.len(), self.packed_len());
        let mut packed = packed.iter_mut();
        for block in 0..self.width.div_ceil(FILTERS) {
            for tap in &self.taps {
                for d in 0..self.depth {
                    for (f, out) in self.block(block).zip(&mut packed) {
                        *out = weights[d * self.weights.depth + f * self.weights.width + tap.kernel];
                    }
                }
            }
        }
    }

    /// Target rows of a task.
    fn band(&self) -> usize {
        (BAND / self.target[1].max(1)).clamp(1, self.target[0].max(1))
    }

    fn plane(&self, rows: usize) -> usize {
        self.planes.plane(rows + self.seen - 1)
    }

    /// Values of a thread's planes and of the sums of a tile's pixels.
    fn own_len(&self) -> usize {
        (self.depth * self.plane(self.band()) + self.width * VECTORS * LANES).next_multiple_of(LANES)
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
        check_pixels("source", source.data.len(), source.stride, source_size, self.depth);
        check_output(&target, epilogue, packed, target_size, self.width, self.packed_len());
        let needed = self.workspace_len(cpu.pool().threads());
        assert!(workspace.len() >= needed, "workspace: {} values of {needed}", workspace.len());
        let (band, height, len) = (self.band(), self.target[0], self.own_len());
        let bands = height.div_ceil(band);
        let (target_stride, target, workspace) = (target.stride, Shares::new(target.data), Shares::new(workspace));
        cpu.pool().run_on(n * bands, &|task, thread| {
            let (image, first) = (task / bands, task % bands * band);
            // SAFETY: each thread has a part of its own.
            let own = unsafe { workspace.part(thread * len, len) }.as_mut_ptr();
            let (rows, target) = (first..height.min(first + band), target.pointer());
            dispatch(cpu.isa(), Band { plan: self, image, rows, source, packed, epilogue, target, target_stride, own });
        });
    }
}

/// A task: some target rows of a picture.
struct Band<'a> {
    plan: &'a Planar,
    image: usize,
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
        // SAFETY: `Planar::run` checked source, weights, bias, residual and target; the thread's own memory has room for the
        // planes and sums of a band; tasks write different rows.
        unsafe {
            let first = self.rows.start as isize + self.plan.first[0];
            let seen = first..first + (self.rows.len() + self.plan.seen) as isize - 1;
            self.plan.planes.copy(s, &self.source, self.image, seen, self.own, self.plan.plane(self.rows.len()));
            if S::WIDE { self.sums::<S, VECTORS>(s) } else { self.sums::<S, 1>(s) }
        }
    }
}

impl Band<'_> {
    /// All sums, by tiles of `V` vectors of pixels.
    #[inline(always)]
    unsafe fn sums<S: Simd, const V: usize>(&self, s: S) {
        let plan = self.plan;
        let (row, plane, sums) =
            (plan.planes.row(), plan.plane(self.rows.len()), self.own.wrapping_add(plan.own_len()));
        let sums = sums.wrapping_sub((plan.width * VECTORS * LANES).next_multiple_of(LANES));
        let vectors = plan.target[1].div_ceil(LANES);
        let total = self.rows.len() * vectors;
        for first in (0..total).step_by(V) {
            let mut planes = [self.own.cast_const(); V];
            for v in 0..V {
                // Beyond the last vector the last one again.
                let at = (first + v).min(total - 1);
                planes[v] = planes[v].wrapping_add(at / vectors * row + at % vectors * LANES);
            }
            for block in 0..plan.width.div_ceil(FILTERS) {
                let filters = plan.block(block);
                let weights = self.packed[filters.start * plan.depth * plan.taps.len()..].as_ptr();
                let out = sums.wrapping_add(filters.start * V * LANES);
                s.call(Sums { plan, filters: filters.len(), planes, row, plane, weights, out });
            }
            if self.epilogue.residual.is_none() {
                // SAFETY: as above.
                unsafe { self.finish(s, sums, V) }
            }
            for v in 0..V.min(total - first) {
                let at = first + v;
                // SAFETY: handed on from the caller.
                unsafe { self.write(s, at / vectors, at % vectors * LANES, sums.wrapping_add(v * LANES), V * LANES) }
            }
        }
    }

    /// Bias and activation, while a vector is one filter's.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, sums: *mut f32, vectors: usize) {
        for f in 0..self.plan.width {
            let bias = self.epilogue.bias.map(|bias| bias[f]);
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

    /// The targets of 16 pixels from their sums, a filter's `step` values after another's.
    #[inline(always)]
    unsafe fn write<S: Simd>(&self, s: S, row: usize, column: usize, sums: *const f32, step: usize) {
        let plan = self.plan;
        let [height, width] = plan.target;
        let pixel = (self.image * height + self.rows.start + row) * width + column;
        let pixels = LANES.min(width - column);
        for f in (0..plan.width).step_by(LANES) {
            let filters = LANES.min(plan.width - f);
            let at = |i: usize| sums.wrapping_add((f + i) * step);
            let out = self.target.wrapping_add(pixel * self.target_stride + f);
            // SAFETY: as the caller vouches.
            unsafe {
                match self.epilogue.residual {
                    None => lanes::scatter(s, at, pixels, filters, out, self.target_stride),
                    Some(residual) => {
                        let mut values = [0.0; LANES * LANES];
                        lanes::scatter(s, at, pixels, filters, values.as_mut_ptr(), LANES);
                        let bias = match self.epilogue.bias {
                            Some(bias) => load_part(s, bias.as_ptr().add(f), filters),
                            None => s.zero(),
                        };
                        for i in 0..pixels {
                            let more = residual.data.as_ptr().add((pixel + i) * residual.stride + f);
                            let mut value = s.load(values.as_ptr().add(i * LANES));
                            if self.epilogue.bias.is_some() {
                                value = s.add(value, bias);
                            }
                            let value = s.add(value, load_part(s, more, filters));
                            let value = self.epilogue.activation.apply(s, value);
                            store_part(s, out.add(i * self.target_stride), value, filters);
                        }
                    }
                }
            }
        }
    }
}

/// The sums of some filters over `V` vectors of pixels.
struct Sums<'a, const V: usize> {
    plan: &'a Planar,
    filters: usize,
    planes: [*const f32; V],
    row: usize,
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
        let plan = self.plan;
        let mut sums = [[s.zero(); V]; F];
        let mut w = self.weights;
        for tap in &plan.taps {
            // Plain loops: a closure might be compiled as a function of its own, and all sums go to memory for the call.
            let (y, x) = (tap.at[0] - plan.first[0], tap.at[1] - plan.first[1]);
            let mut planes = self.planes;
            for v in 0..V {
                planes[v] = planes[v].wrapping_add(y as usize * self.row + x as usize);
            }
            let mut at = 0;
            for _ in 0..plan.depth {
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
