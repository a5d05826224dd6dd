//! Batch normalisation (Ioffe and Szegedy 2015): y = γ·(x − mean)/√(variance + eps) + β, a channel at a time.
//!
//! In training, mean and variance come from the batch: chunks of 64 pixels give a mean and a sum of squared distances
//! from it in `f32`, which are joined in `f64` (Chan, Golub and LeVeque 1979) along each picture, then picture by
//! picture in groups and by a tree. Applying is one pass, y = x·scale + shift, with what follows it fused: a residual
//! sum and ReLU.

mod reference;
mod statistics;

pub use reference::{batch_norm_backward_reference, batch_norm_reference};

use crate::Cpu;
use crate::elementwise::{Extent, View, ViewMut, ceiling_gradient, lanewise, map};
use crate::reduce::{as_f64, f64_room};
use statistics::{Moments, Relu, Sums, units};

/// The operands of [`batch_norm`].
#[derive(Clone, Copy)]
pub struct BatchNorm<'a> {
    /// Samples, pixels and channels.
    pub extent: Extent,
    /// Input.
    pub x: View<'a>,
    /// Scale γ of each channel.
    pub gamma: &'a [f32],
    /// Shift β of each channel.
    pub beta: &'a [f32],
    /// Added to the variance.
    pub eps: f64,
    /// Added to the result.
    pub residual: Option<View<'a>>,
    /// ReLU's ceiling where it follows: ∞, or 6 for ReLU6.
    pub relu: Option<f32>,
}

/// Running statistics, which inference uses: running = (1 − momentum)·running + momentum·batch, with the unbiased
/// variance.
pub struct Running<'a> {
    /// Weight of the batch.
    pub momentum: f64,
    /// Running mean of each channel.
    pub mean: &'a mut [f32],
    /// Running variance of each channel.
    pub variance: &'a mut [f32],
}

/// Elements of workspace that [`batch_norm`] and [`batch_norm_backward`] need.
pub fn workspace(extent: Extent) -> usize {
    f64_room(2 * units(extent) * extent.channels) + 5 * extent.channels
}

/// Forward in training. Writes y, and what backward needs: the batch's mean and 1/√(variance + eps) of each channel.
/// `workspace`: [`workspace`] elements.
pub fn batch_norm(
    cpu: &Cpu,
    input: &BatchNorm,
    y: ViewMut,
    [mean, inv_std]: [&mut [f32]; 2],
    running: Option<Running>,
    workspace: &mut [f32],
) {
    let (extent, channels) = (input.extent, input.extent.channels);
    if extent.elements() == 0 {
        return;
    }
    let (coefficients, slots) = workspace.split_at_mut(5 * channels);
    let slots = as_f64(slots, 2 * units(extent) * channels);
    let (means, squares) = Moments { extent, x: input.x }.run(cpu, slots);
    let count = (extent.samples * extent.pixels) as f64;
    let (scale, shift) = coefficients.split_at_mut(channels);
    for c in 0..channels {
        let variance = squares[c] / count;
        mean[c] = means[c] as f32;
        inv_std[c] = (1.0 / (variance + input.eps).sqrt()) as f32;
    }
    let (scale, shift) = (scale, &mut shift[..channels]);
    linear([input.gamma, input.beta, mean, inv_std], [scale, shift]);
    if let Some(Running { momentum, mean, variance }) = running {
        let mix = |old: f32, new: f64| ((1.0 - momentum) * f64::from(old) + momentum * new) as f32;
        for c in 0..channels {
            mean[c] = mix(mean[c], means[c]);
            variance[c] = mix(variance[c], squares[c] / (count - 1.0).max(1.0));
        }
    }
    affine(cpu, extent, input.x, [scale, shift], input.residual, input.relu, y);
}

/// What forward computes of x: y = x·scale + shift. Backward finds the same y by it, and so ReLU's mask, without reading y.
fn linear([gamma, beta, mean, inv_std]: [&[f32]; 4], [scale, shift]: [&mut [f32]; 2]) {
    for c in 0..scale.len() {
        let factor = f64::from(gamma[c]) * f64::from(inv_std[c]);
        scale[c] = factor as f32;
        shift[c] = (f64::from(beta[c]) - f64::from(mean[c]) * factor) as f32;
    }
}

/// Scale and shift of each channel for inference, from γ, β, running mean and running variance.
pub fn fold_statistics(parameters: [&[f32]; 4], eps: f64, [scale, shift]: [&mut [f32]; 2]) {
    let [gamma, beta, mean, variance] = parameters.map(|p| p.iter().map(|&x| f64::from(x)));
    let channels = gamma.zip(beta).zip(mean.zip(variance)).zip(scale.iter_mut().zip(shift));
    for (((gamma, beta), (mean, variance)), (scale, shift)) in channels {
        let factor = gamma / (variance + eps).sqrt();
        *scale = factor as f32;
        *shift = (beta - mean * factor) as f32;
    }
}

