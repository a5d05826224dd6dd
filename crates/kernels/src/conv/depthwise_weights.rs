//! The weight gradient of a depthwise convolution: vectors run across channels, a sum over pixels for each kernel element.
//!
//! Where registers suffice, the nine taps of a 3x3 kernel and the bias are summed in one walk over the pixels. Else four vectors
//! of channels are summed side by side, chains that hide the latency of a multiply-add, and so are the three taps of a kernel
//! row, which share a load of `dy`.

use super::forward;
use super::phase::Phase;
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
    output: [usize; 2],
    phase: Phase,
    segments: Segments,
}

impl DepthwiseWeights {
    pub fn new(shape: &ConvShape) -> DepthwiseWeights {
        let phase = forward::phases(shape).swap_remove(0);
        DepthwiseWeights { shape: *shape, output: shape.output(), phase, segments: Segments::new(shape.output()) }
    }

    /// A part holds `[tap, then the bias][BLOCK]` sums.
    pub fn reduction(&self, n: usize, threads: usize) -> Reduction {
        let wanted = if threads == 1 { 1 } else { 4 * threads };
        let parts = self.shape.channels.div_ceil(BLOCK);
        Reduction::new(self.segments, n, parts, (self.phase.taps.len() + 1) * BLOCK, 0, wanted)
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
        let taps = self.phase.taps.len();
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
            let dw = unsafe { dw.part(part * BLOCK * taps, lanes(part) * taps) };
            for (channel, dw) in dw.chunks_mut(taps).enumerate() {
                dw.iter_mut().enumerate().for_each(|(tap, dw)| *dw = sums[tap * BLOCK + channel]);
            }
            if let Some(db) = &db {
                // SAFETY: as above.
                let db = unsafe { db.part(part * BLOCK, lanes(part)) };
                db.copy_from_slice(&sums[taps * BLOCK..][..lanes(part)]);
            }
        };
        self.reduction(n, cpu.pool().threads()).run(cpu, workspace, &sum, &finish);
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
        let taps = self.plan.phase.taps.len();
        let together = if self.plan.phase.three_columns() { 3 } else { 1 };
        // SAFETY: `run` of the plan checked that x and dy hold all pixels and channels; `out` has `taps + 1` blocks.
        unsafe {
            if S::WIDE && together == 3 && taps == NINE {
                return self.nine(s);
            }
            for tap in (0..taps).step_by(together) {
                if together == 3 { self.channels::<S, 3>(s, tap) } else { self.channels::<S, 1>(s, tap) }
            }
            self.channels::<S, 1>(s, taps);
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

    /// The sums of `TAPS` taps of a kernel row from `tap` on; behind the last tap comes the bias.
    #[inline(always)]
    unsafe fn channels<S: Simd, const TAPS: usize>(&mut self, s: S, tap: usize) {
        let mut c = 0;
        // SAFETY: handed on from the caller.
        unsafe {
            if S::WIDE && self.lanes == BLOCK {
                return self.taps::<S, TAPS, 4>(s, tap, 0, LANES);
            }
            while c < self.lanes {
                self.taps::<S, TAPS, 1>(s, tap, c, LANES.min(self.lanes - c));
                c += LANES;
            }
        }
    }

    #[inline(always)]
    unsafe fn taps<S: Simd, const TAPS: usize, const NV: usize>(&mut self, s: S, tap: usize, c: usize, lanes: usize) {
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
        let mut acc = [[s.zero(); NV]; TAPS];
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
                                acc[k][v] = unsafe {
                                    if bias {
                                        s.add(acc[k][v], d[v])
                                    } else {
                                        let x = x.wrapping_add(k * self.x.stride + v * LANES);
                                        s.fma(load_part(s, x, lanes), d[v], acc[k][v])
                                    }
                                };
                            }
                        }
                    }
                }
            }
        }
        for k in 0..TAPS {
            for v in 0..NV {
                let out = &mut self.out[(tap + k) * BLOCK + c + v * LANES..][..LANES];
                // SAFETY: sixteen values.
                unsafe { s.store(out.as_mut_ptr(), acc[k][v]) };
            }
        }
    }
}
