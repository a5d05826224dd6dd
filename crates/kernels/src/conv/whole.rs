//! A kernel as large as the input: a linear layer, whose weights are read where they are.
//!
//! A picture has one output, so that each weight is used once, and to pack or unpack the weights would take as long as the
//! products. Channels-last pixels change to the weights' order instead, a channel's pixels side by side: 512->512 of 7x7 pixels,
//! 8 pictures: forward 2.9 -> 1.1 ms, weight gradient 6.9 -> 0.9. The data gradient is `col2im`'s.

use super::{Epilogue, Pixels, PixelsMut, check_output, check_pixels, lanes};
use crate::Cpu;
use crate::geometry::ConvShape;
use crate::linear::{self, LinearShape};
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd, dispatch, load_part, store_part};

/// Pictures at a time: a linear layer's forward pass takes as many rows.
const PICTURES: usize = 48;

#[derive(Clone, Copy, Debug)]
pub(super) struct Whole {
    channels: usize,
    pixels: usize,
    linear: LinearShape,
}

impl Whole {
    /// For kernels of several elements that see each input pixel once.
    pub fn new(shape: &ConvShape) -> Option<Whole> {
        let (window, pixels) = (&shape.window, shape.input[0] * shape.input[1]);
        let fits = window.kernel == shape.input && window.padding == [0; 4] && shape.output() == [1, 1];
        let linear = LinearShape { inputs: shape.channels * pixels, outputs: shape.filters };
        let plan = Whole { channels: shape.channels, pixels, linear };
        (fits && pixels > 1 && shape.groups == 1).then_some(plan)
    }

    /// Values of `n` pictures in the weights' order, and of their outputs.
    fn rows(&self, n: usize) -> [usize; 2] {
        // Turning squares of values writes up to a vector beyond the last.
        [n * self.linear.inputs + LANES, n * self.linear.outputs].map(|len| len.next_multiple_of(LANES))
    }

    pub fn weights(&self) -> usize {
        self.linear.inputs * self.linear.outputs
    }

    /// Values of scratch memory of the forward pass and the data gradient.
    pub fn workspace_len(&self) -> usize {
        self.rows(PICTURES).iter().sum()
    }

    /// Values of scratch memory of the weight gradient.
    pub fn weights_workspace_len(&self, n: usize) -> usize {
        self.rows(n).iter().sum()
    }

    /// As [`super::Forward::run_plain`].
    #[allow(clippy::too_many_arguments)]
    pub fn forward(
        &self,
        cpu: &Cpu,
        n: usize,
        x: Pixels,
        weights: &[f32],
        epilogue: &Epilogue,
        y: PixelsMut,
        workspace: &mut [f32],
    ) {
        let LinearShape { inputs, outputs } = self.linear;
        check_pixels("x", x.data.len(), x.stride, n * self.pixels, self.channels);
        check_output(&y, epilogue, weights, n, outputs, inputs * outputs);
        let (rows, sums) = workspace.split_at_mut(self.rows(PICTURES)[0]);
        let (y_stride, target) = (y.stride, Shares::new(y.data));
        for first in (0..n).step_by(PICTURES) {
            let count = PICTURES.min(n - first);
            self.turn(cpu, first, count, x, rows);
            linear::forward(cpu, &self.linear, count, rows, weights, None, super::Activation::None, sums);
            cpu.pool().run(count, &|i| {
                let sums = &sums[i * outputs..][..outputs];
                dispatch(cpu.isa(), Finish { sums, picture: first + i, epilogue, target: target.pointer(), y_stride });
            });
        }
    }

    /// As [`super::WeightGradient::run`].
    #[allow(clippy::too_many_arguments)]
    pub fn weight_gradient(
        &self,
        cpu: &Cpu,
        n: usize,
        x: Pixels,
        dy: Pixels,
        dw: &mut [f32],
        db: Option<&mut [f32]>,
        workspace: &mut [f32],
    ) {
        check_pixels("x", x.data.len(), x.stride, n * self.pixels, self.channels);
        let (rows, sums) = workspace.split_at_mut(self.rows(n)[0]);
        self.turn(cpu, 0, n, x, rows);
        self.copy(0, n, dy, sums);
        linear::weight_gradient(cpu, &self.linear, n, rows, sums, dw, db);
    }

    /// Pictures as rows in the weights' order.
    fn turn(&self, cpu: &Cpu, first: usize, count: usize, x: Pixels, rows: &mut [f32]) {
        assert!(rows.len() >= self.rows(count)[0], "rows: {} values for {count} pictures", rows.len());
        let rows = Shares::new(rows);
        cpu.pool().run(count, &|i| {
            let picture = x.data[(first + i) * self.pixels * x.stride..].as_ptr();
            let row = rows.pointer().wrapping_add(i * self.linear.inputs);
            dispatch(cpu.isa(), ToRow { plan: self, picture, stride: x.stride, row });
        });
    }

    /// Outputs side by side.
    fn copy(&self, first: usize, count: usize, dy: Pixels, rows: &mut [f32]) {
        let outputs = self.linear.outputs;
        check_pixels("dy", dy.data.len(), dy.stride, first + count, outputs);
        for (i, row) in rows.chunks_exact_mut(outputs).take(count).enumerate() {
            row.copy_from_slice(&dy.data[(first + i) * dy.stride..][..outputs]);
        }
    }
}

/// A picture's pixels, channel by channel.
struct ToRow<'a> {
    plan: &'a Whole,
    picture: *const f32,
    stride: usize,
    row: *mut f32,
}

impl Kernel for ToRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Whole { channels, pixels, .. } = *self.plan;
        // Whole vectors are written, of which the rest is the next channels' first pixels: from the last pixels to the first, and
        // the last channels value by value, because the next row may be another thread's.
        let whole = channels.saturating_sub(LANES.div_ceil(pixels));
        for first in (0..pixels).step_by(LANES).rev() {
            let (from, some) = (self.picture.wrapping_add(first * self.stride), LANES.min(pixels - first));
            // SAFETY: `Whole` checked that x holds the picture; a vector reaches no farther than the last channels.
            unsafe { lanes::gather(s, from, self.stride, some, whole, self.row.wrapping_add(first), pixels) }
        }
        for channel in whole..channels {
            for pixel in 0..pixels {
                // SAFETY: as above.
                unsafe { *self.row.add(channel * pixels + pixel) = *self.picture.add(pixel * self.stride + channel) }
            }
        }
    }
}

/// What follows a picture's sums.
struct Finish<'a> {
    sums: &'a [f32],
    picture: usize,
    epilogue: &'a Epilogue<'a>,
    target: *mut f32,
    y_stride: usize,
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for first in (0..self.sums.len()).step_by(LANES) {
            let some = LANES.min(self.sums.len() - first);
            // SAFETY: `Whole::forward` checked bias, residual and y.
            unsafe {
                let mut value = load_part(s, self.sums.as_ptr().add(first), some);
                if let Some(bias) = self.epilogue.bias {
                    value = s.add(value, load_part(s, bias.as_ptr().add(first), some));
                }
                if let Some(residual) = self.epilogue.residual {
                    let at = residual.data.as_ptr().add(self.picture * residual.stride + first);
                    value = s.add(value, load_part(s, at, some));
                }
                let out = self.target.add(self.picture * self.y_stride + first);
                store_part(s, out, self.epilogue.activation.apply(s, value), some);
            }
        }
    }
}
