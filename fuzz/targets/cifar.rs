//! CIFAR-10's binary files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocelli::data::parse_cifar;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(cifar) = parse_cifar(bytes) {
        assert_eq!(cifar.labels.len() * 3072, cifar.pixels.len());
    }
});
