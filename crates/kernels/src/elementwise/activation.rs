//! Activation functions.

use super::map::{Extent, View, ViewMut, lanewise, map};
use crate::Cpu;
use crate::math::{erf, erf_f64, exp, sigmoid, tanh};
use crate::real::Real;
use crate::simd::Simd;

/// An activation function, applied to each element. All hand NaN on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// max(x, 0)
    Relu,
    /// x where x > 0, else slope·x
    LeakyRelu(f32),
    /// min(max(x, 0), 6)
    Relu6,
    /// 1 / (1 + e^−x)
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// x·Φ(x) = x/2·(1 + erf(x/√2)), exact (Hendrycks and Gimpel 2016)
    Gelu,
    /// x·min(max(x + 3, 0), 6)/6 (Howard et al. 2019)
    HardSwish,
}

impl Activation {
    /// Whether backward wants the forward output; else it wants the forward input. A leaky ReLU of positive slope takes
    /// either.
    pub fn saves_output(self) -> bool {
        !matches!(self, Activation::LeakyRelu(_) | Activation::Gelu | Activation::HardSwish)
    }

    /// The reference, forward.
    pub fn reference<T: Real>(self, x: T) -> T {
        let of = T::from_f64;
        let (zero, one) = (T::ZERO, T::ONE);
        match self {
            Activation::Relu => {
                if x < zero {
                    zero
                } else {
                    x
                }
            }
            Activation::LeakyRelu(slope) => {
                if x > zero {
                    x
                } else {
                    x * of(f64::from(slope))
                }
            }
            Activation::Relu6 => {
                if x < zero {
                    zero
                } else if x > of(6.0) {
                    of(6.0)
                } else {
                    x
                }
            }
            Activation::Sigmoid => one / (one + (-x).exp()),
            Activation::Tanh => x.tanh(),
            Activation::Gelu => x * of(0.5) * (one + of(erf_f64(x.to_f64() * std::f64::consts::FRAC_1_SQRT_2))),
            Activation::HardSwish => x * Activation::Relu6.reference(x + of(3.0)) / of(6.0),
        }
    }

    /// The reference, backward: the gradient for the input, from the saved output or input (see
    /// [`Activation::saves_output`]) and the gradient of the output.
    pub fn reference_backward<T: Real>(self, saved: T, dy: T) -> T {
        let of = T::from_f64;
        let (zero, one) = (T::ZERO, T::ONE);
        match self {
            Activation::Relu => {
                if saved <= zero {
                    zero
                } else {
                    dy
                }
            }
            Activation::LeakyRelu(slope) => {
                if saved > zero {
                    dy
                } else {
                    dy * of(f64::from(slope))
                }
            }
            Activation::Relu6 => {
                if saved <= zero || saved >= of(6.0) {
                    zero
                } else {
                    dy
                }
            }
            Activation::Sigmoid => dy * saved * (one - saved),
            Activation::Tanh => dy * (one - saved * saved),
            Activation::Gelu => {
                let x = saved.to_f64();
                let cumulative = 0.5 * (1.0 + erf_f64(x * std::f64::consts::FRAC_1_SQRT_2));
                let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
                dy * of(cumulative + x * density)
            }
            Activation::HardSwish => {
                if saved <= of(-3.0) {
                    zero
                } else if saved >= of(3.0) {
                    dy
                } else {
                    dy * (saved / of(3.0) + of(0.5))
                }
            }
        }
    }
}

/// y = f(x); without `x`, in place.
pub fn activate(cpu: &Cpu, f: Activation, extent: Extent, x: Option<View>, y: ViewMut) {
    match f {
        Activation::Relu => map(cpu, extent, Relu, [x], y),
        Activation::LeakyRelu(slope) => map(cpu, extent, LeakyRelu(slope), [x], y),
        Activation::Relu6 => map(cpu, extent, Relu6, [x], y),
        Activation::Sigmoid => map(cpu, extent, Sigmoid, [x], y),
        Activation::Tanh => map(cpu, extent, Tanh, [x], y),
        Activation::Gelu => map(cpu, extent, Gelu, [x], y),
        Activation::HardSwish => map(cpu, extent, HardSwish, [x], y),
    }
}

