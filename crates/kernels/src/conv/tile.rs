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
        let half = tile.lanes <= HALF;
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
    let mut acc = [[s.zero(); WHOLE]; MR];
    let mut half = [[s.splat_half(0.0); HALVES]; MR];
    let nv = WHOLE + HALVES;
    let lanes = |v: usize| if v + 1 == nv { tile.lanes } else { LANES };
    // SAFETY: the caller vouches for the pointers of `tile`; loads and stores touch `lanes` channels of a pixel only.
    unsafe {
        let targets = *tile.targets.cast::<[usize; MR]>();
        if !tile.first {
            for m in 0..MR {
                let sums = tile.target.wrapping_add(targets[m] * tile.target_stride).cast_const();
                for v in 0..WHOLE {
                    acc[m][v] = s.load_n(sums.add(v * LANES), lanes(v));
                }
                for v in 0..HALVES {
                    half[m][v] = s.first_half(s.load_n(sums.add(WHOLE * LANES), tile.lanes));
                }
            }
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
                let end = if ASKS != NOTHING { tile.depth.min(start + LANES) } else { tile.depth };
                if ASKS == NEXT {
                    for m in 0..tile.next.pixels {
                        s.prefetch((*tile.rows.add(MOST_PIXELS + m)).wrapping_add(start));
                    }
                    for _ in 0..tile.next.residual.min(MR * nv - asked) {
                        let target = *tile.targets.add(MOST_PIXELS + asked / nv);
                        s.prefetch(tile.residual.wrapping_add(target * tile.residual_stride + asked % nv * LANES));
                        asked += 1;
                    }
                }
                if ASKS == WEIGHTS {
                    for _ in 0..tile.ahead.lines {
                        s.prefetch(ahead);
                        ahead = ahead.wrapping_add(LANES);
                    }
                }
                for q in start..end {
                    let mut b = [s.zero(); WHOLE];
                    for v in 0..WHOLE {
                        b[v] = s.load(w.add(v * LANES));
                    }
                    let mut c = [s.splat_half(0.0); HALVES];
                    for v in 0..HALVES {
                        c[v] = s.load_half(w.add(WHOLE * LANES));
                    }
                    w = w.add(nv * LANES);
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
                start = end;
            }
        }
        // By constant numbers: an array that a loop picks from by number lives in memory, and every multiply-add stores to it.
        if WHOLE > 0 {
            finish(s, tile, &targets, 0, lanes(0), vector(s, &acc, 0));
        }
        if WHOLE > 1 {
            finish(s, tile, &targets, 1, lanes(1), vector(s, &acc, 1));
        }
        if HALVES > 0 {
            let mut sums = [s.zero(); MR];
            for m in 0..MR {
                sums[m] = s.widen(half[m][0]);
            }
            finish(s, tile, &targets, WHOLE, tile.lanes, sums);
        }
    }
}

/// Vector `v` of all pixels.
#[inline(always)]
pub(super) fn vector<S: Simd, const MR: usize, const WHOLE: usize>(
    s: S,
    acc: &[[S::V; WHOLE]; MR],
    v: usize,
) -> [S::V; MR] {
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
    tile: &Tile,
    targets: &[usize; MR],
    v: usize,
    lanes: usize,
    sums: [S::V; MR],
) {
    let mut sums = sums;
    // SAFETY: as in `sized`.
    unsafe {
        if tile.last {
            if !tile.bias.is_null() {
                let bias = s.load_n(tile.bias.add(v * LANES), lanes);
                for m in 0..MR {
                    sums[m] = s.add(sums[m], bias);
                }
            }
            if !tile.residual.is_null() {
                for m in 0..MR {
                    let p = tile.residual.wrapping_add(targets[m] * tile.residual_stride + v * LANES);
                    sums[m] = s.add(sums[m], s.load_n(p, lanes));
                }
            }
            for m in 0..MR {
                sums[m] = tile.activation.apply(s, sums[m]);
            }
        }
        for m in 0..MR {
            let p = tile.target.wrapping_add(targets[m] * tile.target_stride + v * LANES);
            if tile.stream && lanes == LANES { s.stream(p, sums[m]) } else { store_part(s, p, sums[m], lanes) }
        }
    }
}
