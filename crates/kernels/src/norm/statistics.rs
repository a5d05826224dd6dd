//! Sums over all pixels of a batch, a channel at a time.
//!
//! The work is cut into units of one picture's pixels, at most [`UNIT`] of them; a unit has a slot of two `f64` a
//! channel. Inside a unit, chunks of [`CHUNK`] pixels are summed in `f32` by four chains (pixels 0, 4, 8 … and so on):
//! 64 pixels of 64 channels are 16 KiB, which the second look at a chunk finds in the first-level cache.

use crate::Cpu;
use crate::elementwise::{Extent, View, ceiling_gradient};
use crate::pool::Shares;
use crate::reduce::{GROUP, joins};
use crate::simd::{Kernel, LANES, Simd, dispatch, load_part};
use std::ops::Range;

const CHUNK: usize = 64;
const CHAINS: usize = 4;
/// Pixels of a unit: enough that slots cost little, few enough that a picture feeds several threads.
const UNIT: usize = 2048;

/// Units of a batch.
pub(super) fn units(extent: Extent) -> usize {
    extent.samples * extent.pixels.div_ceil(UNIT)
}

/// The pixels of a picture that unit `unit` sums, and its picture.
fn pixels_of(extent: Extent, unit: usize) -> (usize, Range<usize>) {
    let each = extent.pixels.div_ceil(UNIT);
    let first = unit % each * UNIT;
    (unit / each, first..extent.pixels.min(first + UNIT))
}

/// Pixels in units `0..unit`.
fn pixels_before(extent: Extent, unit: usize) -> usize {
    let each = extent.pixels.div_ceil(UNIT);
    unit / each * extent.pixels + (unit % each * UNIT).min(extent.pixels)
}

/// What is summed: a pair of numbers a channel.
trait Pair: Sync {
    fn extent(&self) -> Extent;
    /// Gives the pairs of `n` channels from `c`, over `pixels` of a picture, at most [`CHUNK`].
    fn chunk<S: Simd>(&self, s: S, sample: usize, pixels: Range<usize>, c: usize, n: usize) -> [S::V; 2];
    /// Joins b, gathered over `counts[1]` pixels, into a, gathered over `counts[0]`; `[first, second]` numbers.
    fn join(a: [&mut [f64]; 2], b: [&[f64]; 2], counts: [f64; 2]);
}

fn run_units<'a, P: Pair>(cpu: &Cpu, pair: &P, slots: &'a mut [f64]) -> (&'a [f64], &'a [f64]) {
    let (extent, channels) = (pair.extent(), pair.extent().channels);
    let shares = Shares::new(slots);
    let elements = extent.pixels.min(UNIT) * channels;
    cpu.pool().run_ranges(units(extent), elements, &|units| {
        for unit in units {
            // SAFETY: every unit has a slot of its own.
            let slot = unsafe { shares.part(unit * 2 * channels, 2 * channels) };
            dispatch(cpu.isa(), UnitOf { pair, unit, slot });
        }
    });
    dispatch(cpu.isa(), Join { pair, slots: &mut *slots });
    let (first, second) = slots[..2 * channels].split_at(channels);
    (first, second)
}

struct UnitOf<'a, P> {
    pair: &'a P,
    unit: usize,
    slot: &'a mut [f64],
}

impl<P: Pair> Kernel for UnitOf<'_, P> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let extent = self.pair.extent();
        let (sample, pixels) = pixels_of(extent, self.unit);
        let (firsts, seconds) = self.slot.split_at_mut(extent.channels);
        for start in pixels.clone().step_by(CHUNK) {
            let chunk = start..pixels.end.min(start + CHUNK);
            let counts = [(start - pixels.start) as f64, chunk.len() as f64];
            for c in (0..extent.channels).step_by(LANES) {
                let n = LANES.min(extent.channels - c);
                let [first, second] = self.pair.chunk(s, sample, chunk.clone(), c, n);
                let (first, second) = (wide(s, first), wide(s, second));
                let slot = [&mut firsts[c..c + n], &mut seconds[c..c + n]];
                if start == pixels.start {
                    slot[0].copy_from_slice(&first[..n]);
                    slot[1].copy_from_slice(&second[..n]);
                } else {
                    P::join(slot, [&first[..n], &second[..n]], counts);
                }
            }
        }
    }
}

#[inline(always)]
fn wide<S: Simd>(s: S, v: S::V) -> [f64; LANES] {
    let mut out = [0.0; LANES];
    for (out, x) in out.iter_mut().zip(s.to_array(v)) {
        *out = f64::from(x);
    }
    out
}

