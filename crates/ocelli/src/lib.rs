//! ocelli: build, train, look inside and ship convolutional networks.
#![forbid(unsafe_code)]

pub mod bench;
pub mod data;
pub mod error;
pub mod exec;
pub mod explain;
pub mod formats;
pub mod graph;
pub mod metrics;
pub mod model;
pub mod net;
pub mod plan;
pub mod plot;
pub mod shape;
pub mod summary;
pub mod tensor;
pub mod train;
pub mod words;

pub use error::{Error, Result};
pub use tensor::{Tensor, Tensors};
