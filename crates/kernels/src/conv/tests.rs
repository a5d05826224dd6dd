#![allow(clippy::manual_clamp)] // written out: what happens to NaN is the point

//! Every fast kernel on every instruction set against the `f64` reference, and the rules about equal bits.

mod layers;

use proptest::prelude::*;

use super::*;
use crate::against_reference::common::{cases, cpus_of, wide};
use crate::geometry::{ConvShape, Window};
use crate::{Cpu, Isa};
use layers::{known_layers, shape};

/// Numbers in -1..1 that follow from a seed.
pub(super) fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// `[n, channels, size]` to pixels with a stride; the gaps hold NaN, so that nobody may use them.
fn to_pixels(x: &[f32], n: usize, channels: usize, stride: usize) -> Vec<f32> {
    let size = x.len() / (n * channels);
    let mut out = vec![f32::NAN; n * size * stride];
    for (i, &value) in x.iter().enumerate() {
        let (image, channel, pixel) = (i / (channels * size), i / size % channels, i % size);
        out[(image * size + pixel) * stride + channel] = value;
    }
    out
}

/// The inverse of [`to_pixels`]; the gaps must still hold NaN.
fn from_pixels(pixels: &[f32], n: usize, channels: usize, stride: usize) -> Vec<f32> {
    let size = pixels.len() / (n * stride);
    let mut out = vec![0.0; n * channels * size];
    for (i, &value) in pixels.iter().enumerate() {
        let (image, pixel, channel) = (i / (stride * size), i / stride % size, i % stride);
        if channel < channels {
            out[(image * channels + channel) * size + pixel] = value;
        } else {
            assert!(value.is_nan(), "a value was written between the pixels");
        }
    }
    out
}

/// A convolution of `n` pictures with all its data.
struct Problem {
    shape: ConvShape,
    n: usize,
    /// Whether Winograd's form is left out.
    exact: bool,
    /// Values between one pixel's last channel and the next pixel, in x and dx, and in y and dy.
    gaps: [usize; 2],
    x: Vec<f32>,
    w: Vec<f32>,
    bias: Vec<f32>,
    dy: Vec<f32>,
}

#[derive(PartialEq)]
struct Results {
    y: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
    db: Vec<f32>,
}

impl Problem {
    fn new(shape: ConvShape, n: usize, gaps: [usize; 2]) -> Problem {
        let [oh, ow] = shape.output();
        Problem {
            shape,
            n,
            exact: false,
            gaps,
            x: numbers(1, n * shape.channels * shape.input[0] * shape.input[1]),
            w: numbers(2, shape.weights()),
            bias: numbers(3, shape.filters),
            dy: numbers(4, n * shape.filters * oh * ow),
        }
    }

    fn run(&self, cpu: &Cpu) -> Results {
        let (shape, n) = (&self.shape, self.n);
        let [x_stride, y_stride] = [shape.channels + self.gaps[0], shape.filters + self.gaps[1]];
        let x = to_pixels(&self.x, n, shape.channels, x_stride);
        let dy = to_pixels(&self.dy, n, shape.filters, y_stride);
        let (x_pixels, dy_pixels) = (Pixels { data: &x, stride: x_stride }, Pixels { data: &dy, stride: y_stride });
        let threads = cpu.pool().threads();

        // Winograd's form wherever it is possible, not only where it is chosen.
        let forward = Forward::winograd(shape, cpu.isa()).filter(|_| !self.exact);
        let forward = forward.unwrap_or_else(|| Forward::new(shape, cpu.isa(), self.exact));
        let mut packed = vec![f32::NAN; forward.packed_len()];
        let mut workspace = vec![f32::NAN; forward.workspace_len(threads)];
        let mut y = vec![f32::NAN; dy.len()];
        forward.pack(cpu, &self.w, &mut packed);
        let epilogue = Epilogue { bias: Some(&self.bias), ..Epilogue::default() };
        forward.run(cpu, n, x_pixels, &packed, &epilogue, PixelsMut { data: &mut y, stride: y_stride }, &mut workspace);
        let mut workspace = vec![f32::NAN; forward.plain_workspace_len(n, threads)];
        let mut plain = vec![f32::NAN; dy.len()];
        let pixels = PixelsMut { data: &mut plain, stride: y_stride };
        forward.run_plain(cpu, n, x_pixels, &self.w, &epilogue, pixels, &mut workspace);
        let same = plain.iter().zip(&y).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "y depends on when the weights are packed");

