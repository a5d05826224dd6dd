//! Networks as text: what parses is written and read again the same, and its shapes can be asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocelli::net::Net;

fuzz_target!(|text: &str| {
    let Ok(net) = Net::from_toml(text, "net.toml") else { return };
    let written = net.to_toml();
    let again = Net::from_toml(&written, "written").unwrap_or_else(|error| panic!("{error}\n{written}"));
    assert_eq!(again.to_toml(), written);
    let _ = net.resolve(None, None);
    let _ = net.resolve(Some(10), Some([3, 32, 32]));
});
