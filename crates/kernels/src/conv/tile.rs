//! The register tile of the indirect product: MR output pixels by NV vectors of output channels.
//!
//! One value of each of the MR source pixels is broadcast against NV vectors of packed weights. AVX-512 keeps 12 x 2
//! accumulators in 24 of its 32 registers, so that 24 multiply-adds hide behind 14 loads; AVX2 keeps 6 x 1 (two
//! registers each) in 12 of 16. Measured on one Zen 4 core of peak 115 GFLOP/s: 104 to 113 with 64 to 512 channels.

use super::Activation;
use crate::simd::{HALF, Kernel, LANES, Simd, store_part};

/// Most pixels of a tile; rows of pointer tables are this long.
pub(super) const MOST_PIXELS: usize = 12;

/// Whether so many channels are one panel of 24 lanes where vectors are two registers: 3 pixels by 3 registers, with which 9 sums leave room for all operands.
const fn three_registers(wide: bool, width: usize) -> bool {
    !wide && width > LANES && width <= LANES + HALF
}

/// Pixels of a full tile of so many output channels.
pub(super) const fn pixels(wide: bool, width: usize) -> usize {
    if wide {
        MOST_PIXELS
    } else if three_registers(wide, width) {
        3
    } else {
        6
    }
}

/// Output channels of a full panel of weights.
pub(super) const fn panel(wide: bool, width: usize) -> usize {
    if wide || three_registers(wide, width) { 2 * LANES } else { LANES }
}

/// What a tile reads and writes. All pointers must be valid for what the fields say.
pub(super) struct Tile {
    /// `[positions][MOST_PIXELS]` addresses of `depth` source values, or, with a step, those of the first position.
    pub rows: *const *const f32,
    /// Values from a position's addresses to the next one's.
    pub step: Option<isize>,
    pub positions: usize,
    pub depth: usize,
    /// `[positions][depth][NV * 16]`
    pub weights: *const f32,
    /// What full tiles ask for meanwhile.
    pub ahead: Ahead,
    pub next: Next,
    /// The pixels' numbers in target and residual.
    pub targets: *const usize,
    pub output: Output,
}

/// Where a tile's sums go, and what is added to them on their way. All pointers must be valid for what the fields say.
#[derive(Clone, Copy)]
pub(super) struct Output {
    /// Whether the sums start from zero; otherwise from what the target holds.
    pub first: bool,
    /// Whether the sums are complete, so that bias, residual and activation follow.
    pub last: bool,
    /// Channels of the last vector, 1 to 16.
    pub lanes: usize,
    /// As if all pixels were there, of which only the tile's are written.
    pub target: *mut f32,
    pub target_stride: usize,
    /// Whether whole vectors are streamed: see [`crate::simd::streams`].
    pub stream: bool,
    /// As many as channels, or null.
    pub bias: *const f32,
    /// As the target, or null.
    pub residual: *const f32,
    pub residual_stride: usize,
    pub activation: Activation,
}

impl Output {
    /// Sums from zero that nothing follows, of `lanes` channels in the last vector.
    pub fn of_sums(target: *mut f32, target_stride: usize, lanes: usize) -> Output {
        Output {
            first: true,
            last: false,
            lanes,
            target,
            target_stride,
            stream: false,
            bias: std::ptr::null(),
            residual: std::ptr::null(),
            residual_stride: 0,
            activation: Activation::None,
        }
    }
}

/// Values that will be needed soon: some cache lines of them with every 16 channels.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    pub from: *const f32,
    pub lines: usize,
}

impl Ahead {
    pub const NOTHING: Ahead = Ahead { from: std::ptr::null(), lines: 0 };
}

/// What full tiles ask for of the tile after them, if they ask for nothing else, whose addresses follow in the tables: a little with
/// every 16 channels. All of it at once would keep waiting what is needed now.
#[derive(Clone, Copy)]
pub(super) struct Next {
    /// Pixels whose sources are asked for, where there is one position.
    pub pixels: usize,
    /// Cache lines of the residual with every 16 channels, of a full tile.
    pub residual: usize,
}

impl Next {
    pub const NOTHING: Next = Next { pixels: 0, residual: 0 };
}

/// Computes a tile of `mr` pixels by `nv` vectors. A last vector of at most 8 channels is half a vector.
///
/// # Safety
/// The pointers of `tile` are valid, `mr` is in `1..=pixels(S::WIDE, width)` and `nv` is what a panel of that width has.
#[inline(always)]
pub(super) unsafe fn run<S: Simd>(s: S, mr: usize, nv: usize, tile: &Tile) {
    s.call(Sized { mr, nv, tile })
}

/// A tile and its size. One function for each instruction set, because the callers are many; and of each size a function of its own,
/// because all in one would take the compiler minutes.
struct Sized<'a> {
    mr: usize,
    nv: usize,
    tile: &'a Tile,
}

