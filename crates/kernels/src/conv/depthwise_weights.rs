//! The weight gradient of a depthwise convolution: vectors run across channels, a sum over pixels for each kernel element.
//!
//! Where registers suffice, the nine taps of a 3x3 kernel and the bias are summed in one walk over the pixels. Else four vectors
//! of channels are summed side by side, chains that hide the latency of a multiply-add, and so are the three taps of a kernel
//! row, which share a load of `dy`.

use super::depthwise::of_group;
use super::forward;
use super::phase::{Phase, Tap};
use super::weight_tile::met;
use super::{Pixels, check_pixels};
use crate::Cpu;
use crate::geometry::ConvShape;
use crate::pool::Shares;
use crate::segments::{Reduction, Segment, Segments};
use crate::simd::{Kernel, LANES, Simd, dispatch, load_part};

/// Channels of a part.
const BLOCK: usize = 4 * LANES;
/// Taps that are summed in one walk.
const NINE: usize = 9;

pub(super) struct DepthwiseWeights {
    shape: ConvShape,
    /// Channels of a group: 1 or 4.
    each: usize,
    output: [usize; 2],
    phase: Phase,
    segments: Segments,
}

impl DepthwiseWeights {
    pub fn new(shape: &ConvShape) -> DepthwiseWeights {
        let phase = forward::phases(shape).swap_remove(0);
        let (each, segments) = (shape.group_channels(), Segments::new(shape.output()));
        DepthwiseWeights { shape: *shape, each, output: shape.output(), phase, segments }
    }

    pub fn name(&self) -> &'static str {
        if self.each == 1 { "depthwise" } else { "grouped" }
    }

    /// Weights of a filter.
    fn elements(&self) -> usize {
        self.phase.taps.len() * self.each
    }

    /// A part holds `[tap][channel of a group][BLOCK]` sums, then the bias's `[BLOCK]`.
    pub fn reduction(&self, n: usize, threads: usize) -> Reduction {
        let wanted = if threads == 1 { 1 } else { 4 * threads };
        let parts = self.shape.channels.div_ceil(BLOCK);
        Reduction::new(self.segments, n, parts, (self.elements() + 1) * BLOCK, 0, wanted)
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
        let channels = self.shape.channels;
        check_pixels("x", x.data.len(), x.stride, n * self.shape.input[0] * self.shape.input[1], channels);
        check_pixels("dy", dy.data.len(), dy.stride, n * self.output[0] * self.output[1], channels);
        let (elements, taps, each) = (self.elements(), self.phase.taps.len(), self.each);
        let (dw, db) = (Shares::new(dw), db.map(Shares::new));
        let lanes = |part: usize| BLOCK.min(channels - part * BLOCK);
        let sum = |part: usize, segment: &Segment, _: &mut [f32], out: &mut [f32]| {
            dispatch(
                cpu.isa(),
                SegmentSum { plan: self, channel: part * BLOCK, lanes: lanes(part), segment, x, dy, out },
            );
        };
        let finish = |part: usize, sums: &[f32]| {
            // SAFETY: each part has channels of its own.
            let dw = unsafe { dw.part(part * BLOCK * elements, lanes(part) * elements) };
            for (filter, dw) in dw.chunks_mut(elements).enumerate() {
                for (i, dw) in dw.iter_mut().enumerate() {
                    *dw = sums[(i % taps * each + i / taps) * BLOCK + filter];
                }
            }
            if let Some(db) = &db {
                // SAFETY: as above.
                let db = unsafe { db.part(part * BLOCK, lanes(part)) };
                db.copy_from_slice(&sums[elements * BLOCK..][..lanes(part)]);
            }
        };
        self.reduction(n, cpu.pool().threads()).run(cpu, workspace, &sum, &finish);
    }
}

impl Phase {
    /// Whether the taps are whole kernel rows of three neighbouring columns.
    fn three_columns(&self) -> bool {
        let beside = |a: &Tap, b: &Tap| a.at[0] == b.at[0] && a.at[1] + 1 == b.at[1];
        let (rows, rest) = self.taps.as_chunks::<3>();
        rest.is_empty() && rows.iter().all(|[a, b, c]| beside(a, b) && beside(b, c))
    }
}

struct SegmentSum<'a> {
    plan: &'a DepthwiseWeights,
    channel: usize,
    lanes: usize,
    segment: &'a Segment,
    x: Pixels<'a>,
    dy: Pixels<'a>,
    out: &'a mut [f32],
}

