//! `conv`: filters that slide over feature maps.

use super::{is_ones, is_yes, ones, yes};
use crate::graph::lower::Lowering;
use crate::graph::{Op, ValueId};
use crate::net::keys::{count, is_default, pair};
use crate::net::kind::{Init, Keys, LayerKind, ParameterRule, Role};
use crate::shape::{Padding, Shape, output_size};
use crate::{Error, Result};
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
    /// Whether each filter has a bias.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
}

fn one() -> usize {
    1
}

fn is_one(n: &usize) -> bool {
    *n == 1
}

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

    /// Channels of one group, that is of each filter.
    fn depth(&self, input: Shape) -> usize {
        input.channels() / self.groups
    }
}

impl LayerKind for Conv {
    fn check(&self) -> Result<()> {
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
        let [h, w] = output_size("kernel", [h, w], &self.sliding([h, w]))?;
        Ok(Shape::Map([self.filters, h, w]))
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        let op = Op::Conv { window: self.sliding(l.size()), groups: self.groups, activation: None };
        l.apply(op, &[Role::Weight, Role::Bias])
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<ParameterRule> {
        let [kh, kw] = self.kernel;
        let mut parameters =
            vec![ParameterRule::new(Role::Weight, [self.filters, self.depth(inputs[0]), kh, kw], Init::He)];
        if self.bias {
            parameters.push(ParameterRule::new(Role::Bias, [self.filters], Init::Constant(0.0)));
        }
        parameters
    }

    fn macs(&self, inputs: &[Shape], output: Shape) -> u64 {
        let each = self.depth(inputs[0]) as u64 * self.kernel[0] as u64 * self.kernel[1] as u64;
        each.saturating_mul(output.len() as u64)
    }

    fn connections(&self, inputs: &[Shape], output: Shape) -> u64 {
        let biases = if self.bias { output.len() as u64 } else { 0 };
        self.macs(inputs, output).saturating_add(biases)
    }

    fn window(&self, size: [usize; 2]) -> Option<Window> {
        Some(self.sliding(size))
    }
}
