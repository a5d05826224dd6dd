//! One vector type of 16 `f32` lanes for every instruction set.
//!
//! Kernels are written once against [`Simd`] and instantiated per instruction set by [`dispatch`].
//! A "vector" always has 16 lanes: one register with AVX-512, two with AVX2, an array on the portable path. A reduction
//! along the lanes therefore adds the same numbers in the same order whatever the hardware width, and the results of
//! AVX2 and AVX-512 are equal bit for bit.

mod portable;
#[cfg(all(target_arch = "x86_64", not(fuzzing)))]
mod x86;

use portable::Portable;

use crate::isa::Isa;

/// Lanes of a vector.
pub const LANES: usize = 16;

/// Lanes of half a vector.
pub(crate) const HALF: usize = LANES / 2;

/// Operations on vectors of 16 `f32` lanes.
///
/// A value of an implementing type proves that the processor has the instruction set: [`dispatch`] is the only place
/// that makes one. Methods are `unsafe` only where they touch memory through a pointer.
pub trait Simd: Copy + Send + Sync + 'static {
    /// Sixteen `f32` lanes.
    type V: Copy;
    /// Eight `f32` lanes: half a vector, for what does not fill a whole one.
    type H: Copy;
    /// Whether the register file holds 28 vectors of 16 lanes (AVX-512) and not 7 (AVX2). Kernels choose tiles by it.
    const WIDE: bool;

    /// Runs a kernel as a function of its own, which all callers share, instead of as a part of the caller.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;
    /// The same number in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// Loads 16 lanes.
    ///
    /// # Safety
    /// `p` must be valid for reads of 16 `f32`; no alignment is needed.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// Stores 16 lanes.
    ///
    /// # Safety
    /// `p` must be valid for writes of 16 `f32`; no alignment is needed.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// Stores 16 lanes past the caches: for what is too large to stay in them. [`Simd::fence`] has to follow the last one.
    ///
    /// # Safety
    /// `p` must be valid for writes of 16 `f32` and aligned to 64 bytes.
    unsafe fn stream(self, p: *mut f32, v: Self::V) {
        // SAFETY: as the caller vouches.
        unsafe { self.store(p, v) }
    }
    /// Makes what was streamed visible to other threads before anything later is.
    fn fence(self) {}
    /// Loads the first `n <= 16` lanes and sets the others to zero.
    ///
    /// # Safety
    /// `p` must be valid for reads of `n` `f32`.
    unsafe fn load_n(self, p: *const f32, n: usize) -> Self::V;
    /// Stores the first `n <= 16` lanes.
    ///
    /// # Safety
    /// `p` must be valid for writes of `n` `f32`.
    unsafe fn store_n(self, p: *mut f32, v: Self::V, n: usize);
    /// Loads `n <= 16` bytes as whole numbers.
    ///
    /// # Safety
    /// `p` must be valid for reads of `n` bytes.
    unsafe fn load_bytes(self, p: *const u8, n: usize) -> Self::V;
    /// Stores the first `n <= 16` lanes, whole numbers from 0 to 255, as bytes.
    ///
    /// # Safety
    /// `p` must be valid for writes of `n` bytes.
    unsafe fn store_bytes(self, p: *mut u8, v: Self::V, n: usize);

    /// The same number in each of 8 lanes.
    fn splat_half(self, x: f32) -> Self::H;
    /// Loads 8 lanes.
    ///
    /// # Safety
    /// `p` must be valid for reads of 8 `f32`; no alignment is needed.
    unsafe fn load_half(self, p: *const f32) -> Self::H;
    /// As [`Simd::fma`].
    fn fma_half(self, a: Self::H, b: Self::H, c: Self::H) -> Self::H;
    /// The first 8 lanes.
    fn first_half(self, v: Self::V) -> Self::H;
    /// 8 lanes and 8 zeros.
    fn widen(self, h: Self::H) -> Self::V;

    /// Asks for the cache line at `p` to be in the second-level cache soon. Any address is allowed.
    fn prefetch(self, _p: *const f32) {}
    /// The same for the first-level cache.
    fn prefetch_first(self, _p: *const f32) {}

    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the target has fused multiply-add
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `c - a * b`, rounded once where the target has fused multiply-add
    fn fnma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `if a > b { a } else { b }`: `b` where either is NaN, so `max(x, relu_input)` hands a NaN input on
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a < b { a } else { b }`: `b` where either is NaN
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// Square root, correctly rounded.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// Absolute value (clears the sign bit).
    fn abs(self, a: Self::V) -> Self::V;
    /// The magnitude of `a` with the sign of `b`.
    fn copysign(self, a: Self::V, b: Self::V) -> Self::V;
    /// Nearest integer, ties to even. For |a| < 2^22.
    fn round(self, a: Self::V) -> Self::V;
    /// `2^n` for integral lanes `n` in -126..=127.
    fn exp2i(self, n: Self::V) -> Self::V;
    /// `if a > b { x } else { y }` lane by lane; a NaN in `a` or `b` gives `y`.
    fn select_gt(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;

    /// `if a > b or a is NaN { x } else { y }` lane by lane: a maximum that keeps the last NaN.
    fn select_gt_or_nan(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;

    /// The matrix with rows and columns exchanged: lane `j` of row `i` is lane `i` of row `j`.
    fn transpose(self, rows: [Self::V; LANES]) -> [Self::V; LANES];
    /// In each four lanes others of the four: `LANE` holds their numbers as pairs of bits, the first lowest.
    fn pick<const LANE: i32>(self, v: Self::V) -> Self::V;

    /// All lanes zero.
    #[inline(always)]
    fn zero(self) -> Self::V {
        self.splat(0.0)
    }
    /// The lanes as an array.
    #[inline(always)]
    fn to_array(self, v: Self::V) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        // SAFETY: `out` holds 16 lanes.
        unsafe { self.store(out.as_mut_ptr(), v) };
        out
    }
    /// A vector from an array.
    #[inline(always)]
    fn from_array(self, a: &[f32; LANES]) -> Self::V {
        // SAFETY: `a` holds 16 lanes.
        unsafe { self.load(a.as_ptr()) }
    }
    /// The sum of the lanes by a fixed tree: lane i with lane i + 8, then 4, 2, 1.
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        let mut a = self.to_array(v);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                a[i] += a[i + half];
            }
        }
        a[0]
    }
    /// [`Simd::sum`] of 16 vectors: lane i is that of vector i.
    #[inline(always)]
    fn sums(self, vectors: [Self::V; LANES]) -> Self::V {
        let mut lanes = self.transpose(vectors);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] = self.add(lanes[i], lanes[i + half]);
            }
        }
        lanes[0]
    }
}

/// Loads `n <= 16` lanes, quickly where all are wanted; the others are zero.
///
/// # Safety
/// `p` must be valid for reads of `n` `f32`.
#[inline(always)]
pub(crate) unsafe fn load_part<S: Simd>(s: S, p: *const f32, n: usize) -> S::V {
    // SAFETY: as the caller vouches.
    unsafe { if n == LANES { s.load(p) } else { s.load_n(p, n) } }
}

/// Stores `n <= 16` lanes, quickly where all are wanted.
///
/// # Safety
/// `p` must be valid for writes of `n` `f32`.
#[inline(always)]
pub(crate) unsafe fn store_part<S: Simd>(s: S, p: *mut f32, v: S::V, n: usize) {
    // SAFETY: as the caller vouches.
    unsafe { if n == LANES { s.store(p, v) } else { s.store_n(p, v, n) } }
}

/// Bytes from which on an output is streamed: it would not stay in the second-level cache until it is read. Kernels with hardly
/// anything to do but write wait for memory then; the third-level cache takes that much more quickly.
pub(crate) const STREAMED: usize = 4 << 20;
pub(crate) const STREAMED_AT_ONCE: usize = 24 << 20;

/// Whether an output of `pixels` pixels, `stride` values apart, is streamed vector by vector: it has at least `large` bytes, and
/// all its vectors of 16 channels begin on a cache line.
pub(crate) fn streams(out: *const f32, pixels: usize, stride: usize, large: usize) -> bool {
    pixels * stride * size_of::<f32>() >= large && stride.is_multiple_of(LANES) && (out as usize).is_multiple_of(64)
}

/// A computation that is generic over the instruction set. Operations of [`Simd`] belong into `inline(always)` functions
/// and plain loops: a closure, or `array::map`, may be compiled as a function of its own without the instruction set,
/// where every operation becomes a call (measured: 40 times slower). `run` must be `#[inline(always)]`, so that its body is
/// compiled with the instruction set of the caller.
pub trait Kernel {
    /// What the computation returns.
    type Output;
    /// Runs with the given instruction set.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Runs a kernel with an instruction set that [`Isa`] has detected.
#[inline]
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa {
        Isa::Portable => kernel.run(Portable),
        // SAFETY: these values of `Isa` are only made after the processor was asked for the features.
        #[cfg(all(target_arch = "x86_64", not(fuzzing)))]
        Isa::Avx2 => unsafe { x86::with_avx2(kernel) },
        #[cfg(all(target_arch = "x86_64", not(fuzzing)))]
        Isa::Avx512 => unsafe { x86::with_avx512(kernel) },
        // What reads foreign bytes is fuzzed, not the kernels, whose other forms take the compiler minutes.
        #[cfg(any(not(target_arch = "x86_64"), fuzzing))]
        _ => kernel.run(Portable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Everything([f32; LANES], [f32; LANES]);
    impl Kernel for Everything {
        type Output = Vec<u32>;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Vec<u32> {
            let (a, b) = (s.from_array(&self.0), s.from_array(&self.1));
            let vectors = [
                s.add(a, b),
                s.sub(a, b),
                s.mul(a, b),
                s.div(a, b),
                s.max(a, b),
                s.min(a, b),
                s.sqrt(s.abs(a)),
                s.abs(a),
                s.copysign(a, b),
                s.round(a),
                s.exp2i(s.round(a)),
                s.select_gt(a, b, b, a),
                s.select_gt_or_nan(a, b, b, a),
                s.select_gt_or_nan(b, a, b, a),
                s.pick::<0b00_11_10_01>(a),
            ];
            let mut bits: Vec<u32> = vectors.iter().flat_map(|&v| s.to_array(v)).map(f32::to_bits).collect();
            bits.push(s.sum(a).to_bits());
            // SAFETY: the array holds 16 lanes.
            let later = unsafe { s.load_half(self.1[8..].as_ptr()) };
            for half in
                [s.splat_half(self.0[3]), later, s.fma_half(s.splat_half(2.0), s.first_half(a), s.first_half(b))]
            {
                bits.extend(s.to_array(s.widen(half)).map(f32::to_bits));
            }
            for n in 0..=LANES {
                let mut out = [7.0; LANES];
                // SAFETY: both arrays hold 16 lanes.
                unsafe { s.store_n(out.as_mut_ptr(), s.load_n(self.0.as_ptr(), n), n) };
                bits.extend(out.map(f32::to_bits));
                let (numbers, mut bytes) = (std::array::from_fn(|i| (17 * i) as f32), [7u8; LANES]);
                // SAFETY: the array holds 16 bytes.
                unsafe {
                    s.store_bytes(bytes.as_mut_ptr(), s.from_array(&numbers), n);
                    bits.extend(s.to_array(s.load_bytes(bytes.as_ptr(), LANES)).map(f32::to_bits));
                    bits.extend(s.to_array(s.load_bytes(bytes.as_ptr(), n)).map(f32::to_bits));
                }
                let whole = |i: usize| if i < n { 17 * i as u8 } else { 7 };
                assert_eq!(bytes, std::array::from_fn(whole));
            }
            bits
        }
    }

    #[test]
    fn every_instruction_set_computes_the_same_lanes() {
        let a: [f32; LANES] = core::array::from_fn(|i| (i as f32 - 7.3) * 1.37);
        let b: [f32; LANES] = core::array::from_fn(|i| if i == 3 { f32::NAN } else { (5.5 - i as f32) * 0.71 });
        let expect = dispatch(Isa::Portable, Everything(a, b));
        for isa in Isa::available() {
            let got = dispatch(isa, Everything(a, b));
            for (i, (&e, &g)) in expect.iter().zip(&got).enumerate() {
                let both_nan = f32::from_bits(e).is_nan() && f32::from_bits(g).is_nan();
                assert!(e == g || both_nan, "{isa:?}: value {i}: {} against {}", f32::from_bits(g), f32::from_bits(e));
            }
        }
    }

    struct Transposed;
    impl Kernel for Transposed {
        type Output = Vec<[f32; LANES]>;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Self::Output {
            let mut rows = [s.zero(); LANES];
            for i in 0..LANES {
                rows[i] = s.from_array(&std::array::from_fn(|j| (i * LANES + j) as f32));
            }
            s.transpose(rows).iter().map(|&row| s.to_array(row)).collect()
        }
    }

    #[test]
    fn rows_and_columns_change_places() {
        for isa in Isa::available() {
            for (i, row) in dispatch(isa, Transposed).iter().enumerate() {
                assert_eq!(*row, std::array::from_fn(|j| (j * LANES + i) as f32), "{isa:?}: row {i}");
            }
        }
    }

    struct Fused(f32, f32, f32);
    impl Kernel for Fused {
        type Output = (f32, f32);
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> (f32, f32) {
            let (a, b, c) = (s.splat(self.0), s.splat(self.1), s.splat(self.2));
            (s.to_array(s.fma(a, b, c))[5], s.to_array(s.fnma(a, b, c))[5])
        }
    }

    #[test]
    fn multiply_add_rounds_once_on_vector_paths() {
        let (a, b, c) = (1.0 + f32::EPSILON, 1.0 + f32::EPSILON, -1.0);
        for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::Portable) {
            assert_eq!(dispatch(isa, Fused(a, b, c)), (a.mul_add(b, c), (-a).mul_add(b, c)), "{isa:?}");
        }
    }
}
