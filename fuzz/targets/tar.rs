//! Archives of pictures: every member lies inside, in order, and none overlaps another.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocelli::data::list_tar;
use std::io::Cursor;

fuzz_target!(|bytes: &[u8]| {
    let contents = list_tar(&mut Cursor::new(bytes), bytes.len() as u64);
    let texts = contents.damage.iter().map(|damage| &damage.what).chain(&contents.notes);
    texts.for_each(|text| assert!(!text.contains(char::is_control), "{text:?}"));
    let mut end = 0;
    for member in &contents.members {
        assert!(member.offset >= end, "{member:?}");
        end = member.offset.checked_add(member.length).expect("no overflow");
        assert!(end <= bytes.len() as u64 && !member.name.is_empty(), "{member:?}");
    }
});
