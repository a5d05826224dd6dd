//! Softmax, cross-entropy, mean squared error and binary cross-entropy.

use super::common::*;
use crate::loss::*;
use crate::random::{Random, name};
use crate::softmax::*;
use proptest::prelude::*;

fn labels(rows: usize, classes: usize, seed: u64) -> Vec<u32> {
    let mut random = Random::new(seed, name("labels"), 0, 0);
    (0..rows).map(|_| random.below(classes) as u32).collect()
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn softmax_agrees_with_its_definition(rows in 1usize..70, classes in 1usize..1100, seed: u64) {
        let len = rows * classes;
        let x: Vec<f32> = normal(len, seed).iter().map(|x| 5.0 * x).collect();
        let dy = normal(len, seed ^ 1);
        let (mut y, mut dx) = (vec![0.0; len], vec![0.0; len]);
        softmax_reference(classes, &wide(&x), &mut y);
        let y32: Vec<f32> = y.iter().map(|&y| y as f32).collect();
        softmax_backward_reference(classes, &wide(&y32), &wide(&dy), &mut dx);
        // The exponent is rounded: up to 40 · 2^-24 of e^x.
        check("softmax", &y, |_, y| 5e-6 * y + 1e-37, |cpu| {
            let mut y = vec![7.0; len];
            softmax(cpu, classes, &x, &mut y);
            y
        });
        check("softmax backward", &dx, |i, _| 1e-5 * f64::from(y32[i]) + 1e-37, |cpu| {
            let mut dx = vec![7.0; len];
            softmax_backward(cpu, classes, &y32, &dy, &mut dx);
            dx
        });
    }

    #[test]
    fn cross_entropy_agrees_with_its_definition(
        rows in 1usize..70, classes in 1usize..1100, smoothing in 0usize..2, weighted: bool, mixes: bool, seed: u64,
    ) {
        let x: Vec<f32> = normal(rows * classes, seed).iter().map(|x| 3.0 * x).collect();
        let labels = labels(rows, classes, seed);
        let weights: Vec<f32> = normal(classes, seed ^ 3).iter().map(|w| w.abs() + 0.1).collect();
        let class_weights = weighted.then_some(&weights[..]);
        let mixed = |(i, &label): (usize, &u32)| Mixed { label: (label + 1) % classes as u32, share: i as f32 / 140.0 };
        let mixed: Vec<Mixed> = labels.iter().enumerate().map(mixed).filter(|_| mixes).collect();
        let smoothing = [0.0, 0.1][smoothing];
        let loss = CrossEntropy { classes, smoothing, class_weights, factor: 0.5, mixed: &mixed, first: 0 };
        let mut gradient = vec![0.0; x.len()];
        let expect = cross_entropy_reference(&loss, &wide(&x), &labels, &mut gradient);
        let largest = gradient.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        let fast = |cpu: &_| {
            let (mut gradient, mut rows) = (vec![7.0; x.len()], vec![Row::default(); rows]);
            let loss = cross_entropy(cpu, &loss, &x, &labels, Some(&mut gradient), &mut rows);
            (loss, gradient, rows)
        };
        // A difference of numbers up to 0.5 / rows: of one class it is zero, its rounding is not.
        let largest = largest.max(0.5 / rows as f64);
        check("gradient", &gradient, |_, d| 5e-6 * d.abs() + 1e-6 * largest, |cpu| fast(cpu).1);
        check("loss", &[expect], |_, loss| 2e-6 * loss.abs() + 1e-6, |cpu| {
            let mut rows = vec![Row::default(); rows];
            let without = cross_entropy(cpu, &loss, &x, &labels, None, &mut rows);
            assert_eq!(without.to_bits(), fast(cpu).0.to_bits(), "with and without gradient");
            vec![without as f32]
        });
        for (i, row) in fast(&cpus()[0]).2.iter().enumerate() {
            let x = &x[i * classes..(i + 1) * classes];
            let best = (0..classes).rev().max_by(|&a, &b| x[a].total_cmp(&x[b])).unwrap();
            prop_assert_eq!(row.correct, best == labels[i] as usize);
        }
    }

    #[test]
    fn losses_of_each_output_agree_with_their_definitions(rows in 1usize..70, width in 1usize..100, seed: u64) {
        let x = normal(rows * width, seed);
        let numbers = normal(rows * width, seed ^ 1);
        let classes: Vec<f32> = numbers.iter().map(|&x| f32::from(x > 0.5)).collect();
        for (cost, targets) in [(Cost::Squared, &numbers), (Cost::Logistic, &classes)] {
            let loss = EachOutput { cost, width, factor: 2.0, first: 0 };
            let mut gradient = vec![0.0; x.len()];
            let expect = each_output_reference(&loss, [&wide(&x), &wide(targets)], &mut gradient);
            let fast = |cpu: &_| {
                let (mut gradient, mut rows) = (vec![7.0; x.len()], vec![Row::default(); rows]);
                let loss = each_output(cpu, &loss, [&x, targets], Some(&mut gradient), &mut rows);
                (loss, gradient, rows)
            };
            check("gradient", &gradient, |_, d| 1e-6 * d.abs() + 1e-9, |cpu| fast(cpu).1);
            check("loss", &[expect], |_, loss| 1e-6 * loss, |cpu| vec![fast(cpu).0 as f32]);
            for (i, row) in fast(&cpus()[0]).2.iter().enumerate() {
                let mut sides = (i * width..(i + 1) * width).map(|at| (x[at] >= 0.0) == (targets[at] > 0.5));
                prop_assert_eq!(row.correct, cost == Cost::Logistic && sides.all(|same| same));
            }
        }
    }

    #[test]
    fn a_part_of_a_batch_has_the_bits_that_it_has_in_the_whole(
        rows in 2usize..70, cut in 1usize..70, classes in 2usize..40, seed: u64,
    ) {
        let cut = cut.min(rows - 1);
        let x = normal(rows * classes, seed);
        let labels = labels(rows, classes, seed);
        let targets: Vec<f32> = normal(rows * classes, seed ^ 1).iter().map(|&x| f32::from(x > 0.5)).collect();
        let weights: Vec<f32> = normal(classes, seed ^ 3).iter().map(|w| w.abs() + 0.1).collect();
        let mixed: Vec<Mixed> = labels.iter().map(|&label| Mixed { label: (label + 1) % classes as u32, share: 0.3 }).collect();
        let entropy = CrossEntropy {
            classes, smoothing: 0.1, class_weights: Some(&weights), factor: 0.5, mixed: &mixed, first: 0,
        };
        for cpu in cpus() {
            for cost in [None, Some(Cost::Squared), Some(Cost::Logistic)] {
                let run = |first: usize, end: usize, each: &mut [Row]| {
                    let x = &x[first * classes..end * classes];
                    let mut gradient = vec![7.0; x.len()];
                    let loss = match cost {
                        None => cross_entropy(
                            &cpu, &CrossEntropy { first, ..entropy }, x, &labels, Some(&mut gradient), each,
                        ),
                        Some(cost) => {
                            let loss = EachOutput { cost, width: classes, factor: 2.0, first };
                            each_output(&cpu, &loss, [x, &targets], Some(&mut gradient), each)
                        }
                    };
                    (loss, gradient)
                };
                let (mut whole, mut parts) = (vec![Row::default(); rows], vec![Row::default(); rows]);
                let (loss, gradient) = run(0, rows, &mut whole);
                let (_, mut joined) = run(0, cut, &mut parts);
                let (last, rest) = run(cut, rows, &mut parts);
                joined.extend(rest);
                prop_assert_eq!((last, &joined, &parts), (loss, &gradient, &whole));
            }
        }
    }
}

