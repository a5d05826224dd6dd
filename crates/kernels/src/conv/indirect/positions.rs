//! Targets of which each sees few of the kernel's elements: the data gradient of few outputs, or wide padding.
//!
//! Neighbouring pixels then see different elements, and a tile of them multiplies mostly zeros: of a 7x7 kernel on 7x7 pixels,
//! without padding, each pixel of dx meets one element of 49. So a tile's pixels are those at one position of several pictures,
//! which see the same elements; what they do not see is left out, kernel row by kernel row. Zeros' products change no sum.

use std::ops::Range;

use super::super::phase::Phase;
use super::super::tile::{self, MOST_PIXELS, Output, Tile};
use super::super::weight_tile::met;
use super::{Block, Indirect, TABLE};
use crate::Cpu;
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Pixels of a tile that take as long as fewer: a multiply-add waits for the one before.
const LEAST: usize = 4;

/// Cycles to look 16 pixels up.
const LOOK_UP: usize = 48;

/// Elements of a kernel row.
fn columns(phase: &Phase) -> usize {
    phase.taps.iter().take_while(|tap| tap.at[0] == phase.taps[0].at[0]).count()
}

/// Which of some offsets lead from a target into the source, along one axis.
fn seen(offsets: impl Iterator<Item = isize>, from: usize, size: usize) -> Range<usize> {
    let inside = |at: isize| met(0..1, 1, from as isize + at, size).len();
    let (mut range, mut any) = (0..0, false);
    for (i, _) in offsets.enumerate().filter(|&(_, at)| inside(at) > 0) {
        range = if any { range.start..i + 1 } else { i..i + 1 };
        any = true;
    }
    range
}

impl Indirect {
    /// The kernel rows and columns that the target at a position of a phase sees.
    fn seen_at(&self, phase: &Phase, [row, column]: [usize; 2]) -> [Range<usize>; 2] {
        let columns = columns(phase);
        let [down, right] = phase.source_step;
        let rows = phase.taps.iter().step_by(columns.max(1)).map(|tap| tap.at[0]);
        let columns = phase.taps[..columns].iter().map(|tap| tap.at[1]);
        [seen(rows, row * down, self.source[0]), seen(columns, column * right, self.source[1])]
    }

    /// Products of a picture's targets, in taps: those with something, and those of whole kernel rows.
    pub(super) fn count_products(&self) -> [usize; 2] {
        let mut products = [0; 2];
        for phase in &self.phases {
            let [height, width] = phase.count;
            let rows: usize = (0..height).map(|row| self.seen_at(phase, [row, 0])[0].len()).sum();
            let some: usize = (0..width).map(|column| self.seen_at(phase, [0, column])[1].len()).sum();
            products[0] += rows * some;
            products[1] += rows * width * columns(phase);
        }
        products
    }

    /// Whether tiles of `n` pictures' pixels at one position take less than tiles of neighbouring pixels.
    pub(super) fn by_position(&self, n: usize) -> bool {
        let [some, all] = self.products;
        let pixels = tile::pixels(self.wide, self.width);
        let last = match n % pixels {
            0 => 0,
            rest => rest.max(LEAST),
        };
        self.padded.is_none() && some * (n / pixels * pixels + last) * 5 < all * n * 4
    }

    /// About the cycles of one of many pictures by tiles of one position.
    pub fn by_position_cycles(&self) -> usize {
        let each = self.depth * self.width.next_multiple_of(LANES) * 9 / 16 + LOOK_UP;
        self.groups * self.products[0] * each / LANES
    }

    /// Computes all targets of `n` pictures, a position a task.
    pub(super) fn run_positions(&self, cpu: &Cpu, n: usize, whole: &Block) {
        let of = |phase: &Phase| phase.count[0] * phase.count[1];
        let positions: usize = self.phases.iter().map(of).sum();
        let panels = self.panels();
        let parts = (4 * cpu.pool().threads()).div_ceil((positions * self.groups).max(1)).clamp(1, panels);
        cpu.pool().run(positions * self.groups * parts, &|task| {
            let (mut position, rest) = (task / (self.groups * parts), task % (self.groups * parts));
            let (group, part) = (rest / parts, rest % parts);
            let mut index = 0;
            while position >= of(&self.phases[index]) {
                position -= of(&self.phases[index]);
                index += 1;
            }
            let (phase, of_group) = (&self.phases[index], whole.of_group(group));
            let block = Block {
                phase,
                source: whole.source.wrapping_add(group * self.depth),
                weights: &of_group.weights[self.phase_start(index)..],
                panels: part * panels / parts..(part + 1) * panels / parts,
                ..of_group
            };
            let at = [position / phase.count[1], position % phase.count[1]];
            dispatch(cpu.isa(), Position { block, n, at });
        });
    }
}

/// A task: the targets of `n` pictures at a position of a phase.
struct Position<'a> {
    block: Block<'a>,
    n: usize,
    at: [usize; 2],
}

impl Kernel for Position<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Position { block, n, at: [row, column] } = &self;
        let (plan, phase, columns) = (block.plan, block.phase, columns(block.phase));
        let [seen_rows, seen_columns] = plan.seen_at(phase, [*row, *column]);
        let [down, right] = phase.source_step;
        let pixels = tile::pixels(S::WIDE, plan.width);
        let target = (phase.start[0] + row * phase.step[0]) * plan.target[1] + phase.start[1] + column * phase.step[1];
        let picture = plan.source[0] * plan.source[1] * block.source_stride;
        // In as many runs as the table has room for.
        let some = TABLE / MOST_PIXELS;
        let runs = seen_rows.flat_map(|row| {
            let first = row * columns;
            let (start, end) = (first + seen_columns.start, first + seen_columns.end);
            (start..end).step_by(some).map(move |start| start..end.min(start + some))
        });
        let mut rows = [std::ptr::null::<f32>(); TABLE];
        for first in (0..*n).step_by(pixels) {
            let count = pixels.min(n - first);
            let mut targets = [0; MOST_PIXELS];
            for (i, place) in targets[..count].iter_mut().enumerate() {
                *place = (first + i) * plan.target[0] * plan.target[1] + target;
            }
            let mut runs = runs.clone().peekable();
            let mut begins = true;
            while begins || runs.peek().is_some() {
                let taps = runs.next().unwrap_or(0..0);
                for (tap, places) in phase.taps[taps.clone()].iter().zip(rows.as_chunks_mut::<MOST_PIXELS>().0) {
                    let y = (row * down).wrapping_add_signed(tap.at[0]);
                    let x = (column * right).wrapping_add_signed(tap.at[1]);
                    let pixel = (first * plan.source[0] + y) * plan.source[1] + x;
                    let pixel = block.source.wrapping_add(pixel * block.source_stride);
                    // Beyond the last picture nothing is read. A loop of fixed length becomes a few vectors.
                    for (i, place) in places.iter_mut().enumerate() {
                        *place = pixel.wrapping_add(i * picture);
                    }
                }
                for p in block.panels.clone() {
                    let whole = block.tile(p, rows.as_ptr(), targets.as_ptr(), taps.start);
                    let output = Output { first: begins, last: runs.peek().is_none(), ..whole.output };
                    let tile = Tile { positions: taps.len(), depth: plan.depth, output, ..whole };
                    // SAFETY: `Indirect::run` checked that source, target, residual, bias and packed weights cover all pixels and
                    // channels; the table holds pixels of the source; tasks write different pixels or channels.
                    unsafe { tile::run(s, count, block.vectors::<S>(p), &tile) }
                }
                begins = false;
            }
        }
    }
}
