//! Settings of a run.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocelli::train::Settings;

fuzz_target!(|text: &str| {
    let Ok(table) = toml::from_str(text) else { return };
    if let Ok(settings) = Settings::merge([("args.toml", table)]) {
        let written = settings.to_toml();
        let table = toml::from_str(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
        let again = Settings::merge([("written", table)]).unwrap_or_else(|error| panic!("{error}\n{written}"));
        assert_eq!(again.to_toml(), written);
    }
});
