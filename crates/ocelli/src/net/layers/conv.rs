//! `conv`: filters that slide over feature maps.

use super::{is_one, is_ones, is_yes, one, ones, yes};
use crate::graph::lower::Lowering;
use crate::graph::{Op, Spread, ValueId};
use crate::net::keys::{count, is_default, pair};
use crate::net::kind::{Init, Keys, LayerKind, ParameterRule, Role};
use crate::shape::{Padding, Shape, output_size};
use crate::{Error, Result};
use ocelli_kernels::early::NONE;
use ocelli_kernels::geometry::{ConvShape, Window};
use serde::{Deserialize, Serialize};

/// Each filter slides over all maps of its group and sums products of weights and pixels (cross-correlation, as every
/// framework computes it), plus a bias. Weights `[filters, channels/groups, kernel height, kernel width]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    /// Output channels.
    #[serde(with = "count")]
    pub filters: usize,
    /// Rows and columns of a filter.
    #[serde(with = "pair")]
    pub kernel: [usize; 2],
    /// Step between two positions.
    #[serde(with = "pair", default = "ones", skip_serializing_if = "is_ones")]
    pub stride: [usize; 2],
    /// Rows and columns added around the maps, zeros.
    #[serde(default, skip_serializing_if = "is_default")]
    pub padding: Padding,
    /// Step between two elements of a filter.
    #[serde(with = "pair", default = "ones", skip_serializing_if = "is_ones")]
    pub dilation: [usize; 2],
    /// Parts that channels and filters are divided into; as many as channels make the convolution depthwise.
    #[serde(with = "count", default = "one", skip_serializing_if = "is_one")]
    pub groups: usize,
    /// Which maps each filter sees, one list a filter, counted from 0; all if absent. Weights are then `[pairs of filter and map,
    /// kernel height, kernel width]`, in the order of the lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maps: Vec<Vec<usize>>,
    /// Whether each filter has a bias.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
}

/// Weights, zeros included, of a convolution with `maps`: they are put in their places one by one.
const MOST_SPREAD: usize = 1 << 24;

impl Keys for Conv {
    const TYPE: &'static str = "conv";
}

impl Conv {
    /// The geometry for an input of `[channels, height, width]`.
    pub fn geometry(&self, [channels, h, w]: [usize; 3]) -> ConvShape {
        ConvShape { input: [h, w], channels, filters: self.filters, groups: self.groups, window: self.sliding([h, w]) }
    }

    fn sliding(&self, size: [usize; 2]) -> Window {
        let window = Window { stride: self.stride, dilation: self.dilation, ..Window::new(self.kernel) };
        self.padding.apply(size, window)
    }

    /// The maps that a filter sees, of `channels`, and how many maps the filters before it see together.
    pub fn seen_by(&self, filter: usize, channels: usize) -> (Vec<usize>, usize) {
        if !self.maps.is_empty() {
            return (self.maps[filter].clone(), self.maps[..filter].iter().map(Vec::len).sum());
        }
        let depth = channels / self.groups;
        let first = filter / (self.filters / self.groups) * depth;
        ((first..first + depth).collect(), filter * depth)
    }

    /// Pairs of a filter and a map that it sees.
    fn pairs(&self) -> usize {
        self.maps.iter().map(Vec::len).sum()
    }

    fn check_maps(&self) -> Result<()> {
        if self.groups > 1 {
            return Err(Error::new("both `maps` and `groups` say what a filter sees").advice("Remove one of them."));
        }
        if self.maps.len() != self.filters {
            return Err(Error::new(format!("`maps` has {} lists for {} filters", self.maps.len(), self.filters))
                .advice("Write one list of maps for each filter."));
        }
        match self.maps.iter().position(|maps| maps.is_empty() || !maps.is_sorted_by(|a, b| a < b)) {
            None => Ok(()),
            Some(filter) => Err(Error::new(format!("`maps`: list {filter} is {:?}", self.maps[filter]))
                .advice("List at least one map, each once, in rising order.")),
        }
    }

