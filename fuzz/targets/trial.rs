#![no_main]
use libfuzzer_sys::fuzz_target;
fuzz_target!(|data: &[u8]| {
    if let Ok(t) = std::str::from_utf8(data) { if ocelli::error::did_you_mean(t, ["abc", "defg"]).is_some() && t.len()==3 && t.ends_with("xc") { panic!("found") } }
});
