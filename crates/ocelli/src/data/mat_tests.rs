use super::*;

/// The three leaves and the synset above them of scripts/make_meta_mat.py.
fn golden() -> Vec<u8> {
    std::fs::read("../../tests/golden/meta.mat").unwrap()
}

/// An element with its padding; up to four bytes in the short form, as MATLAB writes it.
fn of(kind: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = match content.len() {
        1..=4 => (kind | (content.len() as u32) << 16).to_le_bytes().to_vec(),
        length => [kind.to_le_bytes(), (length as u32).to_le_bytes()].concat(),
    };
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// A matrix of this class and size.
fn matrix(class: u8, sizes: [u32; 2], name: &str, values: &[u8]) -> Vec<u8> {
    let flags = of(6, &[class, 0, 0, 0, 0, 0, 0, 0]);
    let sizes = of(5, &sizes.map(u32::to_le_bytes).concat());
    of(MATRIX, &[&flags[..], &sizes, &of(1, name.as_bytes()), values].concat())
}

/// The head and what follows it.
fn file(elements: &[u8]) -> Vec<u8> {
    let mut bytes = b"MATLAB 5.0 MAT-file, Platform: GLNXA64".to_vec();
    bytes.resize(124, b' ');
    [&bytes, &b"\0\x01IM"[..], elements].concat()
}

/// Synsets as MATLAB writes them: texts as pairs of bytes, numbers in the smallest type that holds them.
fn by_matlab(fields: &[&str], rows: &[(&str, u16)]) -> Vec<u8> {
    let names: Vec<u8> = fields.iter().flat_map(|name| format!("{name:\0<16}").into_bytes()).collect();
    let mut values = [of(5, &16u32.to_le_bytes()), of(1, &names)].concat();
    for (text, number) in rows {
        for field in fields {
            let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            values.extend(match (*field, *number) {
                ("WNID", _) => matrix(4, [1, text.len() as u32], "", &of(4, &units)),
                (_, number @ 0..=255) => matrix(6, [1, 1], "", &of(2, &[number as u8])),
                (_, number) => matrix(6, [1, 1], "", &of(4, &number.to_le_bytes())),
            });
        }
    }
    matrix(STRUCTURES, [rows.len() as u32, 1], "synsets", &values)
}

const FIELDS: [&str; 3] = ["ILSVRC2012_ID", "WNID", "num_children"];

fn fault(bytes: &[u8]) -> String {
    let error = synsets(bytes).unwrap_err();
    assert!(error.to_string().contains('\n'), "without advice: {error}");
    error.what().to_owned()
}

#[test]
fn synsets_are_scipys_whatever_else_is_in_the_file() {
    let right = [("n03", 1), ("n01", 2), ("n02", 3), ("n99", 1001)].map(|(name, id)| (name.to_owned(), id));
    assert_eq!(synsets(&golden()).unwrap(), right);
}

#[test]
fn texts_and_numbers_are_read_as_matlab_saves_them() {
    let right = [("n02119789".to_owned(), 1), ("n02100735".to_owned(), 2), ("n00001740".to_owned(), 1860)];
    let rows = [("n02119789", 1), ("n02100735", 2), ("n00001740", 1860)];
    assert_eq!(synsets(&file(&by_matlab(&FIELDS, &rows))).unwrap(), right);
    for (kind, bytes) in [(9, &490f64.to_le_bytes()[..]), (7, &490f32.to_le_bytes()), (5, &490u32.to_le_bytes())] {
        assert_eq!(counted(kind, bytes), Some(490));
    }
    for bad in [0.0, -1.0, 1.5, f64::NAN, 1e10] {
        assert_eq!(counted(9, &bad.to_le_bytes()), None, "{bad}");
    }
}

#[test]
fn what_is_no_list_of_synsets_is_named() {
    assert_eq!(fault(b"n03 1\nn01 2\n"), "not a MATLAB file of version 5, least byte first");
    assert_eq!(fault(b"MATLAB 7.3 MAT-file"), "a file of MATLAB 7.3, which is HDF5; version 5 is read");
    assert_eq!(fault(&file(&matrix(6, [1, 1], "x", &of(2, &[1])))), "no array of structures called synsets");
    assert_eq!(fault(&file(&by_matlab(&["WNID"], &[("n01", 1)]))), "synsets without the field ILSVRC2012_ID");
    assert_eq!(fault(&file(&by_matlab(&FIELDS, &[("n01", 7), ("n02", 0)]))), "synset 2 of 2 has no name or no number");
}

#[test]
fn a_cut_or_changed_file_is_an_error_and_takes_no_memory() {
    let whole = [golden(), file(&by_matlab(&FIELDS, &[("n02119789", 1), ("n02100735", 2)]))];
    for bytes in whole {
        for keep in 0..bytes.len() - 8 {
            fault(&bytes[..keep]);
        }
        for at in HEAD..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0xff;
            let _ = synsets(&bytes);
        }
    }
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::copy(&mut std::io::repeat(0).take(MOST + 1), &mut packed).unwrap();
    let packed = packed.finish().unwrap();
    assert_eq!(fault(&file(&of(COMPRESSED, &packed))), "more than 64 MB unpacked");
}
