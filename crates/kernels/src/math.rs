//! Exponential, hyperbolic tangent, error function and logarithm without libm, so that results do not depend on the
//! machine: the vector functions are plain chains of multiply-adds, the scalar ones plain `f64` arithmetic.

use crate::simd::Simd;

/// `c[0] + x·(c[1] + x·(c[2] + …))`, one chain of multiply-adds.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::V, c: [f32; N]) -> S::V {
    let mut sum = s.splat(c[N - 1]);
    for i in (0..N - 1).rev() {
        sum = s.fma(sum, x, s.splat(c[i]));
    }
    sum
}

/// Splits x = n·ln 2 + r with |r| ≤ ½ ln 2; gives n and e^r − 1. The high half of ln 2 has 9 bits, so n times it is
/// exact with or without fused multiply-add; Taylor's series stops at r⁷/7!, and 0.347⁸/8! = 5e-9 is left out.
#[inline(always)]
fn reduced_exp_minus_1<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fnma(n, s.splat(-2.121_944_4e-4), s.fnma(n, s.splat(0.693_359_4), x));
    let series = polynomial(s, r, [1.0 / 2.0, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0, 1.0 / 720.0, 1.0 / 5040.0]);
    (n, s.fma(s.mul(r, r), series, r))
}

/// e^x within 2 ulp: 0 under −104, infinity over 88.73, NaN for NaN.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    // The limits come first: a NaN in x is then handed on.
    let x = s.min(s.splat(89.0), s.max(s.splat(-104.0), x));
    let (n, p) = reduced_exp_minus_1(s, x);
    // 2^n in two factors, since n reaches 128 and −150.
    let half = s.round(s.mul(n, s.splat(0.5)));
    s.mul(s.mul(s.add(p, s.splat(1.0)), s.exp2i(half)), s.exp2i(s.sub(n, half)))
}

/// 1 / (1 + e^−x) within 3 ulp, also far out on the negative side.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let e = exp(s, s.sub(s.zero(), s.abs(x)));
    let one = s.splat(1.0);
    s.div(s.select_gt(s.zero(), x, e, one), s.add(one, e))
}

/// Hyperbolic tangent within 3 ulp: (e^2|x| − 1) / (e^2|x| + 1) with the numerator free of cancellation near 0.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    // tanh 10 is 1 in f32.
    let a = s.min(s.splat(10.0), s.abs(x));
    let (n, p) = reduced_exp_minus_1(s, s.add(a, a));
    let power = s.exp2i(n);
    let e = s.fma(p, power, s.sub(power, s.splat(1.0)));
    s.copysign(s.div(e, s.add(e, s.splat(2.0))), x)
}

/// Error function within 3 ulp. Under 1 a polynomial in x² times x, else 1 − e^−q(x) with q ≈ −ln erfc, up to 4 where
/// erf is 1 in f32. Both are least-squares fits on 200 Chebyshev nodes, the second weighted by erfc, off by 1.3e-9.
#[inline(always)]
pub(crate) fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    const NEAR: [f32; 7] = [
        std::f32::consts::FRAC_2_SQRT_PI,
        -0.376_126_3,
        0.112_836_26,
        -0.026_855_4,
        0.005_191_218_6,
        -0.000_803_484_64,
        7.933_494e-5,
    ];
    const FAR: [f32; 7] = [
        0.000_320_902_07,
        1.127_171_9,
        0.638_009_13,
        0.103_223_614,
        -0.021_893_667,
        0.002_961_511_7,
        -0.000_187_790_39,
    ];
    let a = s.min(s.splat(4.0), s.abs(x));
    let near = s.mul(a, polynomial(s, s.mul(a, a), NEAR));
    let far = s.sub(s.splat(1.0), exp(s, s.sub(s.zero(), polynomial(s, a, FAR))));
    s.copysign(s.select_gt(a, s.splat(1.0), far, near), x)
}

/// Natural logarithm within 3 ulp: −∞ for 0, NaN under 0.
#[inline(always)]
pub(crate) fn log<S: Simd>(s: S, x: S::V) -> S::V {
    // x = 2^e·m with m in [√½, √2); subnormal numbers are scaled up by 2^24 first.
    let mut e = s.to_array(x);
    let mut m = e;
    for (e, m) in e.iter_mut().zip(&mut m) {
        let small = *m < f32::MIN_POSITIVE;
        let bits = if small { *m * 16_777_216.0 } else { *m }.to_bits();
        let exponent = (bits.wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits()) as i32) >> 23;
        *e = (exponent - if small { 24 } else { 0 }) as f32;
        *m = f32::from_bits(bits.wrapping_sub((exponent << 23) as u32));
    }
    let (e, m) = (s.from_array(&e), s.from_array(&m));
    let one = s.splat(1.0);
    // ln m = 2·artanh z; 0.1716¹¹/11 = 3e-10 is left out.
    let z = s.div(s.sub(m, one), s.add(m, one));
    let zz = s.mul(z, z);
    let series = s.mul(zz, polynomial(s, zz, [1.0 / 3.0, 1.0 / 5.0, 1.0 / 7.0, 1.0 / 9.0]));
    let z = s.add(z, z);
    let low = s.fma(e, s.splat(-2.121_944_4e-4), s.mul(z, series));
    let finite = s.fma(e, s.splat(0.693_359_4), s.add(z, low));
    // Above the largest number: infinity or NaN, handed on; not above zero: −∞ or NaN.
    let tops = s.select_gt(s.splat(f32::INFINITY), x, finite, x);
    let below = s.select_gt(s.zero(), x, s.splat(f32::NAN), s.splat(f32::NEG_INFINITY));
    s.select_gt(x, s.zero(), tops, s.select_gt(s.splat(f32::MIN_POSITIVE), x, below, x))
}

