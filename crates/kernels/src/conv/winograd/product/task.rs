//! What a task does: sources and weights to the points, products, sums to outputs.

use std::ops::Range;

use super::super::super::run_tile::{self, Run};
use super::super::super::tile::Output;
use super::super::super::{Epilogue, Pixels};
use super::super::{POINTS, Place, outputs, transform};
use super::few::{self, Products};
use super::pack::Pack;
use super::{DEPTH, FILTERS, Product, Weights, addresses};
use crate::simd::{Kernel, LANES, Simd, load_part, store_part};

/// What all tasks share.
pub(super) struct Pass<'a> {
    pub plan: &'a Product,
    pub source: Pixels<'a>,
    pub weights: Weights<'a>,
    pub epilogue: &'a Epilogue<'a>,
    pub target: *mut f32,
    pub target_stride: usize,
    /// Whether whole vectors are streamed: see [`crate::simd::streams`].
    pub stream: bool,
}

// SAFETY: tasks write different tiles or channels of what the pointer leads to.
unsafe impl Sync for Pass<'_> {}

/// The outputs of some tiles and of some filters of a group.
pub(super) struct Outputs<'a> {
    pub pass: &'a Pass<'a>,
    pub group: usize,
    pub filters: Range<usize>,
    pub tiles: Range<usize>,
    /// Tiles that are transformed at once.
    pub at_once: usize,
    pub own: &'a mut [f32],
}

impl Kernel for Outputs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let plan = self.pass.plan;
        let [weights, sources, _] = plan.own();
        let (own_weights, rest) = self.own.split_at_mut(weights);
        let (own_sources, own_sums) = rest.split_at_mut(sources);
        let kept = plan.keeps(self.filters.len());
        for tile in self.tiles.clone().step_by(self.at_once) {
            for filter in self.filters.clone().step_by(FILTERS) {
                let part = Part {
                    pass: self.pass,
                    group: self.group,
                    filters: filter..self.filters.end.min(filter + FILTERS),
                    tiles: tile..self.tiles.end.min(tile + self.at_once),
                    sources: own_sources.as_mut_ptr(),
                    sums: own_sums.as_mut_ptr(),
                };
                // SAFETY: `Product::run` checked source, weights, target, residual and bias; the task's own memory has room
                // for the weights, sources and sums of a part; tasks write different tiles or channels.
                unsafe {
                    for d in (0..plan.depth).step_by(DEPTH) {
                        let depth = d..plan.depth.min(d + DEPTH);
                        if plan.depth > DEPTH || filter == self.filters.start {
                            part.transform_sources(s, &depth);
                        }
                        if part.few() {
                            part.sum_few(s, &depth, own_weights.as_mut_ptr());
                            continue;
                        }
                        for (i, panel) in part.panels().enumerate() {
                            let place = if kept { i * Product::panel_len(depth.len(), plan.panel()) } else { 0 };
                            let weights = own_weights[place..].as_mut_ptr();
                            if !kept || tile == self.tiles.start {
                                part.transform_weights(s, &depth, &panel, weights);
                            }
                            part.sum(s, &depth, &panel, weights);
                        }
                    }
                    if plan.tiling.kernel == 3 { part.write::<S, 3>(s) } else { part.write::<S, 5>(s) }
                }
            }
        }
        if self.pass.stream {
            s.fence();
        }
    }
}

/// What a task sums at once.
struct Part<'a> {
    pass: &'a Pass<'a>,
    group: usize,
    filters: Range<usize>,
    tiles: Range<usize>,
    /// `[point][tile][channel]`; of few tiles `[16 channels][point][tile][16]`
    sources: *mut f32,
    /// `[point][panel][tile][lanes]`
    sums: *mut f32,
}

/// A panel of filters.
struct Panel {
    first: usize,
    lanes: usize,
    /// Filters before it in the part.
    before: usize,
}

