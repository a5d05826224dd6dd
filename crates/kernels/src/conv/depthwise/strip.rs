//! Some neighbouring pixels by one or two vectors of channels, in registers.
//!
//! A multiply-add with an element of its own reads a source value for each pixel. Three neighbouring elements of a kernel row
//! share what they see: 4 pixels are 12 multiply-adds for 6 source vectors and 3 of weights. Of a single vector of channels
//! 8 pixels are summed, because 4 chains would wait for one another. Pixels at the left and right border read zeros where the
//! picture ends; kernel rows that see only padding are left out. The last strip of a row stores the pixels that there are.

use std::ops::Range;

use super::of_group;
use crate::conv::Activation;
use crate::simd::{LANES, Simd, load_part};

/// Kernel elements that neighbouring source columns meet, three or one.
pub(super) struct Run {
    /// The source row and column that the first of them sees from the first target of all, and the pixel that is there, counted
    /// as if each row went on in the next.
    pub at: [isize; 2],
    pub pixel: isize,
    pub columns: usize,
    /// Its place among the packed weights.
    pub weights: usize,
}

/// A row of targets. Null pointers mean: none.
pub(super) struct Strip<'a> {
    /// Those whose rows are in the picture.
    pub runs: &'a [Run],
    /// The source pixel of an offset of 0 from the row's first target, whether or not it is in the picture.
    pub x: *const f32,
    /// Values from a source pixel to the next.
    pub stride: usize,
    /// Source columns that the first target is on, from a target to the next, and from one that is read to the next.
    pub column: usize,
    pub step: usize,
    pub gap: usize,
    /// Values from a source column that is read to the next.
    pub far: usize,
    /// The source's columns.
    pub width: usize,
    pub weights: *const f32,
    pub weights_stride: usize,
    /// The target of column 0, and values from a target to the next.
    pub target: *mut f32,
    pub target_step: usize,
    /// Whether sums are streamed: see [`crate::simd::streams`].
    pub stream: bool,
    pub bias: *const f32,
    pub residual: *const f32,
    pub residual_step: usize,
    pub activation: Activation,
}