/// Joins all units' slots into the first, in groups of pictures and by a tree.
struct Join<'a, P> {
    pair: &'a P,
    slots: &'a mut [f64],
}

impl<P: Pair> Kernel for Join<'_, P> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (extent, slots) = (self.pair.extent(), self.slots);
        let (count, channels) = (units(extent), extent.channels);
        for [i, j, end] in joins(count, GROUP * extent.pixels.div_ceil(UNIT)) {
            let before = |unit| pixels_before(extent, unit);
            let counts = [(before(j) - before(i)) as f64, (before(end) - before(j)) as f64];
            let (head, tail) = slots.split_at_mut(j * 2 * channels);
            let (a1, a2) = head[i * 2 * channels..][..2 * channels].split_at_mut(channels);
            let (b1, b2) = tail[..2 * channels].split_at(channels);
            P::join([a1, a2], [b1, b2], counts);
        }
    }
}

/// One pixel's contribution to sums.
trait Term<const N: usize, S: Simd> {
    fn add(&self, s: S, p: usize, sums: [S::V; N]) -> [S::V; N];
}

/// Sums terms over pixels by four chains, then their pairs.
#[inline(always)]
fn chains<S: Simd, const N: usize>(s: S, count: usize, term: &impl Term<N, S>) -> [S::V; N] {
    let mut sums = [[s.zero(); N]; CHAINS];
    let whole = count / CHAINS * CHAINS;
    for p in (0..whole).step_by(CHAINS) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = term.add(s, p + i, *sum);
        }
    }
    for p in whole..count {
        sums[p - whole] = term.add(s, p, sums[p - whole]);
    }
    let mut total = sums[0];
    for (i, total) in total.iter_mut().enumerate() {
        *total = s.add(s.add(sums[0][i], sums[1][i]), s.add(sums[2][i], sums[3][i]));
    }
    total
}

/// `n` channels of a chunk's pixels.
#[derive(Clone, Copy)]
struct Lanes {
    first: *const f32,
    stride: usize,
    n: usize,
}

impl Lanes {
    #[inline(always)]
    fn of((data, strides): (*const f32, [usize; 2]), sample: usize, pixel: usize, c: usize, n: usize) -> Lanes {
        Lanes { first: data.wrapping_add(sample * strides[0] + pixel * strides[1] + c), stride: strides[1], n }
    }
    #[inline(always)]
    fn load<S: Simd>(self, s: S, p: usize) -> S::V {
        // SAFETY: a pixel of the extent, for which the view was checked; n channels are left.
        unsafe { load_part(s, self.first.add(p * self.stride), self.n) }
    }
    /// The same, while the next chunk's are asked for: 16 channels of a pixel are a run too short to be foreseen.
    #[inline(always)]
    fn load_and_ask<S: Simd>(self, s: S, p: usize) -> S::V {
        s.prefetch(self.first.wrapping_add((p + CHUNK) * self.stride));
        self.load(s, p)
    }
}

struct Plain(Lanes);
impl<S: Simd> Term<1, S> for Plain {
    #[inline(always)]
    fn add(&self, s: S, p: usize, [sum]: [S::V; 1]) -> [S::V; 1] {
        [s.add(sum, self.0.load_and_ask(s, p))]
    }
}

/// Squares of distances from the mean.
struct Distances<S: Simd>(Lanes, S::V);
impl<S: Simd> Term<1, S> for Distances<S> {
    #[inline(always)]
    fn add(&self, s: S, p: usize, [sum]: [S::V; 1]) -> [S::V; 1] {
        let distance = s.sub(self.0.load(s, p), self.1);
        [s.fma(distance, distance, sum)]
    }
}

/// dy, and dy·(x − mean).
struct Products<S: Simd, const RELU: bool> {
    dy: Lanes,
    x: Lanes,
    scale: S::V,
    shift: S::V,
    ceiling: f32,
    mean: S::V,
}
impl<S: Simd, const RELU: bool> Term<2, S> for Products<S, RELU> {
    #[inline(always)]
    fn add(&self, s: S, p: usize, [sum, products]: [S::V; 2]) -> [S::V; 2] {
        let (dy, x) = (self.dy.load_and_ask(s, p), self.x.load_and_ask(s, p));
        let y = s.fma(x, self.scale, self.shift);
        let dy = if RELU { ceiling_gradient(s, y, self.ceiling, dy) } else { dy };
        [s.add(sum, dy), s.fma(dy, s.sub(x, self.mean), products)]
    }
}

/// Mean and sum of squared distances from it.
pub(super) struct Moments<'a> {
    pub extent: Extent,
    pub x: View<'a>,
}

