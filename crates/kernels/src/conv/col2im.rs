//! The data gradient of few outputs: each output's values for all kernel elements, then their sums where elements meet (col2im).
//!
//! With a picture's few outputs weights are used so seldom that packing them takes longer than the products, and most elements of
//! a large kernel meet nothing of what a tile of neighbouring inputs sees. So dy's pixels are rows of a linear layer, which reads
//! the weights where they are, and what it gives for each channel and element is added to the input that they meet. Sums run
//! over filters, then over outputs in order.

use std::ops::Range;

use super::{PICTURES, Pixels, PixelsMut, check_pixels, lanes};
use crate::Cpu;
use crate::geometry::ConvShape;
use crate::linear::{DataGradient, LinearShape};
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd, dispatch, load_part, store_part};

/// About the linear layer's inputs of a task.
const INPUTS: usize = 512;
/// Cycles of a vector: of a multiply-add, to be added to what it meets, to be read as weights.
const PRODUCT: f64 = 0.625;
const ADD: f64 = 12.0;
const READ: f64 = 1.0;
/// Rows that a linear layer takes at a time.
const ROWS: usize = 192;

#[derive(Clone, Copy, Debug)]
pub(super) struct Col2im {
    pub shape: ConvShape,
    output: [usize; 2],
    linear: LinearShape,
}

impl Col2im {
    /// For convolutions without groups, and those as which several are written.
    pub fn new(shape: &ConvShape) -> Option<Col2im> {
        let linear = LinearShape { inputs: shape.weights() / shape.filters.max(1), outputs: shape.filters };
        (shape.groups == 1).then_some(Col2im { shape: *shape, output: shape.output(), linear })
    }

    /// Whether it takes less than `elsewhere`, the cycles of some pictures. Many count twice: few are seldom trained with.
    pub fn pays(&self, elsewhere: impl Fn(usize) -> f64) -> bool {
        let [one, many] = PICTURES.map(|n| elsewhere(n) / self.cycles(n));
        one * many * many > 1.6
    }

    /// About the cycles of `n` pictures.
    fn cycles(&self, n: usize) -> f64 {
        let rows = n * self.output[0] * self.output[1];
        let [vectors, filters] = [self.linear.inputs.div_ceil(LANES), self.linear.outputs].map(|n| n as f64);
        vectors * (rows as f64 * (PRODUCT * filters + ADD) + rows.div_ceil(ROWS) as f64 * filters * READ)
    }

    /// Pictures at a time.
    fn pictures(&self) -> usize {
        let rows = (ROWS * INPUTS / (self.most() * self.elements())).min(ROWS);
        (rows / (self.output[0] * self.output[1])).max(1)
    }

    fn elements(&self) -> usize {
        self.shape.window.kernel[0] * self.shape.window.kernel[1]
    }

    /// Values of a thread's sums.
    fn own_len(&self) -> usize {
        self.pictures() * self.output[0] * self.output[1] * self.most() * self.elements()
    }

    /// Most channels of a task.
    fn most(&self) -> usize {
        (INPUTS / self.elements()).next_multiple_of(LANES).clamp(LANES, self.shape.channels.next_multiple_of(LANES))
    }

    /// Values of scratch memory that [`Col2im::run`] needs.
    pub fn workspace_len(&self, threads: usize) -> usize {
        threads * self.own_len()
    }

