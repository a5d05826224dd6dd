//! Convolutions in the graph: their shapes, and those that fusion makes.

use super::{Activation, Type};
use crate::error::{Error, Result};
use ocelli_kernels::geometry::{ConvShape, Window};

/// A convolution with an inferring batch norm folded in; set by fusion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvNorm {
    /// The sliding window.
    pub window: Window,
    /// Groups.
    pub groups: usize,
    /// Whether a bias is among the inputs.
    pub bias: bool,
    /// Added to the variance.
    pub eps: f64,
    /// Applied to the result.
    pub activation: Option<Activation>,
    /// Whether a last input is added before the activation.
    pub residual: bool,
}

impl ConvNorm {
    /// How many parameters it reads.
    pub fn parameters(&self) -> usize {
        5 + usize::from(self.bias)
    }
}

/// The shape of a convolution from the types of its pictures and weights.
///
/// # Errors
/// Channels, weights and groups do not fit together.
pub fn conv_shape(x: &Type, weight: &Type, window: &Window, groups: usize) -> Result<ConvShape> {
    let (channels, input) = x.as_maps()?;
    let w = weight.sizes(1);
    let fits = w.len() == 4
        && groups > 0
        && channels.is_multiple_of(groups)
        && w[0].is_multiple_of(groups)
        && w[1] == channels / groups
        && [w[2], w[3]] == window.kernel;
    if !fits {
        return Err(Error::new(format!("weights {weight} in {groups} group(s) do not fit {x}")));
    }
    Ok(ConvShape { input, channels, filters: w[0], groups, window: *window })
}

/// The type of a convolution's result.
pub(super) fn conv_type(x: &Type, weight: &Type, window: &Window, groups: usize) -> Result<Type> {
    let shape = conv_shape(x, weight, window, groups)?;
    let size = window.output(shape.input);
    let size = size.ok_or_else(|| Error::new(format!("the window {window:?} does not fit {x}")))?;
    Ok(Type::maps(shape.filters, size))
}