/// Natural logarithm of a positive normal number, within 2 ulp; infinity and NaN are handed on. x = 2^e·m with m in
/// [√½, √2), and ln m = 2·artanh((m − 1)/(m + 1)) by its series; 0.0295¹¹/23 < 2⁻⁵³ bounds what is left out.
pub fn ln(x: f64) -> f64 {
    if !x.is_finite() {
        return x;
    }
    let (bits, half) = (x.to_bits(), std::f64::consts::FRAC_1_SQRT_2.to_bits());
    let e = (bits.wrapping_sub(half) as i64) >> 52;
    let m = f64::from_bits(bits.wrapping_sub((e as u64) << 52));
    let z = (m - 1.0) / (m + 1.0);
    let zz = z * z;
    let series = (1..=11).rev().fold(0.0, |sum, k| zz * (sum + 1.0 / (2 * k + 1) as f64));
    e as f64 * std::f64::consts::LN_2 + 2.0 * z * (1.0 + series)
}

/// e^x, within 2 ulp, for x of at most 0; below −708 it is 0: x = k·ln 2 + r with |r| ≤ ½ ln 2, and e^r by its series;
/// 0.347¹⁴/14! < 2⁻⁵³ bounds what is left out. NaN stays NaN.
pub fn exp_f64(x: f64) -> f64 {
    if x < -708.0 {
        return 0.0;
    }
    // ln 2 in two parts, of which the first times a whole number is exact (Cody and Waite).
    const HIGH: f64 = 0.693_147_180_369_123_8;
    const LOW: f64 = 1.908_214_929_270_587_7e-10;
    let k = (x / std::f64::consts::LN_2).round();
    let r = (x - k * HIGH) - k * LOW;
    let series = (1..=14).rev().fold(1.0, |sum, n| 1.0 + r / f64::from(n) * sum);
    series * f64::from_bits(((k as i64 + 1023) as u64) << 52)
}

