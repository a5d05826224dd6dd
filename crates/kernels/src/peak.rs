//! The machine's own limit: multiply-adds on registers alone.

use std::hint::black_box;
use std::time::Instant;

use crate::Cpu;
use crate::simd::{Kernel, Simd, dispatch};

/// Chains of dependent multiply-adds: enough to hide their latency, few enough for AVX2's registers.
const CHAINS: usize = 6;
/// Of AVX-512, whose vectors are one register each: two units of latency 4 want at least 8.
const WIDE_CHAINS: usize = 12;
/// Multiply-adds of a chain in a task.
const LENGTH: usize = 20_000;

/// Floating-point operations a second, two a multiply-add, that all threads reach together on registers: what a direct
/// convolution cannot pass. The best of several samples; takes about 50 ms.
pub fn peak(cpu: &Cpu) -> f64 {
    let (threads, chains) = (cpu.pool().threads(), if cpu.isa() == crate::Isa::Avx512 { WIDE_CHAINS } else { CHAINS });
    let flops = (threads * LENGTH * chains * crate::simd::LANES * 2) as f64;
    let mut best = 0.0f64;
    let begun = Instant::now();
    while begun.elapsed().as_secs_f64() < 0.05 {
        let start = Instant::now();
        cpu.pool().run(threads, &|_| {
            black_box(dispatch(cpu.isa(), Chains));
        });
        best = best.max(flops / start.elapsed().as_secs_f64());
    }
    best
}

struct Chains;

impl Kernel for Chains {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        if S::WIDE { chains::<S, WIDE_CHAINS>(s) } else { chains::<S, CHAINS>(s) }
    }
}

#[inline(always)]
fn chains<S: Simd, const N: usize>(s: S) -> f32 {
    let (mut sums, factor) = ([s.splat(1.0); N], s.splat(black_box(0.999)));
    for _ in 0..LENGTH {
        for sum in &mut sums {
            *sum = s.fma(*sum, factor, factor);
        }
    }
    let mut total = s.zero();
    for sum in sums {
        total = s.add(total, sum);
    }
    s.sum(total)
}