impl Kernel for Sized<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Sized { mr, nv, tile } = self;
        macro_rules! sizes {
            ($whole:literal, $half:literal: $($mr:literal)*) => {
                match mr {
                    $($mr => s.call(Fixed::<$mr, $whole, $half, NOTHING>(tile)),)*
                    _ => unreachable!("a tile of {mr} pixels"),
                }
            };
        }
        let half = tile.output.lanes <= HALF;
        let next = tile.next.pixels + tile.next.residual > 0;
        // Not as one match: sizes that an instruction set does not have would be compiled for it.
        if S::WIDE {
            match (nv, half) {
                (2, false) if mr == 12 && tile.ahead.lines > 0 => s.call(Fixed::<12, 2, 0, WEIGHTS>(tile)),
                (1, false) if mr == 12 && next => s.call(Fixed::<12, 1, 0, NEXT>(tile)),
                (1, true) if mr == 12 && next => s.call(Fixed::<12, 0, 1, NEXT>(tile)),
                (_, false) if mr == 12 && next => s.call(Fixed::<12, 2, 0, NEXT>(tile)),
                (_, true) if mr == 12 && next => s.call(Fixed::<12, 1, 1, NEXT>(tile)),
                (1, false) => sizes!(1, 0: 1 2 3 4 5 6 7 8 9 10 11 12),
                (1, true) => sizes!(0, 1: 1 2 3 4 5 6 7 8 9 10 11 12),
                (_, false) => sizes!(2, 0: 1 2 3 4 5 6 7 8 9 10 11 12),
                (_, true) => sizes!(1, 1: 1 2 3 4 5 6 7 8 9 10 11 12),
            }
        } else {
            match (nv, half) {
                (1, false) if mr == 6 && tile.ahead.lines > 0 => s.call(Fixed::<6, 1, 0, WEIGHTS>(tile)),
                (1, false) if mr == 6 && next => s.call(Fixed::<6, 1, 0, NEXT>(tile)),
                (1, true) if mr == 6 && next => s.call(Fixed::<6, 0, 1, NEXT>(tile)),
                (1, false) => sizes!(1, 0: 1 2 3 4 5 6),
                (1, true) => sizes!(0, 1: 1 2 3 4 5 6),
                _ => sizes!(1, 1: 1 2 3),
            }
        }
    }
}

/// What a tile asks for: nothing, weights that come next, or what the next tile reads.
const NOTHING: u8 = 0;
const WEIGHTS: u8 = 1;
const NEXT: u8 = 2;

/// A tile of a size known to the compiler, as [`sized`] takes it.
struct Fixed<'a, const MR: usize, const WHOLE: usize, const HALVES: usize, const ASKS: u8>(&'a Tile);

impl<const MR: usize, const WHOLE: usize, const HALVES: usize, const ASKS: u8> Kernel
    for Fixed<'_, MR, WHOLE, HALVES, ASKS>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: the caller of `run` vouches for the pointers and the size.
        unsafe { sized::<S, MR, WHOLE, HALVES, ASKS>(s, self.0) }
    }
}

/// `MR` pixels by `WHOLE` vectors and `HALVES` (0 or 1) halves.
#[inline(always)]
unsafe fn sized<S: Simd, const MR: usize, const WHOLE: usize, const HALVES: usize, const ASKS: u8>(s: S, tile: &Tile) {
    let nv = WHOLE + HALVES;
    let output = &tile.output;
    // SAFETY: the caller vouches for the pointers of `tile`; loads and stores touch `lanes` channels of a pixel only.
    unsafe {
        let targets = *tile.targets.cast::<[usize; MR]>();
        let mut at = [output.target; MR];
        for m in 0..MR {
            at[m] = output.target.wrapping_add(targets[m] * output.target_stride);
        }
        let mut acc = [[s.zero(); WHOLE]; MR];
        let mut half = [[s.splat_half(0.0); HALVES]; MR];
        if !output.first {
            (acc, half) = begin(s, output, &at);
        }
        let mut w = tile.weights;
        let (mut ahead, mut asked) = (tile.ahead.from, 0);
        let mut x = [std::ptr::null::<f32>(); MR];
        for t in 0..tile.positions {
            match tile.step {
                Some(step) if t > 0 => {
                    for x in &mut x {
                        *x = x.wrapping_offset(step);
                    }
                }
                _ => x = *tile.rows.add(t * MOST_PIXELS).cast::<[*const f32; MR]>(),
            }
            let mut start = 0;
            while start < tile.depth {
                let stop = if ASKS != NOTHING { tile.depth.min(start + LANES) } else { tile.depth };
                if ASKS == NEXT {
                    for m in 0..tile.next.pixels {
                        s.prefetch((*tile.rows.add(MOST_PIXELS + m)).wrapping_add(start));
                    }
                    for _ in 0..tile.next.residual.min(MR * nv - asked) {
                        let target = *tile.targets.add(MOST_PIXELS + asked / nv);
                        s.prefetch(output.residual.wrapping_add(target * output.residual_stride + asked % nv * LANES));
                        asked += 1;
                    }
                }
                if ASKS == WEIGHTS {
                    for _ in 0..tile.ahead.lines {
                        s.prefetch(ahead);
                        ahead = ahead.wrapping_add(LANES);
                    }
                }
                for q in start..stop {
                    multiply(s, &x, q, w, &mut acc, &mut half);
                    w = w.add(nv * LANES);
                }
                start = stop;
            }
        }
        end(s, output, &targets, &at, &acc, &half);
    }
}

