//! The one loop that all elementwise kernels share.

use crate::Cpu;
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, STREAMED, Simd, dispatch, load_part, store_part, streams};

/// What an elementwise kernel runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Pictures.
    pub samples: usize,
    /// Pixels of a picture; 1 for flat data.
    pub pixels: usize,
    /// Channels of a pixel, next to each other in memory.
    pub channels: usize,
}

impl Extent {
    /// Flat data of `len` elements.
    pub fn flat(len: usize) -> Extent {
        Extent { samples: 1, pixels: 1, channels: len }
    }
    /// Elements in all.
    pub fn elements(&self) -> usize {
        self.samples * self.pixels * self.channels
    }
}

#[derive(Clone, Copy)]
enum Steps {
    Dense,
    Strided(usize),
    PerSample,
    PerChannel,
}

impl Steps {
    /// Distance between samples and between pixels.
    fn strides(self, extent: Extent) -> [usize; 2] {
        match self {
            Steps::Dense => [extent.pixels * extent.channels, extent.channels],
            Steps::Strided(pixel) => [extent.pixels * pixel, pixel],
            Steps::PerSample => [extent.channels, 0],
            Steps::PerChannel => [0, 0],
        }
    }
    fn check(self, extent: Extent, len: usize) -> [usize; 2] {
        let [sample, pixel] = self.strides(extent);
        if extent.elements() > 0 {
            let needed = (extent.samples - 1) * sample + (extent.pixels - 1) * pixel + extent.channels;
            assert!(needed <= len, "{extent:?} needs {needed} elements of {len}");
            assert!(pixel == 0 || pixel >= extent.channels, "a pixel stride of {pixel} for {extent:?}");
        }
        [sample, pixel]
    }
}

/// An operand to read.
#[derive(Clone, Copy)]
pub struct View<'a> {
    data: &'a [f32],
    steps: Steps,
}

