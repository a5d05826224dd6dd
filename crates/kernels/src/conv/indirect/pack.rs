//! Packing a panel of weights.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::super::{lanes, tile};
use super::Indirect;
use crate::Cpu;
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd, dispatch, load_part};

/// Values of a vector's lanes that are gathered at once: 32 KB.
const GATHERED: usize = 512;

/// Channels after which weights that are asked for are read.
const AHEAD: usize = 4;

/// Source channels of a task.
const DEPTH: usize = 64;

/// Packs some source channels of a panel, for all phases: a kernel's elements lie side by side, whichever phase they are of.
struct Pack<'a> {
    plan: &'a Indirect,
    /// The panel's first lane, its lanes, and those that exist.
    first: usize,
    lanes: usize,
    valid: usize,
    depth: Range<usize>,
    /// From the panel's first filter on.
    weights: &'a [f32],
    /// `[phase][panel][tap][depth][lanes]` of a group.
    out: *mut f32,
}

impl Indirect {
    pub fn pack(&self, cpu: &Cpu, weights: &[f32], packed: &mut [f32]) {
        assert!(packed.len() >= self.packed_len(), "packed weights: {} of {}", packed.len(), self.packed_len());
        let (panel, panels) = (tile::panel(self.wide, self.width), self.panels());
        let group_len = self.phase_start(self.phases.len());
        let (parts, out) = (self.depth.div_ceil(DEPTH), Shares::new(packed));
        cpu.pool().run(self.groups * panels * parts, &|task| {
            let (rest, part) = (task / parts, task % parts);
            let (group, first) = (rest / panels, rest % panels * panel);
            let lanes = panel.min(self.padded_width() - first);
            let pack = Pack {
                plan: self,
                first,
                lanes,
                valid: lanes.min(self.width - first),
                depth: part * DEPTH..self.depth.min((part + 1) * DEPTH),
                weights: &weights[group * self.weights.group + first * self.weights.width..],
                out: out.pointer().wrapping_add(group * group_len),
            };
            dispatch(cpu.isa(), pack);
        });
    }
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (steps, elements) = (&self.plan.weights, self.elements());
        // SAFETY: `Indirect::pack` checked the length of `out`; each task writes channels of a panel that are its own.
        unsafe {
            if steps.channels < self.plan.depth || elements > GATHERED {
                self.plain();
            } else if steps.width == 1 {
                self.copy(s);
            } else {
                self.gather(s, elements);
            }
        }
    }
}

impl Pack<'_> {
    /// Elements of a kernel.
    fn elements(&self) -> usize {
        self.plan.weights.depth.min(self.plan.weights.width)
    }

    /// Calls `put` with each tap's kernel element and with where its vector of source channel 0 belongs.
    #[inline(always)]
    fn taps(&self, mut put: impl FnMut(usize, *mut f32)) {
        let depth = self.plan.depth;
        let mut start = 0;
        for phase in &self.plan.phases {
            for (t, tap) in phase.taps.iter().enumerate() {
                let place = start + (phase.taps.len() * self.first + t * self.lanes) * depth;
                put(tap.kernel, self.out.wrapping_add(place));
            }
            start += phase.taps.len() * depth * self.plan.padded_width();
        }
    }

    /// Lanes side by side: pointwise, turned.
    #[inline(always)]
    unsafe fn copy<S: Simd>(&self, s: S) {
        let step = self.plan.weights.depth;
        self.taps(
            #[inline(always)]
            |_, out| {
                for d in self.depth.clone() {
                    for lane in (0..self.lanes).step_by(LANES) {
                        let count = LANES.min(self.valid.saturating_sub(lane));
                        let from = self.weights[(d * step + lane).min(self.weights.len())..][..count].as_ptr();
                        // SAFETY: as many values as just sliced; the caller vouches for `out`.
                        unsafe { s.store(out.add(d * self.lanes + lane), load_part(s, from, count)) };
                    }
                }
            },
        );
    }

    /// Where the lanes are filters, a channel's kernels follow each other, and several channels are gathered at once.
    #[inline(always)]
    unsafe fn gather<S: Simd>(&self, s: S, elements: usize) {
        let steps = self.plan.weights;
        let at_once = if steps.depth == elements { (GATHERED / elements).min(LANES) } else { 1 };
        let mut gathered = [MaybeUninit::<f32>::uninit(); GATHERED * LANES];
        let gathered = gathered.as_mut_ptr().cast::<f32>();
        for d in self.depth.clone().step_by(at_once) {
            for lane in (0..self.lanes).step_by(LANES) {
                let valid = LANES.min(self.valid.saturating_sub(lane));
                let channels = at_once.min(self.depth.end - d);
                let from = d * steps.depth + lane * steps.width;
                if valid > 0 {
                    let end = from + (valid - 1) * steps.width + channels * elements;
                    assert!(end <= self.weights.len(), "weights: {} values of {end}", self.weights.len());
                }
                let from = self.weights.as_ptr().wrapping_add(from);
                if steps.width == elements {
                    // The channel's kernels of all lanes are a run; the next channel's are on another page.
                    for at in (0..valid * elements).step_by(LANES) {
                        s.prefetch_first(from.wrapping_add(AHEAD * steps.depth + at));
                    }
                }
                // SAFETY: the weights hold the lanes' values, as just checked; `gathered` holds GATHERED vectors.
                unsafe { lanes::gather(s, from, steps.width, valid, channels * elements, gathered, LANES) };
                self.taps(
                    #[inline(always)]
                    |element, out| {
                        for c in 0..channels {
                            // SAFETY: gathered just now; the caller vouches for `out`.
                            unsafe {
                                let vector = s.load(gathered.add((c * elements + element) * LANES));
                                s.store(out.add((d + c) * self.lanes + lane), vector);
                            }
                        }
                    },
                );
            }
        }
    }

    /// Kernel rows as channels, and very large kernels.
    unsafe fn plain(&self) {
        let steps = &self.plan.weights;
        self.taps(|element, out| {
            for d in self.depth.clone() {
                let from = d % steps.channels * steps.depth + d / steps.channels + element;
                for lane in 0..self.lanes {
                    let value = if lane < self.valid { self.weights[from + lane * steps.width] } else { 0.0 };
                    // SAFETY: the caller vouches for `out`.
                    unsafe { *out.add(d * self.lanes + lane) = value };
                }
            }
        });
    }
}