    /// The weights in their places among those of all maps, 0 elsewhere.
    fn spread(&self, channels: usize) -> Spread {
        let [kh, kw] = self.kernel;
        let mut table = vec![NONE; self.filters * channels * kh * kw];
        let mut next = 0;
        for (filter, maps) in self.maps.iter().enumerate() {
            for map in maps {
                for place in &mut table[(filter * channels + map) * kh * kw..][..kh * kw] {
                    *place = next;
                    next += 1;
                }
            }
        }
        Spread { table: table.into(), from: vec![self.pairs(), kh, kw], to: vec![self.filters, channels, kh, kw] }
    }

    /// Channels of one group, that is of each filter.
    fn depth(&self, input: Shape) -> usize {
        input.channels() / self.groups
    }
}

impl LayerKind for Conv {
    fn check(&self) -> Result<()> {
        if !self.maps.is_empty() {
            return self.check_maps();
        }
        if self.filters.is_multiple_of(self.groups) {
            return Ok(());
        }
        Err(Error::new(format!("{} filters do not divide into {} groups", self.filters, self.groups))
            .advice("Use a number of filters that is a multiple of the groups."))
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [channels, h, w] = inputs[0].map()?;
        if channels % self.groups != 0 {
            return Err(Error::new(format!("{channels} channels do not divide into {} groups", self.groups))
                .advice("Use groups that divide both the input's channels and the filters."));
        }
        if let Some(map) = self.maps.iter().flatten().find(|map| **map >= channels) {
            return Err(Error::new(format!("`maps` names map {map}, but the input has {channels}"))
                .advice("Count maps from 0."));
        }
        let full = [self.filters, channels, self.kernel[0], self.kernel[1]];
        if !self.maps.is_empty() && full.iter().fold(1usize, |n, size| n.saturating_mul(*size)) > MOST_SPREAD {
            return Err(Error::new(format!("`maps` of {} filters on {channels} maps is too large", self.filters))
                .advice(format!("Filters, maps and kernel may multiply to {MOST_SPREAD} at most.")));
        }
        let [h, w] = output_size("kernel", [h, w], &self.sliding([h, w]))?;
        Ok(Shape::Map([self.filters, h, w]))
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        let op = Op::Conv { window: self.sliding(l.size()), groups: self.groups, activation: None };
        if self.maps.is_empty() {
            return l.apply(op, &[Role::Weight, Role::Bias]);
        }
        let mut inputs = vec![l.input(0), l.spread_weight(self.spread(l.shape(0).channels()))?];
        inputs.extend(l.parameters(&[Role::Bias]));
        l.push(op, &inputs).map(|made| made[0])
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<ParameterRule> {
        let [kh, kw] = self.kernel;
        let mut parameters = vec![if self.maps.is_empty() {
            ParameterRule::new(Role::Weight, [self.filters, self.depth(inputs[0]), kh, kw], Init::He)
        } else {
            // He's rule for the mean number of weights behind an output.
            let fan_in = (self.pairs() * kh * kw) as f64 / self.filters as f64;
            ParameterRule::new(Role::Weight, [self.pairs(), kh, kw], Init::Normal { std: (2.0 / fan_in).sqrt() })
        }];
        if self.bias {
            parameters.push(ParameterRule::new(Role::Bias, [self.filters], Init::Constant(0.0)));
        }
        parameters
    }

    fn macs(&self, inputs: &[Shape], output: Shape) -> u64 {
        let window = self.kernel[0] as u64 * self.kernel[1] as u64;
        if !self.maps.is_empty() {
            return (window * self.pairs() as u64).saturating_mul((output.len() / self.filters) as u64);
        }
        (self.depth(inputs[0]) as u64 * window).saturating_mul(output.len() as u64)
    }

    fn connections(&self, inputs: &[Shape], output: Shape) -> u64 {
        let biases = if self.bias { output.len() as u64 } else { 0 };
        self.macs(inputs, output).saturating_add(biases)
    }

    fn window(&self, size: [usize; 2]) -> Option<Window> {
        Some(self.sliding(size))
    }
}
