//! From a part's sums to gradients in PyTorch's order.

use std::ops::Range;

use super::super::lanes;
use super::{MOST_ROWS, MOST_TILES, Part, Tiles};
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd};

/// Writes a part's sums. `dw` and `db` are as long as the shape says; no other task writes the same part.
pub(super) struct Write<'a> {
    pub plan: &'a Tiles,
    pub part: Part,
    /// `[tile][panel][row][lanes of the panel]`
    pub sums: &'a [f32],
    pub dw: &'a Shares<f32>,
    pub db: &'a Option<Shares<f32>>,
}

impl Kernel for Write<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (plan, taps, panels) = (self.plan, self.plan.phase.taps.len(), self.part.panels.clone());
        let mut places = [0; MOST_TILES * MOST_ROWS];
        let mut tile = self.part.tiles.start;
        while tile < self.part.tiles.end {
            let whole = plan.padded.is_none() && tile.is_multiple_of(taps);
            let units = if whole { (self.part.tiles.end.min(plan.tiles()) - tile) / taps } else { 0 };
            for (p, panel) in panels.clone().enumerate() {
                let first = (tile - self.part.tiles.start) * panels.len() + p;
                let sums = &self.sums[first * plan.tile_len()..];
                match units {
                    0 => self.tile(tile, panel, sums),
                    // SAFETY: as the fields say.
                    _ => unsafe { self.run_of_tiles(s, tile..tile + units * taps, panel, sums, &mut places) },
                }
            }
            tile += (units * taps).max(1);
        }
    }
}

impl Write<'_> {
    /// Values of a filter, and where those of a panel begin.
    fn filters(&self, panel: usize) -> [usize; 2] {
        let shape = &self.plan.shape;
        let [rows, columns] = shape.window.kernel;
        let filter = shape.group_channels() * rows * columns;
        [filter, (self.part.group * shape.group_filters() + panel * self.plan.panel) * filter]
    }

    /// All taps of some channels: of each filter one run of values.
    ///
    /// # Safety
    /// As the fields say.
    #[inline(always)]
    unsafe fn run_of_tiles<S: Simd>(
        &self,
        s: S,
        tiles: Range<usize>,
        panel: usize,
        sums: &[f32],
        places: &mut [usize; MOST_TILES * MOST_ROWS],
    ) {
        let (plan, taps, panels) = (self.plan, self.plan.phase.taps.len(), self.part.panels.len());
        let ([lanes, padded], [filter, start]) = (plan.lanes(panel), self.filters(panel));
        let mut count = 0;
        for tile in tiles.clone().step_by(taps) {
            for row in 0..plan.tile_rows(tile).len() {
                for tap in 0..taps {
                    places[count] = (tile - tiles.start + tap) * panels * plan.tile_len() + row * padded;
                    count += 1;
                }
            }
        }
        let out = self.dw.pointer().wrapping_add(start + plan.tile_rows(tiles.start).start * taps);
        for lane in (0..lanes).step_by(LANES) {
            let at = |i: usize| sums.as_ptr().wrapping_add(places[i] + lane);
            let out = out.wrapping_add(lane * filter);
            // SAFETY: as the caller vouches; the part has these tiles.
            unsafe { lanes::scatter(s, at, LANES.min(lanes - lane), count, out, filter) }
        }
    }

    /// One tile, or the bias.
    #[inline(always)]
    fn tile(&self, tile: usize, panel: usize, sums: &[f32]) {
        let plan = self.plan;
        let ([lanes, padded], [filter, start]) = (plan.lanes(panel), self.filters(panel));
        if tile == plan.tiles() {
            let db = self.db.as_ref().expect("a bias tile exists only where db is wanted");
            // SAFETY: as the fields say.
            unsafe { db.part(start / filter, lanes) }.copy_from_slice(&sums[..lanes]);
            return;
        }
        // Where the tile's rows go in a filter. In a kernel row, the channels of its next element follow.
        let mut places = [0; MOST_ROWS];
        let (rows, channels) = (plan.tile_rows(tile), plan.shape.group_channels());
        for (place, row) in places.iter_mut().zip(rows.clone()) {
            let element = plan.phase.taps[tile % plan.phase.taps.len()].kernel + row / channels;
            *place = row % channels * (filter / channels) + element;
        }
        for lane in 0..lanes {
            let out = self.dw.pointer().wrapping_add(start + lane * filter);
            for row in 0..rows.len() {
                // SAFETY: channel and kernel element are in range; tasks write different elements of the filter, through this
                // pointer only.
                unsafe { *out.add(places[row]) = sums[row * padded + lane] };
            }
        }
    }
}