/// The gradient dx = f'·dy, from the saved output or input (see [`Activation::saves_output`]); without `dy`, in place:
/// `dx` then holds dy before.
pub fn activate_backward(cpu: &Cpu, f: Activation, extent: Extent, saved: View, dy: Option<View>, dx: ViewMut) {
    let inputs = [Some(saved), dy];
    match f {
        Activation::Relu => map(cpu, extent, Relu, inputs, dx),
        Activation::LeakyRelu(slope) => map(cpu, extent, LeakyRelu(slope), inputs, dx),
        Activation::Relu6 => map(cpu, extent, Relu6, inputs, dx),
        Activation::Sigmoid => map(cpu, extent, Sigmoid, inputs, dx),
        Activation::Tanh => map(cpu, extent, Tanh, inputs, dx),
        Activation::Gelu => map(cpu, extent, Gelu, inputs, dx),
        Activation::HardSwish => map(cpu, extent, HardSwish, inputs, dx),
    }
}

/// The smallest positive number: `TINY > x` is x ≤ 0, which is false for NaN.
const TINY: f32 = f32::from_bits(1);

/// `if x <= 0 { 0 } else { dy }`: the gradient of ReLU, which lets dy pass where x is NaN.
#[inline(always)]
pub(crate) fn relu_gradient<S: Simd>(s: S, x: S::V, dy: S::V) -> S::V {
    s.select_gt(s.splat(TINY), x, s.zero(), dy)
}

/// The same for min(max(x, 0), ceiling), from its output.
#[inline(always)]
pub(crate) fn ceiling_gradient<S: Simd>(s: S, y: S::V, ceiling: f32, dy: S::V) -> S::V {
    // The number before the ceiling: y above it is y ≥ ceiling, which is false for NaN.
    let under = s.splat(f32::from_bits(ceiling.to_bits() - 1));
    s.select_gt(y, under, s.zero(), relu_gradient(s, y, dy))
}

#[derive(Clone, Copy)]
struct Relu;
lanewise!(Relu, 1, |_this, s, [x]| s.max(s.zero(), x));
lanewise!(Relu, 2, |_this, s, [y, dy]| relu_gradient(s, y, dy));

#[derive(Clone, Copy)]
struct LeakyRelu(f32);
lanewise!(LeakyRelu, 1, |this, s, [x]| s.select_gt(x, s.zero(), x, s.mul(x, s.splat(this.0))));
lanewise!(LeakyRelu, 2, |this, s, [x, dy]| s.select_gt(x, s.zero(), dy, s.mul(dy, s.splat(this.0))));

#[derive(Clone, Copy)]
struct Relu6;
lanewise!(Relu6, 1, |_this, s, [x]| s.min(s.splat(6.0), s.max(s.zero(), x)));
lanewise!(Relu6, 2, |_this, s, [y, dy]| ceiling_gradient(s, y, 6.0, dy));

#[derive(Clone, Copy)]
struct Sigmoid;
lanewise!(Sigmoid, 1, |_this, s, [x]| sigmoid(s, x));
lanewise!(Sigmoid, 2, |_this, s, [y, dy]| s.mul(s.mul(dy, y), s.sub(s.splat(1.0), y)));

#[derive(Clone, Copy)]
struct Tanh;
lanewise!(Tanh, 1, |_this, s, [x]| tanh(s, x));
lanewise!(Tanh, 2, |_this, s, [y, dy]| s.mul(dy, s.fnma(y, y, s.splat(1.0))));

/// Φ(x), the normal distribution's cumulative function.
#[inline(always)]
fn cumulative<S: Simd>(s: S, x: S::V) -> S::V {
    let erf = erf(s, s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2)));
    s.fma(s.splat(0.5), erf, s.splat(0.5))
}

#[derive(Clone, Copy)]
struct Gelu;
lanewise!(Gelu, 1, |_this, s, [x]| s.mul(x, cumulative(s, x)));
lanewise!(Gelu, 2, |_this, s, [x, dy]| {
    // 1/√(2π)
    let density = s.mul(s.splat(0.398_942_3), exp(s, s.mul(s.splat(-0.5), s.mul(x, x))));
    s.mul(dy, s.fma(x, density, cumulative(s, x)))
});

#[derive(Clone, Copy)]
struct HardSwish;
lanewise!(HardSwish, 1, |_this, s, [x]| {
    let gate = s.min(s.splat(6.0), s.max(s.zero(), s.add(x, s.splat(3.0))));
    s.div(s.mul(x, gate), s.splat(6.0))
});
lanewise!(HardSwish, 2, |_this, s, [x, dy]| {
    let three = s.splat(3.0);
    let middle = s.mul(dy, s.add(s.div(x, three), s.splat(0.5)));
    let under = f32::from_bits(3f32.to_bits() - 1);
    s.select_gt(x, s.splat(under), dy, s.select_gt(s.splat(-under), x, s.zero(), middle))
});
