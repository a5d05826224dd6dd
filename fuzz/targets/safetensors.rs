//! Weights from anywhere, and models.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocelli::{formats::weights, model::Model};

fuzz_target!(|bytes: &[u8]| {
    let _ = weights::parse(bytes);
    let _ = Model::parse(bytes);
});
