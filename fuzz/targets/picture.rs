//! PNG, JPEG, BMP, WebP and GIF.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = ocelli::data::decode(bytes);
});