impl Part<'_> {
    fn panels(&self) -> impl Iterator<Item = Panel> + use<'_> {
        let plan = self.pass.plan;
        let firsts = self.filters.clone().step_by(plan.panel());
        firsts.map(move |first| Panel { first, lanes: plan.lanes(first), before: first - self.filters.start })
    }

    fn few(&self) -> bool {
        self.tiles.len() <= few::TILES
    }

    /// Values from the sums at a point to those at the next one.
    fn sum_plane(&self) -> usize {
        self.tiles.len() * self.filters.len().next_multiple_of(LANES) + LANES
    }

    /// Values from a tile's sources at a point to the next tile's, to the next point's, and to the next vector of channels.
    fn source_steps(&self, depth: &Range<usize>) -> [usize; 3] {
        let tiles = self.tiles.len();
        if self.few() {
            return [LANES, tiles * LANES, POINTS * tiles * LANES];
        }
        let row = depth.len().next_multiple_of(LANES);
        [row, tiles * row + LANES, LANES]
    }

    #[inline(always)]
    unsafe fn transform_sources<S: Simd>(&self, s: S, depth: &Range<usize>) {
        let Pass { plan, source, .. } = self.pass;
        let [row, plane, vector] = self.source_steps(depth);
        let rows_of = |t: usize| {
            let Place { image, first: [top, left], .. } = plan.tiling.place(t);
            let at = [top.wrapping_add_signed(plan.start[0]), left.wrapping_add_signed(plan.start[1])];
            addresses(source, plan.source, image, at, plan.tiling.dilation, &plan.zeros)
        };
        // This tile's and the next one's, by turns: to copy addresses just written would wait for them.
        let mut rows = [rows_of(self.tiles.start); 2];
        for (i, t) in self.tiles.clone().enumerate() {
            rows[(i + 1) % 2] = rows_of(self.tiles.end.min(t + 2) - 1);
            let (rows, next) = (&rows[i % 2], &rows[(i + 1) % 2]);
            for c in (0..depth.len()).step_by(LANES) {
                let (offset, lanes) = (self.group * plan.depth + depth.start + c, LANES.min(depth.len() - c));
                transform::ask_source(s, next, offset);
                // SAFETY: the addresses are of pixels or zeros; the task's memory has room for its tiles.
                unsafe {
                    let out = self.sources.add(i * row + c / LANES * vector);
                    transform::source(s, rows, offset, lanes, out, plane);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn transform_weights<S: Simd>(&self, s: S, depth: &Range<usize>, panel: &Panel, out: *mut f32) {
        let Pass { plan, weights, .. } = *self.pass;
        let Panel { first, lanes, .. } = *panel;
        let plane = Product::panel_len(depth.len(), lanes) / POINTS;
        Pack { plan, weights, group: self.group, first, lanes, depth: depth.clone(), out, plane }.run(s);
    }

    /// Adds the products of some channels and a panel of filters at all points.
    #[inline(always)]
    unsafe fn sum<S: Simd>(&self, s: S, depth: &Range<usize>, panel: &Panel, weights: *const f32) {
        let Panel { first, lanes, before } = *panel;
        let plan = self.pass.plan;
        let [row, source_plane, _] = self.source_steps(depth);
        let (plane, sum_plane) = (Product::panel_len(depth.len(), lanes) / POINTS, self.sum_plane());
        // Channels of the last vector.
        let last = LANES - (lanes - lanes.min(plan.width - first));
        for point in 0..POINTS {
            let target = self.sums.wrapping_add(point * sum_plane + before * self.tiles.len());
            let run = Run {
                pixels: 0..self.tiles.len(),
                width: usize::MAX,
                source: self.sources.cast_const().wrapping_add(point * source_plane),
                pixel_step: row,
                row_step: 0,
                taps: 1,
                tap_step: 0,
                depth: depth.len(),
                weights: weights.wrapping_add(point * plane),
                output: Output { first: depth.start == 0, ..Output::of_sums(target, lanes, last) },
                ask_source: true,
            };
            // SAFETY: as the caller vouches.
            unsafe { run_tile::run(s, lanes / LANES, &run) }
        }
    }

    /// The same of all filters, for few tiles: some channels of a vector of filters at a time.
    #[inline(always)]
    unsafe fn sum_few<S: Simd>(&self, s: S, depth: &Range<usize>, own: *mut f32) {
        let Pass { plan, weights, .. } = *self.pass;
        let [_, _, vector] = self.source_steps(depth);
        for Panel { first, lanes, before } in self.panels() {
            for lane in (0..lanes).step_by(LANES) {
                for d in depth.clone().step_by(few::CHANNELS) {
                    let (some, c) = (d..depth.end.min(d + few::CHANNELS), d - depth.start);
                    let products = Products {
                        tiles: self.tiles.len(),
                        channels: some.len(),
                        weights: own,
                        sources: self.sources.wrapping_add(c / LANES * vector + c % LANES),
                        sums: self.sums.wrapping_add(before * self.tiles.len() + lane),
                        sum_steps: [lanes, self.sum_plane()],
                        first: d == 0,
                    };
                    let (first, plane) = (first + lane, few::CHANNELS * LANES);
                    Pack { plan, weights, group: self.group, first, lanes: LANES, depth: some, out: own, plane }.run(s);
                    // SAFETY: as the caller vouches.
                    unsafe { few::add(s, &products) }
                }
            }
        }
    }

    /// From sums to outputs.
    #[inline(always)]
    unsafe fn write<S: Simd, const R: usize>(&self, s: S) {
        let (plan, count) = (self.pass.plan, self.tiles.len());
        for (i, t) in self.tiles.clone().enumerate() {
            let place = plan.tiling.place(t);
            for Panel { first, lanes, before } in self.panels() {
                for lane in (0..lanes).step_by(LANES) {
                    let sums = self.sums.cast_const().wrapping_add(before * count + i * lanes + lane);
                    let channels = [self.group * plan.width + first + lane, LANES.min(plan.width - first - lane)];
                    // SAFETY: as the caller vouches.
                    unsafe { self.write_vector::<S, R>(s, &place, channels, sums) }
                }
            }
        }
    }

    /// The outputs of a tile and of `count` filters from `c` on.
    #[inline(always)]
    unsafe fn write_vector<S: Simd, const R: usize>(
        &self,
        s: S,
        place: &Place,
        [c, count]: [usize; 2],
        sums: *const f32,
    ) {
        let Pass { plan, epilogue, target, target_stride, stream, .. } = *self.pass;
        let (first, [down, right]) = plan.tiling.pixels(place);
        // SAFETY: as the caller vouches.
        unsafe {
            let values = transform::target::<S, R>(s, sums, self.sum_plane());
            let bias = match epilogue.bias {
                Some(bias) => load_part(s, bias.as_ptr().add(c), count),
                None => s.zero(),
            };
            for i in 0..outputs(R).min(place.count[0]) {
                for j in 0..outputs(R).min(place.count[1]) {
                    let pixel = first + i * down + j * right;
                    let mut value = s.add(values[i][j], bias);
                    if let Some(residual) = epilogue.residual {
                        let p = residual.data.as_ptr().add(pixel * residual.stride + c);
                        value = s.add(value, load_part(s, p, count));
                    }
                    let value = epilogue.activation.apply(s, value);
                    let p = target.add(pixel * target_stride + c);
                    if stream { s.stream(p, value) } else { store_part(s, p, value, count) }
                }
            }
        }
    }
}
