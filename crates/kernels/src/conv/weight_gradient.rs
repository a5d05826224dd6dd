//! The gradients with respect to weights and bias.
//!
//! A tile of 12 channels by 32 filters at one kernel element stays in registers (AVX2: 6 by 16) while a loop runs over the
//! pixels of a segment: 12 input values are broadcast against 2 vectors of the output's gradient, both read in place. The
//! segment goes by blocks of some rows or pictures, whose 32 filters of the output's gradient are 16 KB that all tiles of a
//! task read, which go on from where they were. Measured on one Zen 4 core of peak 115 GFLOP/s: 96 to 116.
//!
//! With few channels a padded copy of the segment's rows is read instead, in which the channels of a kernel row are one
//! run of values. With three kernel rows of up to 9 values, AVX-512's registers hold all sums of a vector of filters.

mod few;
mod sum;
mod write;

use std::ops::Range;

use super::choice::{Pass, pays};
use super::depthwise::Depthwise;
use super::depthwise_weights::DepthwiseWeights;
use super::forward;
use super::padded::Padded;
use super::phase::Phase;
use super::planar::PlanarWeights;
use super::whole::Whole;
use super::widened::Widened;
use super::winograd;
use super::{Pixels, check_pixels};
use crate::geometry::ConvShape;
use crate::pool::Shares;
use crate::segments::{Reduction, Segment, Segments};
use crate::simd::{LANES, dispatch};
use crate::{Cpu, Isa};
use sum::SegmentSum;
use write::Write;

/// Values of a task's sums: 256 KB a level of the tree.
const SUMS: usize = 64 << 10;
/// Most tiles of a filter panel in a task.
const MOST_TILES: usize = 64;
/// Most filters of a task: a block's pixels of them, side by side, are 128 KB.
const MOST_FILTERS: usize = 256;
/// Channels of a full tile by two vectors of filters, and by one, which are all that some layers have.
const ROWS: usize = 12;
const MOST_ROWS: usize = 16;
/// Pixels of a block, unless one row has more; twice as many of one vector of filters: 16 KB.
const BLOCK: usize = 128;

/// The weight gradient of a convolution of fixed shapes, for any batch size.
pub struct WeightGradient {
    algorithm: Algorithm,
}

enum Algorithm {
    Tiles(Tiles),
    Planar(PlanarWeights),
    Depthwise(DepthwiseWeights),
    Winograd(winograd::WeightGradient),
    Whole(Whole),
}

impl WeightGradient {
    /// Plans the weight gradient of the convolution `shape`; `isa` and `exact` as in
    /// [`super::Forward::new`].
    pub fn new(shape: &ConvShape, isa: Isa, exact: bool) -> WeightGradient {
        let algorithm = if let Some(plan) = Whole::new(shape) {
            Algorithm::Whole(plan)
        } else if Depthwise::fits(shape) {
            Algorithm::Depthwise(DepthwiseWeights::new(shape))
        } else if !exact
            && let Some(winograd) = WeightGradient::winograd(shape, isa)
            && pays(shape, Pass::WeightGradient)
        {
            return winograd;
        } else if let Some(plan) = PlanarWeights::new(shape) {
            Algorithm::Planar(plan)
        } else {
            Algorithm::Tiles(Tiles::new(shape, isa))
        };
        WeightGradient { algorithm }
    }

    /// Winograd's form where it is possible, as [`super::Forward::winograd`].
    pub fn winograd(shape: &ConvShape, isa: Isa) -> Option<WeightGradient> {
        let plan = || WeightGradient { algorithm: Algorithm::Winograd(winograd::WeightGradient::new(shape, isa)) };
        winograd::gradients_fit(shape).then(plan)
    }

