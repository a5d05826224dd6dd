//! ocelli: build, train, look inside and ship convolutional networks.
#![forbid(unsafe_code)]

pub mod data;
pub mod error;
pub mod formats;
pub mod metrics;
pub mod plot;
pub mod explain;
pub mod net;
pub mod shape;
pub mod tensor;

pub use error::{Error, Result};
pub use tensor::{Tensor, Tensors};
