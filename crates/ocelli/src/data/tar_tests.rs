use super::*;
use proptest::prelude::*;
use std::io::Cursor;

/// An archive of these files.
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Names beyond the header's hundred bytes become a member of their own.
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn listed(bytes: &[u8]) -> Contents {
    list_tar(&mut Cursor::new(bytes), bytes.len() as u64)
}

fn names(contents: &Contents) -> Vec<&str> {
    contents.members.iter().map(|member| member.name.as_str()).collect()
}

#[test]
fn pictures_lie_where_the_list_says() {
    let long = format!("{}/picture.png", "folder".repeat(30));
    let bytes = archive(&[
        ("a.jpg", b"first"),
        ("a.cls", b"7\n"),
        ("./dir/b.PNG", &[3; 700]),
        (&long, b"long"),
        ("notes.txt", b"passed over"),
        ("dir/.hidden.png", b""),
    ]);
    let contents = listed(&bytes);
    assert_eq!(contents.damage, None);
    assert_eq!(names(&contents), ["a.jpg", "dir/b.PNG", &long]);
    let content = |i: usize| {
        let Member { offset, length, .. } = contents.members[i];
        &bytes[offset as usize..][..length as usize]
    };
    assert_eq!((content(0), content(1), content(2)), (&b"first"[..], &[3; 700][..], &b"long"[..]));
    assert_eq!(contents.members[0].class.as_deref(), Some("7"));
    assert_eq!(contents.members[1].class, None);
}

#[test]
fn an_archive_of_archives_is_listed_through() {
    let [cats, dogs] = ["n1_1.JPEG", "n2_9.JPEG"].map(|name| archive(&[(name, b"pixels")]));
    let outer = archive(&[("n1.tar", &cats), ("n2.tar", &dogs)]);
    let contents = listed(&outer);
    assert_eq!(names(&contents), ["n1.tar/n1_1.JPEG", "n2.tar/n2_9.JPEG"]);
    for member in &contents.members {
        assert_eq!(&outer[member.offset as usize..][..6], b"pixels");
    }
    // One level only: nobody nests further, and a bomb would.
    assert!(names(&listed(&archive(&[("x.tar", &outer)]))).is_empty());
}

#[test]
fn links_and_devices_are_left_out_and_told() {
    let mut builder = tar::Builder::new(Vec::new());
    for kind in [EntryType::Symlink, EntryType::Link, EntryType::Char] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_path("evil.png").unwrap();
        header.set_size(0);
        header.set_cksum();
        builder.append(&header, &b""[..]).unwrap();
    }
    let contents = listed(&builder.into_inner().unwrap());
    assert_eq!((contents.members.len(), contents.damage), (0, None));
    assert_eq!(contents.notes, ["3 link or special files left out"]);
}

#[test]
fn a_cut_archive_is_damaged_wherever_it_is_cut() {
    let whole = archive(&[("a.png", &[1; 900]), ("b.png", &[2; 10]), ("c.png", &[3; 600])]);
    let all = listed(&whole).members;
    for cut in 1..whole.len() - 1024 {
        let contents = listed(&whole[..cut]);
        assert!(contents.damage.is_some(), "cut at {cut}");
        assert_eq!(contents.members, all[..contents.members.len()], "cut at {cut}: what comes before is whole");
    }
    let contents = listed(&whole[..1536 + 200]);
    assert_eq!(names(&contents), ["a.png"]);
    assert_eq!(contents.damage.unwrap().offset, 1536, "the place of the broken header");
}

#[test]
fn archives_before_the_damage_are_listed_through() {
    let inner = archive(&[("im1.png", b"1"), ("im2.png", b"2")]);
    let whole = archive(&[("n01.tar", &inner), ("n02.tar", &inner), ("n03.tar", &inner)]);
    let second = 512 + inner.len();
    let contents = listed(&whole[..second + 512 + 900]);
    assert_eq!(names(&contents), ["n01.tar/im1.png", "n01.tar/im2.png"]);
    assert_eq!(contents.damage.unwrap().offset, second as u64, "the header of what is cut off");
}