    /// The name of the kernel that was chosen.
    pub fn kernel(&self) -> &'static str {
        match &self.algorithm {
            Algorithm::Tiles(plan) if plan.padded.is_some() => "padded",
            Algorithm::Tiles(_) => "tiles",
            Algorithm::Planar(_) => "planar",
            Algorithm::Depthwise(plan) => plan.name(),
            Algorithm::Winograd(_) => "winograd",
            Algorithm::Whole(_) => "linear",
        }
    }

    /// Values of scratch memory that [`WeightGradient::run`] needs for up to `batch` pictures.
    pub fn workspace_len(&self, batch: usize, threads: usize) -> usize {
        match &self.algorithm {
            // Fewer pictures are cut into more parts.
            Algorithm::Tiles(plan) => {
                let needed = |n| plan.reduction(n, threads, true).workspace_len(threads);
                (1..=batch).map(needed).max().unwrap_or(0)
            }
            Algorithm::Planar(plan) => plan.workspace_len(batch, threads),
            Algorithm::Depthwise(plan) => plan.reduction(batch, threads).workspace_len(threads),
            Algorithm::Winograd(plan) => plan.workspace_len(batch, threads),
            Algorithm::Whole(plan) => plan.weights_workspace_len(batch),
        }
    }

    /// Writes `dw` (`[filters, channels / groups, rows, columns]`) and, where wanted, `db` (one value a filter) from `x`
    /// (`n · H · W` pixels of all channels) and `dy` (`n · OH · OW` pixels of all filters).
    ///
    /// # Panics
    /// A slice is too short or a stride below the channels: a defect of the plan.
    #[allow(clippy::too_many_arguments)]
    pub fn run(
        &self,
        cpu: &Cpu,
        n: usize,
        x: Pixels,
        dy: Pixels,
        dw: &mut [f32],
        db: Option<&mut [f32]>,
        workspace: &mut [f32],
    ) {
        if n == 0 {
            dw.fill(0.0);
            db.into_iter().for_each(|db| db.fill(0.0));
            return;
        }
        match &self.algorithm {
            Algorithm::Tiles(plan) => plan.run(cpu, n, x, dy, dw, db, workspace),
            Algorithm::Planar(plan) => plan.run(cpu, n, x, dy, dw, db, workspace),
            Algorithm::Depthwise(plan) => plan.run(cpu, n, x, dy, dw, db, workspace),
            Algorithm::Winograd(plan) => plan.run(cpu, n, x, dy, dw, db, workspace),
            Algorithm::Whole(plan) => plan.weight_gradient(cpu, n, x, dy, dw, db, workspace),
        }
    }
}

struct Tiles {
    /// The convolution, or a wider one whose groups are some of its groups: see [`Widened::groups`].
    shape: ConvShape,
    /// Channels and filters of the convolution's own groups, outside which a wider one's sums are not wanted.
    own: [usize; 2],
    output: [usize; 2],
    phase: Phase,
    segments: Segments,
    /// Set where kernel rows of a padded copy are read: then the taps are kernel rows, their channels all those of a row.
    padded: Option<Padded>,
    /// Channels and filters of a full tile.
    rows: usize,
    panel: usize,
}

/// How tasks share the groups and a group's tiles.
struct Splits {
    /// Groups of a part. Several read the same cache lines.
    groups: usize,
    panels: usize,
    tiles: usize,
    /// Tiles that stay together: those of some channels at all taps, whose results are one run of a filter.
    together: usize,
}

/// A task's share of the gradient: tiles `tiles` of some filter panels of some groups.
struct Part {
    groups: Range<usize>,
    panels: Range<usize>,
    tiles: Range<usize>,
}

impl Tiles {
    fn new(shape: &ConvShape, isa: Isa) -> Tiles {
        let own = [shape.group_channels(), shape.group_filters()];
        let shape = &Widened::groups(shape).map_or(*shape, |widened| widened.shape());
        let mut phase = forward::phases(shape).swap_remove(0);
        let padded = Padded::new(shape);
        if let Some(padded) = &padded {
            phase.taps = padded.taps();
        }
        let wide = isa == Isa::Avx512;
        Tiles {
            shape: *shape,
            own,
            output: shape.output(),
            segments: Segments::new(shape.output()),
            phase,
            padded,
            rows: match wide {
                true if shape.group_filters() <= LANES => MOST_ROWS,
                true => ROWS,
                false => 6,
            },
            panel: if wide { 2 * LANES } else { LANES },
        }
    }

