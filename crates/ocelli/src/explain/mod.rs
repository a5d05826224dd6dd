//! Looking inside: convolutions worked out by hand, filters, feature maps, receptive fields, traces and shifts, as data
//! and as pictures.

pub mod named;
pub mod planes;
pub mod worked;
