//! The weight gradient of a depthwise convolution: vectors run across channels, a sum over pixels for each kernel element.
//!
//! Four vectors of channels are summed side by side, four chains that hide the latency of a multiply-add.

use super::forward;
use super::phase::Phase;
use super::weight_tile::met;
use super::{Pixels, check_pixels};
use crate::Cpu;
use crate::geometry::ConvShape;
use crate::pool::Shares;
use crate::segments::{Reduction, Segment, Segments};
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Channels of a part.
const BLOCK: usize = 4 * LANES;

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
        for tap in 0..=taps {
            let mut c = 0;
            // SAFETY: `run` of the plan checked that x and dy hold all pixels and channels; `out` has `taps + 1` blocks.
            unsafe {
                if S::WIDE && self.lanes == BLOCK {
                    self.tap::<S, 4>(s, tap, 0, LANES);
                    continue;
                }
                while c + LANES <= self.lanes {
                    self.tap::<S, 1>(s, tap, c, LANES);
                    c += LANES;
                }
                if c < self.lanes {
                    self.tap::<S, 1>(s, tap, c, self.lanes - c);
                }
            }
        }
    }
}

impl SegmentSum<'_> {
    #[inline(always)]
    unsafe fn tap<S: Simd, const NV: usize>(&mut self, s: S, tap: usize, c: usize, lanes: usize) {
        let plan = self.plan;
        let Segment { images, rows } = self.segment;
        let [stride_y, stride_x] = plan.shape.window.stride;
        let [height, width] = plan.shape.input;
        let bias = tap == plan.phase.taps.len();
        let [y, x] = if bias { [0, 0] } else { plan.phase.taps[tap].at };
        let (mut rows_met, mut columns) = (rows.clone(), 0..plan.output[1]);
        if !bias {
            rows_met = met(rows_met, stride_y, y, height);
            columns = met(columns, stride_x, x, width);
        }
        let mut acc = [s.zero(); NV];
        for image in images.clone() {
            for row in rows_met.clone() {
                let dy_pixel = (image * plan.output[0] + row) * plan.output[1];
                let x_row = (image * height + (row * stride_y).wrapping_add_signed(y)).wrapping_mul(width);
                for column in columns.clone() {
                    let dy =
                        self.dy.data.as_ptr().wrapping_add((dy_pixel + column) * self.dy.stride + self.channel + c);
                    let pixel = x_row.wrapping_add((column * stride_x).wrapping_add_signed(x));
                    let from = self.x.data.as_ptr().wrapping_add(pixel.wrapping_mul(self.x.stride) + self.channel + c);
                    for v in 0..NV {
                        // SAFETY: both pixels exist; partial vectors read the channels that exist.
                        unsafe {
                            let at = v * LANES;
                            let d = if lanes == LANES { s.load(dy.add(at)) } else { s.load_n(dy.add(at), lanes) };
                            acc[v] = if bias {
                                s.add(acc[v], d)
                            } else {
                                let x = from.wrapping_add(at);
                                let x = if lanes == LANES { s.load(x) } else { s.load_n(x, lanes) };
                                s.fma(x, d, acc[v])
                            };
                        }
                    }
                }
            }
        }
        for v in 0..NV {
            let out = &mut self.out[tap * BLOCK + c + v * LANES..][..LANES];
            // SAFETY: sixteen values.
            unsafe { s.store(out.as_mut_ptr(), acc[v]) };
        }
    }
}