    /// As [`super::DataGradient::run`], without another gradient.
    pub fn run(&self, cpu: &Cpu, n: usize, dy: Pixels, weights: &[f32], dx: PixelsMut, workspace: &mut [f32]) {
        let ([height, width], channels) = (self.shape.input, self.shape.channels);
        check_pixels("dy", dy.data.len(), dy.stride, n * self.output[0] * self.output[1], self.shape.filters);
        check_pixels("dx", dx.data.len(), dx.stride, n * height * width, channels);
        assert!(weights.len() >= self.shape.weights(), "weights: {} of {}", weights.len(), self.shape.weights());
        let threads = cpu.pool().threads();
        let needed = self.workspace_len(threads);
        assert!(workspace.len() >= needed, "workspace: {} values of {needed}", workspace.len());
        let blocks = n.div_ceil(self.pictures());
        // At least two tasks a thread, of whole vectors of channels if there are enough.
        let each = (channels * blocks).div_ceil(2 * threads).max(1);
        let each = if each < LANES { each } else { self.most().min(each.next_multiple_of(LANES)) };
        let parts = channels.div_ceil(each);
        let (dx_stride, dx, workspace) = (dx.stride, Shares::new(dx.data), Shares::new(workspace));
        cpu.pool().run_on(blocks * parts, &|task, thread| {
            let (first, channel) = (task / parts * self.pictures(), task % parts * each);
            let pictures = first..n.min(first + self.pictures());
            // SAFETY: each thread has a part of its own.
            let sums = unsafe { workspace.part(thread * self.own_len(), self.own_len()) }.as_mut_ptr();
            let some = each.min(channels - channel);
            let task = Task { plan: self, pictures, channel, some, dy, weights, sums, dx: dx.pointer(), dx_stride };
            dispatch(cpu.isa(), task);
        });
    }
}

/// Some channels of some pictures.
struct Task<'a> {
    plan: &'a Col2im,
    pictures: Range<usize>,
    channel: usize,
    some: usize,
    dy: Pixels<'a>,
    weights: &'a [f32],
    /// `[output][channel][element]`
    sums: *mut f32,
    dx: *mut f32,
    dx_stride: usize,
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Task { plan: Col2im { shape, output, linear }, pictures, channel, some, dy, weights, sums, dx, dx_stride } =
            self;
        let (outputs, inputs) = (output[0] * output[1], shape.input[0] * shape.input[1]);
        let elements = self.plan.elements();
        let rows = dy.data[pictures.start * outputs * dy.stride..].as_ptr();
        let (first, step) = (channel * elements, some * elements);
        s.call(DataGradient {
            shape: linear,
            n: pictures.len() * outputs,
            dy: (rows, dy.stride),
            w: weights,
            dx: (sums.wrapping_sub(first), step),
            inputs: first..first + step,
        });
        for (i, picture) in pictures.enumerate() {
            let dx = dx.wrapping_add(picture * inputs * dx_stride + channel);
            // SAFETY: `Col2im::run` checked that dx holds the picture; the sums were just written; tasks write different channels.
            unsafe {
                for (first, at) in (0..some).step_by(LANES).flat_map(|first| (0..outputs).map(move |at| (first, at))) {
                    let (dx, lanes) = (dx.wrapping_add(first), LANES.min(some - first));
                    if at == 0 {
                        for pixel in 0..inputs {
                            store_part(s, dx.wrapping_add(pixel * dx_stride), s.zero(), lanes);
                        }
                    }
                    let sums = sums.wrapping_add((i * outputs + at) * step + first * elements);
                    self::add(s, shape, [at / output[1], at % output[1]], sums, lanes, dx, dx_stride);
                }
            }
        }
    }
}

/// Adds an output's values of some channels to the inputs that they meet.
#[inline(always)]
unsafe fn add<S: Simd>(
    s: S,
    shape: &ConvShape,
    at: [usize; 2],
    sums: *const f32,
    some: usize,
    dx: *mut f32,
    dx_stride: usize,
) {
    let (window, [height, width]) = (&shape.window, shape.input);
    let [kh, kw] = window.kernel;
    let [top, left] = [0, 1].map(|i| (at[i] * window.stride[i]).wrapping_add_signed(-window.padding[i]));
    let (mut y, mut x, mut column) = (top, left, 0);
    for first in (0..kh * kw).step_by(LANES) {
        let count = LANES.min(kh * kw - first);
        let mut values = [0.0; LANES * LANES];
        // SAFETY: handed on from the caller.
        unsafe {
            lanes::gather(s, sums.wrapping_add(first), kh * kw, some, count, values.as_mut_ptr(), LANES);
            for i in 0..count {
                if y < height && x < width {
                    let p = dx.wrapping_add((y * width + x) * dx_stride);
                    store_part(s, p, s.add(load_part(s, p, some), s.load(values.as_ptr().add(i * LANES))), some);
                }
                (x, column) = (x.wrapping_add(window.dilation[1]), column + 1);
                if column == kw {
                    (y, x, column) = (y.wrapping_add(window.dilation[0]), left, 0);
                }
            }
        }
    }
}
