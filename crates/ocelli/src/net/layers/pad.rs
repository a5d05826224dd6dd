//! `pad`: rows and columns around maps, by a rule of one's own.

use crate::graph::lower::Lowering;
use crate::graph::{Border, Op, ValueId};
use crate::net::keys::is_default;
use crate::net::kind::{Keys, LayerKind};
use crate::shape::{MAX_SIZE, Padding, Shape};
use crate::{Error, Result};
use ocelli_kernels::geometry::Window;
use serde::{Deserialize, Serialize};

/// Adds rows and columns around each map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    /// How many: a number, `[h, w]` or `[top, left, bottom, right]`.
    pub amount: Padding,
    /// What they hold.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: PadMode,
    /// The value of `constant` padding.
    #[serde(default, skip_serializing_if = "is_default")]
    pub value: f64,
}

/// What padding holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PadMode {
    /// One value, 0 by default.
    #[default]
    Constant,
    /// The picture mirrored at its first and last pixel, which are not repeated.
    Reflect,
    /// The nearest pixel.
    Edge,
}

impl Keys for Pad {
    const TYPE: &'static str = "pad";
}

impl Pad {
    /// Rows and columns at the top, left, bottom and right.
    pub fn sides(&self) -> [usize; 4] {
        // Amounts are numbers, which resolve to themselves for any input and window.
        self.amount.resolve([1, 1], &Window::new([1, 1]))
    }
}

impl LayerKind for Pad {
    fn check(&self) -> Result<()> {
        if matches!(self.amount, Padding::Valid | Padding::Same | Padding::Full) {
            return Err(Error::new("amount needs numbers, since a pad layer has no kernel")
                .advice("Use a number, [h, w] or [top, left, bottom, right]."));
        }
        if !self.value.is_finite() || (self.value != 0.0 && self.mode != PadMode::Constant) {
            return Err(Error::new(format!("value = {} has no meaning here", self.value))
                .advice("Use a finite value with mode = \"constant\"."));
        }
        Ok(())
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [channels, h, w] = inputs[0].map()?;
        let [top, left, bottom, right] = self.sides();
        if self.mode == PadMode::Reflect && (top.max(bottom) >= h || left.max(right) >= w) {
            return Err(Error::new(format!(
                "reflecting [{top}, {left}, {bottom}, {right}] needs more pixels than its {h}x{w} input has"
            ))
            .advice(format!(
                "Reflect at most {} rows and {} columns, or use mode = \"edge\".",
                h - 1,
                w - 1
            )));
        }
        let (h, w) = (h + top + bottom, w + left + right);
        if h.max(w) > MAX_SIZE {
            return Err(Error::new(format!("{h}x{w} is larger than {MAX_SIZE}")).advice("Pad less."));
        }
        Ok(Shape::Map([channels, h, w]))
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        let mode = match self.mode {
            PadMode::Constant => Border::Constant(self.value as f32),
            PadMode::Reflect => Border::Reflect,
            PadMode::Edge => Border::Edge,
        };
        l.apply(Op::Pad { amount: self.sides(), mode }, &[])
    }

    fn window(&self, _size: [usize; 2]) -> Option<Window> {
        Some(Window { padding: self.sides().map(|p| p as isize), ..Window::new([1, 1]) })
    }
}
