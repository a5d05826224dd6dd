//! IDX files, plain and gzipped.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocelli::data::parse_idx;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(idx) = parse_idx(bytes) {
        assert_eq!(idx.dims.iter().product::<usize>(), idx.data.len());
    }
});
