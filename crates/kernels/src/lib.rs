//! SIMD kernels for convolutional networks, on plain slices.
//!
//! Inside, activations are channels-last (`[batch, height, width, channels]`), weights are in PyTorch's layouts. Each
//! kernel family is a folder or file: the reference first, generic over `f32` and `f64` and in PyTorch's
//! `[batch, channels, height, width]` layout, then the fast kernels, each with the reason that it exists.
//!
//! The results of the fast kernels depend on the shapes only, never on the number of threads, and are equal bit for bit
//! with AVX2 and AVX-512: one chain of fused multiply-adds per output, vectors across outputs, and reductions along
//! lanes by a fixed tree of 16 virtual lanes.

// Tiles are small arrays of registers: indices say which, iterators would hide it.
#![allow(
    clippy::needless_range_loop,
    clippy::excessive_precision,
    clippy::type_complexity,
    clippy::wrong_self_convention
)]

#[cfg(test)]
mod against_reference;
pub mod arena;
pub mod conv;
pub mod dropout;
pub mod early;
pub mod elementwise;
pub mod geometry;
mod isa;
pub mod layout;
pub mod linear;
pub mod loss;
pub mod lrn;
pub mod math;
pub mod norm;
mod peak;
pub(crate) mod pool;
pub mod pooling;
pub mod random;
pub mod real;
pub mod reduce;
pub(crate) mod segments;
pub(crate) mod simd;
pub mod softmax;
pub(crate) mod tree;
pub mod update;

pub use isa::Isa;
pub use peak::peak;
pub use pool::Pool;

/// What a kernel runs on: threads and an instruction set.
pub struct Cpu {
    pool: Pool,
    isa: Isa,
}

impl Cpu {
    /// `threads` threads and the fastest instruction set, or the one that `OCELLI_ISA` names.
    ///
    /// # Errors
    /// `OCELLI_ISA` names what this processor does not have.
    pub fn new(threads: usize) -> Result<Cpu, String> {
        Ok(Cpu { pool: Pool::new(threads), isa: Isa::from_env()? })
    }

    /// A given instruction set, for tests and comparisons.
    ///
    /// # Errors
    /// This processor does not have it.
    pub fn with_isa(threads: usize, isa: Isa) -> Result<Cpu, String> {
        if !Isa::available().contains(&isa) {
            return Err(format!("this processor does not have {isa}"));
        }
        Ok(Cpu { pool: Pool::new(threads), isa })
    }

    /// The threads.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }
}
