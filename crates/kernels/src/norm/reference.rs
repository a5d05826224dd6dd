//! The definitions, on `[samples, channels, pixels]`.

use crate::elementwise::Extent;
use crate::real::Real;

/// Normalises by the batch's mean and biased variance: y = γ·(x − mean)/√(variance + eps) + β. Gives mean and variance
/// a channel.
pub fn batch_norm_reference<T: Real>(
    extent: Extent,
    x: &[T],
    [gamma, beta]: [&[T]; 2],
    eps: f64,
    y: &mut [T],
) -> (Vec<T>, Vec<T>) {
    let count = T::from_f64((extent.samples * extent.pixels) as f64);
    let mean: Vec<T> = (0..extent.channels).map(|c| channel(extent, c).map(|i| x[i]).sum::<T>() / count).collect();
    let variance: Vec<T> = (0..extent.channels)
        .map(|c| channel(extent, c).map(|i| (x[i] - mean[c]) * (x[i] - mean[c])).sum::<T>() / count)
        .collect();
    for c in 0..extent.channels {
        let inv_std = T::ONE / (variance[c] + T::from_f64(eps)).sqrt();
        channel(extent, c).for_each(|i| y[i] = gamma[c] * (x[i] - mean[c]) * inv_std + beta[c]);
    }
    (mean, variance)
}

/// The gradients for x, γ and β, from the batch's mean and biased variance.
pub fn batch_norm_backward_reference<T: Real>(
    extent: Extent,
    [x, dy]: [&[T]; 2],
    gamma: &[T],
    [mean, variance]: [&[T]; 2],
    eps: f64,
    [dx, dgamma, dbeta]: [&mut [T]; 3],
) {
    let count = T::from_f64((extent.samples * extent.pixels) as f64);
    for c in 0..extent.channels {
        let inv_std = T::ONE / (variance[c] + T::from_f64(eps)).sqrt();
        let normal = |i: usize| (x[i] - mean[c]) * inv_std;
        dbeta[c] = channel(extent, c).map(|i| dy[i]).sum();
        dgamma[c] = channel(extent, c).map(|i| dy[i] * normal(i)).sum();
        for i in channel(extent, c) {
            dx[i] = gamma[c] * inv_std * (dy[i] - (dbeta[c] + normal(i) * dgamma[c]) / count);
        }
    }
}

/// The indices of a channel's elements.
fn channel(extent: Extent, c: usize) -> impl Iterator<Item = usize> {
    (0..extent.samples).flat_map(move |n| {
        let first = (n * extent.channels + c) * extent.pixels;
        first..first + extent.pixels
    })
}