        let gradient = DataGradient::winograd(shape, cpu.isa()).filter(|_| !self.exact);
        let gradient = gradient.unwrap_or_else(|| DataGradient::new(shape, cpu.isa(), self.exact));
        let mut workspace = vec![f32::NAN; gradient.workspace_len(n, threads)];
        let mut dx = vec![f32::NAN; x.len()];
        let pixels = PixelsMut { data: &mut dx, stride: x_stride };
        gradient.run(cpu, n, dy_pixels, &self.w, None, pixels, &mut workspace);
        // Another gradient is added to the complete sums.
        let mut sums = vec![f32::NAN; x.len()];
        let pixels = PixelsMut { data: &mut sums, stride: x_stride };
        gradient.run(cpu, n, dy_pixels, &self.w, Some(x_pixels), pixels, &mut workspace);
        let added = |(i, sum): (usize, &f32)| *sum == dx[i] + x[i] || i % x_stride >= shape.channels;
        assert!(sums.iter().enumerate().all(added), "the other gradient is not added");

        let gradient = WeightGradient::winograd(shape, cpu.isa()).filter(|_| !self.exact);
        let gradient = gradient.unwrap_or_else(|| WeightGradient::new(shape, cpu.isa(), self.exact));
        let mut workspace = vec![f32::NAN; gradient.workspace_len(n, threads)];
        let (mut dw, mut db) = (vec![f32::NAN; shape.weights()], vec![f32::NAN; shape.filters]);
        gradient.run(cpu, n, x_pixels, dy_pixels, &mut dw, Some(&mut db), &mut workspace);
        let mut without_bias = vec![f32::NAN; dw.len()];
        gradient.run(cpu, n, x_pixels, dy_pixels, &mut without_bias, None, &mut workspace);
        assert!(dw == without_bias, "dw depends on whether db is wanted");

        Results {
            y: from_pixels(&y, n, shape.filters, y_stride),
            dx: from_pixels(&dx, n, shape.channels, x_stride),
            dw,
            db,
        }
    }

    /// Compares with the `f64` reference: |error| <= 2 K 2^-24 * sum of |products|, with K products a value.
    fn check(&self, cpu: &Cpu) {
        let (shape, n) = (&self.shape, self.n);
        let [x, w, bias, dy] = [&self.x, &self.w, &self.bias, &self.dy].map(|v| wide(v));
        let [ax, aw, abias, ady] = [&x, &w, &bias, &dy].map(|v| v.iter().map(|v| v.abs()).collect::<Vec<f64>>());
        let got = self.run(cpu);
        let [kh, kw] = shape.window.kernel;
        let pixels = n * shape.output()[0] * shape.output()[1];
        let case = format!("{} {:?} n={n} gaps={:?}", cpu.isa(), shape, self.gaps);
        let compare = |what: &str, k: usize, got: &[f32], truth: &[f64], sizes: &[f64]| {
            assert_eq!(got.len(), truth.len());
            for (i, ((&got, &truth), &size)) in got.iter().zip(truth).zip(sizes).enumerate() {
                let bound = 2.0 * k as f64 * 2f64.powi(-24) * size;
                let error = (got as f64 - truth).abs();
                assert!(error <= bound, "{case}\n{what}[{i}] = {got}, not {truth}: error {error:e} > {bound:e}");
            }
        };
        use reference as r;
        let k = shape.group_channels() * kh * kw + 1;
        let sizes = r::forward(shape, n, &ax, &aw, Some(&abias));
        compare("y", k, &got.y, &r::forward(shape, n, &x, &w, Some(&bias)), &sizes);
        let k = shape.group_filters() * kh * kw;
        let sizes = r::data_gradient(shape, n, &ady, &aw);
        compare("dx", k, &got.dx, &r::data_gradient(shape, n, &dy, &w), &sizes);
        let sizes = r::weight_gradient(shape, n, &ax, &ady);
        compare("dw", pixels, &got.dw, &r::weight_gradient(shape, n, &x, &dy), &sizes);
        compare("db", pixels, &got.db, &r::bias_gradient(shape, &dy), &r::bias_gradient(shape, &ady));
    }
}

