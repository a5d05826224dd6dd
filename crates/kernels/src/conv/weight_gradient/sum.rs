//! What a task of the weight gradient does with a segment: it copies, block by block, and adds to its tiles.

use std::mem::MaybeUninit;

use super::super::Pixels;
use super::super::padded::Padded;
use super::super::weight_tile::{Dy, Start, Walk, met, pack, sum};
use super::{MOST_TILES, Part, Tiles, few};
use crate::segments::Segment;
use crate::simd::{Kernel, LANES, Simd};

/// Tiles of a panel up to which dy is read in place where a tile has one vector of filters: its products are too few to hide that
/// lines come from the second-level cache.
const IN_PLACE: usize = 4;

/// The sums of one part over one segment.
pub(super) struct SegmentSum<'a> {
    pub plan: &'a Tiles,
    pub part: Part,
    pub segment: &'a Segment,
    pub x: Pixels<'a>,
    pub dy: Pixels<'a>,
    pub scratch: &'a mut [f32],
    pub out: &'a mut [f32],
}

impl Kernel for SegmentSum<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: `Tiles::run` checked that x and dy hold all pixels and channels of the shape; scratch and out have
        // the lengths that `Tiles::reduction` asked for.
        unsafe { self.sum(s) }
    }
}

impl SegmentSum<'_> {
    #[inline(always)]
    unsafe fn sum<S: Simd>(mut self, s: S) {
        let plan = self.plan;
        let Segment { images, rows } = self.segment;
        let (scratch, out) = (std::mem::take(&mut self.scratch), std::mem::take(&mut self.out));
        let (copy, scratch) = scratch.split_at_mut(plan.copy_len());
        let copy = copy.as_mut_ptr();
        if let Some(padded) = &plan.padded {
            let len = plan.copied_picture(rows);
            for (i, image) in images.clone().enumerate() {
                // SAFETY: the picture exists; the scratch holds the bands of a segment.
                unsafe { padded.copy(s, &self.x, image, padded.seen(rows), copy.add(i * len)) };
            }
            let whole = self.part.tiles.start == 0 && self.part.tiles.end >= plan.tiles();
            if S::WIDE && whole && few::fits(padded, &plan.phase) {
                self.out = out;
                // SAFETY: as the caller vouches; the rows were copied just now.
                return unsafe { self.few(s, padded, copy) };
            }
        }
        let mut start = Start::Zero;
        let sums = plan.sums(self.part.tiles.len(), self.part.panels.len());
        for block in plan.blocks(self.segment) {
            for (group, out) in self.part.groups.clone().zip(out.chunks_exact_mut(sums)) {
                // SAFETY: as the caller vouches.
                unsafe { self.sum_block(s, group, &block, copy, scratch.as_mut_ptr(), out, start) };
            }
            start = Start::Continued;
        }
    }

    /// Adds a block's pixels to the sums of a group, or begins them.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    unsafe fn sum_block<S: Simd>(
        &self,
        s: S,
        group: usize,
        block: &Segment,
        copy: *const f32,
        packed: *mut f32,
        out: &mut [f32],
        start: Start,
    ) {
        let plan = self.plan;
        let [height, width] = plan.output;
        let panels = self.part.panels.clone();
        let Segment { images, rows } = block;
        let (pixels, a_picture) = (images.len() * rows.len() * width, rows.len() * width);
        let (first_filter, end_filter) = (panels.start * plan.panel, panels.end * plan.panel);
        let lanes = end_filter.min(plan.shape.group_filters()) - first_filter;
        let filter = group * plan.shape.group_filters() + first_filter;
        let dy_of = |image: usize| {
            self.dy.data.as_ptr().wrapping_add((image * height + rows.start) * width * self.dy.stride + filter)
        };
        // Lanes beyond the group's are another group's or pixel's and are not written, but have to exist.
        let last = ((images.end - 1) * height + rows.end) * width - 1;
        let exist = last * self.dy.stride + filter + lanes.next_multiple_of(LANES) <= self.dy.data.len();
        let in_place = exist && (S::WIDE || panels.len() == 1 || self.part.tiles.len() <= IN_PLACE);
        if !in_place {
            for (i, image) in images.clone().enumerate() {
                let places = i * a_picture..(i + 1) * a_picture;
                // SAFETY: these pixels of dy exist; the scratch holds a block of padded panels.
                unsafe { pack(s, dy_of(image), self.dy.stride, places, lanes, [plan.panel, pixels], packed) };
            }
        }
        let channel = group * plan.shape.group_channels();
        let ones = Walk { x: &1.0, first: 0, counts: [1, 1, pixels], x_steps: [0; 3], dy_steps: [0, 0, 1] };
        // Not set beforehand, which would take as long as the products of a small tile.
        let mut walks = [const { MaybeUninit::<(Walk, usize)>::uninit() }; MOST_TILES + 1];
        for (place, tile) in walks.iter_mut().zip(self.part.tiles.clone()) {
            if tile == plan.tiles() {
                place.write((ones, 1));
                continue;
            }
            let rows = plan.tile_rows(tile);
            let (tap, count) = (tile % plan.phase.taps.len(), rows.len());
            let walk = match &plan.padded {
                Some(padded) => self.walk_copy(padded, block, tap, rows.start, copy),
                None => self.walk(block, tap, channel + rows.start),
            };
            place.write((walk, count));
        }
        for (p, panel) in panels.clone().enumerate() {
            let padded = plan.lanes(panel)[1];
            let (first, row) = match in_place {
                true => (dy_of(images.start).wrapping_add(p * plan.panel), self.dy.stride),
                false => (packed.cast_const().wrapping_add(p * pixels * plan.panel), padded),
            };
            for (t, walk) in walks[..self.part.tiles.len()].iter().enumerate() {
                // SAFETY: one was written for each tile.
                let (walk, rows) = unsafe { walk.assume_init_ref() };
                let out = out[(t * panels.len() + p) * plan.tile_len()..][..plan.tile_len()].as_mut_ptr();
                // The next block's, each row of which is a run too short to be foreseen.
                let next = match in_place && t < plan.panel / LANES {
                    true => first.wrapping_add(pixels * row + t * LANES),
                    false => std::ptr::null(),
                };
                // SAFETY: the walk stays inside x and the packed pixels.
                unsafe { sum(s, *rows, padded / LANES, walk, Dy { first, row, next }, out, start) };
            }
        }
    }

    /// All pixels of the block, in the padded copy of the segment.
    #[inline(always)]
    fn walk_copy(&self, padded: &Padded, block: &Segment, tap: usize, first: usize, copy: *const f32) -> Walk {
        let plan = self.plan;
        let [stride_y, stride_x] = plan.shape.window.stride;
        let row = padded.size()[1] * padded.channels();
        let picture = plan.copied_picture(&self.segment.rows);
        let start = (block.images.start - self.segment.images.start) * picture
            + (block.rows.start - self.segment.rows.start) * stride_y * row;
        Walk {
            x: copy.wrapping_add(start + plan.phase.taps[tap].at[0] as usize * row + first),
            first: 0,
            counts: [block.images.len(), block.rows.len(), plan.output[1]],
            x_steps: [picture, stride_y * row, stride_x * padded.channels()],
            dy_steps: [block.rows.len() * plan.output[1], plan.output[1], 1],
        }
    }

    /// The pixels of the block at which a tap meets the picture.
    #[inline(always)]
    fn walk(&self, block: &Segment, tap: usize, channel: usize) -> Walk {
        let plan = self.plan;
        let Segment { images, rows } = block;
        let [stride_y, stride_x] = plan.shape.window.stride;
        let [height, width] = plan.shape.input;
        let [y, x] = plan.phase.taps[tap].at;
        let rows_met = met(rows.clone(), stride_y, y, height);
        let columns = met(0..plan.output[1], stride_x, x, width);
        if rows_met.is_empty() || columns.is_empty() {
            return Walk { x: &0.0, first: 0, counts: [0; 3], x_steps: [0; 3], dy_steps: [0; 3] };
        }
        let top = (rows_met.start * stride_y).wrapping_add_signed(y);
        let left = (columns.start * stride_x).wrapping_add_signed(x);
        let pixel = (images.start * height + top) * width + left;
        let first = (rows_met.start - rows.start) * plan.output[1] + columns.start;
        let stride = self.x.stride;
        let mut walk = Walk {
            x: self.x.data[pixel * stride + channel..].as_ptr(),
            first,
            counts: [images.len(), rows_met.len(), columns.len()],
            x_steps: [height * width * stride, stride_y * width * stride, stride_x * stride],
            dy_steps: [rows.len() * plan.output[1], plan.output[1], 1],
        };
        for _ in 0..2 {
            // Where an outer step continues the inner loop, the two loops are one.
            let Walk { counts, x_steps, dy_steps, .. } = walk;
            if x_steps[1] == counts[2] * x_steps[2] && dy_steps[1] == counts[2] {
                walk.counts = [1, counts[0], counts[1] * counts[2]];
                walk.x_steps = [0, x_steps[0], x_steps[2]];
                walk.dy_steps = [0, dy_steps[0], 1];
            }
        }
        walk
    }
}
