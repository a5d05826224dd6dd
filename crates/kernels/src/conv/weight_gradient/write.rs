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
    /// `[group][tile][panel][row][lanes of the panel]`
    pub sums: &'a [f32],
    pub dw: &'a Shares<f32>,
    pub db: &'a Option<Shares<f32>>,
}

impl Kernel for Write<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let of_group = self.plan.sums(self.part.tiles.len(), self.part.panels.len());
        for (group, sums) in self.part.groups.clone().zip(self.sums.chunks_exact(of_group)) {
            self.group(s, group, sums);
        }
    }
}

impl Write<'_> {
    #[inline(always)]
    fn group<S: Simd>(&self, s: S, group: usize, sums: &[f32]) {
        let (plan, taps, panels) = (self.plan, self.plan.phase.taps.len(), self.part.panels.clone());
        let joined = plan.own[1] < plan.shape.group_filters();
        let mut places = [0; MOST_TILES * MOST_ROWS];
        let mut tile = self.part.tiles.start;
        while tile < self.part.tiles.end {
            let whole = plan.padded.is_none() && !joined && tile.is_multiple_of(taps);
            let units = if whole { (self.part.tiles.end.min(plan.tiles()) - tile) / taps } else { 0 };
            for (p, panel) in panels.clone().enumerate() {
                let first = (tile - self.part.tiles.start) * panels.len() + p;
                let sums = &sums[first * plan.tile_len()..];
                let filters = self.filters(group, panel);
                match units {
                    0 => self.tile(tile, panel, filters, sums),
                    // SAFETY: as the fields say.
                    _ => unsafe { self.run_of_tiles(s, tile..tile + units * taps, panel, filters, sums, &mut places) },
                }
            }
            tile += (units * taps).max(1);
        }
    }

    /// Values of a filter, and where those of a panel begin.
    fn filters(&self, group: usize, panel: usize) -> [usize; 2] {
        let shape = &self.plan.shape;
        let [rows, columns] = shape.window.kernel;
        let filter = self.plan.own[0] * rows * columns;
        [filter, (group * shape.group_filters() + panel * self.plan.panel) * filter]
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
        [filter, start]: [usize; 2],
        sums: &[f32],
        places: &mut [usize; MOST_TILES * MOST_ROWS],
    ) {
        let (plan, taps, panels) = (self.plan, self.plan.phase.taps.len(), self.part.panels.len());
        let [lanes, padded] = plan.lanes(panel);
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
    fn tile(&self, tile: usize, panel: usize, [filter, start]: [usize; 2], sums: &[f32]) {
        let plan = self.plan;
        let [lanes, padded] = plan.lanes(panel);
        if tile == plan.tiles() {
            let db = self.db.as_ref().expect("a bias tile exists only where db is wanted");
            // SAFETY: as the fields say.
            unsafe { db.part(start / filter, lanes) }.copy_from_slice(&sums[..lanes]);
            return;
        }
        // Where the tile's rows go in a filter, and of which own group they are. In a kernel row, the channels of its next element
        // follow.
        let mut places = [[0; 2]; MOST_ROWS];
        let (rows, channels, [own_channels, own_filters]) =
            (plan.tile_rows(tile), plan.shape.group_channels(), plan.own);
        for (place, row) in places.iter_mut().zip(rows.clone()) {
            let (element, channel) =
                (plan.phase.taps[tile % plan.phase.taps.len()].kernel + row / channels, row % channels);
            *place = [channel % own_channels * (filter / own_channels) + element, channel / own_channels];
        }
        for lane in 0..lanes {
            let out = self.dw.pointer().wrapping_add(start + lane * filter);
            let group = (panel * plan.panel + lane) / own_filters;
            for row in 0..rows.len() {
                let [place, of_group] = places[row];
                if of_group == group {
                    // SAFETY: channel and kernel element are in range; tasks write different elements of the filter, through
                    // this pointer only.
                    unsafe { *out.add(place) = sums[row * padded + lane] };
                }
            }
        }
    }
}