#[test]
fn known_layers_agree_with_the_reference() {
    // Nine taps that are one kernel row, not three.
    for groups in [40, 10] {
        let window = Window { padding: [0, 4, 0, 4], ..Window::new([1, 9]) };
        let shape = ConvShape { input: [7, 12], channels: 40, filters: 40, groups, window };
        cpus_of(2).iter().for_each(|cpu| Problem { exact: true, ..Problem::new(shape, 2, [0, 0]) }.check(cpu));
    }
    // Depthwise strips of every so many columns: as far as elements are apart, half as far, and not where few are.
    for (stride, dilation, width) in [(1, 2, 23), (2, 2, 23), (2, 4, 41), (3, 6, 37), (1, 6, 20), (3, 2, 29)] {
        let window =
            Window { padding: [3, 5, 4, 2], dilation: [2, dilation], stride: [1, stride], ..Window::new([3, 5]) };
        let shape = ConvShape { input: [11, width], channels: 20, filters: 20, groups: 20, window };
        cpus_of(2).iter().for_each(|cpu| Problem { exact: true, ..Problem::new(shape, 2, [0, 0]) }.check(cpu));
    }
    // Kernel rows that see only padding.
    let window = Window { padding: [6; 4], dilation: [6, 5], ..Window::new([4, 3]) };
    let shape = ConvShape { input: [9, 14], channels: 20, filters: 40, groups: 1, window };
    cpus_of(2).iter().for_each(|cpu| Problem { exact: true, ..Problem::new(shape, 2, [0, 0]) }.check(cpu));
    for cpu in cpus_of(2) {
        for (_, shape, n) in known_layers() {
            Problem { exact: true, ..Problem::new(shape, n, [0, 0]) }.check(&cpu);
        }
    }
}

#[test]
fn bits_depend_on_neither_threads_nor_vector_width() {
    for (name, shape, n) in known_layers() {
        let problem = Problem::new(shape, n, [3, 1]);
        let mut first: Option<Results> = None;
        for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::Portable) {
            for threads in [1, 2, 4, 7] {
                let got = problem.run(&Cpu::with_isa(threads, isa).unwrap());
                let first = first.get_or_insert_with(|| problem.run(&Cpu::with_isa(1, isa).unwrap()));
                assert!(*first == got, "{name}: {isa} with {threads} threads");
            }
        }
    }
}

#[test]
fn a_picture_gives_the_same_bits_in_any_batch() {
    for cpu in cpus_of(3) {
        for (name, shape, n) in known_layers() {
            let problem = Problem::new(shape, n, [0, 0]);
            let all = problem.run(&cpu);
            for i in [0, n - 1] {
                let part = |all: &[f32]| all[i * all.len() / n..(i + 1) * all.len() / n].to_vec();
                let one =
                    Problem { x: part(&problem.x), dy: part(&problem.dy), n: 1, ..Problem::new(shape, 1, [0, 0]) };
                let one = one.run(&cpu);
                assert!(one.y == part(&all.y) && one.dx == part(&all.dx), "{name}: picture {i} of {n}, {}", cpu.isa());
            }
        }
    }
}

#[test]
fn the_workspace_of_a_batch_holds_any_smaller_one() {
    for (name, shape, _) in known_layers() {
        let (forward, weights) =
            (Forward::new(&shape, Isa::Portable, false), WeightGradient::new(&shape, Isa::Portable, false));
        for threads in [1, 2, 4, 7] {
            for n in 1..70 {
                let room = |n: usize| [forward.plain_workspace_len(n, threads), weights.workspace_len(n, threads)];
                let ([f, w], [more_f, more_w]) = (room(n), room(n + 1));
                assert!(f <= more_f && w <= more_w, "{name}: {n} pictures with {threads} threads");
            }
        }
    }
}

#[test]
fn two_half_batches_join_to_the_whole() {
    for (name, shape, _) in known_layers() {
        let whole = Problem::new(shape, 32, [0, 0]);
        if shape.macs() > 10_000_000 {
            continue;
        }
        let half = |i: usize| {
            let part = |all: &[f32]| all[i * all.len() / 2..(i + 1) * all.len() / 2].to_vec();
            Problem { x: part(&whole.x), dy: part(&whole.dy), n: 16, ..Problem::new(shape, 16, [0, 0]) }
        };
        let cpu = Cpu::new(2).unwrap();
        let (all, a, b) = (whole.run(&cpu), half(0).run(&cpu), half(1).run(&cpu));
        let joined = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<f32>>();
        assert!(all.dw == joined(&a.dw, &b.dw) && all.db == joined(&a.db, &b.db), "{name}");
    }
}