#[test]
fn gradients_agree_with_central_differences() {
    let (rows, classes) = (4, 5);
    let (x, w) = (wide(&normal(20, 1)), wide(&normal(20, 2)));
    let labels = labels(rows, classes, 3);
    for (smoothing, class_weights) in [(0.0, None), (0.2, None), (0.1, Some(&[0.5, 1.0, 2.0, 0.25, 3.0][..]))] {
        let loss = CrossEntropy { classes, smoothing, class_weights, factor: 0.7, mixed: &[], first: 0 };
        let mut gradient = vec![0.0; 20];
        cross_entropy_reference(&loss, &x, &labels, &mut gradient);
        let forward = |x: &[f64]| cross_entropy_reference(&loss, x, &labels, &mut [0.0; 20]);
        gradients_agree("cross-entropy", &gradient, &central(&x, forward));
        let mixed = [(0, 0.0), (1, 0.3), (4, 0.5), (2, 0.1)].map(|(label, share)| Mixed { label, share });
        let loss = CrossEntropy { mixed: &mixed, ..loss };
        cross_entropy_reference(&loss, &x, &labels, &mut gradient);
        let forward = |x: &[f64]| cross_entropy_reference(&loss, x, &labels, &mut [0.0; 20]);
        gradients_agree("cross-entropy of two classes", &gradient, &central(&x, forward));
    }
    let mut gradient = vec![0.0; 20];
    let hot: Vec<f64> = w.iter().map(|&w| f64::from(w > 0.0)).collect();
    for (cost, targets) in [(Cost::Squared, &w), (Cost::Logistic, &hot)] {
        let loss = EachOutput { cost, width: classes, factor: 1.5, first: 0 };
        each_output_reference(&loss, [&x, targets], &mut gradient);
        let forward = |x: &[f64]| each_output_reference(&loss, [x, targets], &mut [0.0; 20]);
        gradients_agree("a loss of each output", &gradient, &central(&x, forward));
    }
    let mut y = vec![0.0; 20];
    softmax_reference(classes, &x, &mut y);
    softmax_backward_reference(classes, &y, &w, &mut gradient);
    let forward = |x: &[f64]| {
        let mut y = vec![0.0; 20];
        softmax_reference(classes, x, &mut y);
        weighted(&y, &w)
    };
    gradients_agree("softmax", &gradient, &central(&x, forward));
}

