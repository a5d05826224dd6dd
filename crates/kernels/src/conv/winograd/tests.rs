//! Winograd's forms against the `f64` reference: the largest error at most 1e-4 of the root mean square of the truth, the
//! errors' root mean square at most 1e-5 of it. That the bits depend on neither threads nor vector width nor batch is
//! tested with all other kernels.

use proptest::prelude::*;

use super::super::*;
use super::gradients_fit;
use crate::against_reference::common::cases;
use crate::geometry::{ConvShape, Window};
use crate::random::Random;
use crate::{Cpu, Isa};

fn normal(len: usize, key: u64) -> Vec<f32> {
    let mut random = Random::new(7, key, 0, 0);
    (0..len).map(|_| random.normal() as f32).collect()
}

/// From `[n, channels, pixels]` to pixels with a stride, and back.
fn pixels(x: &[f32], n: usize, channels: usize, stride: usize) -> Vec<f32> {
    let size = x.len() / (n * channels);
    let mut out = vec![f32::NAN; n * size * stride];
    for (i, &value) in x.iter().enumerate() {
        out[(i / (channels * size) * size + i % size) * stride + i / size % channels] = value;
    }
    out
}

fn planes(pixels: &[f32], n: usize, channels: usize, stride: usize) -> Vec<f64> {
    let size = pixels.len() / (n * stride);
    let one = |i: usize| pixels[(i / (channels * size) * size + i % size) * stride + i / size % channels];
    (0..n * channels * size).map(|i| one(i).into()).collect()
}

fn close(what: &str, got: &[f64], truth: &[f64]) {
    assert_eq!(got.len(), truth.len());
    let mean_square = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>() / truth.len() as f64;
    let rms = mean_square(&mut truth.iter().copied()).sqrt();
    if rms == 0.0 {
        // A dilated kernel none of whose elements meets the picture.
        assert!(got.iter().all(|&x| x == 0.0), "{what}: not zero");
        return;
    }
    let errors = || got.iter().zip(truth).map(|(a, b)| a - b);
    let largest = errors().fold(0.0, |m: f64, e| if e.abs() <= m { m } else { e.abs() }) / rms;
    let spread = mean_square(&mut errors()).sqrt() / rms;
    println!("{what}: largest error {largest:.1e}, root mean square {spread:.1e}");
    assert!(largest <= 1e-4 && spread <= 1e-5, "{what}: largest error {largest:.1e}, root mean square {spread:.1e}");
}

/// All three passes, with gaps between the pixels; `rectified` data has no negative values.
fn check(shape: &ConvShape, n: usize, gap: usize, rectified: bool) {
    let [oh, ow] = shape.output();
    let mut x = normal(n * shape.channels * shape.input[0] * shape.input[1], 1);
    if rectified {
        x.iter_mut().for_each(|x| *x = x.max(0.0));
    }
    let (w, bias) = (normal(shape.weights(), 2), normal(shape.filters, 3));
    let dy = normal(n * shape.filters * oh * ow, 4);
    let wide = |v: &[f32]| v.iter().map(|&v| v.into()).collect::<Vec<f64>>();
    let (wx, ww, wb, wdy) = (wide(&x), wide(&w), wide(&bias), wide(&dy));
    let y_truth = reference::forward(shape, n, &wx, &ww, Some(&wb));
    let dx_truth = reference::data_gradient(shape, n, &wdy, &ww);
    let dw_truth = reference::weight_gradient(shape, n, &wx, &wdy);
    let db_truth = reference::bias_gradient(shape, &wdy);
    let (x_stride, y_stride) = (shape.channels + gap, shape.filters + gap);
    let (x, dy) = (pixels(&x, n, shape.channels, x_stride), pixels(&dy, n, shape.filters, y_stride));
    let (x_pixels, dy_pixels) = (Pixels { data: &x, stride: x_stride }, Pixels { data: &dy, stride: y_stride });
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(2, isa).unwrap();
        let case = format!("{isa} {shape:?} n={n}");
        let plan = Forward::winograd(shape, isa).unwrap();
        let (mut packed, mut space) = (vec![f32::NAN; plan.packed_len()], vec![f32::NAN; plan.workspace_len(2)]);
        plan.pack(&cpu, &w, &mut packed);
        let mut y = vec![f32::NAN; dy.len()];
        let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
        let out = PixelsMut { data: &mut y, stride: y_stride };
        plan.run(&cpu, n, x_pixels, &packed, &epilogue, out, &mut space);
        close(&format!("y, {case}"), &planes(&y, n, shape.filters, y_stride), &y_truth);

        let mut space = vec![f32::NAN; plan.plain_workspace_len(n, 2)];
        let mut again = vec![f32::NAN; dy.len()];
        plan.run_plain(&cpu, n, x_pixels, &w, &epilogue, PixelsMut { data: &mut again, stride: y_stride }, &mut space);
        let same = y.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "y depends on when the weights are packed, {case}");

        if let Some(plan) = DataGradient::winograd(shape, isa) {
            let mut space = vec![f32::NAN; plan.workspace_len(n, 2)];
            let mut dx = vec![f32::NAN; x.len()];
            plan.run(&cpu, n, dy_pixels, &w, None, PixelsMut { data: &mut dx, stride: x_stride }, &mut space);
            close(&format!("dx, {case}"), &planes(&dx, n, shape.channels, x_stride), &dx_truth);
        }
        if let Some(plan) = WeightGradient::winograd(shape, isa) {
            let mut space = vec![f32::NAN; plan.workspace_len(n, 2)];
            let (mut dw, mut db) = (vec![f32::NAN; w.len()], vec![f32::NAN; bias.len()]);
            plan.run(&cpu, n, x_pixels, dy_pixels, &mut dw, Some(&mut db), &mut space);
            close(&format!("dw, {case}"), &wide(&dw), &dw_truth);
            close(&format!("db, {case}"), &wide(&db), &db_truth);
        }
    }
}

