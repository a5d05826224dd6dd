//! Activations, sums, products, copies.

use super::common::*;
use crate::elementwise::*;
use crate::{Cpu, Isa};
use proptest::prelude::*;

const ACTIVATIONS: [Activation; 8] = [
    Activation::Relu,
    Activation::LeakyRelu(0.1),
    Activation::LeakyRelu(0.0),
    Activation::Relu6,
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Gelu,
    Activation::HardSwish,
];

/// GELU and its gradient cancel on the far negative side; what is lost there is a few ulp of x.
fn bound(x: f64) -> impl Fn(usize, f64) -> f64 {
    move |i, y| few_ulp(i, y) + 4.0 * f64::from(f32::EPSILON) * x
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn activations_follow_their_formulas(len in 1usize..40_000, which in 0usize..8, seed: u64) {
        let f = ACTIVATIONS[which];
        let x: Vec<f32> = normal(len, seed).iter().map(|x| 4.0 * x).collect();
        let dy = normal(len, seed ^ 1);
        let expect: Vec<f64> = wide(&x).iter().map(|&x| f.reference(x)).collect();
        let extent = Extent::flat(len);
        check(&format!("{f:?}"), &expect, bound(1.0), |cpu| {
            let mut y = vec![f32::NAN; len];
            activate(cpu, f, extent, Some(View::dense(&x)), ViewMut::dense(&mut y));
            let mut z = x.clone();
            activate(cpu, f, extent, None, ViewMut::dense(&mut z));
            assert_eq!(y, z, "{f:?} in place");
            y
        });
        let saved: Vec<f32> = if f.saves_output() { expect.iter().map(|&y| y as f32).collect() } else { x };
        let expect: Vec<f64> = saved.iter().zip(&dy).map(|(&s, &d)| f.reference_backward(f64::from(s), f64::from(d))).collect();
        check(&format!("{f:?} backward"), &expect, bound(4.0), |cpu| {
            let mut dx = vec![f32::NAN; len];
            activate_backward(cpu, f, extent, View::dense(&saved), Some(View::dense(&dy)), ViewMut::dense(&mut dx));
            let mut d = dy.clone();
            activate_backward(cpu, f, extent, View::dense(&saved), None, ViewMut::dense(&mut d));
            assert_eq!(dx, d, "{f:?} backward in place");
            dx
        });
    }

    #[test]
    fn strided_and_broadcast_operands_meet_their_elements(
        samples in 1usize..4, pixels in 1usize..40, channels in 1usize..50, gap in 0usize..20, seed: u64,
    ) {
        let extent = Extent { samples, pixels, channels };
        let (len, stride) = (extent.elements(), channels + gap);
        let shape = [samples, channels, pixels];
        let (a, b) = (normal(len, seed), normal(len, seed ^ 1));
        let scale: Vec<f32> = normal(samples * channels, seed ^ 2);
        let a_last = channels_last(&a, shape, stride, f32::NAN);
        let b_last = channels_last(&b, shape, channels, f32::NAN);
        let sum: Vec<f64> = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) + f64::from(b)).collect();
        let untouched = |y: &[f32]| (0..samples * pixels).all(|p| y[p * stride + channels..(p + 1) * stride].iter().all(|&y| y == 7.0));
        check("add", &sum, few_ulp, |cpu| {
            let mut y = vec![7.0; samples * pixels * stride];
            add(cpu, extent, Some(View::strided(&a_last, stride)), View::dense(&b_last), false, ViewMut::strided(&mut y, stride));
            assert!(untouched(&y));
            channels_first(&y, shape, stride)
        });
        let rectified: Vec<f64> = sum.iter().map(|&y| y.max(0.0)).collect();
        check("add, then ReLU", &rectified, few_ulp, |cpu| {
            let mut y = b_last.clone();
            add(cpu, extent, None, View::strided(&a_last, stride), true, ViewMut::dense(&mut y));
            channels_first(&y, shape, channels)
        });
        let product: Vec<f64> = (0..len).map(|i| f64::from(a[i]) * f64::from(scale[i / pixels])).collect();
        check("multiply by a number a channel", &product, few_ulp, |cpu| {
            let mut y = vec![0.0; len];
            multiply(cpu, extent, Some(View::strided(&a_last, stride)), View::per_sample(&scale), ViewMut::dense(&mut y));
            channels_first(&y, shape, channels)
        });
        let copied: Vec<f64> = wide(&a);
        check("copy", &copied, |_, _| 0.0, |cpu| {
            let mut y = vec![7.0; samples * pixels * stride];
            copy(cpu, extent, View::strided(&a_last, stride), ViewMut::strided(&mut y, stride));
            assert!(untouched(&y));
            channels_first(&y, shape, stride)
        });
        let mut sums = vec![0.0; samples * channels];
        channel_sums_reference(extent, &wide(&a), Some(&wide(&b)), &mut sums);
        let magnitude = |i: usize| (0..pixels).map(|p| f64::from((a[i * pixels + p] * b[i * pixels + p]).abs())).sum::<f64>();
        let bound = |i: usize, _: f64| 2.0 * pixels as f64 * f64::from(f32::EPSILON) / 2.0 * magnitude(i);
        check("sums over pixels", &sums, bound, |cpu| {
            let mut sums = vec![f32::NAN; samples * channels];
            channel_sums(cpu, extent, View::strided(&a_last, stride), Some(View::dense(&b_last)), &mut sums);
            sums
        });
    }
}

