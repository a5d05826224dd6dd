//! The transforms, each applied to the columns and then to the rows of a square, 16 channels at a time.

use super::{POINTS, SIDE};
use crate::simd::{LANES, Simd};

/// Bᵀ times a column of six.
#[inline(always)]
fn source_1d<S: Simd>(s: S, d: [S::V; SIDE]) -> [S::V; SIDE] {
    let (two, four) = (s.splat(2.0), s.splat(4.0));
    let (a, b) = (s.fnma(four, d[2], d[4]), s.fnma(four, d[1], d[3]));
    let (c, e) = (s.sub(d[4], d[2]), s.sub(d[3], d[1]));
    [
        s.fma(four, s.sub(d[0], d[2]), c),
        s.add(a, b),
        s.sub(a, b),
        s.fma(two, e, c),
        s.fnma(two, e, c),
        s.fnma(four, e, s.sub(d[5], d[3])),
    ]
}

/// Aᵀ times a column of six: the outputs of a kernel of `R`, 4 for 3 and 2 for 5.
#[inline(always)]
fn target_1d<S: Simd, const R: usize>(s: S, d: [S::V; SIDE]) -> [S::V; 4] {
    let (two, four, eight) = (s.splat(2.0), s.splat(4.0), s.splat(8.0));
    let (p, m) = (s.add(d[1], d[2]), s.sub(d[1], d[2]));
    let (q, t) = (s.add(d[3], d[4]), s.sub(d[3], d[4]));
    let (first, second) = (s.add(d[0], s.add(p, q)), s.fma(two, t, m));
    if R == 3 {
        [first, second, s.fma(four, q, p), s.add(s.fma(eight, t, m), d[5])]
    } else {
        [first, s.add(second, d[5]), d[5], d[5]]
    }
}

/// A times a column of outputs' gradients.
#[inline(always)]
fn gradient_1d<S: Simd, const R: usize>(s: S, d: [S::V; 4]) -> [S::V; SIDE] {
    let (two, four, eight) = (s.splat(2.0), s.splat(4.0), s.splat(8.0));
    if R == 3 {
        let (even, odd) = (s.add(d[0], d[2]), s.add(d[1], d[3]));
        let (even2, odd2) = (s.fma(four, d[2], d[0]), s.fma(eight, d[3], s.mul(two, d[1])));
        [d[0], s.add(even, odd), s.sub(even, odd), s.add(even2, odd2), s.sub(even2, odd2), d[3]]
    } else {
        [d[0], s.add(d[0], d[1]), s.sub(d[0], d[1]), s.fma(two, d[1], d[0]), s.fnma(two, d[1], d[0]), d[1]]
    }
}

/// G times a column of a kernel.
#[inline(always)]
fn kernel_1d<S: Simd, const R: usize>(s: S, g: [S::V; 5]) -> [S::V; SIDE] {
    let (two, four) = (s.splat(2.0), s.splat(4.0));
    let (mut even, mut odd) = (s.add(g[0], g[2]), g[1]);
    let (mut even2, mut odd2) = (s.fma(four, g[2], g[0]), s.mul(two, g[1]));
    if R == 5 {
        (even, odd) = (s.add(even, g[4]), s.add(odd, g[3]));
        (even2, odd2) = (s.fma(s.splat(16.0), g[4], even2), s.fma(s.splat(8.0), g[3], odd2));
    }
    let (sixth, small) = (s.splat(-1.0 / 6.0), s.splat(1.0 / 24.0));
    [
        s.mul(s.splat(0.25), g[0]),
        s.mul(sixth, s.add(even, odd)),
        s.mul(sixth, s.sub(even, odd)),
        s.mul(small, s.add(even2, odd2)),
        s.mul(small, s.sub(even2, odd2)),
        g[R - 1],
    ]
}

/// Gᵀ times a column of sums: a column of the kernel's gradient.
#[inline(always)]
fn kernel_gradient_1d<S: Simd, const R: usize>(s: S, m: [S::V; SIDE]) -> [S::V; 5] {
    let (sixth, small) = (s.splat(-1.0 / 6.0), s.splat(1.0 / 24.0));
    let (p, q) = (s.mul(sixth, s.add(m[1], m[2])), s.mul(sixth, s.sub(m[1], m[2])));
    let (e, o) = (s.mul(small, s.add(m[3], m[4])), s.mul(small, s.sub(m[3], m[4])));
    let first = s.fma(s.splat(0.25), m[0], s.add(p, e));
    let second = s.fma(s.splat(2.0), o, q);
    let third = s.fma(s.splat(4.0), e, p);
    if R == 3 {
        return [first, second, s.add(third, m[5]), m[5], m[5]];
    }
    [first, second, third, s.fma(s.splat(8.0), o, q), s.add(s.fma(s.splat(16.0), e, p), m[5])]
}

/// Asks for 16 channels of the next tile's sources. Its first two columns are mostly this one's last.
#[inline(always)]
pub(super) fn ask_source<S: Simd>(s: S, next: &[*const f32; POINTS], offset: usize) {
    for i in 0..SIDE {
        for j in 2..SIDE {
            s.prefetch_first(next[i * SIDE + j].wrapping_add(offset));
        }
    }
}

