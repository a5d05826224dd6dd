//! Kernels of one file or folder against their references, on every instruction set. In the library, not beside it, so that the
//! sanitizer's build compiles the kernels once.

pub(crate) mod common;
mod dropout;
mod elementwise;
mod loss;
mod lrn;
mod norm;
mod pooling;
