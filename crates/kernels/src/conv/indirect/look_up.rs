//! The tables of an indirect product: where its pixels' values are.

use std::mem::MaybeUninit;

use super::super::phase::{Cursor, Tap};
use super::super::weight_tile::met;
use super::{Block, MOST_PIXELS, TABLE};

impl Block<'_> {
    /// Fills the tables of tiles of `mr` pixels: the pixels' numbers in the target, and of each tap their addresses in the source.
    #[inline(always)]
    pub(super) fn look_up(
        &self,
        taps: &[Tap],
        mr: usize,
        rows: &mut [MaybeUninit<*const f32>; TABLE],
        targets: &mut [MaybeUninit<usize>; TABLE],
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
            let inside = if row + above >= 0 && row + below < height {
                met(met(columns.clone(), step, left, plan.source[1]), step, right, plan.source[1])
            } else {
                0..0
            };
            let image = self.source.wrapping_add(at.image * plan.source[0] * plan.source[1] * self.source_stride);
            let mut here = image.wrapping_offset((row * width + (at.column * step) as isize) * stride);
            let mut target = self.target_pixel(&at);
            for column in columns.clone() {
                targets[tile * MOST_PIXELS + m].write(target);
                let entries = rows[tile * taps.len() * MOST_PIXELS + m..].iter_mut().step_by(MOST_PIXELS);
                if inside.contains(&column) {
                    for (entry, &offset) in entries.zip(&offsets[..taps.len()]) {
                        entry.write(here.wrapping_offset(offset));
                    }
                } else {
                    for ((entry, tap), &offset) in entries.zip(taps).zip(&offsets) {
                        let (y, x) = (row + tap.at[0], (column * step) as isize + tap.at[1]);
                        let inside = (0..height).contains(&y) && (0..width).contains(&x);
                        entry.write(if inside { here.wrapping_offset(offset) } else { plan.zeros.as_ptr() });
                    }
                }
                here = here.wrapping_add(step * self.source_stride);
                target += phase.step[1];
                m += 1;
                if m == mr {
                    (tile, m) = (tile + 1, 0);
                }
            }
            rest -= columns.len();
            at.next_row(phase);
        }
    }
}
