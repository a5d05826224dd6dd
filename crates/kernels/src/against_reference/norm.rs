//! Batch normalisation.

use super::common::*;
use crate::elementwise::{Extent, View, ViewMut};
use crate::norm::*;
use crate::{Cpu, Isa};
use proptest::prelude::*;

const EPS: f64 = 1e-5;

/// Forward and backward by the reference in f64.
struct Truth {
    y: Vec<f64>,
    mean: Vec<f64>,
    variance: Vec<f64>,
    dx: Vec<f64>,
    dgamma: Vec<f64>,
    dbeta: Vec<f64>,
}

fn truth(extent: Extent, x: &[f32], dy: &[f64], gamma: &[f32], beta: &[f32]) -> Truth {
    let (x, gamma, beta) = (wide(x), wide(gamma), wide(beta));
    let (len, channels) = (extent.elements(), extent.channels);
    let (mut y, mut dx, mut dgamma, mut dbeta) =
        (vec![0.0; len], vec![0.0; len], vec![0.0; channels], vec![0.0; channels]);
    let (mean, variance) = batch_norm_reference(extent, &x, [&gamma, &beta], EPS, &mut y);
    let gradients = [&mut dx[..], &mut dgamma, &mut dbeta];
    batch_norm_backward_reference(extent, [&x, dy], &gamma, [&mean, &variance], EPS, gradients);
    Truth { y, mean, variance, dx, dgamma, dbeta }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn batch_norm_agrees_with_its_definition(
        samples in 1usize..40, pixels in 1usize..160, channels in 1usize..40, gap in 0usize..4, offset in 0usize..3,
        residual: bool, relu in 0usize..3, seed: u64,
    ) {
        prop_assume!(samples * pixels > 4);
        agree(Extent { samples, pixels, channels }, gap, [0.0, 3.0, -20.0][offset], residual, [None, Some(f32::INFINITY), Some(0.8)][relu], seed);
    }
}

#[test]
fn relus_gradient_is_that_of_the_same_arithmetics_forward_pass() {
    // One y of this draw is rounded to 0 without vectors, and to more than 0 with them.
    agree(
        Extent { samples: 33, pixels: 126, channels: 31 },
        0,
        -20.0,
        false,
        Some(f32::INFINITY),
        18188649637465403127,
    );
}

#[test]
fn large_maps_are_cut_into_units() {
    agree(Extent { samples: 3, pixels: 5000, channels: 7 }, 0, 1.0, false, Some(f32::INFINITY), 1);
}