/// y = x·scale + shift, with scale and shift of each channel, plus a residual, then ReLU up to a ceiling if wanted.
pub fn affine(
    cpu: &Cpu,
    extent: Extent,
    x: View,
    [scale, shift]: [&[f32]; 2],
    residual: Option<View>,
    relu: Option<f32>,
    y: ViewMut,
) {
    let [x, scale, shift] = [x, View::per_channel(scale), View::per_channel(shift)].map(Some);
    match (residual, relu) {
        (None, None) => map(cpu, extent, Affine, [x, scale, shift], y),
        (None, Some(ceiling)) => map(cpu, extent, AffineRelu(ceiling), [x, scale, shift], y),
        (residual, None) => map(cpu, extent, Affine, [x, scale, shift, residual], y),
        (residual, Some(ceiling)) => map(cpu, extent, AffineRelu(ceiling), [x, scale, shift, residual], y),
    }
}

#[derive(Clone, Copy)]
struct Affine;
lanewise!(Affine, 3, |_this, s, [x, scale, shift]| s.fma(x, scale, shift));
lanewise!(Affine, 4, |_this, s, [x, scale, shift, residual]| s.add(s.fma(x, scale, shift), residual));
#[derive(Clone, Copy)]
struct AffineRelu(f32);
lanewise!(AffineRelu, 3, |this, s, [x, scale, shift]| {
    s.min(s.splat(this.0), s.max(s.zero(), s.fma(x, scale, shift)))
});
lanewise!(AffineRelu, 4, |this, s, [x, scale, shift, residual]| {
    s.min(s.splat(this.0), s.max(s.zero(), s.add(s.fma(x, scale, shift), residual)))
});

/// The operands of [`batch_norm_backward`].
#[derive(Clone, Copy)]
pub struct BatchNormBackward<'a> {
    /// Samples, pixels and channels.
    pub extent: Extent,
    /// Forward's input.
    pub x: View<'a>,
    /// Gradient of the output.
    pub dy: View<'a>,
    /// β and ReLU's ceiling where it followed, without a residual: dy then passes ReLU's gradient first.
    pub relu: Option<(&'a [f32], f32)>,
    /// Scale γ of each channel.
    pub gamma: &'a [f32],
    /// The batch's mean, as [`batch_norm`] wrote it.
    pub mean: &'a [f32],
    /// 1/√(variance + eps), as [`batch_norm`] wrote it.
    pub inv_std: &'a [f32],
}

/// Backward: dx, dγ and dβ. dx = γ·inv_std·(dy − mean of dy − x̂·mean of dy·x̂) with x̂ = (x − mean)·inv_std, which
/// becomes dy·a + x·b + c with a, b, c of each channel. `workspace`: [`workspace`] elements.
pub fn batch_norm_backward(
    cpu: &Cpu,
    input: &BatchNormBackward,
    dx: ViewMut,
    [dgamma, dbeta]: [&mut [f32]; 2],
    workspace: &mut [f32],
) {
    let &BatchNormBackward { extent, x, dy, relu, gamma, mean, inv_std } = input;
    let channels = extent.channels;
    if extent.elements() == 0 {
        dgamma.fill(0.0);
        dbeta.fill(0.0);
        return;
    }
    let (coefficients, slots) = workspace.split_at_mut(5 * channels);
    let slots = as_f64(slots, 2 * units(extent) * channels);
    let (forward, coefficients) = coefficients.split_at_mut(2 * channels);
    let (scale, shift) = forward.split_at_mut(channels);
    if let Some((beta, _)) = relu {
        linear([gamma, beta, mean, inv_std], [scale, shift]);
    }
    let relu = relu.map(|(_, ceiling)| Relu { scale, shift, ceiling });
    let (sums, products) = Sums { extent, x, dy, relu, mean }.run(cpu, slots);
    let count = (extent.samples * extent.pixels) as f64;
    let (a, rest) = coefficients.split_at_mut(channels);
    let (b, c) = rest.split_at_mut(channels);
    for i in 0..channels {
        let (inv_std, mean) = (f64::from(inv_std[i]), f64::from(mean[i]));
        dgamma[i] = (products[i] * inv_std) as f32;
        dbeta[i] = sums[i] as f32;
        let factor = f64::from(gamma[i]) * inv_std;
        let slope = -factor * inv_std * inv_std * products[i] / count;
        a[i] = factor as f32;
        b[i] = slope as f32;
        c[i] = (-factor * sums[i] / count - slope * mean) as f32;
    }
    let [a, b, c] = [&*a, b, c].map(|x| Some(View::per_channel(x)));
    match relu {
        None => map(cpu, extent, Backward, [Some(dy), Some(x), a, b, c], dx),
        Some(Relu { scale, shift, ceiling }) => {
            let [scale, shift] = [scale, shift].map(|x| Some(View::per_channel(x)));
            map(cpu, extent, ReluBackward(ceiling), [Some(dy), Some(x), a, b, c, scale, shift], dx);
        }
    }
}

#[derive(Clone, Copy)]
struct Backward;
lanewise!(Backward, 5, |_this, s, [dy, x, a, b, c]| s.fma(dy, a, s.fma(x, b, c)));
#[derive(Clone, Copy)]
struct ReluBackward(f32);
lanewise!(ReluBackward, 7, |this, s, [dy, x, a, b, c, scale, shift]| {
    s.fma(ceiling_gradient(s, s.fma(x, scale, shift), this.0, dy), a, s.fma(x, b, c))
});