#[test]
fn a_last_picture_whose_class_is_lost_is_left_out() {
    let whole = archive(&[("a.png", b"1"), ("a.cls", b"0"), ("b.png", b"2"), ("b.cls", b"1")]);
    let contents = listed(&whole[..3 * 1024]);
    assert_eq!(names(&contents), ["a.png"]);
    assert!(contents.damage.is_some());
}

#[test]
fn a_compressed_archive_is_named_as_one() {
    let damage = listed(&[0x1f, 0x8b, 8, 0, 0, 0]).damage.unwrap();
    assert_eq!(damage, Damage { offset: 0, what: "compressed with gzip: unpack it first".into() });
}

#[test]
fn a_changed_header_is_damage_with_its_place() {
    let mut bytes = archive(&[("a.png", b"1"), ("b.png", b"2")]);
    bytes[1024 + 3] ^= 1;
    let damage = listed(&bytes).damage.unwrap();
    assert_eq!(damage, Damage { offset: 1024, what: "archive header checksum mismatch".into() });
}

#[test]
fn a_name_that_is_there_twice_is_damage() {
    let contents = listed(&archive(&[("a.png", b"1"), ("b.png", b"2"), ("a.png", b"3"), ("c.png", b"4")]));
    assert_eq!(names(&contents), ["a.png", "b.png"]);
    assert_eq!(contents.damage.unwrap().what, "'a.png' is there twice, at 512 and here");
    let contents = listed(&archive(&[("a.png", b"1"), ("a.jpg", b"2"), ("a.cls", b"0")]));
    assert!(contents.damage.unwrap().what.contains("one .cls for two pictures, 'a.png' and 'a.jpg'"));
}

#[test]
fn sizes_beyond_the_file_and_endless_names_take_no_memory() {
    let mut header = tar::Header::new_gnu();
    header.set_path("a.png").unwrap();
    header.set_size(u64::MAX / 2);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend([0; 1024]);
    assert!(listed(&bytes).damage.unwrap().what.contains("cut off"));
    let name = archive(&[(&"x".repeat(5000), b"")]);
    assert!(listed(&name).damage.unwrap().what.contains("the limit is 4096"));
    let class = archive(&[("a.png", b""), ("a.cls", &[b'7'; 300])]);
    assert!(listed(&class).damage.unwrap().what.contains("the limit is 256"));
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    assert_eq!(names(&listed(&archive(&[("a\u{1b}[31m\n.png", b"")]))), ["a\u{fffd}[31m\u{fffd}.png"]);
    let mut bytes = archive(&[("a.png", b"1")]);
    bytes[148..156].copy_from_slice(b"\x1b[31mAB\n");
    let what = listed(&bytes).damage.unwrap().what;
    assert!(!what.contains(char::is_control), "{what:?}");
}

/// Makes the checksum of every header right, so that changes get past it.
fn repair(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

proptest! {
    #[test]
    fn whatever_is_changed_members_lie_inside_and_apart(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        repaired in any::<bool>(),
    ) {
        let inner = archive(&[("n1_1.JPEG", b"pixels"), ("n1_2.JPEG", b"more")]);
        let long = format!("{}/c.png", "d".repeat(150));
        let mut bytes = archive(&[(CLASSES, b"a"), ("n1.tar", &inner), ("a.png", b"x"), ("a.cls", b"0"), (&long, b"y")]);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if repaired {
            repair(&mut bytes);
        }
        let mut end = 0;
        for Member { name, offset, length, .. } in listed(&bytes).members {
            prop_assert!(offset >= end && !name.is_empty());
            end = offset.checked_add(length).unwrap();
            prop_assert!(end <= bytes.len() as u64);
        }
    }
}
