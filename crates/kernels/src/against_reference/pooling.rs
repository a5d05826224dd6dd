//! Maximum and average pooling.

use super::common::*;
use crate::Cpu;
use crate::elementwise::{View, ViewMut};
use crate::geometry::{PoolShape, Window};
use crate::pooling::*;
use proptest::prelude::*;

fn shape(input: [usize; 2], channels: usize, kernel: [usize; 2], stride: [usize; 2], padding: [isize; 4]) -> PoolShape {
    let window = Window { stride, padding, ..Window::new(kernel) };
    PoolShape { input, channels, window, ceil_mode: false }
}

fn shapes() -> impl Strategy<Value = PoolShape> {
    let pair = |range: std::ops::Range<usize>| (range.clone(), range).prop_map(|(a, b)| [a, b]);
    let padding = proptest::array::uniform4(-1isize..3);
    (pair(1..14), 1usize..40, pair(1..5), pair(1..4), padding, any::<bool>())
        .prop_map(|(input, channels, kernel, stride, padding, ceil_mode)| PoolShape {
            ceil_mode,
            ..shape(input, channels, kernel, stride, padding)
        })
        .prop_filter("the window fits", |shape| shape.output_size().is_some_and(|[h, w]| h * w > 0))
}

fn pixels([h, w]: [usize; 2]) -> usize {
    h * w
}

/// Output and positions by the reference in f64, backward too.
struct Truth {
    y: Vec<f64>,
    positions: Vec<u32>,
    dx: Vec<f64>,
}

fn max_truth(shape: &PoolShape, n: usize, x: &[f32], dy: &[f32]) -> Truth {
    let outputs = n * shape.channels * pixels(shape.output());
    let (mut y, mut positions, mut dx) = (vec![0.0; outputs], vec![0; outputs], vec![0.0; x.len()]);
    max_pool_reference(shape, n, &wide(x), &mut y, &mut positions);
    max_pool_backward_reference(shape, n, &wide(dy), &positions, &mut dx);
    Truth { y, positions, dx }
}

/// Forward with the stored positions, and backward, in `[n, c, pixels]`, with pixel strides.
fn max_fast(
    cpu: &Cpu,
    shape: &PoolShape,
    n: usize,
    x: &[f32],
    dy: &[f32],
    gap: usize,
) -> (Vec<f32>, Vec<u32>, Vec<f32>) {
    let (c, ip, op) = (shape.channels, pixels(shape.input), pixels(shape.output()));
    let (stride, bytes) = (c + gap, shape.index_bytes());
    let x = channels_last(x, [n, c, ip], stride, f32::NAN);
    let dy = channels_last(dy, [n, c, op], stride, f32::NAN);
    let (mut y, mut z, mut dx) = (vec![7.0; n * op * stride], vec![7.0; n * op * c], vec![7.0; n * ip * stride]);
    let mut indices = vec![0; n * op * c * bytes];
    max_pool(cpu, shape, n, View::strided(&x, stride), ViewMut::strided(&mut y, stride), Some(&mut indices));
    max_pool(cpu, shape, n, View::strided(&x, stride), ViewMut::dense(&mut z), None);
    max_pool_backward(cpu, shape, n, View::strided(&dy, stride), &indices, ViewMut::strided(&mut dx, stride));
    let y = channels_first(&y, [n, c, op], stride);
    let z = channels_first(&z, [n, c, op], c);
    assert!(y.iter().zip(&z).all(|(y, z)| y.to_bits() == z.to_bits()), "with and without positions");
    let positions: Vec<u32> = match bytes {
        1 => indices.iter().map(|&i| u32::from(i)).collect(),
        _ => indices.chunks_exact(4).map(|i| u32::from_ne_bytes(i.try_into().unwrap())).collect(),
    };
    (y, channels_first(&positions, [n, c, op], c), channels_first(&dx, [n, c, ip], stride))
}

fn check_max(shape: &PoolShape, n: usize, x: &[f32], seed: u64, gap: usize) {
    let dy = normal(n * shape.channels * pixels(shape.output()), seed ^ 1);
    let truth = max_truth(shape, n, x, &dy);
    check(
        "max pool",
        &truth.y,
        |_, _| 0.0,
        |cpu| {
            let (y, positions, _) = max_fast(cpu, shape, n, x, &dy, gap);
            assert!(positions == truth.positions, "positions of {shape:?}");
            y
        },
    );
    // Sums of up to 16 numbers of about 1.
    check("max pool backward", &truth.dx, |_, _| 1e-5, |cpu| max_fast(cpu, shape, n, x, &dy, gap).2);
}