impl Moments<'_> {
    /// Means and sums of squares of all channels; `slots`: two numbers a unit and channel.
    pub fn run<'s>(&self, cpu: &Cpu, slots: &'s mut [f64]) -> (&'s [f64], &'s [f64]) {
        let (x, strides) = self.x.checked(self.extent);
        run_units(cpu, &MomentsOf { extent: self.extent, x, strides }, slots)
    }
}

struct MomentsOf {
    extent: Extent,
    x: *const f32,
    strides: [usize; 2],
}
// SAFETY: read only.
unsafe impl Sync for MomentsOf {}

impl Pair for MomentsOf {
    fn extent(&self) -> Extent {
        self.extent
    }
    #[inline(always)]
    fn chunk<S: Simd>(&self, s: S, sample: usize, pixels: Range<usize>, c: usize, n: usize) -> [S::V; 2] {
        let x = Lanes::of((self.x, self.strides), sample, pixels.start, c, n);
        let [sum] = chains(s, pixels.len(), &Plain(x));
        let mean = s.div(sum, s.splat(pixels.len() as f32));
        let [squares] = chains(s, pixels.len(), &Distances(x, mean));
        [mean, squares]
    }
    #[inline(always)]
    fn join([means, squares]: [&mut [f64]; 2], [means_b, squares_b]: [&[f64]; 2], [a, b]: [f64; 2]) {
        let (share, weight) = (b / (a + b), a * b / (a + b));
        for (((mean, square), &mean_b), &square_b) in means.iter_mut().zip(squares).zip(means_b).zip(squares_b) {
            let distance = mean_b - *mean;
            *mean += distance * share;
            *square += square_b + distance * distance * weight;
        }
    }
}

/// The sums of dy, and of dy·(x − mean).
pub(super) struct Sums<'a> {
    pub extent: Extent,
    pub x: View<'a>,
    pub dy: View<'a>,
    pub relu: Option<Relu<'a>>,
    pub mean: &'a [f32],
}

/// ReLU, or one with a ceiling, of x·scale + shift.
#[derive(Clone, Copy)]
pub(super) struct Relu<'a> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    pub ceiling: f32,
}

impl Sums<'_> {
    /// Both sums of all channels; `slots`: two numbers a unit and channel.
    pub fn run<'s>(&self, cpu: &Cpu, slots: &'s mut [f64]) -> (&'s [f64], &'s [f64]) {
        let extent = self.extent;
        assert_eq!(self.mean.len(), extent.channels, "a mean a channel");
        let (x, dy) = (self.x.checked(extent), self.dy.checked(extent));
        let mean = self.mean;
        match self.relu {
            None => {
                let relu = Relu { scale: mean, shift: mean, ceiling: 0.0 };
                run_units(cpu, &SumsOf::<false> { extent, x, dy, relu, mean }, slots)
            }
            Some(relu) => {
                assert!(
                    relu.scale.len() == extent.channels && relu.shift.len() == extent.channels,
                    "a scale a channel"
                );
                run_units(cpu, &SumsOf::<true> { extent, x, dy, relu, mean }, slots)
            }
        }
    }
}

struct SumsOf<'a, const RELU: bool> {
    extent: Extent,
    x: (*const f32, [usize; 2]),
    dy: (*const f32, [usize; 2]),
    relu: Relu<'a>,
    mean: &'a [f32],
}
// SAFETY: read only.
unsafe impl<const RELU: bool> Sync for SumsOf<'_, RELU> {}

impl<const RELU: bool> Pair for SumsOf<'_, RELU> {
    fn extent(&self) -> Extent {
        self.extent
    }
    #[inline(always)]
    fn chunk<S: Simd>(&self, s: S, sample: usize, pixels: Range<usize>, c: usize, n: usize) -> [S::V; 2] {
        let dy = Lanes::of(self.dy, sample, pixels.start, c, n);
        let x = Lanes::of(self.x, sample, pixels.start, c, n);
        let Relu { scale, shift, ceiling } = self.relu;
        // SAFETY: n channels are left at c.
        let [mean, scale, shift] = unsafe {
            [
                load_part(s, self.mean.as_ptr().add(c), n),
                load_part(s, scale.as_ptr().add(c), n),
                load_part(s, shift.as_ptr().add(c), n),
            ]
        };
        chains(s, pixels.len(), &Products::<S, RELU> { dy, x, scale, shift, ceiling, mean })
    }
    #[inline(always)]
    fn join([a1, a2]: [&mut [f64]; 2], [b1, b2]: [&[f64]; 2], _: [f64; 2]) {
        a1.iter_mut().zip(b1).for_each(|(a, b)| *a += b);
        a2.iter_mut().zip(b2).for_each(|(a, b)| *a += b);
    }
}
