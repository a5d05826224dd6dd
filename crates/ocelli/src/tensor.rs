//! Named arrays at the library's edges: parameters, pictures, activations.

use std::collections::BTreeMap;

/// Row-major `f32` values; pictures and activations are `[batch, channels, height, width]` or parts of it, weights have
/// PyTorch's layouts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensor {
    /// Sizes, outermost first.
    pub dims: Vec<usize>,
    /// `dims.iter().product()` values.
    pub data: Vec<f32>,
}

/// Tensors by name, in the order of the names.
pub type Tensors = BTreeMap<String, Tensor>;

impl Tensor {
    /// A tensor from its values.
    ///
    /// # Panics
    /// The number of values is not the product of the sizes.
    pub fn new(dims: impl Into<Vec<usize>>, data: Vec<f32>) -> Tensor {
        let dims = dims.into();
        assert_eq!(dims.iter().product::<usize>(), data.len(), "values of a tensor {dims:?}");
        Tensor { dims, data }
    }
    /// A tensor of zeros.
    pub fn zeros(dims: impl Into<Vec<usize>>) -> Tensor {
        let dims = dims.into();
        Tensor { data: vec![0.0; dims.iter().product()], dims }
    }
}