fn check_max_of_numbers_and_others(shape: &PoolShape, n: usize, seed: u64, gap: usize) {
    let x = normal(n * shape.channels * pixels(shape.input), seed);
    check_max(shape, n, &x, seed, gap);
    // Rounded to halves there are ties, zeros of both signs, and some NaN and infinities.
    let other = |(i, x): (usize, &f32)| match i % 17 {
        3 => f32::NAN,
        5 | 6 => f32::NEG_INFINITY,
        _ => (x * 2.0).round() / 2.0,
    };
    let mixed: Vec<f32> = x.iter().enumerate().map(other).collect();
    check_max(shape, n, &mixed, seed, gap);
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn max_pool_agrees_with_its_definition(shape in shapes(), n in 1usize..4, seed: u64, gap in 0usize..5) {
        check_max_of_numbers_and_others(&shape, n, seed, gap);
    }

    #[test]
    fn max_pool_of_windows_that_share_rows_agrees_with_its_definition(
        shape in shapes(), n in 1usize..4, seed: u64, gap in 0usize..5,
    ) {
        let window = Window { padding: shape.window.padding, ..Window::new([3, 3]) };
        let shape = PoolShape { window, ..shape };
        prop_assume!(shape.output_size().is_some_and(|[h, w]| h * w > 0));
        check_max_of_numbers_and_others(&shape, n, seed, gap);
    }

    #[test]
    fn average_pool_agrees_with_its_definition(
        shape in shapes(), n in 1usize..4, count: bool, seed: u64, gap in 0usize..5,
    ) {
        let (c, ip, op) = (shape.channels, pixels(shape.input), pixels(shape.output()));
        let (x, dy) = (normal(n * c * ip, seed), normal(n * c * op, seed ^ 1));
        let (mut y, mut dx) = (vec![0.0; n * c * op], vec![0.0; n * c * ip]);
        average_pool_reference(&shape, count, n, &wide(&x), &mut y);
        average_pool_backward_reference(&shape, count, n, &wide(&dy), &mut dx);
        let stride = c + gap;
        let (x, dy) = (channels_last(&x, [n, c, ip], stride, f32::NAN), channels_last(&dy, [n, c, op], stride, f32::NAN));
        check("average pool", &y, |_, _| 4e-6, |cpu| {
            let mut y = vec![7.0; n * op * stride];
            average_pool(cpu, &shape, count, n, View::strided(&x, stride), ViewMut::strided(&mut y, stride));
            channels_first(&y, [n, c, op], stride)
        });
        check("average pool backward", &dx, |_, _| 1e-5, |cpu| {
            let mut dx = vec![7.0; n * ip * stride];
            average_pool_backward(cpu, &shape, count, n, View::strided(&dy, stride), ViewMut::strided(&mut dx, stride));
            channels_first(&dx, [n, c, ip], stride)
        });
    }
}

#[test]
fn adaptive_pooling_takes_the_rows_that_pytorch_takes() {
    // 14 rows in 4 parts: 0..4, 3..7, 7..11, 10..14, as torch.nn.functional.adaptive_avg_pool2d.
    let shape = AdaptiveShape { input: [14, 1], output: [4, 1], channels: 1 };
    let x: Vec<f64> = (0..14).map(f64::from).collect();
    let mut y = [0.0; 4];
    adaptive_average_pool_reference(&shape, 1, &x, &mut y);
    assert_eq!(y, [1.5, 4.5, 8.5, 11.5]);
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn adaptive_pooling_agrees_with_its_definition_and_its_gradient_with_differences(
        input in [1usize..14, 1usize..14], output in [1usize..9, 1usize..9], c in 1usize..40, n in 1usize..4, seed: u64,
    ) {
        let shape = AdaptiveShape { input, output, channels: c };
        let (ip, op) = (pixels(input), pixels(output));
        let (x, dy) = (normal(n * c * ip, seed), normal(n * c * op, seed ^ 1));
        let (mut y, mut dx) = (vec![0.0; n * c * op], vec![0.0; n * c * ip]);
        adaptive_average_pool_reference(&shape, n, &wide(&x), &mut y);
        adaptive_average_pool_backward_reference(&shape, n, &wide(&dy), &mut dx);
        let (xl, dyl) = (channels_last(&x, [n, c, ip], c, f32::NAN), channels_last(&dy, [n, c, op], c, f32::NAN));
        check("adaptive pool", &y, |_, _| 4e-6, |cpu| {
            let mut y = vec![7.0; n * op * c];
            adaptive_average_pool(cpu, &shape, n, View::dense(&xl), ViewMut::dense(&mut y));
            channels_first(&y, [n, c, op], c)
        });
        check("adaptive pool backward", &dx, |_, _| 1e-5, |cpu| {
            let mut dx = vec![7.0; n * ip * c];
            adaptive_average_pool_backward(cpu, &shape, n, View::dense(&dyl), ViewMut::dense(&mut dx));
            channels_first(&dx, [n, c, ip], c)
        });
        if c < 3 {
            let forward = |x: &[f64]| {
                let mut y = vec![0.0; n * c * op];
                adaptive_average_pool_reference(&shape, n, x, &mut y);
                weighted(&y, &wide(&dy))
            };
            gradients_agree("adaptive pool", &dx, &central(&wide(&x), forward));
        }
    }
}