impl<'a> View<'a> {
    /// One element for each of the extent, without gaps.
    pub fn dense(data: &'a [f32]) -> View<'a> {
        View { data, steps: Steps::Dense }
    }
    /// One element for each of the extent, pixels `stride` elements apart (a part of wider data's channels).
    pub fn strided(data: &'a [f32], stride: usize) -> View<'a> {
        View { data, steps: Steps::Strided(stride) }
    }
    /// `[samples, channels]`, the same for all pixels of a sample.
    pub fn per_sample(data: &'a [f32]) -> View<'a> {
        View { data, steps: Steps::PerSample }
    }
    /// `[channels]`, the same for all pixels.
    pub fn per_channel(data: &'a [f32]) -> View<'a> {
        View { data, steps: Steps::PerChannel }
    }
    /// The elements and their sample and pixel strides, bounds checked.
    pub(crate) fn checked(self, extent: Extent) -> (*const f32, [usize; 2]) {
        (self.data.as_ptr(), self.steps.check(extent, self.data.len()))
    }
}

/// An operand to write, or to change in place.
pub struct ViewMut<'a> {
    data: &'a mut [f32],
    steps: Steps,
}

impl<'a> ViewMut<'a> {
    /// One element for each of the extent, without gaps.
    pub fn dense(data: &'a mut [f32]) -> ViewMut<'a> {
        ViewMut { data, steps: Steps::Dense }
    }
    /// One element for each of the extent, pixels `stride` elements apart.
    pub fn strided(data: &'a mut [f32], stride: usize) -> ViewMut<'a> {
        ViewMut { data, steps: Steps::Strided(stride) }
    }
    /// The elements, to be shared among tasks, and their sample and pixel strides, bounds checked.
    pub(crate) fn checked(self, extent: Extent) -> (Shares<f32>, [usize; 2]) {
        let strides = self.steps.check(extent, self.data.len());
        (Shares::new(self.data), strides)
    }
}

/// A function of vectors, one of each operand.
pub(crate) trait Lanewise<const N: usize>: Copy + Sync {
    fn apply<S: Simd>(&self, s: S, x: [S::V; N]) -> S::V;
}

/// Implements [`Lanewise`] by an expression of the operands' vectors.
macro_rules! lanewise {
    ($name:ty, $n:literal, |$this:ident, $s:ident, [$($x:ident),*]| $body:expr) => {
        impl $crate::elementwise::Lanewise<$n> for $name {
            #[inline(always)]
            fn apply<S: $crate::simd::Simd>(&self, $s: S, [$($x),*]: [S::V; $n]) -> S::V {
                let $this = self;
                $body
            }
        }
    };
}
pub(crate) use lanewise;

#[derive(Clone, Copy)]
struct Operand {
    data: *const f32,
    strides: [usize; 2],
}

struct Run<const N: usize, F> {
    f: F,
    inputs: [*const f32; N],
    output: *mut f32,
    len: usize,
    /// Whether whole vectors are streamed: see [`streams`].
    stream: bool,
}

impl<const N: usize, F: Lanewise<N>> Run<N, F> {
    /// # Safety
    /// The pointers are valid for `len` elements; the output overlaps no input except one that it equals.
    #[inline(always)]
    unsafe fn run<S: Simd>(&self, s: S) {
        for i in (0..self.len).step_by(LANES) {
            let n = LANES.min(self.len - i);
            let mut x = [s.zero(); N];
            for (x, input) in x.iter_mut().zip(self.inputs) {
                // SAFETY: n elements are left at i.
                *x = unsafe { load_part(s, input.add(i), n) };
            }
            let y = self.f.apply(s, x);
            // SAFETY: as above; what is streamed begins on a cache line.
            unsafe {
                let output = self.output.add(i);
                if self.stream && n == LANES { s.stream(output, y) } else { store_part(s, output, y, n) }
            }
        }
    }
}

struct Rows<const N: usize, F> {
    f: F,
    extent: Extent,
    inputs: [Operand; N],
    output: *mut f32,
    output_strides: [usize; 2],
    rows: std::ops::Range<usize>,
    stream: bool,
}

impl<const N: usize, F: Lanewise<N>> Kernel for Rows<N, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for row in self.rows {
            let at = [row / self.extent.pixels, row % self.extent.pixels];
            let mut inputs = [std::ptr::null(); N];
            // SAFETY: `map` has checked that every row of the extent lies in every operand.
            unsafe {
                for (input, operand) in inputs.iter_mut().zip(&self.inputs) {
                    *input = operand.data.add(at[0] * operand.strides[0] + at[1] * operand.strides[1]);
                }
                let output = self.output.add(at[0] * self.output_strides[0] + at[1] * self.output_strides[1]);
                Run { f: self.f, inputs, output, len: self.extent.channels, stream: self.stream }.run(s);
            }
        }
        if self.stream {
            s.fence();
        }
    }
}

struct Flat<const N: usize, F>(Run<N, F>);
impl<const N: usize, F: Lanewise<N>> Kernel for Flat<N, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: as `map` has checked.
        unsafe { self.0.run(s) }
        if self.0.stream {
            s.fence();
        }
    }
}

/// `output = f(inputs)` for every element; an input of `None` is the output's old value. Where no operand has gaps or
/// is broadcast, the data counts as flat, so that few channels cost nothing.
pub(crate) fn map<const N: usize, F: Lanewise<N>>(
    cpu: &Cpu,
    extent: Extent,
    f: F,
    inputs: [Option<View>; N],
    output: ViewMut,
) {
    let elements = extent.elements();
    if elements == 0 {
        return;
    }
    let (shares, output_strides) = output.checked(extent);
    let inputs = inputs.map(|input| match input.map(|view| view.checked(extent)) {
        Some((data, strides)) => Operand { data, strides },
        None => Operand { data: shares.pointer(), strides: output_strides },
    });
    let dense = Steps::Dense.strides(extent);
    // An output that is also an input is in the caches already.
    let apart = inputs.iter().all(|input| input.data != shares.pointer().cast_const());
    let stream = apart && streams(shares.pointer(), extent.samples * extent.pixels, extent.channels, STREAMED);
    let stream = stream && output_strides.iter().all(|stride| stride.is_multiple_of(LANES));
    // Raw pointers are not `Sync`; as addresses inside a wrapper they can be handed to the tasks.
    let operands = Addresses(inputs);
    if output_strides == dense && inputs.iter().all(|x| x.strides == dense) {
        cpu.pool().run_ranges(elements, 1, &|range| {
            let inputs = operands.get();
            // SAFETY: the range lies in all operands; tasks write parts of their own.
            let run = unsafe {
                let output = shares.pointer().add(range.start);
                let stream = stream && range.start.is_multiple_of(LANES);
                Run { f, inputs: inputs.map(|x| x.data.add(range.start)), output, len: range.len(), stream }
            };
            dispatch(cpu.isa(), Flat(run));
        });
        return;
    }
    cpu.pool().run_ranges(extent.samples * extent.pixels, extent.channels, &|rows| {
        let (inputs, output) = (operands.get(), shares.pointer());
        dispatch(cpu.isa(), Rows { f, extent, inputs, output, output_strides, rows, stream });
    });
}

struct Addresses<const N: usize>([Operand; N]);
// SAFETY: the operands are read only, or written by one task each.
unsafe impl<const N: usize> Sync for Addresses<N> {}
impl<const N: usize> Addresses<N> {
    fn get(&self) -> [Operand; N] {
        self.0
    }
}
