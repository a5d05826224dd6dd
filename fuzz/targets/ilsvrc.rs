//! ILSVRC's ground truth, and lists of synsets as text and as MATLAB's files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocelli::data::{parse_ground_truth, parse_meta, parse_synsets};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(truth) = parse_ground_truth(bytes) {
        assert!(truth.iter().all(|&number| number > 0));
    }
    let _ = parse_synsets(bytes);
    let _ = parse_meta(bytes);
});