/// The sums that the target holds.
#[inline(always)]
#[allow(clippy::type_complexity)]
pub(super) unsafe fn begin<S: Simd, const MR: usize, const WHOLE: usize, const HALVES: usize>(
    s: S,
    output: &Output,
    at: &[*mut f32; MR],
) -> ([[S::V; WHOLE]; MR], [[S::H; HALVES]; MR]) {
    let mut acc = [[s.zero(); WHOLE]; MR];
    let mut half = [[s.splat_half(0.0); HALVES]; MR];
    let lanes = |v: usize| if v + 1 == WHOLE + HALVES { output.lanes } else { LANES };
    // SAFETY: as in `sized`.
    unsafe {
        for m in 0..MR {
            for v in 0..WHOLE {
                acc[m][v] = s.load_n(at[m].add(v * LANES).cast_const(), lanes(v));
            }
            for v in 0..HALVES {
                half[m][v] = s.first_half(s.load_n(at[m].add(WHOLE * LANES).cast_const(), output.lanes));
            }
        }
    }
    (acc, half)
}

/// Adds the products of channel `q` of the pixels `x`, a value each, and of its vectors of weights.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd, const MR: usize, const WHOLE: usize, const HALVES: usize>(
    s: S,
    x: &[*const f32; MR],
    q: usize,
    w: *const f32,
    acc: &mut [[S::V; WHOLE]; MR],
    half: &mut [[S::H; HALVES]; MR],
) {
    // SAFETY: as in `sized`.
    unsafe {
        let mut b = [s.zero(); WHOLE];
        for v in 0..WHOLE {
            b[v] = s.load(w.add(v * LANES));
        }
        let mut c = [s.splat_half(0.0); HALVES];
        for v in 0..HALVES {
            c[v] = s.load_half(w.add(WHOLE * LANES));
        }
        for m in 0..MR {
            let a = *x[m].add(q);
            for v in 0..WHOLE {
                acc[m][v] = s.fma(s.splat(a), b[v], acc[m][v]);
            }
            for v in 0..HALVES {
                half[m][v] = s.fma_half(s.splat_half(a), c[v], half[m][v]);
            }
        }
    }
}

/// Takes the sums of pixels of these numbers to these addresses.
#[inline(always)]
pub(super) unsafe fn end<S: Simd, const MR: usize, const WHOLE: usize, const HALVES: usize>(
    s: S,
    output: &Output,
    pixels: &[usize; MR],
    at: &[*mut f32; MR],
    acc: &[[S::V; WHOLE]; MR],
    half: &[[S::H; HALVES]; MR],
) {
    let lanes = |v: usize| if v + 1 == WHOLE + HALVES { output.lanes } else { LANES };
    // SAFETY: as in `sized`.
    unsafe {
        // By constant numbers: an array that a loop picks from by number lives in memory, and every multiply-add stores to it.
        if WHOLE > 0 {
            finish(s, output, pixels, at, 0, lanes(0), vector(s, acc, 0));
        }
        if WHOLE > 1 {
            finish(s, output, pixels, at, 1, lanes(1), vector(s, acc, 1));
        }
        if HALVES > 0 {
            let mut sums = [s.zero(); MR];
            for m in 0..MR {
                sums[m] = s.widen(half[m][0]);
            }
            finish(s, output, pixels, at, WHOLE, output.lanes, sums);
        }
    }
}

/// Vector `v` of all pixels.
#[inline(always)]
fn vector<S: Simd, const MR: usize, const WHOLE: usize>(s: S, acc: &[[S::V; WHOLE]; MR], v: usize) -> [S::V; MR] {
    let mut sums = [s.zero(); MR];
    for m in 0..MR {
        sums[m] = acc[m][v];
    }
    sums
}

/// Bias, residual and activation of vector `v` of the pixels, where the sums are complete, and their way to memory.
#[inline(always)]
unsafe fn finish<S: Simd, const MR: usize>(
    s: S,
    output: &Output,
    pixels: &[usize; MR],
    at: &[*mut f32; MR],
    v: usize,
    lanes: usize,
    sums: [S::V; MR],
) {
    let mut sums = sums;
    // SAFETY: as in `sized`.
    unsafe {
        if output.last {
            if !output.bias.is_null() {
                let bias = s.load_n(output.bias.add(v * LANES), lanes);
                for m in 0..MR {
                    sums[m] = s.add(sums[m], bias);
                }
            }
            if !output.residual.is_null() {
                for m in 0..MR {
                    let p = output.residual.wrapping_add(pixels[m] * output.residual_stride + v * LANES);
                    sums[m] = s.add(sums[m], s.load_n(p, lanes));
                }
            }
            for m in 0..MR {
                sums[m] = output.activation.apply(s, sums[m]);
            }
        }
        for m in 0..MR {
            let p = at[m].wrapping_add(v * LANES);
            if output.stream && lanes == LANES { s.stream(p, sums[m]) } else { store_part(s, p, sums[m], lanes) }
        }
    }
}
