//! Convolution: forward, data gradient, weight gradient.
//!
//! Activations are channels-last pixels, weights `[filters, channels / groups, rows, columns]` (PyTorch's layout),
//! packed once per step. Nothing is copied into columns: an *indirect* product reads the source's pixels in place
//! through a table of addresses, in which a row of zeros stands for padding (Dukhan, "The Indirect Convolution
//! Algorithm", 2019).

mod chain;
mod choice;
mod col2im;
mod data_gradient;
mod depthwise;
mod depthwise_weights;
mod forward;
mod indirect;
mod lanes;
mod padded;
mod phase;
mod planar;
pub mod reference;
mod rows;
mod run_tile;
#[cfg(test)]
mod tests;
mod tile;
mod weight_gradient;
mod weight_tile;
mod whole;
mod widened;
mod winograd;

pub use chain::Chain;
pub use choice::{PICTURES, Pass, work};
pub use data_gradient::DataGradient;
pub use forward::Forward;
pub use weight_gradient::WeightGradient;

use crate::simd::Simd;

/// Channels-last pixels: pixel `i` is `data[i * stride..][..channels]`, pictures one after the other, rows in order. A
/// stride above the channel count reads a slice of the channels of a wider activation.
#[derive(Clone, Copy, Debug)]
pub struct Pixels<'a> {
    /// The values, from the first pixel's first channel on.
    pub data: &'a [f32],
    /// Values from one pixel to the next, at least the channels.
    pub stride: usize,
}

/// As [`Pixels`], to write. Values between the channels and the stride are left alone.
#[derive(Debug)]
pub struct PixelsMut<'a> {
    /// The values, from the first pixel's first channel on.
    pub data: &'a mut [f32],
    /// Values from one pixel to the next, at least the channels.
    pub stride: usize,
}

/// Panics unless `len` values hold `pixels` pixels of `channels` channels: what the unsafe code below relies on.
pub(crate) fn check_pixels(what: &str, len: usize, stride: usize, pixels: usize, channels: usize) {
    assert!(stride >= channels, "{what}: stride {stride} below {channels} channels");
    let needed = if pixels == 0 { 0 } else { (pixels - 1) * stride + channels };
    assert!(len >= needed, "{what}: {len} values for {pixels} pixels of {channels} channels, stride {stride}");
}

/// Panics unless the output and what is added to it hold `pixels` pixels of `channels` channels, and the packed weights
/// `packed` values.
pub(crate) fn check_output(
    target: &PixelsMut,
    epilogue: &Epilogue,
    weights: &[f32],
    pixels: usize,
    channels: usize,
    packed: usize,
) {
    check_pixels("target", target.data.len(), target.stride, pixels, channels);
    if let Some(residual) = epilogue.residual {
        check_pixels("residual", residual.data.len(), residual.stride, pixels, channels);
    }
    check_weights(epilogue, weights, channels, packed);
}

/// The same of bias and packed weights alone.
pub(crate) fn check_weights(epilogue: &Epilogue, weights: &[f32], channels: usize, packed: usize) {
    assert!(epilogue.bias.is_none_or(|b| b.len() >= channels), "bias: less than {channels} values");
    assert!(weights.len() >= packed, "packed weights: {} of {packed}", weights.len());
}

/// A function of each output value, applied while it is still in a register.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// The value itself.
    #[default]
    None,
    /// max(x, 0); hands NaN on.
    Relu,
    /// min(max(x, 0), 6); hands NaN on.
    Relu6,
    /// x where x > 0, else slope · x.
    LeakyRelu(f32),
}

impl Activation {
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        match self {
            Activation::None => x,
            Activation::Relu => s.max(s.zero(), x),
            Activation::Relu6 => s.min(s.splat(6.0), s.max(s.zero(), x)),
            Activation::LeakyRelu(slope) => s.select_gt(x, s.zero(), x, s.mul(x, s.splat(slope))),
        }
    }
}

/// What follows the convolution before the output is stored: `activation(sum + bias + residual)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// One value a filter.
    pub bias: Option<&'a [f32]>,
    /// Added to the output, pixel by pixel.
    pub residual: Option<Pixels<'a>>,
    /// Applied last.
    pub activation: Activation,
}
