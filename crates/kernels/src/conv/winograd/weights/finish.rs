//! From sums at the points to the gradients of weights.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::super::super::lanes;
use super::super::transform;
use super::WeightGradient;
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd};

/// Writes the gradients of at most 16 channels and of the filters of a panel.
pub(super) struct Finish<'a> {
    pub plan: &'a WeightGradient,
    pub group: usize,
    pub panel: usize,
    pub channels: Range<usize>,
    /// `[point][channel][lanes]` from the first channel on, points `plane` values apart.
    pub sums: *const f32,
    pub plane: usize,
    pub dw: &'a Shares<f32>,
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if self.plan.shape.window.kernel[0] == 3 { self.write::<S, 3>(s) } else { self.write::<S, 5>(s) }
    }
}

impl Finish<'_> {
    #[inline(always)]
    fn write<S: Simd, const R: usize>(&self, s: S) {
        let plan = self.plan;
        let (channels, filters) = (plan.shape.group_channels(), plan.shape.group_filters());
        let lanes = plan.lanes(self.panel);
        let mut elements = [MaybeUninit::<f32>::uninit(); LANES * LANES * 25];
        let elements = elements.as_mut_ptr().cast::<f32>();
        for lane in (0..lanes).step_by(LANES) {
            let filter = self.panel * plan.panel + lane;
            let count = LANES.min(filters.saturating_sub(filter));
            let at = ((self.group * filters + filter) * channels + self.channels.start) * R * R;
            let to = self.dw.pointer().wrapping_add(at);
            // SAFETY: the sums hold all points; `WeightGradient::run` checked that dw holds all filters; tasks write different
            // channels or filters.
            unsafe {
                for i in 0..self.channels.len() {
                    let sums = self.sums.add(i * lanes + lane);
                    transform::kernel_gradient::<S, R>(s, sums, self.plane, elements.add(i * R * R * LANES));
                }
                lanes::scatter(s, elements, LANES, count, self.channels.len() * R * R, to, channels * R * R);
            }
        }
    }
}
