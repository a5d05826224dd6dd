//! Operations on each element by itself: activations, sums, products, scaling, copies; forward and backward.
//!
//! Data are channels-last. An [`Extent`] says how many samples, pixels and channels; a [`View`] says how an operand lies:
//! without gaps, as some of the channels of wider data, or broadcast. Outputs are [`ViewMut`]s; where an operand is an
//! `Option`, `None` means the output's old values (in place).

mod activation;
mod broadcast;
mod map;

pub use activation::{Activation, activate, activate_backward};
pub use broadcast::{channel_sums, channel_sums_reference};
pub use map::{Extent, View, ViewMut};

pub(crate) use activation::ceiling_gradient;
pub(crate) use map::{Lanewise, lanewise, map};

use crate::Cpu;

#[derive(Clone, Copy)]
struct Copied;
lanewise!(Copied, 1, |_this, _s, [x]| x);

/// y = x: with strides, what concat and slice need.
pub fn copy(cpu: &Cpu, extent: Extent, x: View, y: ViewMut) {
    map(cpu, extent, Copied, [Some(x)], y);
}

#[derive(Clone, Copy)]
struct Scaled(f32);
lanewise!(Scaled, 1, |this, s, [x]| s.mul(x, s.splat(this.0)));

/// y = factor·x; without `x`, in place.
pub fn scale(cpu: &Cpu, extent: Extent, factor: f32, x: Option<View>, y: ViewMut) {
    map(cpu, extent, Scaled(factor), [x], y);
}

#[derive(Clone, Copy)]
struct Sum;
lanewise!(Sum, 2, |_this, s, [a, b]| s.add(a, b));
#[derive(Clone, Copy)]
struct SumRelu;
lanewise!(SumRelu, 2, |_this, s, [a, b]| s.max(s.zero(), s.add(a, b)));

/// y = a + b, or max(a + b, 0) with `relu`; without `a`, y += b: gradients are accumulated so. `b` may be broadcast.
///
/// The gradient for either operand is dy (after ReLU's), for one broadcast over pixels [`channel_sums`] of it.
pub fn add(cpu: &Cpu, extent: Extent, a: Option<View>, b: View, relu: bool, y: ViewMut) {
    if relu {
        map(cpu, extent, SumRelu, [a, Some(b)], y);
    } else {
        map(cpu, extent, Sum, [a, Some(b)], y);
    }
}

#[derive(Clone, Copy)]
struct Product;
lanewise!(Product, 2, |_this, s, [a, b]| s.mul(a, b));

/// y = a·b; without `a`, y *= b. `b` may be broadcast.
///
/// The gradient for `a` is dy·b, by this function too; for `b` it is dy·a, for a `b` broadcast over pixels
/// [`channel_sums`] of dy and a.
pub fn multiply(cpu: &Cpu, extent: Extent, a: Option<View>, b: View, y: ViewMut) {
    map(cpu, extent, Product, [a, Some(b)], y);
}

#[derive(Clone, Copy)]
struct ProductSum;
lanewise!(ProductSum, 3, |_this, s, [y, a, b]| s.fma(a, b, y));

/// y += a·b. `b` may be broadcast: the gradient of [`multiply`] where the operand has other consumers.
pub fn multiply_add(cpu: &Cpu, extent: Extent, a: View, b: View, y: ViewMut) {
    map(cpu, extent, ProductSum, [None, Some(a), Some(b)], y);
}
