//! `adaptive_avg_pool`: means over parts of the maps, to a given size.

use crate::Result;
use crate::graph::lower::Lowering;
use crate::graph::{Op, ValueId};
use crate::net::keys::pair;
use crate::net::kind::{Keys, LayerKind};
use crate::shape::Shape;
use ocelli_kernels::geometry::Window;
use serde::{Deserialize, Serialize};

/// The mean of each of `size` parts of the rows and columns, per channel, as PyTorch's `AdaptiveAvgPool2d`: of N rows in M
/// parts, part i has the rows from floor(i·N/M) to ceil((i + 1)·N/M). No parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveAvgPool {
    /// Output rows and columns.
    #[serde(with = "pair")]
    pub size: [usize; 2],
}

impl Keys for AdaptiveAvgPool {
    const TYPE: &'static str = "adaptive_avg_pool";
}

impl AdaptiveAvgPool {
    /// The sizes of the parts of `from` rows or columns.
    fn parts(&self, from: usize, axis: usize) -> impl Iterator<Item = usize> {
        let to = self.size[axis];
        (0..to).map(move |o| ((o + 1) * from).div_ceil(to) - o * from / to)
    }
}

impl LayerKind for AdaptiveAvgPool {
    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [channels, _, _] = inputs[0].map()?;
        Ok(Shape::Map([channels, self.size[0], self.size[1]]))
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        l.apply(Op::AdaptiveAvgPool(self.size), &[])
    }

    fn connections(&self, inputs: &[Shape], _output: Shape) -> u64 {
        let Ok([channels, h, w]) = inputs[0].map() else { return 0 };
        let all = |from, axis| self.parts(from, axis).sum::<usize>() as u64;
        (channels as u64).saturating_mul(all(h, 0)).saturating_mul(all(w, 1))
    }

    fn field(&self, size: [usize; 2]) -> Option<Window> {
        let kernel = [0, 1].map(|axis| self.parts(size[axis], axis).max().unwrap_or(1));
        let stride = [0, 1].map(|axis| (size[axis] / self.size[axis]).max(1));
        Some(Window { stride, ..Window::new(kernel) })
    }
}