/// Error function for the references: 2/√π·e^(−x²)·Σ 2^k x^(2k+1)/(2k+1)!!, whose terms are all of one sign.
pub fn erf_f64(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for k in 1..200 {
        term *= 2.0 * x * x / f64::from(2 * k + 1);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::simd::{Kernel, LANES, dispatch};

    #[test]
    fn exponential_and_logarithm_in_f64_follow_those_of_the_standard_library() {
        for i in 0..7000 {
            let x = -f64::from(i) / 10.0;
            assert!((exp_f64(x) / x.exp() - 1.0).abs() < 5e-16, "exp {x}");
            let y = 1.0 + f64::from(i) * f64::from(i);
            assert!((ln(y) - y.ln()).abs() <= 5e-16 * y.ln(), "ln {y}");
        }
        assert_eq!((exp_f64(0.0), exp_f64(-1e9), exp_f64(f64::NEG_INFINITY)), (1.0, 0.0, 0.0));
        assert!(exp_f64(f64::NAN).is_nan());
    }

    #[derive(Clone, Copy, Debug)]
    enum Function {
        Exp,
        Sigmoid,
        Tanh,
        Erf,
        Log,
    }

    struct Apply<'a>(Function, &'a [f32], &'a mut [f32]);
    impl Kernel for Apply<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            for (x, y) in self.1.chunks_exact(LANES).zip(self.2.chunks_exact_mut(LANES)) {
                let x = s.from_array(x.try_into().unwrap());
                let result = match self.0 {
                    Function::Exp => exp(s, x),
                    Function::Sigmoid => sigmoid(s, x),
                    Function::Tanh => tanh(s, x),
                    Function::Erf => erf(s, x),
                    Function::Log => log(s, x),
                };
                y.copy_from_slice(&s.to_array(result));
            }
        }
    }

    fn apply(isa: Isa, function: Function, x: &[f32]) -> Vec<f32> {
        let mut padded = x.to_vec();
        padded.resize(x.len().next_multiple_of(LANES), 1.0);
        let mut y = vec![0.0; padded.len()];
        dispatch(isa, Apply(function, &padded, &mut y));
        y.truncate(x.len());
        y
    }

    fn truth(function: Function, x: f64) -> f64 {
        match function {
            Function::Exp => x.exp(),
            Function::Sigmoid => {
                if x < 0.0 {
                    x.exp() / (1.0 + x.exp())
                } else {
                    1.0 / (1.0 + (-x).exp())
                }
            }
            Function::Tanh => x.tanh(),
            Function::Erf => erf_f64(x),
            Function::Log => x.ln(),
        }
    }

    /// Every 9973rd bit pattern of the finite numbers, plus a dense grid where the functions bend.
    fn inputs() -> Vec<f32> {
        let patterns = (0..u32::MAX).step_by(9973).map(f32::from_bits).filter(|x| x.is_finite());
        patterns.chain((-200_000..200_000).map(|i| i as f32 * 5.3e-4)).collect()
    }

    #[test]
    fn vector_functions_are_right_to_a_few_ulp_everywhere() {
        use Function::*;
        let x = inputs();
        for (function, ulps) in [(Exp, 2.0), (Sigmoid, 3.0), (Tanh, 3.0), (Erf, 3.0), (Log, 3.0)] {
            for isa in Isa::available() {
                let y = apply(isa, function, &x);
                let mut worst = (0.0, 0.0);
                for (&x, &y) in x.iter().zip(&y) {
                    let expect = truth(function, f64::from(x));
                    let nearest = expect as f32;
                    if nearest.is_nan() || nearest.is_infinite() {
                        assert!(y == nearest || (y.is_nan() && nearest.is_nan()), "{function:?} {x}: {y}");
                        continue;
                    }
                    let ulp = f64::from(f32::from_bits(nearest.abs().to_bits() + 1)) - f64::from(nearest.abs());
                    let error = (f64::from(y) - expect).abs() / ulp;
                    if error.is_nan() || error > worst.0 {
                        worst = (error, x);
                    }
                }
                assert!(worst.0 <= ulps, "{function:?} on {isa}: {} ulp at {}", worst.0, worst.1);
            }
        }
    }

    #[test]
    fn bits_are_the_same_with_avx2_and_avx512() {
        let x = inputs();
        for function in [Function::Exp, Function::Sigmoid, Function::Tanh, Function::Erf, Function::Log] {
            let bits = |isa| apply(isa, function, &x).iter().map(|y| y.to_bits()).collect::<Vec<_>>();
            let vector: Vec<Isa> = Isa::available().into_iter().filter(|&isa| isa != Isa::Portable).collect();
            for pair in vector.windows(2) {
                assert!(bits(pair[0]) == bits(pair[1]), "{function:?}");
            }
        }
    }

    #[test]
    fn limits_are_those_of_the_functions() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        for isa in Isa::available() {
            let of = |function, x: f32| apply(isa, function, &[x])[0];
            assert_eq!((of(Function::Exp, inf), of(Function::Exp, -inf), of(Function::Exp, 0.0)), (inf, 0.0, 1.0));
            assert_eq!((of(Function::Sigmoid, inf), of(Function::Sigmoid, -inf)), (1.0, 0.0));
            assert_eq!((of(Function::Tanh, inf), of(Function::Tanh, -inf)), (1.0, -1.0));
            assert_eq!((of(Function::Erf, inf), of(Function::Erf, -inf)), (1.0, -1.0));
            assert_eq!((of(Function::Log, inf), of(Function::Log, 0.0), of(Function::Log, 1.0)), (inf, -inf, 0.0));
            assert!(of(Function::Log, -1.0).is_nan() && of(Function::Log, -inf).is_nan());
            assert!(of(Function::Tanh, -0.0).is_sign_negative());
            for function in [Function::Exp, Function::Sigmoid, Function::Tanh, Function::Erf, Function::Log] {
                assert!(of(function, nan).is_nan(), "{function:?}");
            }
        }
    }

    #[test]
    fn the_scalar_logarithm_is_right_to_two_ulp() {
        assert!(ln(f64::NAN).is_nan() && ln(f64::INFINITY) == f64::INFINITY);
        for i in 1..20_000 {
            for x in [f64::from(i) / 20_000.0, f64::from(i) * 1e-9, f64::from(i)] {
                let expect = x.ln();
                assert!((ln(x) - expect).abs() <= 2.0 * f64::EPSILON * expect.abs().max(0.5), "ln {x}");
            }
        }
    }

    #[test]
    fn the_reference_error_function_has_its_tabled_values() {
        for (x, y) in [(0.5, 0.520_499_877_813_046_5), (1.0, 0.842_700_792_949_714_9), (2.5, 0.999_593_047_982_555)] {
            assert!((erf_f64(x) - y).abs() < 1e-14 && erf_f64(-x) == -erf_f64(x));
        }
    }
}