fn agree(extent: Extent, gap: usize, offset: f32, residual: bool, relu: Option<f32>, seed: u64) {
    let Extent { samples, pixels, channels } = extent;
    let (len, shape, stride) = (extent.elements(), [samples, channels, pixels], channels + gap);
    let x: Vec<f32> = normal(len, seed).iter().map(|x| x + offset).collect();
    let dy = normal(len, seed ^ 1);
    let (gamma, beta, added) = (normal(channels, seed ^ 2), normal(channels, seed ^ 3), normal(len, seed ^ 4));
    let plain = truth(extent, &x, &wide(&dy), &gamma, &beta);
    let mut y = plain.y.clone();
    if residual {
        y.iter_mut().zip(&added).for_each(|(y, &a)| *y += f64::from(a));
    }
    if let Some(ceiling) = relu {
        y.iter_mut().for_each(|y| *y = y.max(0.0).min(ceiling.into()));
    }
    let [x_last, added_last] = [&x, &added].map(|x| channels_last(x, shape, stride, f32::NAN));
    let input = BatchNorm {
        extent,
        x: View::strided(&x_last, stride),
        gamma: &gamma,
        beta: &beta,
        eps: EPS,
        residual: residual.then(|| View::strided(&added_last, stride)),
        relu,
    };
    let forward = |cpu: &_| {
        let mut space = vec![f32::NAN; workspace(extent)];
        let (mut y, mut mean, mut inv_std) = (vec![7.0; len], vec![0.0; channels], vec![0.0; channels]);
        let (mut running_mean, mut running_variance) = (vec![0.5; channels], vec![1.5; channels]);
        let running = Running { momentum: 0.1, mean: &mut running_mean, variance: &mut running_variance };
        batch_norm(cpu, &input, ViewMut::dense(&mut y), [&mut mean, &mut inv_std], Some(running), &mut space);
        (y, mean, inv_std, running_mean, running_variance)
    };
    // Relative to a standard deviation of about 1, mean and input are rounded to f32.
    let rounding = f64::from(f32::EPSILON) * f64::from(offset.abs() + 4.0);
    check(
        "batch norm",
        &y,
        |i, _| {
            8.0 * rounding * f64::from(gamma[i / pixels % channels].abs() + 1.0) * spread(&plain, i / pixels % channels)
        },
        |cpu| channels_first(&forward(cpu).0, shape, channels),
    );
    let count = (samples * pixels) as f64;
    let running_mean: Vec<f64> = plain.mean.iter().map(|m| 0.9 * 0.5 + 0.1 * m).collect();
    let running_variance: Vec<f64> =
        plain.variance.iter().map(|v| 0.9 * 1.5 + 0.1 * v * count / (count - 1.0)).collect();
    // A chunk's mean comes from chains of 16 values and two joins: 18 roundings by half an epsilon each.
    check("mean", &plain.mean, |_, _| 9.0 * rounding, |cpu| forward(cpu).1);
    check("running mean", &running_mean, |_, _| rounding, |cpu| forward(cpu).3);
    check("running variance", &running_variance, |_, v| 4.0 * rounding * v.max(1.0), |cpu| forward(cpu).4);

    // dy passes ReLU where its input is positive; a residual would have to be known for that.
    if residual {
        return;
    }
    let dy_last = channels_last(&dy, shape, stride, f32::NAN);
    let backward = |cpu: &_| {
        let (_, mean, inv_std, ..) = forward(cpu);
        let mut space = vec![f32::NAN; workspace(extent)];
        let (mut dx, mut dgamma, mut dbeta) =
            (vec![7.0; samples * pixels * stride], vec![0.0; channels], vec![0.0; channels]);
        let input = BatchNormBackward {
            extent,
            x: View::strided(&x_last, stride),
            dy: View::strided(&dy_last, stride),
            relu: relu.map(|ceiling| (&beta[..], ceiling)),
            gamma: &gamma,
            mean: &mean,
            inv_std: &inv_std,
        };
        batch_norm_backward(cpu, &input, ViewMut::strided(&mut dx, stride), [&mut dgamma, &mut dbeta], &mut space);
        (channels_first(&dx, shape, stride), dgamma, dbeta)
    };
    let factor = |i: usize| {
        16.0 * rounding
            * f64::from(gamma[i / pixels % channels].abs() + 1.0)
            * spread(&plain, i / pixels % channels).powi(2)
    };
    // Where y is rounded to 0 or not, ReLU passes dy or not: each arithmetic by its own forward pass.
    let stopped = |y: f32| relu.is_some_and(|ceiling| y <= 0.0 || y >= ceiling);
    let (portable, vector): (Vec<Cpu>, Vec<Cpu>) = cpus().into_iter().partition(|cpu| cpu.isa() == Isa::Portable);
    for cpus in [portable, vector].into_iter().filter(|cpus| !cpus.is_empty()) {
        let y_first = channels_first(&forward(&cpus[0]).0, shape, channels);
        let passed: Vec<f64> =
            dy.iter().zip(&y_first).map(|(&dy, &y)| if stopped(y) { 0.0 } else { f64::from(dy) }).collect();
        let expect = truth(extent, &x, &passed, &gamma, &beta);
        check_on(&cpus, "dx", &expect.dx, |i, _| factor(i), |cpu| backward(cpu).0);
        // Chains of 16 and two joins in f32, then f64: 20 roundings of each term at most. x̂ has the mean's rounding too.
        let of_channel = |c: usize| (0..len).filter(move |i| i / pixels % channels == c);
        let terms = |c: usize| of_channel(c).map(|i| passed[i].abs()).sum::<f64>();
        let products = |c: usize| {
            let normal = |i: usize| (f64::from(x[i]) - plain.mean[c]) / plain.variance[c].sqrt();
            of_channel(c).map(|i| (passed[i] * normal(i)).abs()).sum::<f64>()
        };
        let half_ulp = f64::from(f32::EPSILON) / 2.0;
        check_on(&cpus, "dbeta", &expect.dbeta, |c, _| 20.0 * half_ulp * terms(c), |cpu| backward(cpu).2);
        let bound = |c: usize, _: f64| 24.0 * half_ulp * products(c) + terms(c) * rounding * spread(&plain, c);
        check_on(&cpus, "dgamma", &expect.dgamma, bound, |cpu| backward(cpu).1);
    }
}

