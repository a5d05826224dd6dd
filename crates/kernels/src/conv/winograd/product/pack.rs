//! The transform of the weights, and the order in which they wait for it.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::super::super::lanes;
use super::super::transform;
use super::{Product, Weights};
use crate::simd::{Kernel, LANES, Simd};

/// Channels by which packed weights are asked for ahead, 14 KB of kernels of 3: a transform takes less time than memory does.
const AHEAD: usize = 24;

/// Transforms the weights of a panel of filters for some source channels: `[point][channel][lanes]`, points `plane` apart.
pub(super) struct Pack<'a> {
    pub plan: &'a Product,
    pub weights: Weights<'a>,
    pub group: usize,
    /// The panel's first filter.
    pub first: usize,
    pub lanes: usize,
    pub depth: Range<usize>,
    pub out: *mut f32,
    pub plane: usize,
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if self.plan.tiling.kernel == 3 { self.pack::<S, 3>(s) } else { self.pack::<S, 5>(s) }
    }
}

impl Pack<'_> {
    #[inline(always)]
    fn pack<S: Simd, const R: usize>(&self, s: S) {
        let (plan, taps) = (self.plan, R * R);
        // A channel's kernels follow each other where the lanes are filters: then several channels are gathered at once.
        let at_once = if plan.weights.depth == taps { LANES } else { 1 };
        let mut kernels = [MaybeUninit::<f32>::uninit(); LANES * LANES * 25];
        let kernels = kernels.as_mut_ptr().cast::<f32>();
        for lane in (0..self.lanes).step_by(LANES) {
            let first = self.first + lane;
            let valid = LANES.min(plan.width - first);
            for d in self.depth.clone().step_by(at_once) {
                let count = at_once.min(self.depth.end - d);
                // SAFETY: the plan checked that the weights hold all kernels, and `out` all points of these channels.
                unsafe {
                    let kernels = match self.weights {
                        Weights::Plain(weights) => {
                            let steps = &plan.weights;
                            let from = self.group * steps.group + d * steps.depth + first * steps.width;
                            lanes::gather(
                                s,
                                weights.as_ptr().add(from),
                                steps.width,
                                valid,
                                count * taps,
                                kernels,
                                LANES,
                            );
                            kernels.cast_const()
                        }
                        Weights::Packed(packed) => {
                            packed.as_ptr().add(plan.packed(self.group, first) + d * taps * LANES)
                        }
                    };
                    for i in 0..count {
                        if matches!(self.weights, Weights::Packed(_)) {
                            for tap in 0..taps {
                                s.prefetch(kernels.wrapping_add(((i + AHEAD) * taps + tap) * LANES));
                            }
                        }
                        let out = self.out.add((d - self.depth.start + i) * self.lanes + lane);
                        transform::kernel::<S, R>(s, kernels.add(i * taps * LANES), plan.turned, out, self.plane);
                    }
                }
            }
        }
    }
}

/// Vectors across 16 filters of a group, `[channel][element]`: half of the work of a transform, done once.
pub(super) struct Gather<'a> {
    pub plan: &'a Product,
    pub weights: &'a [f32],
    pub group: usize,
    pub first: usize,
    pub out: &'a mut [f32],
}

impl Kernel for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (plan, valid) = (self.plan, LANES.min(self.plan.width - self.first));
        let (steps, taps) = (&plan.weights, plan.taps());
        let from = &self.weights[self.group * steps.group + self.first * steps.width..];
        // A filter's kernels that follow each other are one run.
        let run = if steps.depth == taps { plan.depth } else { 1 };
        for d in (0..plan.depth).step_by(run) {
            // SAFETY: the plan checked the weights' length; `out` holds a vector for each of a filter's values.
            unsafe {
                let (from, out) = (from.as_ptr().add(d * steps.depth), self.out.as_mut_ptr().add(d * taps * LANES));
                lanes::gather(s, from, steps.width, valid, run * taps, out, LANES);
            }
        }
    }
}
