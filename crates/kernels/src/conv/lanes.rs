//! Weights from PyTorch's layout, where a filter's values are a run, to vectors across filters or channels, and back: by
//! squares of 16 runs by 16 values whose rows and columns change places in registers.

use crate::simd::{LANES, Simd, load_part, store_part};

/// `out[i][l] = from[l * stride + i]` for `i < count` and `l < lanes`; the lanes beyond are zero. Rows of `out` are 16 values,
/// `step` apart.
///
/// # Safety
/// `from` is valid for `count` values of each lane, `out` for `count` rows.
#[inline(always)]
pub(super) unsafe fn gather<S: Simd>(
    s: S,
    from: *const f32,
    stride: usize,
    lanes: usize,
    count: usize,
    out: *mut f32,
    step: usize,
) {
    for i in (0..count).step_by(LANES) {
        let some = LANES.min(count - i);
        let mut rows = [s.zero(); LANES];
        // SAFETY: as the caller vouches.
        unsafe {
            if lanes == LANES && some == LANES {
                for l in 0..LANES {
                    rows[l] = s.load(from.add(l * stride + i));
                }
                let columns = s.transpose(rows);
                for j in 0..LANES {
                    s.store(out.add((i + j) * step), columns[j]);
                }
                continue;
            }
            for l in 0..LANES {
                if l < lanes {
                    rows[l] = load_part(s, from.add(l * stride + i), some);
                }
            }
            let columns = s.transpose(rows);
            for j in 0..LANES {
                if j < some {
                    s.store(out.add((i + j) * step), columns[j]);
                }
            }
        }
    }
}

/// The way back: `out[l * stride + i] = at(i)[l]`.
///
/// # Safety
/// `at` gives the addresses of `count` vectors; `out` is valid for `count` values of each lane.
#[inline(always)]
pub(super) unsafe fn scatter<S: Simd>(
    s: S,
    at: impl Fn(usize) -> *const f32,
    lanes: usize,
    count: usize,
    out: *mut f32,
    stride: usize,
) {
    for i in (0..count).step_by(LANES) {
        let some = LANES.min(count - i);
        let mut rows = [s.zero(); LANES];
        // SAFETY: as the caller vouches.
        unsafe {
            for j in 0..LANES {
                if j < some {
                    rows[j] = s.load(at(i + j));
                }
            }
            let columns = s.transpose(rows);
            for l in 0..LANES {
                if l < lanes {
                    store_part(s, out.add(l * stride + i), columns[l], some);
                }
            }
        }
    }
}
