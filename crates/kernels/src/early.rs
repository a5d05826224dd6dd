//! What the networks of 1989 and 1998 need besides convolutions: connection tables and tied weights, a bias at every
//! position, radial basis units. Their numbers are few, so plain loops do; in `f32` and in `f64`.

use crate::real::Real;
use crate::reduce::sum_samples;

/// In a table of [`spread`]: this element is 0, nothing is connected here.
pub const NONE: u32 = u32::MAX;

/// Weights in their places: `full[i] = weights[table[i]]`, 0 where the table has [`NONE`].
pub fn spread<T: Real>(table: &[u32], weights: &[T], full: &mut [T]) {
    for (full, &from) in full.iter_mut().zip(table) {
        *full = if from == NONE { T::ZERO } else { weights[from as usize] };
    }
}

/// The gradient of [`spread`]: each weight sums the gradients of its places, in order.
pub fn gather<T: Real>(table: &[u32], dfull: &[T], dweights: &mut [T]) {
    dweights.fill(T::ZERO);
    for (&dfull, &from) in dfull.iter().zip(table) {
        if from != NONE {
            dweights[from as usize] += dfull;
        }
    }
}

/// How the values of a picture lie: `[pixels][channels]` or, with `channels_last` off, `[channels][pixels]`. A bias at every
/// position lies as `[channels][pixels]`.
#[derive(Clone, Copy, Debug)]
pub struct Positions {
    /// Pixels of a picture.
    pub pixels: usize,
    /// Channels.
    pub channels: usize,
    /// Whether the channels of a pixel lie together.
    pub channels_last: bool,
}

impl Positions {
    fn bias(&self, i: usize) -> usize {
        if self.channels_last { i % self.channels * self.pixels + i / self.channels } else { i }
    }
}

/// y = x + bias at every position of every picture.
pub fn add_bias<T: Real>(positions: Positions, x: &[T], bias: &[T], y: &mut [T]) {
    for (x, y) in x.chunks(bias.len()).zip(y.chunks_mut(bias.len())) {
        for (i, (x, y)) in x.iter().zip(y).enumerate() {
            *y = *x + bias[positions.bias(i)];
        }
    }
}

/// The gradient of the bias of [`add_bias`]: sums over the pictures, by the groups and the tree of [`crate::reduce`].
pub fn add_bias_gradient<T: Real>(positions: Positions, dy: &[T], dbias: &mut [T]) {
    let len = dbias.len();
    for i in 0..len {
        dbias[positions.bias(i)] = sum_samples(dy.len() / len, &|picture| dy[picture * len + i]);
    }
}

/// Radial basis units: y = −‖x − w‖² for each row w of `weights`, `[n, features]` to `[n, units]` (LeCun et al. 1998, eq. 7, with
/// the sign turned, so that the largest is the answer).
pub fn radial<T: Real>(features: usize, x: &[T], weights: &[T], y: &mut [T]) {
    let units = weights.len() / features;
    for (x, y) in x.chunks(features).zip(y.chunks_mut(units)) {
        for (w, y) in weights.chunks(features).zip(y) {
            *y = -x.iter().zip(w).map(|(&x, &w)| (x - w) * (x - w)).sum::<T>();
        }
    }
}

/// The gradient of [`radial`] with respect to x.
pub fn radial_data<T: Real>(features: usize, dy: &[T], x: &[T], weights: &[T], dx: &mut [T]) {
    let units = weights.len() / features;
    dx.fill(T::ZERO);
    for ((x, dx), dy) in x.chunks(features).zip(dx.chunks_mut(features)).zip(dy.chunks(units)) {
        for (w, &dy) in weights.chunks(features).zip(dy) {
            for ((dx, &x), &w) in dx.iter_mut().zip(x).zip(w) {
                *dx += T::from_f64(2.0) * dy * (w - x);
            }
        }
    }
}

/// The gradient of [`radial`] with respect to the weights: sums over the pictures, by the groups and the tree of
/// [`crate::reduce`].
pub fn radial_weight<T: Real>(features: usize, dy: &[T], x: &[T], weights: &[T], dw: &mut [T]) {
    let units = weights.len() / features;
    for (i, (dw, &w)) in dw.iter_mut().zip(weights).enumerate() {
        let (unit, feature) = (i / features, i % features);
        let one =
            |picture: usize| T::from_f64(2.0) * dy[picture * units + unit] * (x[picture * features + feature] - w);
        *dw = sum_samples(x.len() / features, &one);
    }
}
