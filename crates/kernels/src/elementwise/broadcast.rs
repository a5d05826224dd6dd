//! Sums over the pixels of each sample: the gradient of an operand that is the same for all pixels.

use super::map::{Extent, View};
use crate::Cpu;
use crate::pool::Shares;
use crate::real::Real;
use crate::simd::{Kernel, LANES, Simd, dispatch, load_part, store_part};

/// Reference of [`channel_sums`] on `[samples, channels, pixels]`.
pub fn channel_sums_reference<T: Real>(extent: Extent, a: &[T], b: Option<&[T]>, sums: &mut [T]) {
    for (i, sum) in sums.iter_mut().enumerate() {
        let run = i * extent.pixels..(i + 1) * extent.pixels;
        *sum = run.map(|j| b.map_or(a[j], |b| a[j] * b[j])).sum();
    }
}

/// `sums[n, c] = Σ over pixels of a[n, p, c]·b[n, p, c]`, or of `a` alone: one chain over the pixels in order.
pub fn channel_sums(cpu: &Cpu, extent: Extent, a: View, b: Option<View>, sums: &mut [f32]) {
    assert_eq!(sums.len(), extent.samples * extent.channels, "one sum a sample and channel");
    if extent.elements() == 0 {
        sums.fill(0.0);
        return;
    }
    let (a, a_strides) = a.checked(extent);
    let (b, b_strides) = b.map_or((std::ptr::null(), [0; 2]), |b| b.checked(extent));
    let addresses = Addresses { a, a_strides, b, b_strides };
    let blocks = extent.channels.div_ceil(LANES);
    let shares = Shares::new(sums);
    cpu.pool().run(extent.samples * blocks, &|task| {
        let (sample, c) = (task / blocks, task % blocks * LANES);
        let n = LANES.min(extent.channels - c);
        // SAFETY: every task has its own sample and channels.
        let sums = unsafe { shares.part(sample * extent.channels + c, n) };
        dispatch(cpu.isa(), Block { addresses: &addresses, sample, c, pixels: extent.pixels, sums });
    });
}

struct Addresses {
    a: *const f32,
    a_strides: [usize; 2],
    b: *const f32,
    b_strides: [usize; 2],
}
// SAFETY: read only.
unsafe impl Sync for Addresses {}

struct Block<'a> {
    addresses: &'a Addresses,
    sample: usize,
    c: usize,
    pixels: usize,
    sums: &'a mut [f32],
}

impl Kernel for Block<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.sums.len();
        let at = |strides: [usize; 2], p: usize| self.sample * strides[0] + p * strides[1] + self.c;
        let Addresses { a, a_strides, b, b_strides } = *self.addresses;
        let mut sum = s.zero();
        for p in 0..self.pixels {
            // SAFETY: the views were checked for the whole extent; n channels are left at c.
            unsafe {
                let x = load_part(s, a.add(at(a_strides, p)), n);
                sum = if b.is_null() { s.add(sum, x) } else { s.fma(x, load_part(s, b.add(at(b_strides, p)), n), sum) };
            }
        }
        // SAFETY: n sums are left.
        unsafe { store_part(s, self.sums.as_mut_ptr(), sum, n) };
    }
}
