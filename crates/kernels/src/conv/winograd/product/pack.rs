//! The transform of the weights.

use std::ops::Range;

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
        // Of a last vector's kernels those that exist; the others stay zero.
        let mut some = [0.0; LANES * 25];
        for d in self.depth.clone() {
            for lane in (0..lanes).step_by(LANES) {
                let first = panel + lane;
                let from = group * plan.weights.group + d * plan.weights.depth + first * plan.weights.width;
                let valid = LANES.min(plan.width.saturating_sub(first));
                let (mut g, mut stride) = (self.weights[from..].as_ptr(), plan.weights.width);
                if valid < LANES {
                    for l in 0..valid {
                        some[l * taps..][..taps].copy_from_slice(&self.weights[from + l * stride..][..taps]);
                    }
                    (g, stride) = (some.as_ptr(), taps);
                }
                // SAFETY: the packed weights hold all points; tasks write different panels and channels; `pack_piece` checked
                // that the weights hold all kernels.
                unsafe {
                    let out = self.out.pointer().add(start + d * lanes + lane);
                    transform::kernel::<S, R>(s, g, stride, plan.turned, out, plane);
                }
            }
        }
    }
}
