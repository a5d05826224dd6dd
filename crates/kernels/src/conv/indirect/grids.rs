//! Data gradients with strides: several grids of targets, whose pixels lie between each other.
//!
//! A grid's pixels are parts of cache lines that other grids write too. One grid after another, each line comes and goes as often;
//! so where weights are few, a task computes some rows of all grids. 1x1/2 31->12 at 32x32, 16 pictures: 0.128 -> 0.028 ms.

use super::super::phase::Cursor;
use super::super::tile;
use super::{Block, Indirect, MANY_WEIGHTS};
use crate::Cpu;
use crate::simd::{LANES, Simd, dispatch, store_part};

/// Products of a target, in the mean over all grids, up to which writing takes longer.
const LIGHT: usize = 64;

impl Indirect {
    /// Rows of each grid that are a task, where all grids share it: there are several, weights are few and rows enough.
    pub(super) fn grid_rows(&self, n: usize, threads: usize) -> Option<usize> {
        let [rows, columns] = self.phases[0].count;
        let tiles = self.phases.iter().map(|phase| self.most_tiles(phase)).min()?;
        let pixels = tile::pixels(self.wide, self.width);
        let [_, products] = self.products;
        // Of few pixels the last tile's idle places count, but where a target has few products only the lines do.
        let light = products * self.depth <= LIGHT * self.target[0] * self.target[1];
        let (tasks, least) = if light { (2 * threads, pixels) } else { (4 * threads, 4 * pixels) };
        let some = rows.min(n * rows / tasks).min((tiles * pixels / columns).max(1));
        let fits = self.phases.len() > 1 && self.packed_len() < MANY_WEIGHTS && some * columns >= least;
        fits.then_some(some)
    }

    /// All grids of some rows as one task: they share cache lines, which would come and go with each.
    pub(super) fn run_grids(&self, cpu: &Cpu, n: usize, some: usize, whole: &Block) {
        let bands = self.phases[0].count[0].div_ceil(some);
        cpu.pool().run(n * bands, &|task| {
            let (image, first) = (task / bands, task % bands * some);
            for (index, phase) in self.phases.iter().enumerate() {
                let [height, width] = phase.count;
                let pixel = |row: usize| (image * height + row.min(height)) * width;
                for group in 0..self.groups {
                    let of_group = whole.of_group(group);
                    let block = Block {
                        phase,
                        source: whole.source.wrapping_add(group * self.depth),
                        weights: &of_group.weights[self.phase_start(index)..],
                        pixels: pixel(first)..pixel(first + some),
                        ..of_group
                    };
                    dispatch(cpu.isa(), block);
                }
            }
        });
    }
}

impl Block<'_> {
    /// Zeros for targets that nothing meets.
    ///
    /// # Safety
    /// As for [`Block::in_place`].
    #[inline(always)]
    pub(super) unsafe fn clear<S: Simd>(&self, s: S) {
        let (width, step) = (self.plan.width, self.phase.step[1] * self.target_stride);
        let (mut at, mut rest) = (Cursor::new(self.phase, self.pixels.start), self.pixels.len());
        while rest > 0 {
            let count = rest.min(self.phase.count[1] - at.column);
            let row = self.target.wrapping_add(self.target_pixel(&at) * self.target_stride);
            for i in 0..count {
                for first in (0..width).step_by(LANES) {
                    let out = row.wrapping_add(i * step + first);
                    // SAFETY: as the caller vouches.
                    unsafe {
                        if self.stream {
                            s.stream(out, s.zero())
                        } else {
                            store_part(s, out, s.zero(), LANES.min(width - first))
                        }
                    }
                }
            }
            rest -= count;
            at.next_row(self.phase);
        }
        if self.stream {
            s.fence();
        }
    }
}
