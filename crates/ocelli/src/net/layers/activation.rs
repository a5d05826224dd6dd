//! The activations without numbers of their own: `relu`, `relu6`, `sigmoid`, `tanh`, `gelu`, `hard_swish`.

use crate::Result;
use crate::graph::lower::Lowering;
use crate::graph::{Activation, Op, ValueId};
use crate::net::kind::{Keys, LayerKind};
use crate::shape::Shape;
use serde::{Deserialize, Serialize};

macro_rules! activations {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {}

        impl Keys for $name {
            const TYPE: &'static str = $text;
        }

        impl LayerKind for $name {
            fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
                Ok(inputs[0])
            }
            fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
                l.apply(Op::Activate(Activation::$name), &[])
            }
        }
    )*};
}

activations! {
    /// max(0, x).
    Relu = "relu";
    /// min(max(0, x), 6) (MobileNet).
    Relu6 = "relu6";
    /// 1/(1 + e⁻ˣ).
    Sigmoid = "sigmoid";
    /// The hyperbolic tangent.
    Tanh = "tanh";
    /// x·Φ(x) with the exact normal distribution function (Hendrycks and Gimpel 2016), PyTorch's default.
    Gelu = "gelu";
    /// x·min(max(0, x + 3), 6)/6 (MobileNetV3).
    HardSwish = "hard_swish";
}
