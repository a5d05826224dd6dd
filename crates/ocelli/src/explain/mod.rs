//! Looking inside: convolutions worked out by hand, filters, feature maps, receptive fields, traces and shifts, as data
//! and as pictures.

pub mod filters;
pub mod look;
pub mod maps;
pub mod mistakes;
pub mod named;
pub mod planes;
pub mod preview;
pub mod receptive_field;
pub mod shift;
pub mod tiles;
pub mod trace;
pub mod worked;

use crate::error::{Error, did_you_mean};
use crate::net::Resolved;

/// The error for a layer that does not exist or has nothing to show; the advice lists those that have.
pub fn no_layer(net: &Resolved, layer: &str, known: &[&str], what: &str) -> Error {
    let error = match net.layers.iter().any(|candidate| candidate.name == layer) {
        true => Error::usage(format!("{layer} does not have {what}")),
        false => Error::usage(format!("{} has no layer called '{layer}'", net.name)),
    };
    match did_you_mean(layer, known.iter().copied().filter(|name| *name != layer)) {
        Some(name) => error.advice(format!("Did you mean {name}? There are: {}.", known.join(", "))),
        None => error.advice(format!("There are: {}.", known.join(", "))),
    }
}

#[cfg(test)]
mod tests;