#[test]
fn equal_logits_cost_the_logarithm_of_the_classes() {
    for cpu in cpus() {
        let mut rows = [Row::default(); 2];
        let loss = CrossEntropy { classes: 10, smoothing: 0.0, class_weights: None, factor: 1.0, mixed: &[], first: 0 };
        let mut gradient = [0.0; 20];
        let value = cross_entropy(&cpu, &loss, &[3.0; 20], &[0, 4], Some(&mut gradient), &mut rows);
        assert!((value - 10f64.ln()).abs() < 1e-6);
        assert!((gradient[0] + 0.45).abs() < 1e-6 && (gradient[1] - 0.05).abs() < 1e-6);
        // Of equal logits the first counts as the prediction.
        assert!(rows[0].correct && !rows[1].correct);
    }
}

#[test]
fn class_weights_weigh_the_mean() {
    // Rows cost ln 2 each; with weights 1 and 3 the mean of the weighted rows is ln 2 still.
    let loss = CrossEntropy {
        classes: 2,
        smoothing: 0.0,
        class_weights: Some(&[1.0, 3.0]),
        factor: 1.0,
        mixed: &[],
        first: 0,
    };
    let mut gradient = [0.0f64; 4];
    let value = cross_entropy_reference(&loss, &[0.0; 4], &[0, 1], &mut gradient);
    assert!((value - 2f64.ln()).abs() < 1e-12);
    assert_eq!(gradient, [-0.125, 0.125, 0.375, -0.375]);
}

#[test]
fn large_logits_do_not_overflow_and_nan_is_handed_on() {
    for cpu in cpus() {
        let mut y = [0.0; 3];
        softmax(&cpu, 3, &[1e30, 1e30, -1e30], &mut y);
        assert_eq!(y, [0.5, 0.5, 0.0]);
        softmax(&cpu, 3, &[1.0, f32::NAN, 2.0], &mut y);
        assert!(y.iter().all(|y| y.is_nan()));
        let loss = CrossEntropy { classes: 3, smoothing: 0.0, class_weights: None, factor: 1.0, mixed: &[], first: 0 };
        let value = cross_entropy(&cpu, &loss, &[1.0, f32::NAN, 2.0], &[0], None, &mut [Row::default()]);
        assert!(value.is_nan());
        let loss = EachOutput { cost: Cost::Logistic, width: 2, factor: 1.0, first: 0 };
        let mut gradient = [7.0; 2];
        let mut of = |x: [f32; 2]| {
            (each_output(&cpu, &loss, [&x, &[1.0, 0.0]], Some(&mut gradient), &mut [Row::default()]), gradient)
        };
        assert_eq!(of([1e30, -1e30]), (0.0, [0.0, 0.0]));
        assert_eq!(of([-200.0, 200.0]), (200.0, [-0.5, 0.5]));
        assert!(of([f32::NAN, 0.0]).0.is_nan() && of([f32::INFINITY, 0.0]).0.is_nan());
    }
}

#[test]
fn a_mixed_target_costs_the_shares_of_both_classes() {
    let (rows, classes) = (5, 37);
    let x = normal(rows * classes, 4);
    let (first, second) = (labels(rows, classes, 5), labels(rows, classes, 6));
    let of = |cpu: &_, labels: &[u32], mixed: &[Mixed]| {
        let loss = CrossEntropy { classes, smoothing: 0.1, class_weights: None, factor: 1.0, mixed, first: 0 };
        let (mut gradient, mut each) = (vec![0.0; x.len()], vec![Row::default(); rows]);
        (cross_entropy(cpu, &loss, &x, labels, Some(&mut gradient), &mut each), gradient)
    };
    for cpu in cpus() {
        for share in [0.0, 0.25, 0.5] {
            let mixed: Vec<Mixed> = second.iter().map(|&label| Mixed { label, share }).collect();
            let (loss, gradient) = of(&cpu, &first, &mixed);
            let ((one, d_one), (other, d_other)) = (of(&cpu, &first, &[]), of(&cpu, &second, &[]));
            let part = f64::from(share);
            assert!((loss - ((1.0 - part) * one + part * other)).abs() < 1e-6, "share {share}");
            for ((d, a), b) in gradient.iter().zip(d_one).zip(d_other) {
                assert!((d - ((1.0 - share) * a + share * b)).abs() < 1e-7, "share {share}");
            }
        }
        let none = vec![Mixed::default(); rows];
        assert_eq!(of(&cpu, &first, &none), of(&cpu, &first, &[]), "no share, the same bits");
    }
}
