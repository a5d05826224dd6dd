//! IDX, the format of MNIST (<http://yann.lecun.com/exdb/mnist>): big endian, gzipped or not.

use crate::{Error, Result};
use flate2::read::GzDecoder;
use std::io::Read;
use std::path::Path;

/// The most bytes of data that a file may claim: MNIST has 47 million.
const MAX_BYTES: u64 = 4 << 30;

/// An array of unsigned bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Idx {
    /// Sizes, outermost first: `[n]` for labels, `[n, height, width]` for pictures.
    pub dims: Vec<usize>,
    /// The values, row-major.
    pub data: Vec<u8>,
}

/// Reads an IDX file of unsigned bytes from memory; gzip is recognised by its first bytes.
///
/// # Errors
/// Another magic number, another type of numbers, or a length that is not what the dimensions say. Memory is only taken
/// for bytes that are there, not for those that a header claims.
pub fn parse_idx(bytes: &[u8]) -> Result<Idx> {
    if bytes.starts_with(&[0x1f, 0x8b]) { parse(GzDecoder::new(bytes)) } else { parse(bytes) }
}

/// As [`parse_idx`], from a file, which the error names.
pub(super) fn read_idx(path: &Path) -> Result<Idx> {
    parse_idx(&std::fs::read(path).map_err(|error| Error::io(path, error))?).map_err(|error| error.at(path.display()))
}

fn parse(mut reader: impl Read) -> Result<Idx> {
    let mut magic = [0; 4];
    exact(&mut reader, &mut magic)?;
    let [zero, zero_too, kind, rank] = magic;
    if (zero, zero_too) != (0, 0) || !(1..=4).contains(&rank) {
        let magic = u32::from_be_bytes(magic);
        return Err(Error::new(format!(
            "the magic number is {magic:#010x}; IDX begins with 0x0000, a type and a rank"
        ))
        .advice(
            "Give files like train-images-idx3-ubyte.gz (0x00000803) and train-labels-idx1-ubyte.gz (0x00000801).",
        ));
    }
    if kind != 8 {
        return Err(Error::new(format!("IDX of type {kind:#04x}; unsigned bytes are 0x08"))
            .advice("Convert the values to unsigned bytes."));
    }
    let mut dims = Vec::new();
    for _ in 0..rank {
        let mut size = [0; 4];
        exact(&mut reader, &mut size)?;
        dims.push(u32::from_be_bytes(size) as usize);
    }
    let length = dims.iter().try_fold(1u64, |product, &size| product.checked_mul(size as u64));
    let Some(length) = length.filter(|&length| length <= MAX_BYTES) else {
        return Err(Error::new(format!("IDX claims the sizes {dims:?}, more than {MAX_BYTES} bytes"))
            .advice("The file is damaged: get it again."));
    };
    let mut data = Vec::new();
    // One byte more than expected tells a file that goes on; the vector grows with what is there.
    reader.take(length + 1).read_to_end(&mut data).map_err(damaged)?;
    if data.len() as u64 != length {
        let found = if data.len() as u64 > length { "more".into() } else { format!("only {}", data.len()) };
        return Err(Error::new(format!("IDX of the sizes {dims:?} needs {length} bytes of data and has {found}"))
            .advice("The file is damaged or cut short: get it again."));
    }
    Ok(Idx { dims, data })
}

fn exact(reader: &mut impl Read, buffer: &mut [u8]) -> Result<()> {
    reader.read_exact(buffer).map_err(damaged)
}

fn damaged(error: std::io::Error) -> Error {
    Error::new(format!("IDX cannot be read: {error}")).advice("The file is damaged or cut short: get it again.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn idx(dims: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, dims.len() as u8];
        bytes.extend(dims.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend(data);
        bytes
    }

    #[test]
    fn sizes_and_values_come_back_gzipped_or_not() {
        let bytes = idx(&[2, 1, 3], &[1, 2, 3, 4, 5, 6]);
        let expected = Idx { dims: vec![2, 1, 3], data: vec![1, 2, 3, 4, 5, 6] };
        assert_eq!(parse_idx(&bytes).unwrap(), expected);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&bytes).unwrap();
        assert_eq!(parse_idx(&gzip.finish().unwrap()).unwrap(), expected);
    }

    #[test]
    fn a_wrong_magic_number_is_named() {
        let error = parse_idx(b"\x89PNG\r\n\x1a\n").unwrap_err();
        assert!(error.what().contains("0x89504e47"), "{error}");
        let floats = [&[0, 0, 0x0d, 1, 0, 0, 0, 1][..], &[0; 4]].concat();
        assert!(parse_idx(&floats).unwrap_err().what().contains("0x0d"));
    }

    #[test]
    fn a_length_that_disagrees_is_an_error_with_both_numbers() {
        let short = parse_idx(&idx(&[2, 2], &[0; 3])).unwrap_err();
        assert!(short.what().contains("needs 4") && short.what().contains("only 3"), "{short}");
        let long = parse_idx(&idx(&[2, 2], &[0; 5])).unwrap_err();
        assert!(long.what().contains("has more"), "{long}");
        assert!(parse_idx(&[0, 0, 8]).is_err());
        assert!(parse_idx(&[0x1f, 0x8b, 8, 0, 1]).is_err(), "a damaged gzip");
    }

    #[test]
    fn hostile_lengths_take_no_memory() {
        let overflow = parse_idx(&idx(&[u32::MAX; 4], &[])).unwrap_err();
        assert!(overflow.what().contains("4294967295"), "{overflow}");
        let large = parse_idx(&idx(&[4_000_000_000], &[1])).unwrap_err();
        assert!(large.what().contains("needs 4000000000") && large.what().contains("only 1"), "{large}");
    }
}