#[test]
fn bias_residual_and_activation_follow_the_sum() {
    for (kernel, channels, groups, filters, gap, width) in [
        ("indirect", 20, 1, 20, 2, 6),
        ("depthwise", 20, 20, 20, 2, 6),
        ("planar", 12, 1, 6, 0, 16),
        ("grouped", 20, 5, 20, 2, 6),
        ("widened", 32, 4, 32, 2, 6),
        ("planar", 30, 3, 18, 2, 16),
    ] {
        let shape = shape([5, width], channels, filters, 3, 1, 1, groups);
        let problem = Problem::new(shape, 2, [0, 0]);
        for cpu in cpus_of(2) {
            let x = to_pixels(&problem.x, 2, channels, channels);
            let mut residual = to_pixels(&problem.dy, 2, filters, filters + gap);
            residual[0] = f32::NAN;
            let forward = Forward::new(&shape, cpu.isa(), true);
            assert_eq!(forward.kernel(), kernel);
            let mut packed = vec![0.0; forward.packed_len()];
            forward.pack(&cpu, &problem.w, &mut packed);
            let mut workspace = vec![0.0; forward.workspace_len(2)];
            let mut run = |epilogue: &Epilogue| {
                let mut y = vec![0.0; 2 * 5 * width * filters];
                let y_pixels = PixelsMut { data: &mut y, stride: filters };
                let x = Pixels { data: &x, stride: channels };
                forward.run(&cpu, 2, x, &packed, epilogue, y_pixels, &mut workspace);
                y
            };
            let plain = run(&Epilogue::default());
            let functions: [(Activation, fn(f32) -> f32); 4] = [
                (Activation::None, |x| x),
                (Activation::Relu, |x| if x < 0.0 { 0.0 } else { x }),
                (Activation::Relu6, |x| {
                    if x < 0.0 {
                        0.0
                    } else if x > 6.0 {
                        6.0
                    } else {
                        x
                    }
                }),
                (Activation::LeakyRelu(0.1), |x| if x > 0.0 { x } else { x * 0.1 }),
            ];
            for (activation, function) in functions {
                let bias: Vec<f32> = problem.bias.iter().map(|b| 5.0 * b).collect();
                let pixels = Pixels { data: &residual, stride: filters + gap };
                let got = run(&Epilogue { bias: Some(&bias), residual: Some(pixels), activation });
                assert!(got[0].is_nan(), "{activation:?} swallows a NaN");
                for i in 1..got.len() {
                    let sum = plain[i] + bias[i % filters] + residual[i / filters * (filters + gap) + i % filters];
                    assert_eq!(got[i], function(sum), "{activation:?}[{i}], {}", cpu.isa());
                }
            }
        }
    }
}

#[test]
fn inputs_that_no_window_sees_get_a_zero_gradient() {
    // 6x6, kernel 2, stride 4: rows 2, 3 and columns 2, 3 lie between two windows.
    let problem = Problem::new(shape([6, 6], 3, 5, 2, 4, 0, 1), 1, [0, 0]);
    for cpu in cpus_of(1) {
        let dx = problem.run(&cpu).dx;
        for (i, dx) in dx.iter().enumerate() {
            let seen = ![2, 3].contains(&(i / 6 % 6)) && ![2, 3].contains(&(i % 6));
            assert_eq!(*dx != 0.0, seen, "element {i}");
        }
    }
    // The last row and columns, of which Winograd's form would leave rounding errors.
    let mut shape = shape([2, 9], 23, 19, 3, 1, 2, 1);
    shape.window.padding = [2, 2, -1, -2];
    let problem = Problem::new(shape, 2, [0, 0]);
    for cpu in cpus_of(1) {
        let dx = problem.run(&cpu).dx;
        let seen = |i: usize| i % 18 < 9 && i % 9 < 7;
        assert!(dx.iter().enumerate().all(|(i, dx)| (*dx != 0.0) == seen(i)), "{}: {dx:?}", cpu.isa());
    }
}