impl Strip<'_> {
    /// All pixels and channels of a row, of whose columns `inside` see no border.
    ///
    /// # Safety
    /// The pointers lead to pixels of `channels` values; what is outside the picture is not read.
    #[inline(always)]
    pub unsafe fn row<S: Simd, const STEP: usize, const G: usize, const GAP: bool>(
        &self,
        s: S,
        columns: usize,
        inside: &Range<usize>,
        channels: usize,
    ) {
        let mut c = 0;
        // SAFETY: handed on from the caller; the last vector reads and writes only the channels that exist.
        unsafe {
            if S::WIDE && G == 1 {
                while c + 2 * LANES <= channels {
                    self.along::<S, 4, 2, STEP, G, GAP>(s, columns, inside, c, LANES);
                    c += 2 * LANES;
                }
            }
            if S::WIDE {
                while c < channels {
                    let lanes = LANES.min(channels - c);
                    if G == 1 && STEP != 2 && columns > 4 {
                        self.along::<S, 8, 1, STEP, G, GAP>(s, columns, inside, c, lanes);
                    } else {
                        self.along::<S, 4, 1, STEP, G, GAP>(s, columns, inside, c, lanes);
                    }
                    c += LANES;
                }
                return;
            }
            while c + LANES <= channels {
                self.along::<S, 4, 1, STEP, G, GAP>(s, columns, inside, c, LANES);
                c += LANES;
            }
            if c < channels {
                // As a remainder, so that the compiler knows that there are never all.
                self.along::<S, 4, 1, STEP, G, GAP>(s, columns, inside, c, channels % LANES);
            }
        }
    }

    /// `NV` vectors of channels of all pixels, `P` at a time.
    #[inline(always)]
    unsafe fn along<S: Simd, const P: usize, const NV: usize, const STEP: usize, const G: usize, const GAP: bool>(
        &self,
        s: S,
        columns: usize,
        inside: &Range<usize>,
        c: usize,
        lanes: usize,
    ) {
        for column in (0..columns).step_by(P) {
            // SAFETY: handed on from the caller.
            unsafe {
                if inside.start <= column && column + P <= inside.end {
                    self.pixels::<S, P, NV, STEP, G, GAP, false>(s, column, P, c, lanes);
                } else {
                    self.pixels::<S, P, NV, STEP, G, GAP, true>(s, column, P.min(columns - column), c, lanes);
                }
            }
        }
    }

    /// `P` pixels, the first `count` of which exist. `EDGE`: some of the source columns may be outside the picture.
    #[inline(always)]
    unsafe fn pixels<
        S: Simd,
        const P: usize,
        const NV: usize,
        const STEP: usize,
        const G: usize,
        const GAP: bool,
        const EDGE: bool,
    >(
        &self,
        s: S,
        column: usize,
        count: usize,
        c: usize,
        lanes: usize,
    ) {
        let on = if GAP { self.column + column * self.step } else { column * STEP };
        let mut acc = [[s.zero(); NV]; P];
        let target = self.target.wrapping_add(column * self.target_step + c);
        let residual = self.residual.wrapping_add(column * self.residual_step + c);
        // SAFETY: handed on from the caller.
        unsafe {
            for run in self.runs {
                let first = run.at[1].wrapping_add_unsigned(on);
                let pixel = run.pixel.wrapping_add_unsigned(on);
                let from = self.x.wrapping_offset(pixel.wrapping_mul(self.stride as isize)).wrapping_add(c);
                let weights = self.weights.wrapping_add(run.weights + c);
                if STEP > 0 && run.columns == 3 {
                    for v in 0..NV {
                        let mut w = [[s.zero(); G]; 3];
                        for k in 0..3 {
                            for i in 0..G {
                                w[k][i] = s.load(weights.add((k * G + i) * self.weights_stride + v * LANES));
                            }
                        }
                        for j in 0..(P - 1) * STEP + 3 {
                            let x = self.source::<S, NV, GAP, EDGE>(s, from, first, j, v, lanes);
                            for i in 0..G {
                                let x = of_group::<S, G>(s, x, i);
                                for k in 0..3 {
                                    if j >= k && (j - k).is_multiple_of(STEP) && (j - k) / STEP < P {
                                        let p = (j - k) / STEP;
                                        acc[p][v] = s.fma(x, w[k][i], acc[p][v]);
                                    }
                                }
                            }
                        }
                    }
                } else {
                    for v in 0..NV {
                        let mut w = [s.zero(); G];
                        for i in 0..G {
                            w[i] = s.load(weights.add(i * self.weights_stride + v * LANES));
                        }
                        for p in 0..P {
                            let x = self.source::<S, NV, GAP, EDGE>(s, from, first, p * STEP.max(1), v, lanes);
                            for i in 0..G {
                                acc[p][v] = s.fma(of_group::<S, G>(s, x, i), w[i], acc[p][v]);
                            }
                        }
                    }
                }
            }
            // By constant numbers, so that the sums stay in registers until here.
            self.finish(s, 0, target, residual, c, lanes, acc[0]);
            if P > 1 && (!EDGE || 1 < count) {
                self.finish(s, 1, target, residual, c, lanes, acc[1 % P]);
            }
            if P > 2 && (!EDGE || 2 < count) {
                self.finish(s, 2, target, residual, c, lanes, acc[2 % P]);
            }
            if P > 3 && (!EDGE || 3 < count) {
                self.finish(s, 3, target, residual, c, lanes, acc[3 % P]);
            }
            if P > 4 && (!EDGE || 4 < count) {
                self.finish(s, 4, target, residual, c, lanes, acc[4 % P]);
            }
            if P > 5 && (!EDGE || 5 < count) {
                self.finish(s, 5, target, residual, c, lanes, acc[5 % P]);
            }
            if P > 6 && (!EDGE || 6 < count) {
                self.finish(s, 6, target, residual, c, lanes, acc[6 % P]);
            }
            if P > 7 && (!EDGE || 7 < count) {
                self.finish(s, 7, target, residual, c, lanes, acc[7 % P]);
            }
        }
    }

    /// The `j`th source column that is read from the one numbered `first` on, or zeros.
    #[inline(always)]
    unsafe fn source<S: Simd, const NV: usize, const GAP: bool, const EDGE: bool>(
        &self,
        s: S,
        from: *const f32,
        first: isize,
        j: usize,
        v: usize,
        lanes: usize,
    ) -> S::V {
        let [gap, far] = if GAP { [self.gap, self.far] } else { [1, self.stride] };
        if EDGE && first.wrapping_add_unsigned(j * gap) as usize >= self.width {
            return s.zero();
        }
        let p = from.wrapping_add(j * far + v * LANES);
        // Two vectors are whole ones; a single one may be a part, which AVX-512 loads as quickly.
        // SAFETY: handed on from the caller: the pixel is in the picture.
        unsafe {
            match (NV, S::WIDE) {
                (2, _) => s.load(p),
                (_, true) => s.load_n(p, lanes),
                (_, false) => load_part(s, p, lanes),
            }
        }
    }

    /// Bias, residual and activation of the sums of the `p`th pixel from `target` on, and their way to memory.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    unsafe fn finish<S: Simd, const NV: usize>(
        &self,
        s: S,
        p: usize,
        target: *mut f32,
        residual: *const f32,
        c: usize,
        lanes: usize,
        sums: [S::V; NV],
    ) {
        // SAFETY: handed on from the caller.
        unsafe {
            let out = target.wrapping_add(p * self.target_step);
            let residual = residual.wrapping_add(p * self.residual_step);
            for v in 0..NV {
                let mut y = sums[v];
                if !self.bias.is_null() {
                    y = s.add(y, s.load_n(self.bias.add(c + v * LANES), lanes));
                }
                if !self.residual.is_null() {
                    y = s.add(y, s.load_n(residual.add(v * LANES), lanes));
                }
                y = self.activation.apply(s, y);
                let out = out.add(v * LANES);
                if lanes < LANES {
                    s.store_n(out, y, lanes);
                } else if self.stream {
                    s.stream(out, y);
                } else {
                    s.store(out, y);
                }
            }
        }
    }
}