    /// Channels of a tap.
    fn depth(&self) -> usize {
        self.padded.as_ref().map_or(self.shape.group_channels(), Padded::depth)
    }

    /// Tiles of a filter panel, without the bias.
    fn tiles(&self) -> usize {
        self.depth().div_ceil(self.rows) * self.phase.taps.len()
    }

    fn panels(&self) -> usize {
        self.shape.group_filters().div_ceil(self.panel)
    }

    fn tile_len(&self) -> usize {
        self.rows * self.panel
    }

    /// Parts of the groups, of a group's panels and of a panel's tiles: few, but four tasks a thread with those that the pictures
    /// give. Panels before tiles: their filters are runs of dw of their own. Tiles of kernel rows write beside one another in every filter, so
    /// that two threads' cache lines would go to and fro longer than the sums take.
    fn splits(&self, n: usize, threads: usize) -> Splits {
        let wanted = if threads == 1 { 1 } else { 4 * threads };
        let (tiles, panels, taps) = (self.tiles(), self.panels(), self.phase.taps.len());
        let wanted = wanted.div_ceil(self.segments.count(n));
        let fit =
            |&groups: &usize| self.shape.groups / groups >= wanted && groups * self.sums(tiles + 1, panels) <= SUMS;
        let groups = (1..=self.shape.groups).rev().filter(|&groups| self.shape.groups.is_multiple_of(groups)).find(fit);
        let groups = groups.unwrap_or(1);
        let wanted = wanted.div_ceil(self.shape.groups / groups);
        let splits = panels.div_ceil(MOST_FILTERS / self.panel).max(wanted.min(panels));
        let most = (SUMS / self.tile_len() / panels.div_ceil(splits)).min(MOST_TILES);
        let few = if self.padded.is_some() { 1 } else { wanted.div_ceil(splits).min(tiles.div_ceil(8)) };
        let together = if self.padded.is_none() && taps <= most && few <= tiles / taps { taps } else { 1 };
        Splits { groups, panels: splits, tiles: few.max((tiles / together).div_ceil(most / together)), together }
    }

    /// Values of so many tiles of so many panels.
    fn sums(&self, tiles: usize, panels: usize) -> usize {
        tiles * panels * self.tile_len()
    }

    fn part(&self, part: usize, splits: &Splits, bias: bool) -> Part {
        let (units, panels) = (self.tiles() / splits.together, self.panels());
        let (rest, tile) = (part / splits.tiles, part % splits.tiles);
        let (groups, panel) = (rest / splits.panels * splits.groups, rest % splits.panels);
        let end = (tile + 1) * units / splits.tiles * splits.together;
        Part {
            groups: groups..groups + splits.groups,
            panels: panel * panels / splits.panels..(panel + 1) * panels / splits.panels,
            tiles: tile * units / splits.tiles * splits.together..end + usize::from(bias && tile + 1 == splits.tiles),
        }
    }

    /// Channels of a panel that exist, and with what is padded to whole vectors.
    fn lanes(&self, panel: usize) -> [usize; 2] {
        let lanes = self.panel.min(self.shape.group_filters() - panel * self.panel);
        [lanes, lanes.next_multiple_of(LANES)]
    }

    /// Pixels of a block where rows are short.
    fn block(&self) -> usize {
        if self.rows == MOST_ROWS { 2 * BLOCK } else { BLOCK }
    }

    /// Most pixels of a block.
    fn most_pixels(&self) -> usize {
        self.block().max(self.output[1])
    }

