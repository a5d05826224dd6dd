//! AVX2 with FMA (two registers a vector) and AVX-512 (one).
//!
//! The methods are `inline(always)` and end up inside `with_avx2` or `with_avx512`, which carry the target features; only
//! there do the intrinsics become single instructions.

use super::{Kernel, LANES, Simd};
use core::arch::x86_64::*;

/// AVX2 and FMA.
#[derive(Clone, Copy)]
pub struct Avx2(());

/// AVX-512 F, BW, DQ and VL, with AVX2 and FMA.
#[derive(Clone, Copy)]
pub struct Avx512(());

/// # Safety
/// The processor must have AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
#[inline(never)]
pub(super) unsafe fn with_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

/// # Safety
/// The processor must have AVX-512 F, BW, DQ, VL, AVX2 and FMA.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
#[inline(never)]
pub(super) unsafe fn with_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

// SAFETY (of every unsafe block below): a token exists only inside `with_avx512` or `with_avx2`, so the processor has
// the instructions; memory is touched only in the methods that are themselves unsafe and state what they need.

/// What both sets do by the same instructions.
macro_rules! shared {
    () => {
        type H = __m256;

        #[inline(always)]
        fn splat_half(self, x: f32) -> __m256 {
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load_half(self, p: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(p) }
        }
        #[inline(always)]
        fn fma_half(self, a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        fn prefetch(self, p: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
        #[inline(always)]
        fn prefetch_first(self, p: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        }
        #[inline(always)]
        fn fence(self) {
            unsafe { _mm_sfence() }
        }
    };
}

impl Simd for Avx512 {
    type V = __m512;
    const WIDE: bool = true;
    shared!();

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        unsafe { with_avx512(kernel) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn stream(self, p: *mut f32, v: __m512) {
        unsafe { _mm512_stream_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_n(self, p: *const f32, n: usize) -> __m512 {
        unsafe { _mm512_maskz_loadu_ps(((1u32 << n) - 1) as u16, p) }
    }
    #[inline(always)]
    unsafe fn store_n(self, p: *mut f32, v: __m512, n: usize) {
        unsafe { _mm512_mask_storeu_ps(p, ((1u32 << n) - 1) as u16, v) }
    }
    #[inline(always)]
    unsafe fn load_bytes(self, p: *const u8, n: usize) -> __m512 {
        unsafe {
            let bytes = _mm_maskz_loadu_epi8(((1u32 << n) - 1) as u16, p.cast());
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, v: __m512, n: usize) {
        unsafe { _mm512_mask_cvtepi32_storeu_epi8(p.cast(), ((1u32 << n) - 1) as u16, _mm512_cvtps_epi32(v)) }
    }
    #[inline(always)]
    fn first_half(self, v: __m512) -> __m256 {
        unsafe { _mm512_castps512_ps256(v) }
    }
    #[inline(always)]
    fn widen(self, h: __m256) -> __m512 {
        unsafe { _mm512_zextps256_ps512(h) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn fnma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fnmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        unsafe { _mm512_abs_ps(a) }
    }
    #[inline(always)]
    fn copysign(self, a: __m512, b: __m512) -> __m512 {
        unsafe {
            let sign = _mm512_set1_ps(-0.0);
            _mm512_or_ps(_mm512_andnot_ps(sign, a), _mm512_and_ps(sign, b))
        }
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<0>(a) }
    }
    #[inline(always)]
    fn exp2i(self, n: __m512) -> __m512 {
        unsafe {
            let n = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(n))
        }
    }
    #[inline(always)]
    fn select_gt(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), y, x) }
    }
    #[inline(always)]
    fn pick<const LANE: i32>(self, v: __m512) -> __m512 {
        unsafe { _mm512_permute_ps::<LANE>(v) }
    }
    #[inline(always)]
    fn transpose(self, mut r: [__m512; LANES]) -> [__m512; LANES] {
        unsafe {
            // Pairs of rows, then fours: after this, 128-bit lane `l` of r[4 g + c] is column 4 l + c of rows 4 g to 4 g + 3.
            for g in 0..4 {
                let [a, b, c, d] = [r[4 * g], r[4 * g + 1], r[4 * g + 2], r[4 * g + 3]];
                let (ab, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
                let (cd, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
                let [ab, ab_high, cd, cd_high] =
                    [_mm512_castps_pd(ab), _mm512_castps_pd(ab_high), _mm512_castps_pd(cd), _mm512_castps_pd(cd_high)];
                r[4 * g] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
                r[4 * g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
                r[4 * g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_high, cd_high));
                r[4 * g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_high, cd_high));
            }
            // The four fours of each column, by 128-bit lanes: even ones by 0b10_00_10_00, odd ones by 0b11_01_11_01.
            for c in 0..4 {
                let (even, odd) = (
                    _mm512_shuffle_f32x4::<0b10_00_10_00>(r[c], r[4 + c]),
                    _mm512_shuffle_f32x4::<0b11_01_11_01>(r[c], r[4 + c]),
                );
                let (even2, odd2) = (
                    _mm512_shuffle_f32x4::<0b10_00_10_00>(r[8 + c], r[12 + c]),
                    _mm512_shuffle_f32x4::<0b11_01_11_01>(r[8 + c], r[12 + c]),
                );
                r[c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(even, even2);
                r[4 + c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(odd, odd2);
                r[8 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(even, even2);
                r[12 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(odd, odd2);
            }
            r
        }
    }
    #[inline(always)]
    fn select_gt_or_nan(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        unsafe {
            let greater = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b);
            _mm512_mask_blend_ps(greater | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a), y, x)
        }
    }
}

/// The two halves of a vector.
type Pair = [__m256; 2];

/// A mask with the sign bit set in the first `n` of 16 lanes, as two halves of `i32` lanes.
#[inline(always)]
fn mask(n: usize) -> [__m256i; 2] {
    static SIGNS: [i32; 32] = {
        let mut signs = [0; 32];
        let mut i = 0;
        while i < 16 {
            signs[i] = -1;
            i += 1;
        }
        signs
    };
    // SAFETY: n <= 16, so both loads stay inside the 32 entries.
    unsafe {
        let p = SIGNS.as_ptr().add(16 - n);
        [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(8).cast())]
    }
}

#[inline(always)]
fn transpose_8(mut r: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: only called with AVX2.
    unsafe {
        for g in 0..2 {
            let [a, b, c, d] = [r[4 * g], r[4 * g + 1], r[4 * g + 2], r[4 * g + 3]];
            let (ab, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let (cd, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            r[4 * g] = _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd);
            r[4 * g + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd);
            r[4 * g + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high);
            r[4 * g + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high);
        }
        for c in 0..4 {
            let (low, high) = (r[c], r[4 + c]);
            r[c] = _mm256_permute2f128_ps::<0x20>(low, high);
            r[4 + c] = _mm256_permute2f128_ps::<0x31>(low, high);
        }
        r
    }
}

#[inline(always)]
fn each(a: Pair, b: Pair, f: impl Fn(__m256, __m256) -> __m256) -> Pair {
    [f(a[0], b[0]), f(a[1], b[1])]
}

impl Simd for Avx2 {
    type V = Pair;
    const WIDE: bool = false;
    shared!();

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        unsafe { with_avx2(kernel) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Pair {
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Pair {
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Pair) {
        unsafe {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn stream(self, p: *mut f32, v: Pair) {
        unsafe {
            _mm256_stream_ps(p, v[0]);
            _mm256_stream_ps(p.add(8), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn load_n(self, p: *const f32, n: usize) -> Pair {
        let m = mask(n);
        unsafe { [_mm256_maskload_ps(p, m[0]), _mm256_maskload_ps(p.wrapping_add(8), m[1])] }
    }
    #[inline(always)]
    unsafe fn store_n(self, p: *mut f32, v: Pair, n: usize) {
        let m = mask(n);
        unsafe {
            _mm256_maskstore_ps(p, m[0], v[0]);
            _mm256_maskstore_ps(p.wrapping_add(8), m[1], v[1]);
        }
    }
    #[inline(always)]
    unsafe fn load_bytes(self, p: *const u8, n: usize) -> Pair {
        let mut bytes = [0u8; LANES];
        unsafe {
            if n == LANES {
                bytes = *p.cast::<[u8; LANES]>();
            } else {
                p.copy_to_nonoverlapping(bytes.as_mut_ptr(), n);
            }
            let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
            let high = _mm_srli_si128::<8>(bytes);
            [_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(high))]
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, v: Pair, n: usize) {
        unsafe {
            // Packing works within 128-bit lanes; the permutation puts the words in order.
            let words = _mm256_packus_epi32(_mm256_cvtps_epi32(v[0]), _mm256_cvtps_epi32(v[1]));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let packed = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            let mut bytes = [0u8; LANES];
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), packed);
            if n == LANES {
                *p.cast::<[u8; LANES]>() = bytes;
            } else {
                p.copy_from_nonoverlapping(bytes.as_ptr(), n);
            }
        }
    }
    #[inline(always)]
    fn first_half(self, v: Pair) -> __m256 {
        v[0]
    }
    #[inline(always)]
    fn widen(self, h: __m256) -> Pair {
        unsafe { [h, _mm256_setzero_ps()] }
    }
    #[inline(always)]
    fn add(self, a: Pair, b: Pair) -> Pair {
        each(a, b, |a, b| unsafe { _mm256_add_ps(a, b) })
    }
    #[inline(always)]
    fn sub(self, a: Pair, b: Pair) -> Pair {
        each(a, b, |a, b| unsafe { _mm256_sub_ps(a, b) })
    }
    #[inline(always)]
    fn mul(self, a: Pair, b: Pair) -> Pair {
        each(a, b, |a, b| unsafe { _mm256_mul_ps(a, b) })
    }
    #[inline(always)]
    fn div(self, a: Pair, b: Pair) -> Pair {
        each(a, b, |a, b| unsafe { _mm256_div_ps(a, b) })
    }
    #[inline(always)]
    fn fma(self, a: Pair, b: Pair, c: Pair) -> Pair {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }
    #[inline(always)]
    fn fnma(self, a: Pair, b: Pair, c: Pair) -> Pair {
        unsafe { [_mm256_fnmadd_ps(a[0], b[0], c[0]), _mm256_fnmadd_ps(a[1], b[1], c[1])] }
    }
    #[inline(always)]
    fn max(self, a: Pair, b: Pair) -> Pair {
        each(a, b, |a, b| unsafe { _mm256_max_ps(a, b) })
    }
    #[inline(always)]
    fn min(self, a: Pair, b: Pair) -> Pair {
        each(a, b, |a, b| unsafe { _mm256_min_ps(a, b) })
    }
    #[inline(always)]
    fn sqrt(self, a: Pair) -> Pair {
        unsafe { [_mm256_sqrt_ps(a[0]), _mm256_sqrt_ps(a[1])] }
    }
    #[inline(always)]
    fn abs(self, a: Pair) -> Pair {
        let sign = self.splat(-0.0);
        each(sign, a, |s, a| unsafe { _mm256_andnot_ps(s, a) })
    }
    #[inline(always)]
    fn copysign(self, a: Pair, b: Pair) -> Pair {
        let sign = self.splat(-0.0);
        let magnitude = self.abs(a);
        let signs = each(sign, b, |s, b| unsafe { _mm256_and_ps(s, b) });
        each(magnitude, signs, |m, s| unsafe { _mm256_or_ps(m, s) })
    }
    #[inline(always)]
    fn round(self, a: Pair) -> Pair {
        unsafe { [_mm256_round_ps::<8>(a[0]), _mm256_round_ps::<8>(a[1])] }
    }
    #[inline(always)]
    fn exp2i(self, n: Pair) -> Pair {
        let half = |n: __m256| unsafe {
            let n = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(n))
        };
        [half(n[0]), half(n[1])]
    }
    #[inline(always)]
    fn select_gt(self, a: Pair, b: Pair, x: Pair, y: Pair) -> Pair {
        let half = |i: usize| unsafe { _mm256_blendv_ps(y[i], x[i], _mm256_cmp_ps::<_CMP_GT_OQ>(a[i], b[i])) };
        [half(0), half(1)]
    }
    #[inline(always)]
    fn pick<const LANE: i32>(self, v: Pair) -> Pair {
        unsafe { [_mm256_permute_ps::<LANE>(v[0]), _mm256_permute_ps::<LANE>(v[1])] }
    }
    #[inline(always)]
    fn transpose(self, r: [Pair; LANES]) -> [Pair; LANES] {
        let mut out = [[r[0][0]; 2]; LANES];
        // Four squares of 8: rows i.. of half j become rows j.. of half i.
        for i in 0..2 {
            for j in 0..2 {
                let mut square = [r[0][0]; 8];
                for k in 0..8 {
                    square[k] = r[8 * i + k][j];
                }
                let square = transpose_8(square);
                for k in 0..8 {
                    out[8 * j + k][i] = square[k];
                }
            }
        }
        out
    }
    #[inline(always)]
    fn select_gt_or_nan(self, a: Pair, b: Pair, x: Pair, y: Pair) -> Pair {
        let half = |i: usize| unsafe {
            let greater = _mm256_cmp_ps::<_CMP_GT_OQ>(a[i], b[i]);
            _mm256_blendv_ps(y[i], x[i], _mm256_or_ps(greater, _mm256_cmp_ps::<_CMP_UNORD_Q>(a[i], a[i])))
        };
        [half(0), half(1)]
    }
}