#[test]
fn a_window_of_more_than_255_positions_stores_wide_indices() {
    let shape = shape([18, 17], 19, [17, 16], [1, 1], [0; 4]);
    assert_eq!(shape.index_bytes(), 4);
    check_max(&shape, 2, &normal(2 * 19 * 18 * 17, 3), 3, 0);
}

#[test]
fn gradients_agree_with_central_differences() {
    for (kernel, stride, padding, ceil_mode) in
        [([2, 2], [2, 2], [0; 4], false), ([3, 3], [2, 2], [1; 4], true), ([3, 2], [1, 2], [0, 1, 2, 0], false)]
    {
        let shape = PoolShape { ceil_mode, ..shape([7, 6], 3, kernel, stride, padding) };
        let outputs = 2 * 3 * pixels(shape.output());
        // All different and a hundred steps apart, in scrambled order: no ties.
        let x: Vec<f64> = (0..2 * 3 * 42).map(|i| f64::from(i * 101 % 252) * 1e-3).collect();
        let w = wide(&normal(outputs, 9));
        let max = |x: &[f64]| {
            let (mut y, mut positions) = (vec![0.0; outputs], vec![0; outputs]);
            max_pool_reference(&shape, 2, x, &mut y, &mut positions);
            (y, positions)
        };
        let mut dx = vec![0.0; x.len()];
        max_pool_backward_reference(&shape, 2, &w, &max(&x).1, &mut dx);
        gradients_agree("max pool", &dx, &central(&x, |x| weighted(&max(x).0, &w)));
        for count in [false, true] {
            average_pool_backward_reference(&shape, count, 2, &w, &mut dx);
            let average = |x: &[f64]| {
                let mut y = vec![0.0; outputs];
                average_pool_reference(&shape, count, 2, x, &mut y);
                weighted(&y, &w)
            };
            gradients_agree("average pool", &dx, &central(&x, average));
        }
    }
}

#[test]
fn the_first_of_equal_maxima_takes_the_gradient() {
    let shape = shape([2, 2], 1, [2, 2], [2, 2], [0; 4]);
    for cpu in cpus() {
        let (y, positions, dx) = max_fast(&cpu, &shape, 1, &[1.0, 3.0, 3.0, 2.0], &[5.0], 0);
        assert_eq!((y, positions, dx), (vec![3.0], vec![1], vec![0.0, 5.0, 0.0, 0.0]));
    }
}

#[test]
fn average_counts_padding_or_not_and_ceil_mode_cuts_the_window() {
    let ones = [1.0f64; 9];
    let padded = PoolShape { ceil_mode: true, ..shape([3, 3], 1, [2, 2], [2, 2], [0; 4]) };
    let mut y = [0.0; 4];
    average_pool_reference(&padded, true, 1, &ones, &mut y);
    assert_eq!(y, [1.0; 4]);
    let padded = shape([3, 3], 1, [3, 3], [2, 2], [1; 4]);
    average_pool_reference(&padded, true, 1, &ones, &mut y);
    assert_eq!(y, [4.0 / 9.0; 4]);
    average_pool_reference(&padded, false, 1, &ones, &mut y);
    assert_eq!(y, [1.0; 4]);
}

#[test]
fn a_picture_gives_the_same_bits_in_any_batch() {
    let shape = shape([9, 9], 20, [3, 3], [2, 2], [1; 4]);
    let (one, out) = (20 * 81, 20 * 25);
    let (x, dy) = (normal(5 * one, 4), normal(5 * out, 5));
    for cpu in cpus() {
        let (y, _, dx) = max_fast(&cpu, &shape, 5, &x, &dy, 0);
        let (y2, _, dx2) = max_fast(&cpu, &shape, 1, &x[3 * one..4 * one], &dy[3 * out..4 * out], 0);
        assert!(y[3 * out..4 * out] == y2 && dx[3 * one..4 * one] == dx2);
    }
}