fn shape(input: [usize; 2], [channels, filters]: [usize; 2], kernel: usize, groups: usize) -> ConvShape {
    let window = Window { padding: [kernel as isize / 2; 4], ..Window::new([kernel; 2]) };
    ConvShape { input, channels, filters, groups, window }
}

#[test]
fn errors_stay_small_up_to_512_channels() {
    for rectified in [false, true] {
        check(&shape([9, 8], [512, 512], 3, 1), 1, 0, rectified);
        check(&shape([28, 28], [64, 64], 3, 1), 2, 0, rectified);
        check(&shape([13, 13], [128, 96], 5, 1), 1, 0, rectified);
    }
}

#[test]
fn a_long_sum_of_5x5_keeps_the_bound() {
    // With one chain over the 192 tiles, the last tap's largest error was 1.1e-4.
    let mut shape = shape([13, 15], [48, 48], 5, 1);
    shape.window.padding = [4, 4, -1, 1];
    check(&shape, 4, 0, false);
}

#[test]
fn large_batches_are_cut_into_segments() {
    check(&shape([12, 12], [96, 96], 3, 1), 70, 0, false);
}

#[test]
fn rows_and_columns_between_dilated_ones_convolve_by_themselves() {
    // Of 23 columns every second are 12 and 11. Of 6 rows every fifth are two or one; of 3 some starts have none.
    for (rows, gradients) in [(6, true), (3, false)] {
        let mut shape = shape([rows, 23], [20, 36], 3, 1);
        (shape.window.padding, shape.window.dilation) = ([5, 2, 5, 2], [5, 2]);
        check(&shape, 2, 1, false);
        assert_eq!(gradients_fit(&shape), gradients);
    }
}

proptest! {
    #![proptest_config(cases(60))]
    #[test]
    fn any_fitting_convolution_agrees_with_the_reference(
        input in [1usize..18, 1usize..18], channels in [16usize..50, 16usize..50], groups in 1usize..3,
        large in any::<bool>(), dilation in [1usize..4, 1usize..4],
        padding in [-2isize..5, -2isize..5, -2isize..5, -2isize..5], n in 1usize..5,
        gap in 0usize..4, rectified in any::<bool>(),
    ) {
        let kernel = if large { 5 } else { 3 };
        let mut shape = shape(input, channels.map(|c| c * groups), kernel, groups);
        (shape.window.padding, shape.window.dilation) = (padding, dilation);
        let [h, w] = input.map(|n| n as isize);
        prop_assume!(h + padding[0].min(0) + padding[2].min(0) > 0 && w + padding[1].min(0) + padding[3].min(0) > 0);
        prop_assume!(shape.window.output(shape.input).is_some());
        check(&shape, n, gap, rectified);
    }
}

/// With one thread these tiles are enough for tasks of 64 filters that keep their weights, with seven they are not.
#[test]
fn tasks_that_keep_their_weights_have_the_same_bits() {
    for (kernel, channels, groups, n) in [(3, 16, 1, 4), (5, 24, 2, 1)] {
        let window = Window { padding: [kernel as isize / 2; 4], ..Window::new([kernel; 2]) };
        let shape = ConvShape { input: [61, 60], channels: channels * groups, filters: 90 * groups, groups, window };
        let (x, w) = (normal(n * 61 * 60 * shape.channels, 1), normal(shape.weights(), 2));
        let run = |isa: Isa, threads: usize| {
            let cpu = Cpu::with_isa(threads, isa).unwrap();
            let forward = Forward::winograd(&shape, isa).unwrap();
            let mut workspace = vec![f32::NAN; forward.plain_workspace_len(n, threads)];
            let mut y = vec![f32::NAN; n * 61 * 60 * shape.filters];
            let x = Pixels { data: &x, stride: shape.channels };
            let target = PixelsMut { data: &mut y, stride: shape.filters };
            forward.run_plain(&cpu, n, x, &w, &Epilogue::default(), target, &mut workspace);
            y
        };
        for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::Portable) {
            assert!(run(isa, 1) == run(isa, 7), "{kernel}x{kernel} on {isa}");
        }
    }
}