    /// The blocks of a segment, in the order of its pixels.
    fn blocks(&self, segment: &Segment) -> impl Iterator<Item = Segment> {
        let Segment { images, rows } = segment.clone();
        let width = self.output[1];
        // Even: 14 rows are 7 and 7, not 9 and 5.
        let some_rows = rows.len().div_ceil(rows.len().div_ceil((self.block() / width).max(1)));
        let some_images = if some_rows < rows.len() { 1 } else { (self.block() / (rows.len() * width)).max(1) };
        images.clone().step_by(some_images).flat_map(move |image| {
            let (images, end) = (image..images.end.min(image + some_images), rows.end);
            let part = move |row: usize| Segment { images: images.clone(), rows: row..end.min(row + some_rows) };
            rows.clone().step_by(some_rows).map(part)
        })
    }

    /// Values of a segment's padded copy.
    fn copy_len(&self) -> usize {
        let segments = &self.segments;
        self.padded.as_ref().map_or(0, |padded| segments.most_images() * padded.band_len(segments.most_rows()))
    }

    /// Values from one copied picture of a segment to the next.
    fn copied_picture(&self, rows: &Range<usize>) -> usize {
        self.padded.as_ref().map_or(0, |padded| padded.band_len(rows.len()))
    }

    fn reduction(&self, n: usize, threads: usize, bias: bool) -> Reduction {
        let splits = self.splits(n, threads);
        let panels = self.panels().div_ceil(splits.panels);
        let tiles = (self.tiles() / splits.together).div_ceil(splits.tiles) * splits.together;
        let sums = splits.groups * self.sums(tiles + usize::from(bias), panels);
        let scratch = self.copy_len() + self.most_pixels() * panels * self.panel + LANES;
        let wanted = if threads == 1 { 1 } else { 4 * threads };
        let parts = splits.panels * splits.tiles * (self.shape.groups / splits.groups);
        Reduction::new(self.segments, n, parts, sums, scratch, wanted)
    }

    #[allow(clippy::too_many_arguments)]
    fn run(
        &self,
        cpu: &Cpu,
        n: usize,
        x: Pixels,
        dy: Pixels,
        dw: &mut [f32],
        db: Option<&mut [f32]>,
        workspace: &mut [f32],
    ) {
        let shape = &self.shape;
        check_pixels("x", x.data.len(), x.stride, n * shape.input[0] * shape.input[1], shape.channels);
        check_pixels("dy", dy.data.len(), dy.stride, n * self.output[0] * self.output[1], shape.filters);
        let weights = shape.weights() / shape.group_channels() * self.own[0];
        assert!(dw.len() >= weights, "dw: {} values of {weights}", dw.len());
        let threads = cpu.pool().threads();
        let bias = db.is_some();
        if let Some(db) = &db {
            assert!(db.len() >= shape.filters, "db: {} values of {}", db.len(), shape.filters);
        }
        let (dw, db) = (Shares::new(dw), db.map(Shares::new));
        let splits = self.splits(n, threads);
        let sum = |part: usize, segment: &Segment, scratch: &mut [f32], out: &mut [f32]| {
            let part = self.part(part, &splits, bias);
            dispatch(cpu.isa(), SegmentSum { plan: self, part, segment, x, dy, scratch, out });
        };
        let finish = |part: usize, sums: &[f32]| {
            dispatch(cpu.isa(), Write { plan: self, part: self.part(part, &splits, bias), sums, dw: &dw, db: &db });
        };
        self.reduction(n, threads, bias).run(cpu, workspace, &sum, &finish);
    }

    /// Rows of a tile, even over the tiles: 16 channels are 8 + 8, not 12 + 4.
    fn tile_rows(&self, tile: usize) -> Range<usize> {
        let (depth, tiles) = (self.depth(), self.depth().div_ceil(self.rows));
        let i = tile / self.phase.taps.len();
        i * depth / tiles..(i + 1) * depth / tiles
    }
}