/// How much a small standard deviation of a few pixels magnifies rounding.
fn spread(truth: &Truth, c: usize) -> f64 {
    (1.0 / truth.variance[c].sqrt()).max(1.0)
}

#[test]
fn gradients_agree_with_central_differences() {
    let extent = Extent { samples: 3, pixels: 4, channels: 2 };
    let (x, w) = (wide(&normal(24, 1)), wide(&normal(24, 2)));
    let (gamma, beta) = ([1.3, -0.4], [0.2, 0.7]);
    let forward = |x: &[f64], gamma: &[f64], beta: &[f64]| {
        let mut y = vec![0.0; 24];
        batch_norm_reference(extent, x, [gamma, beta], EPS, &mut y);
        weighted(&y, &w)
    };
    let mut y = vec![0.0; 24];
    let (mean, variance) = batch_norm_reference(extent, &x, [&gamma, &beta], EPS, &mut y);
    let (mut dx, mut dgamma, mut dbeta) = (vec![0.0; 24], [0.0; 2], [0.0; 2]);
    let gradients = [&mut dx[..], &mut dgamma, &mut dbeta];
    batch_norm_backward_reference(extent, [&x, &w], &gamma, [&mean, &variance], EPS, gradients);
    gradients_agree("dx", &dx, &central(&x, |x| forward(x, &gamma, &beta)));
    gradients_agree("dgamma", &dgamma, &central(&gamma, |gamma| forward(&x, gamma, &beta)));
    gradients_agree("dbeta", &dbeta, &central(&beta, |beta| forward(&x, &gamma, beta)));
}

#[test]
fn a_batch_of_one_two_three_is_normalised_by_hand() {
    // Mean 2, biased variance 2/3, unbiased 1.
    let extent = Extent { samples: 3, pixels: 1, channels: 1 };
    for cpu in cpus() {
        let x = [1.0, 2.0, 3.0];
        let input = BatchNorm {
            extent,
            x: View::dense(&x),
            gamma: &[1.0],
            beta: &[10.0],
            eps: 0.0,
            residual: None,
            relu: None,
        };
        let (mut y, mut mean, mut inv_std) = ([0.0; 3], [0.0], [0.0]);
        let (mut running_mean, mut running_variance) = ([0.0], [1.0]);
        let running = Running { momentum: 0.5, mean: &mut running_mean, variance: &mut running_variance };
        let mut space = vec![0.0; workspace(extent)];
        batch_norm(&cpu, &input, ViewMut::dense(&mut y), [&mut mean, &mut inv_std], Some(running), &mut space);
        assert_eq!((mean, running_mean, running_variance), ([2.0], [1.0], [1.0]));
        assert!((inv_std[0] - 1.5f32.sqrt()).abs() < 1e-6 && (y[0] - 10.0 + 1.5f32.sqrt()).abs() < 2e-6, "{y:?}");
    }
}

#[test]
fn inference_scales_and_shifts_by_the_running_statistics() {
    let (mut scale, mut shift) = ([0.0], [0.0]);
    fold_statistics([&[3.0], &[1.0], &[5.0], &[4.0]], 0.0, [&mut scale, &mut shift]);
    assert_eq!((scale, shift), ([1.5], [-6.5]));
    for cpu in cpus() {
        let mut y = [0.0; 2];
        affine(
            &cpu,
            Extent { samples: 1, pixels: 2, channels: 1 },
            View::dense(&[7.0, 1.0]),
            [&scale, &shift],
            None,
            Some(f32::INFINITY),
            ViewMut::dense(&mut y),
        );
        assert_eq!(y, [4.0, 0.0]);
    }
}

#[test]
fn nan_reaches_every_output_of_its_channel() {
    let extent = Extent { samples: 2, pixels: 3, channels: 2 };
    for cpu in cpus() {
        let mut x = [1.0; 12];
        x[2] = f32::NAN;
        let input = BatchNorm {
            extent,
            x: View::dense(&x),
            gamma: &[1.0; 2],
            beta: &[0.0; 2],
            eps: EPS,
            residual: None,
            relu: Some(f32::INFINITY),
        };
        let (mut y, mut mean, mut inv_std) = ([0.0; 12], [0.0; 2], [0.0; 2]);
        let mut space = vec![0.0; workspace(extent)];
        batch_norm(&cpu, &input, ViewMut::dense(&mut y), [&mut mean, &mut inv_std], None, &mut space);
        assert!(y.iter().enumerate().all(|(i, y)| y.is_nan() == (i % 2 == 0)), "{y:?}");
    }
}
