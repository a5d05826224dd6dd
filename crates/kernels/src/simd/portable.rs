//! The path for every processor: arrays of 16 lanes, which the compiler turns into what vectors the target has.

use super::{Kernel, LANES, Simd};

/// Plain Rust on arrays. Fuses multiply-add only where the compilation target has the instruction.
#[derive(Clone, Copy)]
pub struct Portable;

/// `f32::mul_add` calls a slow library routine where the target lacks the instruction.
const FUSED: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

#[inline(always)]
fn map(a: [f32; LANES], f: impl Fn(f32) -> f32) -> [f32; LANES] {
    core::array::from_fn(|i| f(a[i]))
}

#[inline(always)]
fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    core::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    type V = [f32; LANES];
    type H = [f32; 8];
    const WIDE: bool = false;

    #[inline(never)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::V {
        // SAFETY: the caller vouches for 16 lanes.
        unsafe { p.cast::<[f32; LANES]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::V) {
        // SAFETY: the caller vouches for 16 lanes.
        unsafe { p.cast::<[f32; LANES]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_n(self, p: *const f32, n: usize) -> Self::V {
        let mut out = [0.0; LANES];
        // SAFETY: the caller vouches for `n` lanes.
        unsafe { p.copy_to_nonoverlapping(out.as_mut_ptr(), n) };
        out
    }
    #[inline(always)]
    unsafe fn store_n(self, p: *mut f32, v: Self::V, n: usize) {
        // SAFETY: the caller vouches for `n` lanes.
        unsafe { p.copy_from_nonoverlapping(v.as_ptr(), n) }
    }
    #[inline(always)]
    unsafe fn load_bytes(self, p: *const u8, n: usize) -> Self::V {
        let mut bytes = [0u8; LANES];
        // SAFETY: the caller vouches for `n` bytes.
        unsafe { p.copy_to_nonoverlapping(bytes.as_mut_ptr(), n) };
        bytes.map(f32::from)
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, v: Self::V, n: usize) {
        let bytes = v.map(|v| v as u8);
        // SAFETY: the caller vouches for `n` bytes.
        unsafe { p.copy_from_nonoverlapping(bytes.as_ptr(), n) }
    }
    #[inline(always)]
    fn splat_half(self, x: f32) -> Self::H {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load_half(self, p: *const f32) -> Self::H {
        // SAFETY: the caller vouches for 8 lanes.
        unsafe { p.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    fn fma_half(self, a: Self::H, b: Self::H, c: Self::H) -> Self::H {
        core::array::from_fn(|i| if FUSED { a[i].mul_add(b[i], c[i]) } else { a[i] * b[i] + c[i] })
    }
    #[inline(always)]
    fn first_half(self, v: Self::V) -> Self::H {
        core::array::from_fn(|i| v[i])
    }
    #[inline(always)]
    fn widen(self, h: Self::H) -> Self::V {
        core::array::from_fn(|i| if i < 8 { h[i] } else { 0.0 })
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        core::array::from_fn(|i| if FUSED { a[i].mul_add(b[i], c[i]) } else { a[i] * b[i] + c[i] })
    }
    #[inline(always)]
    fn fnma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        core::array::from_fn(|i| if FUSED { (-a[i]).mul_add(b[i], c[i]) } else { c[i] - a[i] * b[i] })
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        map(a, f32::sqrt)
    }
    #[inline(always)]
    fn abs(self, a: Self::V) -> Self::V {
        map(a, f32::abs)
    }
    #[inline(always)]
    fn copysign(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, f32::copysign)
    }
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        // Adding 1.5 * 2^23 pushes the fraction out of the mantissa, rounding to nearest even.
        const SHIFT: f32 = 12_582_912.0;
        map(a, |x| ((x + SHIFT) - SHIFT).copysign(x))
    }
    #[inline(always)]
    fn exp2i(self, n: Self::V) -> Self::V {
        map(n, |n| f32::from_bits(((n as i32 + 127) << 23) as u32))
    }
    #[inline(always)]
    fn select_gt(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V {
        core::array::from_fn(|i| if a[i] > b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    fn select_gt_or_nan(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V {
        core::array::from_fn(|i| if a[i] > b[i] || a[i].is_nan() { x[i] } else { y[i] })
    }
    #[inline(always)]
    fn pick<const LANE: i32>(self, v: Self::V) -> Self::V {
        let mut out = v;
        for (i, out) in out.iter_mut().enumerate() {
            *out = v[i / 4 * 4 + (LANE as usize >> (i % 4 * 2) & 3)];
        }
        out
    }
    #[inline(always)]
    fn transpose(self, rows: [Self::V; LANES]) -> [Self::V; LANES] {
        let mut out = [[0.0; LANES]; LANES];
        for (i, row) in rows.iter().enumerate() {
            for (out, &x) in out.iter_mut().zip(row) {
                out[i] = x;
            }
        }
        out
    }
}
