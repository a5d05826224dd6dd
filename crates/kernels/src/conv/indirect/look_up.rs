//! The tables of an indirect product: where its pixels' values are.

use std::mem::MaybeUninit;

use super::super::phase::{Cursor, Tap};
use super::super::weight_tile::met;
use super::{Block, MOST_PIXELS, TABLE};

impl Block<'_> {
    /// Fills the tables of tiles of `mr` pixels: the pixels' numbers in the target, and of each tap their addresses in the source;
    /// and which taps, as a range, meet a tile at all: above and below the picture whole kernel rows see zeros alone.
    #[inline(always)]
    pub(super) fn look_up(
        &self,
        taps: &[Tap],
        mr: usize,
        rows: &mut [MaybeUninit<*const f32>; TABLE],
        targets: &mut [MaybeUninit<usize>; TABLE],
        met_by: &mut [[usize; 2]; TABLE / MOST_PIXELS],
    ) {
        let (plan, phase, stride) = (self.plan, self.phase, self.source_stride as isize);
        let [height, width] = plan.source.map(|n| n as isize);
        let mut offsets = [0; TABLE / MOST_PIXELS];
        let [mut above, mut below, mut left, mut right] = [0; 4];
        for (offset, &Tap { at: [y, x], .. }) in offsets.iter_mut().zip(taps) {
            *offset = (y * width + x) * stride;
            (above, below) = (above.min(y), below.max(y));
            (left, right) = (left.min(x), right.max(x));
        }
        let step = phase.source_step[1];
        let mut at = Cursor::new(phase, self.pixels.start);
        let (mut tile, mut m, mut rest) = (0, 0, self.pixels.len());
        while rest > 0 {
            // Some pixels of one row. Where all taps are inside, which is nearly everywhere, an address is an addition.
            let columns = at.column..(at.column + rest).min(phase.count[1]);
            let row = (at.row * phase.source_step[0]) as isize;
            let (inside, seen) = if row + above >= 0 && row + below < height {
                let inside = met(met(columns.clone(), step, left, plan.source[1]), step, right, plan.source[1]);
                (inside, [0, taps.len()])
            } else {
                // Taps ascend by rows.
                let inside = |tap: &Tap| (0..height).contains(&(row + tap.at[0]));
                let end = taps.iter().rposition(inside).map_or(0, |last| last + 1);
                (0..0, [taps.iter().position(inside).unwrap_or(end), end])
            };
            let image = self.source.wrapping_add(at.image * plan.source[0] * plan.source[1] * self.source_stride);
            let mut here = image.wrapping_offset((row * width + (at.column * step) as isize) * stride);
            let mut target = self.target_pixel(&at);
            let mut column = columns.start;
            while column < columns.end {
                // The pixels of this row that a tile has.
                let count = (mr - m).min(columns.end - column);
                progression(&mut targets[tile * MOST_PIXELS + m..][..count], |i| target + i * phase.step[1]);
                let [first, end] = &mut met_by[tile];
                (*first, *end) = match m {
                    0 => (seen[0], seen[1]),
                    _ => ((*first).min(seen[0]), (*end).max(seen[1])),
                };
                let run = inside.start <= column && column + count <= inside.end;
                for (t, (tap, &offset)) in taps.iter().zip(&offsets).enumerate() {
                    let entries = &mut rows[(tile * taps.len() + t) * MOST_PIXELS + m..][..count];
                    let first = here.wrapping_offset(offset);
                    if run {
                        progression(entries, |i| first.wrapping_add(i * step * self.source_stride));
                        continue;
                    }
                    let y = row + tap.at[0];
                    for (i, entry) in entries.iter_mut().enumerate() {
                        let x = ((column + i) * step) as isize + tap.at[1];
                        let inside = (0..height).contains(&y) && (0..width).contains(&x);
                        let there = first.wrapping_add(i * step * self.source_stride);
                        entry.write(if inside { there } else { plan.zeros.as_ptr() });
                    }
                }
                here = here.wrapping_add(count * step * self.source_stride);
                target += count * phase.step[1];
                column += count;
                m += count;
                if m == mr {
                    (tile, m) = (tile + 1, 0);
                }
            }
            rest -= columns.len();
            at.next_row(phase);
        }
    }
}

/// Fills `out`; for a whole tile of AVX-512 by a loop of fixed length, which becomes a few vectors.
#[inline(always)]
fn progression<T: Copy>(out: &mut [MaybeUninit<T>], at: impl Fn(usize) -> T) {
    if let Ok(out) = <&mut [MaybeUninit<T>; MOST_PIXELS]>::try_from(&mut *out) {
        for (i, out) in out.iter_mut().enumerate() {
            out.write(at(i));
        }
        return;
    }
    for (i, out) in out.iter_mut().enumerate() {
        out.write(at(i));
    }
}