/// Writes Bᵀ d B of 16 channels: a vector a point, `plane` values apart. `lanes` channels are read from each of `rows`.
///
/// # Safety
/// The addresses, `offset` values on, are valid for `lanes` values, `out` for all points.
#[inline(always)]
pub(super) unsafe fn source<S: Simd>(
    s: S,
    rows: &[*const f32; POINTS],
    offset: usize,
    lanes: usize,
    out: *mut f32,
    plane: usize,
) {
    let mut half = [[s.zero(); SIDE]; SIDE];
    for j in 0..SIDE {
        let mut d = [s.zero(); SIDE];
        for i in 0..SIDE {
            // SAFETY: as the caller vouches.
            d[i] = unsafe { crate::simd::load_part(s, rows[i * SIDE + j].add(offset), lanes) };
        }
        let column = source_1d(s, d);
        for i in 0..SIDE {
            half[i][j] = column[i];
        }
    }
    for i in 0..SIDE {
        let row = source_1d(s, half[i]);
        for j in 0..SIDE {
            // SAFETY: as the caller vouches.
            unsafe { s.store(out.add((i * SIDE + j) * plane), row[j]) };
        }
    }
}

/// Aᵀ m A of 16 channels: the outputs, of which the first 7 − `R` rows and columns count.
///
/// # Safety
/// `m` is valid for all points, `plane` values apart.
#[inline(always)]
pub(super) unsafe fn target<S: Simd, const R: usize>(s: S, m: *const f32, plane: usize) -> [[S::V; 4]; 4] {
    let mut half = [[s.zero(); SIDE]; 4];
    for j in 0..SIDE {
        let mut d = [s.zero(); SIDE];
        for i in 0..SIDE {
            // SAFETY: as the caller vouches.
            d[i] = unsafe { s.load(m.add((i * SIDE + j) * plane)) };
        }
        let column = target_1d::<S, R>(s, d);
        for i in 0..4 {
            half[i][j] = column[i];
        }
    }
    let mut out = [[s.zero(); 4]; 4];
    for i in 0..SIDE + 1 - R {
        out[i] = target_1d::<S, R>(s, half[i]);
    }
    out
}

/// Writes A dY Aᵀ of 16 filters, as [`source`]; `rows` holds the outputs' addresses, row by row.
///
/// # Safety
/// As [`source`].
#[inline(always)]
pub(super) unsafe fn gradient<S: Simd, const R: usize>(
    s: S,
    rows: &[*const f32; 16],
    offset: usize,
    lanes: usize,
    out: *mut f32,
    plane: usize,
) {
    let side = SIDE + 1 - R;
    let mut half = [[s.zero(); 4]; SIDE];
    for j in 0..side {
        let mut d = [s.zero(); 4];
        for i in 0..side {
            // SAFETY: as the caller vouches.
            d[i] = unsafe { crate::simd::load_part(s, rows[i * side + j].add(offset), lanes) };
        }
        let column = gradient_1d::<S, R>(s, d);
        for i in 0..SIDE {
            half[i][j] = column[i];
        }
    }
    for i in 0..SIDE {
        let row = gradient_1d::<S, R>(s, half[i]);
        for j in 0..SIDE {
            // SAFETY: as the caller vouches.
            unsafe { s.store(out.add((i * SIDE + j) * plane), row[j]) };
        }
    }
}

/// Writes G g Gᵀ of 16 kernels: a vector a point, `plane` values apart. `g` holds a vector an element; the kernels are turned
/// by half a turn where `turned`.
///
/// # Safety
/// `g` is valid for all elements, `out` for all points.
#[inline(always)]
pub(super) unsafe fn kernel<S: Simd, const R: usize>(s: S, g: *const f32, turned: bool, out: *mut f32, plane: usize) {
    let mut half = [[s.zero(); 5]; SIDE];
    for j in 0..R {
        let mut d = [s.zero(); 5];
        for i in 0..R {
            let tap = if turned { R * R - 1 - (i * R + j) } else { i * R + j };
            // SAFETY: as the caller vouches.
            d[i] = unsafe { s.load(g.add(tap * LANES)) };
        }
        let column = kernel_1d::<S, R>(s, d);
        for i in 0..SIDE {
            half[i][j] = column[i];
        }
    }
    for i in 0..SIDE {
        let row = kernel_1d::<S, R>(s, half[i]);
        for j in 0..SIDE {
            // SAFETY: as the caller vouches.
            unsafe { s.store(out.add((i * SIDE + j) * plane), row[j]) };
        }
    }
}

/// Writes Gᵀ m G of 16 kernels' sums: a vector an element of their gradients.
///
/// # Safety
/// `m` is valid for all points, `plane` values apart, `out` for all elements.
#[inline(always)]
pub(super) unsafe fn kernel_gradient<S: Simd, const R: usize>(s: S, m: *const f32, plane: usize, out: *mut f32) {
    let mut half = [[s.zero(); SIDE]; 5];
    for j in 0..SIDE {
        let mut d = [s.zero(); SIDE];
        for i in 0..SIDE {
            // SAFETY: as the caller vouches.
            d[i] = unsafe { s.load(m.add((i * SIDE + j) * plane)) };
        }
        let column = kernel_gradient_1d::<S, R>(s, d);
        for i in 0..R {
            half[i][j] = column[i];
        }
    }
    for i in 0..R {
        let row = kernel_gradient_1d::<S, R>(s, half[i]);
        for j in 0..R {
            // SAFETY: as the caller vouches.
            unsafe { s.store(out.add((i * R + j) * LANES), row[j]) };
        }
    }
}
