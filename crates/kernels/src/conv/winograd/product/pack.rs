//! The transform of the weights.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::super::super::lanes;
use super::super::{POINTS, transform};
use super::{Piece, Product};
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd};

/// Transforms the weights of a panel for some source channels.
pub(super) struct Pack<'a> {
    pub plan: &'a Product,
    pub weights: &'a [f32],
    pub piece: &'a Piece,
    pub out: &'a Shares<f32>,
    /// Group and panel in the piece.
    pub group: usize,
    pub panel: usize,
    pub depth: Range<usize>,
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if self.plan.kernel == 3 { self.pack::<S, 3>(s) } else { self.pack::<S, 5>(s) }
    }
}

impl Pack<'_> {
    #[inline(always)]
    fn pack<S: Simd, const R: usize>(&self, s: S) {
        let plan = self.plan;
        let (taps, panel, plane) = (R * R, plan.panel(), plan.plane(self.piece.filters.len()));
        let lanes = panel.min(self.piece.filters.len().next_multiple_of(LANES) - self.panel * panel);
        let start = self.group * POINTS * plane + self.panel * panel * plan.depth;
        let (group, panel) = (self.piece.groups.start + self.group, self.piece.filters.start + self.panel * panel);
        // A channel's kernels follow each other where the lanes are filters: then all channels are gathered at once.
        let at_once = if plan.weights.depth == taps { self.depth.len() } else { 1 };
        let mut kernels = [MaybeUninit::<f32>::uninit(); LANES * LANES * 25];
        let kernels = kernels.as_mut_ptr().cast::<f32>();
        for lane in (0..lanes).step_by(LANES) {
            let first = panel + lane;
            let valid = LANES.min(plan.width.saturating_sub(first));
            for d in self.depth.clone().step_by(at_once) {
                let from = group * plan.weights.group + d * plan.weights.depth + first * plan.weights.width;
                let from = self.weights.as_ptr().wrapping_add(from);
                // SAFETY: `pack_piece` checked that the weights hold all kernels and the packed weights all points; tasks
                // write different panels and channels.
                unsafe {
                    lanes::gather(s, from, plan.weights.width, valid, at_once * taps, kernels, LANES);
                    for i in 0..at_once {
                        let out = self.out.pointer().add(start + (d + i) * lanes + lane);
                        let kernel = kernels.add(i * taps * LANES);
                        transform::kernel::<S, R>(s, kernel, plan.turned, out, plane);
                    }
                }
            }
        }
    }
}
