//! `subsample`: sums under a window, times a trained factor, plus a trained bias.

use super::max_pool::pool_window;
use crate::Result;
use crate::graph::lower::Lowering;
use crate::graph::{Op, Spread, ValueId};
use crate::net::keys::pair;
use crate::net::kind::{Init, Keys, LayerKind, ParameterRule, Role};
use crate::shape::{Padding, Shape, output_size};
use ocelli_kernels::geometry::Window;
use serde::{Deserialize, Serialize};

/// y = w·(sum of the window) + b with one w and one b for each map: the subsampling of LeCun et al. 1998. Windows do not
/// overlap. Weights `[channels]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subsample {
    /// Rows and columns of the window, and the step between two.
    #[serde(with = "pair")]
    pub kernel: [usize; 2],
}

impl Keys for Subsample {
    const TYPE: &'static str = "subsample";
}

impl Subsample {
    fn sliding(&self, size: [usize; 2]) -> Window {
        pool_window(self.kernel, None, Padding::default(), false, size)
    }
    /// Values under the window.
    fn area(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }
}

impl LayerKind for Subsample {
    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [channels, h, w] = inputs[0].map()?;
        let [h, w] = output_size("kernel", [h, w], &self.sliding([h, w]))?;
        Ok(Shape::Map([channels, h, w]))
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        // A depthwise convolution whose filters hold one weight everywhere.
        let (channels, [h, w]) = (l.shape(0).channels(), self.kernel);
        let table = (0..channels as u32).flat_map(|channel| std::iter::repeat_n(channel, self.area())).collect();
        let full = l.spread_weight(Spread { table, from: vec![channels], to: vec![channels, 1, h, w] })?;
        let mut inputs = vec![l.input(0), full];
        inputs.extend(l.parameters(&[Role::Bias]));
        let op = Op::Conv { window: self.sliding(l.size()), groups: channels, activation: None };
        l.push(op, &inputs).map(|made| made[0])
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<ParameterRule> {
        let channels = inputs[0].channels();
        // It begins as average pooling.
        let start = Init::Constant(1.0 / self.area() as f64);
        vec![
            ParameterRule::new(Role::Weight, [channels], start),
            ParameterRule::new(Role::Bias, [channels], Init::Constant(0.0)),
        ]
    }

    fn macs(&self, _inputs: &[Shape], output: Shape) -> u64 {
        output.len() as u64
    }

    fn connections(&self, _inputs: &[Shape], output: Shape) -> u64 {
        (output.len() as u64).saturating_mul(self.area() as u64 + 1)
    }

    fn window(&self, size: [usize; 2]) -> Option<Window> {
        Some(self.sliding(size))
    }
}