#[test]
fn gradients_agree_with_central_differences() {
    let x: Vec<f64> = (-40..40).map(|i| f64::from(i) * 0.17 + 0.013).collect();
    let w: Vec<f64> = wide(&normal(x.len(), 5));
    for f in ACTIVATIONS {
        let forward = |x: &[f64]| x.iter().map(|&x| f.reference(x)).collect::<Vec<f64>>();
        let saved = if f.saves_output() { forward(&x) } else { x.clone() };
        let got: Vec<f64> = saved.iter().zip(&w).map(|(&s, &w)| f.reference_backward(s, w)).collect();
        gradients_agree(&format!("{f:?}"), &got, &central(&x, |x| weighted(&forward(x), &w)));
    }
}

#[test]
fn nan_is_handed_on_and_relu_lets_its_gradient_pass() {
    for cpu in cpus() {
        for f in ACTIVATIONS {
            let mut y = [f32::NAN, 1.0];
            activate(&cpu, f, Extent::flat(2), None, ViewMut::dense(&mut y));
            assert!(y[0].is_nan() && !y[1].is_nan(), "{f:?}");
        }
        let mut dx = [2.0, 3.0, 4.0, 5.0];
        let y = [f32::NAN, 0.0, -0.0, 1e-45];
        activate_backward(&cpu, Activation::Relu, Extent::flat(4), View::dense(&y), None, ViewMut::dense(&mut dx));
        assert_eq!(dx, [2.0, 0.0, 0.0, 5.0]);
    }
}

#[test]
fn activations_have_their_textbook_values() {
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} and {b}");
    near(Activation::Sigmoid.reference(0.0), 0.5);
    near(Activation::Gelu.reference(1.0), 0.841_344_746_068_542_9);
    near(Activation::HardSwish.reference(1.0), 2.0 / 3.0);
    near(Activation::LeakyRelu(0.5).reference(-3.0), -1.5);
    near(Activation::Relu6.reference(7.0), 6.0);
    near(Activation::Relu6.reference_backward(6.0, 1.0), 0.0);
}

/// Outputs of 16 MB go past the caches, where they begin on a cache line: one value further they do not.
#[test]
fn large_outputs_have_the_same_bits_wherever_they_begin() {
    let extent = Extent { samples: 1, pixels: 70_000, channels: 64 };
    let x: Vec<f32> = (0..70_000 * 64).map(|i| (i % 1009) as f32 - 504.0).collect();
    let mut memory = vec![f32::NAN; x.len() + 32];
    let first = memory.as_ptr().align_offset(64);
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(2, isa).unwrap();
        for first in [first, first + 1] {
            let y = &mut memory[first..][..x.len()];
            activate(&cpu, Activation::Relu, extent, Some(View::dense(&x)), ViewMut::dense(y));
            assert!(y.iter().zip(&x).all(|(y, x)| *y == x.max(0.0)), "{isa}");
        }
    }
}
