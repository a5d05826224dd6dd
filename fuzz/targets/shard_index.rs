//! Indexes of archives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocelli::data::{Stamp, parse_index};

fuzz_target!(|input: (u16, &[u8])| {
    let (size, bytes) = input;
    let stamp = Stamp { size: size.into(), time: 0 };
    // The head is put in front, so that the fuzzer need not guess it.
    let head = format!("ocelli shard index 1,{size},0,{}\n", bytes.iter().filter(|&&byte| byte == b'\n').count());
    if let Ok(members) = parse_index([head.as_bytes(), bytes].concat().as_slice(), &stamp) {
        assert!(members.iter().all(|member| member.offset + member.length <= stamp.size));
    }
});
