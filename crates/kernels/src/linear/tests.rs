use super::*;
use crate::against_reference::common::{cases, wide};
use crate::conv::Activation;
use crate::random::Random;
use crate::update::{Rule, Step, Updated, update};
use crate::{Cpu, Isa};
use proptest::prelude::*;

fn noise(n: usize, key: u64) -> Vec<f32> {
    let mut random = Random::new(1, key, 0, 0);
    (0..n).map(|_| random.normal() as f32).collect()
}

/// |error| <= 2·K·2⁻²⁴·Σ|products|, the bound of a chain of K multiply-adds.
fn within_bound(what: &str, k: usize, got: &[f32], expect: &[f64], sizes: &[f64]) {
    assert_eq!(got.len(), expect.len());
    for (i, ((&got, &expect), &size)) in got.iter().zip(expect).zip(sizes).enumerate() {
        let bound = 2.0 * (k + 1) as f64 * 0.5f64.powi(24) * size;
        assert!((f64::from(got) - expect).abs() <= bound, "{what}[{i}]: {got} against {expect}, bound {bound}");
    }
}

fn check(n: usize, inputs: usize, outputs: usize) {
    let shape = LinearShape { inputs, outputs };
    let (x, w, b, dy) = (noise(n * inputs, 1), noise(outputs * inputs, 2), noise(outputs, 3), noise(n * outputs, 4));
    let abs = |x: &[f32]| x.iter().map(|x| f64::from(x.abs())).collect::<Vec<f64>>();
    let (dx_, wx, ww, wb) = (wide(&dy), wide(&x), wide(&w), wide(&b));
    let mut bits: Option<Vec<u32>> = None;
    for isa in Isa::available() {
        for threads in [1, 3] {
            let cpu = Cpu::with_isa(threads, isa).unwrap();
            let mut y = vec![f32::NAN; n * outputs];
            forward(&cpu, &shape, n, &x, &w, Some(&b), Activation::None, &mut y);
            let sizes = reference::forward(n, outputs, &abs(&x), &abs(&w), Some(&abs(&b)));
            within_bound("y", inputs, &y, &reference::forward(n, outputs, &wx, &ww, Some(&wb)), &sizes);
            let mut dx = vec![f32::NAN; n * inputs];
            data_gradient(&cpu, &shape, n, &dy, &w, &mut dx);
            let sizes = reference::data_gradient(n, inputs, &abs(&dy), &abs(&w));
            within_bound("dx", outputs, &dx, &reference::data_gradient(n, inputs, &dx_, &ww), &sizes);
            let (mut dw, mut db) = (vec![f32::NAN; outputs * inputs], vec![f32::NAN; outputs]);
            weight_gradient(&cpu, &shape, n, &x, &dy, &mut dw, Some(&mut db));
            let (rule, step) =
                (Rule::Sgd { momentum: 0.9, nesterov: false }, Step { lr: 0.1, decay: 0.01, scale: 1.0, count: 3 });
            let [mut apart, mut joined] = [(); 2].map(|()| [w.clone(), noise(w.len(), 5), vec![f32::NAN; outputs]]);
            let [weights, velocity, _] = &mut apart;
            update(&cpu, Updated { rule, step, w: weights, a: velocity, b: &mut [] }, &dw);
            let [weights, velocity, bias] = &mut joined;
            let mut scratch = vec![f32::NAN; update_scratch(threads)];
            let updated = Updated { rule, step, w: weights, a: velocity, b: &mut [] };
            update_weights(&cpu, &shape, n, &x, &dy, updated, Some(bias), &mut scratch);
            apart[2].clone_from(&db);
            assert!(apart == joined, "{isa:?}: the update within the gradient has other bits");
            let sizes = reference::weight_gradient(n, &abs(&x), &abs(&dy));
            within_bound("dw", n, &dw, &reference::weight_gradient(n, &wx, &dx_), &sizes);
            let sizes = reference::bias_gradient(n, &abs(&dy));
            within_bound("db", n, &db, &reference::bias_gradient(n, &dx_), &sizes);
            if isa != Isa::Portable {
                let all = [y, dx, dw, db].concat().iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
                assert!(*bits.get_or_insert(all.clone()) == all, "{isa:?}, {threads} threads: other bits");
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(40))]
    #[test]
    fn kernels_equal_the_reference(n in 1usize..40, inputs in 1usize..90, outputs in 1usize..60) {
        check(n, inputs, outputs);
    }
}

#[test]
fn layers_of_lenet_and_wider_ones_equal_the_reference() {
    check(64, 400, 120);
    check(7, 84, 10);
    check(33, 1100, 130);
    check(2, 2100, 300);
}

#[test]
fn a_row_has_the_same_bits_in_any_batch() {
    let shape = LinearShape { inputs: 77, outputs: 41 };
    let (x, w, dy) = (noise(29 * 77, 1), noise(41 * 77, 2), noise(29 * 41, 3));
    let cpu = Cpu::new(2).unwrap();
    let run = |n: usize, x: &[f32], dy: &[f32]| {
        let (mut y, mut dx) = (vec![0.0; n * 41], vec![0.0; n * 77]);
        forward(&cpu, &shape, n, x, &w, None, Activation::Relu, &mut y);
        data_gradient(&cpu, &shape, n, dy, &w, &mut dx);
        (y, dx)
    };
    let (y, dx) = run(29, &x, &dy);
    for i in 0..29 {
        let (one, one_dx) = run(1, &x[i * 77..][..77], &dy[i * 41..][..41]);
        assert_eq!((&one[..], &one_dx[..]), (&y[i * 41..][..41], &dx[i * 77..][..77]));
    }
}

#[test]
fn two_half_batches_joined_are_the_batch() {
    let shape = LinearShape { inputs: 19, outputs: 5 };
    let (x, dy) = (noise(64 * 19, 1), noise(64 * 5, 2));
    let cpu = Cpu::new(1).unwrap();
    let run = |n: usize, x: &[f32], dy: &[f32]| {
        let mut dw = vec![0.0; 95];
        weight_gradient(&cpu, &shape, n, x, dy, &mut dw, None);
        dw
    };
    let (a, b) = (run(32, &x[..32 * 19], &dy[..160]), run(32, &x[32 * 19..], &dy[160..]));
    let joined: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    assert_eq!(run(64, &x, &dy), joined);
}
