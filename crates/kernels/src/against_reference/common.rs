//! What all kernel tests share: data, layouts, central differences, and one check of accuracy and of equal bits.

use crate::random::{Random, name};
use crate::{Cpu, Isa};
use proptest::prelude::ProptestConfig;

/// At most so many random cases of a property, fewer where PROPTEST_CASES asks for fewer; failing ones are printed, not stored.
pub fn cases(most: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: config.cases.min(most), failure_persistence: None, ..config }
}

/// Every instruction set of this processor at several numbers of threads.
pub fn cpus() -> Vec<Cpu> {
    let all = Isa::available().into_iter().flat_map(|isa| [1, 2, 4, 7].map(|threads| Cpu::with_isa(threads, isa)));
    all.map(|cpu| cpu.expect("an available instruction set")).collect()
}

/// Every instruction set of this processor.
pub fn cpus_of(threads: usize) -> Vec<Cpu> {
    let all = Isa::available().into_iter().map(|isa| Cpu::with_isa(threads, isa));
    all.map(|cpu| cpu.expect("an available instruction set")).collect()
}

/// Normal numbers, rounded to f32 so that references and kernels see the same.
pub fn normal(len: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed, name("test"), 0, 0);
    (0..len).map(|_| random.normal() as f32).collect()
}

/// The same numbers in f64.
pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// `[n, c, p]` to `[n, p, c]` with `stride` elements a pixel; gaps are NaN.
pub fn channels_last<T: Copy>(x: &[T], [n, c, p]: [usize; 3], stride: usize, gap: T) -> Vec<T> {
    let mut y = vec![gap; n * p * stride];
    for i in 0..n {
        for j in 0..c {
            for k in 0..p {
                y[(i * p + k) * stride + j] = x[(i * c + j) * p + k];
            }
        }
    }
    y
}

/// `[n, p, c]` with `stride` elements a pixel to `[n, c, p]`.
pub fn channels_first<T: Copy>(x: &[T], [n, c, p]: [usize; 3], stride: usize) -> Vec<T> {
    let mut y = Vec::with_capacity(n * c * p);
    for i in 0..n {
        for j in 0..c {
            y.extend((0..p).map(|k| x[(i * p + k) * stride + j]));
        }
    }
    y
}

/// Runs a kernel on every instruction set and number of threads: each result lies within `bound(i, expect[i])` of the
/// truth, threads do not change a bit, and neither does the width of vectors.
pub fn check(what: &str, expect: &[f64], bound: impl Fn(usize, f64) -> f64, run: impl Fn(&Cpu) -> Vec<f32>) {
    check_on(&cpus(), what, expect, bound, run);
}

/// [`check`] on some instruction sets and numbers of threads.
pub fn check_on(
    cpus: &[Cpu],
    what: &str,
    expect: &[f64],
    bound: impl Fn(usize, f64) -> f64,
    run: impl Fn(&Cpu) -> Vec<f32>,
) {
    let mut portable: Option<Vec<u32>> = None;
    let mut vector: Option<Vec<u32>> = None;
    for cpu in cpus {
        let (isa, threads) = (cpu.isa(), cpu.pool().threads());
        let got = run(cpu);
        assert_eq!(got.len(), expect.len(), "{what}: length");
        for (i, (&got, &expect)) in got.iter().zip(expect).enumerate() {
            let same = f64::from(got) == expect || (got.is_nan() && expect.is_nan());
            let error = (f64::from(got) - expect).abs();
            assert!(same || error <= bound(i, expect), "{what} on {isa}: element {i} is {got}, expected {expect}");
        }
        let bits: Vec<u32> = got.iter().map(|x| x.to_bits()).collect();
        let first = if isa == Isa::Portable { &mut portable } else { &mut vector };
        match first {
            None => *first = Some(bits),
            Some(first) => assert!(*first == bits, "{what}: other bits on {isa} with {threads} threads"),
        }
    }
}

/// Eight units in the last place of f32, the bound of a handful of roundings.
pub fn few_ulp(_: usize, expect: f64) -> f64 {
    8.0 * f64::from(f32::EPSILON) / 2.0 * expect.abs().max(f64::from(f32::MIN_POSITIVE))
}

/// The gradient of `f` at `x` by central differences with step 1e-5.
pub fn central(x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut x = x.to_vec();
    (0..x.len())
        .map(|i| {
            let at = x[i];
            x[i] = at + 1e-5;
            let up = f(&x);
            x[i] = at - 1e-5;
            let down = f(&x);
            x[i] = at;
            (up - down) / 2e-5
        })
        .collect()
}

/// Gradients agree to 1e-6 relative, or absolute where they are under 1.
pub fn gradients_agree(what: &str, got: &[f64], expect: &[f64]) {
    for (i, (got, expect)) in got.iter().zip(expect).enumerate() {
        assert!(
            (got - expect).abs() <= 1e-6 * expect.abs().max(1.0),
            "{what}: gradient {i} is {got}, expected {expect}"
        );
    }
}

/// Σ w·y, a scalar whose gradient for y is w.
pub fn weighted(y: &[f64], w: &[f64]) -> f64 {
    y.iter().zip(w).map(|(y, w)| y * w).sum()
}
