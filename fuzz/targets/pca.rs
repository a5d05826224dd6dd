//! Principal components of colours, and augmentation as it is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocelli::data::{Augment, Pca};

fuzz_target!(|text: &str| {
    if let Ok(pca) = Pca::parse(text) {
        assert_eq!(Pca::parse(&pca.to_toml()), Ok(pca));
    }
    if let Ok(augment) = text.parse::<Augment>() {
        assert_eq!(augment.to_string().parse(), Ok(augment));
    }
});
