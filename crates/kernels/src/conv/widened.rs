//! Small convolutions written as wider ones, with zeros among the weights, because a vector has 16 lanes.
//!
//! - *Columns joined*: 2 neighbouring outputs of 6 filters are 12 lanes. They see one column more than each of them, so a
//!   5x5 kernel becomes 5x6: of 16 lanes 6 were used, now 12 · 5/6. Channels-last, the joined outputs lie in memory as
//!   the outputs do.
//! - *Groups joined*: 4 groups of 4 filters are 16 lanes. Three of four products are with zeros, as many lanes as were
//!   idle before; but one tile now does what four did.
//!
//! A zero's product changes no sum, so the bits stay; only infinite and NaN values reach outputs that did not see them.

use crate::geometry::ConvShape;
use crate::simd::LANES;

/// Most lanes of joined columns: a panel of weights.
pub(super) const MOST_LANES: usize = 2 * LANES;

#[derive(Clone, Copy, Debug)]
pub(super) struct Widened {
    pub from: ConvShape,
    /// Output columns and groups that become one.
    pub columns: usize,
    groups: usize,
}

impl Widened {
    /// Joins output columns where that uses a quarter more of the lanes.
    pub fn columns(shape: &ConvShape) -> Option<Widened> {
        let lanes = |columns: usize| columns * shape.filters;
        let share = |columns: usize| {
            let kernel = shape.window.kernel[1];
            let wider = kernel + (columns - 1) * shape.window.stride[1];
            lanes(columns) as f64 / lanes(columns).next_multiple_of(LANES) as f64 * kernel as f64 / wider as f64
        };
        let width = shape.output()[1];
        let fits = |&columns: &usize| width.is_multiple_of(columns) && lanes(columns) <= MOST_LANES;
        let columns = (1..=MOST_LANES).filter(fits).max_by(|&a, &b| share(a).total_cmp(&share(b)))?;
        (share(columns) >= 1.25 * share(1)).then_some(Widened { from: *shape, columns, groups: 1 })
    }

    /// Joins groups of few channels and filters, so that the more of them fill a vector.
    pub fn groups(shape: &ConvShape) -> Option<Widened> {
        Widened::joined(shape, shape.group_channels().max(shape.group_filters()))
    }

    /// Joins groups as takes the least by `estimate`, of `width` target channels each: up to a vector of them no product is added.
    /// Pointwise, adding products may still take less than to read each pixel group by group.
    pub fn targets(shape: &ConvShape, width: usize, estimate: impl Fn(&ConvShape) -> usize) -> Option<Widened> {
        let pointwise = shape.window.kernel == [1, 1];
        let fits = |&groups: &usize| shape.groups.is_multiple_of(groups) && (pointwise || groups * width <= LANES);
        let joined = |groups: usize| Widened { from: *shape, columns: 1, groups };
        let groups = (1..=shape.groups).filter(fits).min_by_key(|&groups| estimate(&joined(groups).shape()))?;
        (groups > 1).then_some(joined(groups))
    }

    /// Joins groups so that the fewer of channels and filters fill a vector, as Winograd's form wants; not where that would more than
    /// double the products.
    pub fn more_groups(shape: &ConvShape) -> Option<Widened> {
        let (channels, filters) = (shape.group_channels(), shape.group_filters());
        let few = channels.min(filters);
        if channels.max(filters) > 2 * few { None } else { Widened::joined(shape, few) }
    }

    fn joined(shape: &ConvShape, each: usize) -> Option<Widened> {
        let most = LANES / each.min(LANES);
        let groups = (1..=most).rev().find(|&groups| shape.groups.is_multiple_of(groups))?;
        (groups > 1).then_some(Widened { from: *shape, columns: 1, groups })
    }

    /// The wider convolution.
    pub fn shape(&self) -> ConvShape {
        let mut shape = self.from;
        shape.window.kernel[1] += (self.columns - 1) * shape.window.stride[1];
        shape.window.stride[1] *= self.columns;
        shape.filters *= self.columns;
        shape.groups /= self.groups;
        shape
    }

    /// Writes its weights.
    pub fn expand(&self, weights: &[f32], out: &mut [f32]) {
        let (from, wider) = (&self.from, self.shape());
        let (channels, [rows, kernel]) = (from.group_channels(), from.window.kernel);
        let wider_kernel = wider.window.kernel[1];
        out[..wider.weights()].fill(0.0);
        for column in 0..self.columns {
            for filter in 0..from.filters {
                let group = filter / from.group_filters() % self.groups;
                for row in 0..channels * rows {
                    let taken = &weights[(filter * channels * rows + row) * kernel..][..kernel];
                    let place = (column * from.filters + filter) * wider.group_channels() * rows;
                    let place = (place + group * channels * rows + row) * wider_kernel;
                    out[place + column * from.window.stride[1]..][..kernel].copy_from_slice(taken);
                }
            }
        }
    }
}
