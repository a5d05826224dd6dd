//! Dropout (Hinton et al. 2012), inverted: kept elements are multiplied by 1/(1 − rate).
//!
//! Whether an element is kept is a pure function of seed, layer, step, the sample's index in the global batch, and the
//! element's index in the sample, so nothing is stored, and backward is the same function applied to dy.

use crate::Cpu;
use crate::pool::Shares;
use crate::random::{Stream, name};
use crate::real::Real;
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Which elements are dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Share of elements dropped, in [0, 1].
    pub rate: f32,
    /// Seed of the run.
    pub seed: u64,
    /// A number for the layer, see [`name`].
    pub layer: u64,
    /// The training step.
    pub step: u64,
}

/// Elements that one look at the generator decides: 16 blocks of four words. Word w of block 16·k + l belongs to
/// element 64·k + 16·w + l.
const LOOK: usize = 4 * LANES;

/// Elements of a task.
const PART: usize = 64 * LOOK;

impl Dropout {
    fn stream(&self, sample: u64) -> Stream {
        Stream::new(self.seed, name("dropout") ^ self.layer, self.step, sample)
    }
    /// Words under this are dropped.
    fn threshold(&self) -> u32 {
        (f64::from(self.rate) * 4_294_967_296.0) as u32
    }
    fn factor(&self) -> f32 {
        if self.rate < 1.0 { 1.0 / (1.0 - self.rate) } else { 0.0 }
    }
}

/// The definition, on `[samples, channels, pixels]`; `first` is the first sample's index in the global batch. Elements
/// are counted channels-last.
pub fn dropout_reference<T: Real>(dropout: &Dropout, first: u64, [channels, pixels]: [usize; 2], x: &[T], y: &mut [T]) {
    for (i, (y, &x)) in y.iter_mut().zip(x).enumerate() {
        let (sample, c, p) = (i / (channels * pixels), i / pixels % channels, i % pixels);
        let element = p * channels + c;
        let block = element / LOOK * LANES + element % LANES;
        let word = dropout.stream(first + sample as u64).block(block as u64)[element % LOOK / LANES];
        *y = x * T::from_f64(f64::from(if word < dropout.threshold() { 0.0 } else { dropout.factor() }));
    }
}

/// Forward for x, backward for dy: `len` elements a sample, channels-last; `first` is the first sample's index in the
/// global batch. Without `x`, in place.
pub fn dropout(cpu: &Cpu, dropout: &Dropout, first: u64, len: usize, x: Option<&[f32]>, y: &mut [f32]) {
    assert!(x.is_none_or(|x| x.len() == y.len()) && y.len().is_multiple_of(len.max(1)), "samples of {len}");
    let samples = y.len() / len.max(1);
    let parts = len.div_ceil(PART);
    let shares = Shares::new(y);
    cpu.pool().run_ranges(samples * parts, len.min(PART), &|range| {
        for task in range {
            let (sample, start) = (task / parts, task % parts * PART);
            let at = sample * len + start;
            // SAFETY: every part belongs to one task.
            let y = unsafe { shares.part(at, PART.min(len - start)) };
            if let Some(x) = x {
                y.copy_from_slice(&x[at..at + y.len()]);
            }
            dispatch(cpu.isa(), Part { dropout, stream: dropout.stream(first + sample as u64), start, y });
        }
    });
}

struct Part<'a> {
    dropout: &'a Dropout,
    stream: Stream,
    start: usize,
    y: &'a mut [f32],
}

impl Kernel for Part<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (threshold, factor) = (self.dropout.threshold(), self.dropout.factor());
        for (k, y) in self.y.chunks_mut(LOOK).enumerate() {
            let words = self.stream.blocks(((self.start / LOOK + k) * LANES) as u64);
            for (y, &word) in y.iter_mut().zip(words.as_flattened()) {
                *y *= if word < threshold { 0.0 } else { factor };
            }
        }
    }
}
