//! Packing a panel of weights.

use std::mem::MaybeUninit;

use super::super::lanes;
use super::super::phase::Tap;
use super::Indirect;
use crate::simd::{Kernel, LANES, Simd, load_part};

/// Values of a vector's lanes that are gathered at once: 32 KB.
const GATHERED: usize = 512;

/// Packs a panel of a phase: `[tap][depth][lanes]`.
pub(super) struct Pack<'a> {
    pub plan: &'a Indirect,
    pub taps: &'a [Tap],
    /// From the panel's first filter on.
    pub weights: &'a [f32],
    /// Lanes of the panel, and those that exist.
    pub lanes: usize,
    pub valid: usize,
    pub out: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (steps, elements) = (&self.plan.weights, self.elements());
        if self.taps.is_empty() {
            // A phase that nothing reaches.
        } else if steps.channels < self.plan.depth || elements > GATHERED {
            self.plain();
        } else if steps.width == 1 {
            self.copy(s);
        } else {
            self.gather(s, elements);
        }
    }
}

impl Pack<'_> {
    /// Elements of a kernel.
    fn elements(&self) -> usize {
        self.plan.weights.depth.min(self.plan.weights.width)
    }

    /// Lanes side by side: pointwise, turned.
    #[inline(always)]
    fn copy<S: Simd>(&mut self, s: S) {
        let (depth, step) = (self.plan.depth, self.plan.weights.depth);
        for d in 0..depth {
            for lane in (0..self.lanes).step_by(LANES) {
                let count = LANES.min(self.valid.saturating_sub(lane));
                let from = self.weights[(d * step + lane).min(self.weights.len())..][..count].as_ptr();
                let to = self.out[d * self.lanes + lane..][..LANES].as_mut_ptr();
                // SAFETY: as many values as just sliced.
                unsafe { s.store(to, load_part(s, from, count)) };
            }
        }
    }

    /// Where the lanes are filters, a channel's kernels follow each other, and several channels are gathered at once.
    #[inline(always)]
    fn gather<S: Simd>(&mut self, s: S, elements: usize) {
        let (depth, steps) = (self.plan.depth, self.plan.weights);
        let at_once = if steps.depth == elements { (GATHERED / elements).min(LANES).min(depth) } else { 1 };
        let mut gathered = [MaybeUninit::<f32>::uninit(); GATHERED * LANES];
        let gathered = gathered.as_mut_ptr().cast::<f32>();
        for lane in (0..self.lanes).step_by(LANES) {
            let valid = LANES.min(self.valid.saturating_sub(lane));
            for d in (0..depth).step_by(at_once) {
                let channels = at_once.min(depth - d);
                let from = d * steps.depth + lane * steps.width;
                if valid > 0 {
                    let end = from + (valid - 1) * steps.width + channels * elements;
                    assert!(end <= self.weights.len(), "weights: {} values of {end}", self.weights.len());
                }
                let from = self.weights.as_ptr().wrapping_add(from);
                // SAFETY: the weights hold the lanes' values, as just checked; `gathered` holds GATHERED vectors.
                unsafe { lanes::gather(s, from, steps.width, valid, channels * elements, gathered, LANES) };
                for c in 0..channels {
                    for (t, tap) in self.taps.iter().enumerate() {
                        let to = self.out[(t * depth + d + c) * self.lanes + lane..][..LANES].as_mut_ptr();
                        // SAFETY: gathered just now, and room for a vector as just sliced.
                        unsafe { s.store(to, s.load(gathered.add((c * elements + tap.kernel) * LANES))) };
                    }
                }
            }
        }
    }

    /// Kernel rows as channels, and very large kernels.
    fn plain(&mut self) {
        let (depth, steps, lanes) = (self.plan.depth, &self.plan.weights, self.lanes);
        self.out.fill(0.0);
        for lane in 0..self.valid {
            for (column, c) in
                (0..depth / steps.channels).flat_map(|column| (0..steps.channels).map(move |c| (column, c)))
            {
                let from = lane * steps.width + c * steps.depth + column;
                let to = (column * steps.channels + c) * lanes + lane;
                for (t, tap) in self.taps.iter().enumerate() {
                    self.out[t * depth * lanes + to] = self.weights[from + tap.kernel];
                }
            }
        }
    }
}