impl Kernel for SegmentSum<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let each = self.plan.each;
        let taps = self.plan.phase.taps.len();
        let together = if self.plan.phase.three_columns() && (S::WIDE || each == 1) { 3 } else { 1 };
        // SAFETY: `run` of the plan checked that x and dy hold all pixels and channels; `out` has a block for each element and
        // one more.
        unsafe {
            if S::WIDE && together == 3 && self.plan.shape.window.kernel == [3, 3] && each == 1 {
                return self.nine(s);
            }
            for tap in (0..taps).step_by(together) {
                match (together, each) {
                    (3, 1) => self.channels::<S, 3, 1>(s, tap),
                    (3, _) => self.channels::<S, 3, 4>(s, tap),
                    (_, 1) => self.channels::<S, 1, 1>(s, tap),
                    _ => self.channels::<S, 1, 4>(s, tap),
                }
            }
            self.channels::<S, 1, 1>(s, taps);
        }
    }
}

impl SegmentSum<'_> {
    /// All taps of a 3x3 kernel and the bias.
    #[inline(always)]
    unsafe fn nine<S: Simd>(&mut self, s: S) {
        let mut c = 0;
        // SAFETY: handed on from the caller.
        unsafe {
            while c + 2 * LANES <= self.lanes {
                self.nine_of::<S, 2>(s, c, LANES);
                c += 2 * LANES;
            }
            while c < self.lanes {
                self.nine_of::<S, 1>(s, c, LANES.min(self.lanes - c));
                c += LANES;
            }
        }
    }

    #[inline(always)]
    unsafe fn nine_of<S: Simd, const NV: usize>(&mut self, s: S, c: usize, lanes: usize) {
        let plan = self.plan;
        let Segment { images, rows } = self.segment;
        let [stride_y, stride_x] = plan.shape.window.stride;
        let [height, width] = plan.shape.input;
        let [top, left] = plan.phase.taps[0].at;
        let tap_row = plan.shape.window.dilation[0];
        // The columns at which all three taps of a kernel row meet the picture.
        let all = 0..plan.output[1];
        let inside = met(met(all.clone(), stride_x, left, width), stride_x, left + 2, width);
        let parts = [0..inside.start, inside.clone(), inside.end.max(inside.start)..all.end];
        let parts = if inside.is_empty() { [all, 0..0, 0..0] } else { parts };
        let mut acc = [[s.zero(); NV]; NINE + 1];
        for image in images.clone() {
            for row in rows.clone() {
                let dy_pixel = (image * plan.output[0] + row) * plan.output[1];
                let dy = self.dy.data.as_ptr().wrapping_add(dy_pixel * self.dy.stride + self.channel + c);
                // The source rows of the kernel's rows, from the first tap on, or none.
                let mut from = [std::ptr::null(); 3];
                for (r, from) in from.iter_mut().enumerate() {
                    let y = (row * stride_y + r * tap_row).wrapping_add_signed(top);
                    if y < height {
                        let pixel = ((image * height + y) * width).wrapping_add_signed(left);
                        let at = pixel.wrapping_mul(self.x.stride).wrapping_add(self.channel + c);
                        *from = self.x.data.as_ptr().wrapping_add(at);
                    }
                }
                let rows_inside = from.iter().all(|from| !from.is_null());
                for (part, columns) in parts.iter().enumerate() {
                    let inside = rows_inside && part == 1;
                    for column in columns.clone() {
                        let dy = dy.wrapping_add(column * self.dy.stride);
                        let mut d = [s.zero(); NV];
                        for v in 0..NV {
                            // SAFETY: the pixel exists; partial vectors read the channels that exist.
                            d[v] = unsafe { load_part(s, dy.add(v * LANES), lanes) };
                            acc[NINE][v] = s.add(acc[NINE][v], d[v]);
                        }
                        let offset = column.wrapping_mul(stride_x).wrapping_mul(self.x.stride);
                        for r in 0..3 {
                            for k in 0..3 {
                                let x = (column * stride_x + k).wrapping_add_signed(left);
                                if !inside && (from[r].is_null() || x >= width) {
                                    continue;
                                }
                                let x = from[r].wrapping_add(offset).wrapping_add(k * self.x.stride);
                                for v in 0..NV {
                                    // SAFETY: as above: the tap meets the picture here.
                                    let x = unsafe { load_part(s, x.add(v * LANES), lanes) };
                                    acc[3 * r + k][v] = s.fma(x, d[v], acc[3 * r + k][v]);
                                }
                            }
                        }
                    }
                }
            }
        }
        for k in 0..NINE + 1 {
            for v in 0..NV {
                let out = &mut self.out[k * BLOCK + c + v * LANES..][..LANES];
                // SAFETY: sixteen values.
                unsafe { s.store(out.as_mut_ptr(), acc[k][v]) };
            }
        }
    }

    /// The sums of `TAPS` taps of a kernel row from `tap` on with `G` channels each; behind the last tap comes the bias.
    #[inline(always)]
    unsafe fn channels<S: Simd, const TAPS: usize, const G: usize>(&mut self, s: S, tap: usize) {
        let mut c = 0;
        // SAFETY: handed on from the caller.
        unsafe {
            if S::WIDE && self.lanes == BLOCK && G == 1 {
                return self.taps::<S, TAPS, 4, G>(s, tap, 0, LANES);
            }
            while c < self.lanes {
                self.taps::<S, TAPS, 1, G>(s, tap, c, LANES.min(self.lanes - c));
                c += LANES;
            }
        }
    }

    #[inline(always)]
    unsafe fn taps<S: Simd, const TAPS: usize, const NV: usize, const G: usize>(
        &mut self,
        s: S,
        tap: usize,
        c: usize,
        lanes: usize,
    ) {
        let plan = self.plan;
        let Segment { images, rows } = self.segment;
        let [stride_y, stride_x] = plan.shape.window.stride;
        let [height, width] = plan.shape.input;
        let bias = tap == plan.phase.taps.len();
        let [y, x] = if bias { [0, 0] } else { plan.phase.taps[tap].at };
        let mut rows_met = rows.clone();
        // The columns that each tap meets, and those that all meet.
        let mut columns: [_; TAPS] = std::array::from_fn(|_| 0..plan.output[1]);
        if !bias {
            rows_met = met(rows_met, stride_y, y, height);
            for (k, columns) in columns.iter_mut().enumerate() {
                *columns = met(columns.clone(), stride_x, x + k as isize, width);
            }
        }
        let start = columns.iter().map(|columns| columns.start).max().unwrap_or(0).min(plan.output[1]);
        let end = columns.iter().map(|columns| columns.end).min().unwrap_or(0).max(start);
        let mut acc = [[[s.zero(); NV]; G]; TAPS];
        for image in images.clone() {
            for row in rows_met.clone() {
                let dy_pixel = (image * plan.output[0] + row) * plan.output[1];
                let dy = self.dy.data.as_ptr().wrapping_add(dy_pixel * self.dy.stride + self.channel + c);
                let pixel = (image * height + (row * stride_y).wrapping_add_signed(y)).wrapping_mul(width);
                let from = pixel.wrapping_add_signed(x).wrapping_mul(self.x.stride);
                let from = self.x.data.as_ptr().wrapping_add(from).wrapping_add(self.channel + c);
                for part in 0..3 {
                    let (columns_here, inside) =
                        [(0..start, false), (start..end, true), (end..plan.output[1], false)][part].clone();
                    for column in columns_here {
                        let dy = dy.wrapping_add(column * self.dy.stride);
                        let x = from.wrapping_add(column.wrapping_mul(stride_x).wrapping_mul(self.x.stride));
                        let mut d = [s.zero(); NV];
                        for v in 0..NV {
                            // SAFETY: the pixel exists; partial vectors read the channels that exist.
                            d[v] = unsafe { load_part(s, dy.add(v * LANES), lanes) };
                        }
                        for k in 0..TAPS {
                            if !inside && !columns[k].contains(&column) {
                                continue;
                            }
                            for v in 0..NV {
                                // SAFETY: as above: the tap meets the picture here.
                                unsafe {
                                    if bias {
                                        acc[k][0][v] = s.add(acc[k][0][v], d[v]);
                                        continue;
                                    }
                                    let x = load_part(s, x.wrapping_add(k * self.x.stride + v * LANES), lanes);
                                    for i in 0..G {
                                        acc[k][i][v] = s.fma(of_group::<S, G>(s, x, i), d[v], acc[k][i][v]);
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        for k in 0..TAPS {
            for i in 0..G {
                for v in 0..NV {
                    let element = (tap + k) * plan.each + i;
                    let out = &mut self.out[element * BLOCK + c + v * LANES..][..LANES];
                    // SAFETY: sixteen values.
                    unsafe { s.store(out.as_mut_ptr(), acc[k][i][v]) };
                }
            }
        }
    }
}
