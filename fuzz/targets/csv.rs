//! Lists of pictures with labels or targets.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = ocelli::data::parse_csv(bytes);
});
