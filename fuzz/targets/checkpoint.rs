//! Checkpoints.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocelli::{formats::checkpoint, train::RunState};

fuzz_target!(|bytes: &[u8]| {
    let _ = checkpoint::parse::<RunState>(bytes);
});