#[test]
fn reference_gradients_equal_central_differences() {
    let window = Window { kernel: [3, 2], stride: [2, 1], dilation: [1, 2], padding: [1, -1, 0, 2] };
    let shape = ConvShape { input: [6, 7], channels: 4, filters: 6, groups: 2, window };
    let n = 2;
    let p = Problem::new(shape, n, [0, 0]);
    let [x, w, bias, dy] = [&p.x, &p.w, &p.bias, &p.dy].map(|v| wide(v));
    let loss = |x: &[f64], w: &[f64], bias: &[f64]| -> f64 {
        reference::forward(&shape, n, x, w, Some(bias)).iter().zip(&dy).map(|(y, dy)| y * dy).sum()
    };
    let check = |what: &str, gradient: Vec<f64>, at: &[f64], loss: &dyn Fn(&[f64]) -> f64| {
        for i in 0..at.len() {
            let moved = |by: f64| {
                let mut at = at.to_vec();
                at[i] += by;
                loss(&at)
            };
            let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let error = (gradient[i] - difference).abs() / difference.abs().max(1.0);
            assert!(error <= 1e-6, "{what}[{i}] = {}, the difference quotient is {difference}", gradient[i]);
        }
    };
    check("dx", reference::data_gradient(&shape, n, &dy, &w), &x, &|x| loss(x, &w, &bias));
    check("dw", reference::weight_gradient(&shape, n, &x, &dy), &w, &|w| loss(&x, w, &bias));
    check("db", reference::bias_gradient(&shape, &dy), &bias, &|bias| loss(&x, &w, bias));
}

prop_compose! {
    fn any_problem()(
        groups in 1usize..4, each in 0usize..6, channels in 1usize..24, filters in 1usize..24,
        input in [1usize..14, 1usize..14], kernel in [1usize..5, 1usize..5], stride in [1usize..5, 1usize..5],
        dilation in [1usize..4, 1usize..4], padding in [-2isize..4, -2isize..4, -2isize..4, -2isize..4],
        n in 1usize..4, gaps in [0usize..4, 0usize..4],
    ) -> (ConvShape, usize, [usize; 2]) {
        let window = Window { kernel, stride, dilation, padding };
        // Of half of the problems the groups have one, two or four channels and as many filters.
        let (many, each) = (channels * 3, 1 << each);
        let [channels, filters, groups] =
            if each <= 4 { [many * each, many * each, many] } else { [channels * groups, filters * groups, groups] };
        (ConvShape { input, channels, filters, groups, window }, n, gaps)
    }
}

proptest! {
    #![proptest_config(cases(200))]
    #[test]
    fn any_convolution_agrees_with_the_reference((shape, n, gaps) in any_problem()) {
        // Padding that crops more than there is leaves nothing to read.
        let [h, w] = shape.input.map(|n| n as isize);
        let [top, left, bottom, right] = shape.window.padding;
        prop_assume!(h + top.min(0) + bottom.min(0) > 0 && w + left.min(0) + right.min(0) > 0);
        prop_assume!(shape.window.output(shape.input).is_some());
        let problem = Problem::new(shape, n, gaps);
        let results: Vec<Results> = cpus_of(2).iter().map(|cpu| { problem.check(cpu); problem.run(cpu) }).collect();
        if let [_, avx2, avx512] = &results[..] {
            prop_assert!(avx2 == avx512, "bits of AVX2 and AVX-512 differ");
        }
    }
}

/// Outputs of 4 MB and more go past the caches, where their vectors begin on cache lines: one value further they do not.
#[test]
fn large_outputs_that_are_streamed_have_the_same_bits() {
    for (channels, filters, groups, exact) in [(4, 64, 1, true), (64, 64, 64, true), (32, 64, 1, false)] {
        let shape = shape([260, 256], channels, filters, 3, 1, 1, groups);
        let (x, w) = (numbers(1, channels * 260 * 256), numbers(2, shape.weights()));
        for cpu in cpus_of(2) {
            let forward = Forward::new(&shape, cpu.isa(), exact);
            assert!(exact || forward.kernel() == "winograd");
            let mut workspace = vec![0.0; forward.plain_workspace_len(1, 2)];
            let len = filters * 260 * 256;
            let mut memory = vec![f32::NAN; len + 32];
            let first = memory.as_ptr().align_offset(64);
            let mut run = |first: usize| {
                let y = PixelsMut { data: &mut memory[first..][..len], stride: filters };
                let x = Pixels { data: &x, stride: channels };
                forward.run_plain(&cpu, 1, x, &w, &Epilogue::default(), y, &mut workspace);
                memory[first..][..len].to_vec()
            };
            assert!(run(first) == run(first + 1), "{} with {groups} groups", cpu.isa());
        }
    }
}
