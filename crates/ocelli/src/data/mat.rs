//! MATLAB's files of version 5, as far as the `meta.mat` of ILSVRC-2012's development kit needs them: an array of structures,
//! of which a text and a number each are read. The format is that of MathWorks' "MAT-File Format": a head of 128 bytes, then
//! elements of a type, a length and their content, which may hold elements again.

use crate::{Error, Result};
use std::borrow::Cow;
use std::io::Read;

const HEAD: usize = 128;
/// The most that a file may unpack to. The kit's 1,860 synsets with their words and glosses take a few MB.
const MOST: u64 = 64 << 20;
/// Types of elements.
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
/// The class of a matrix of structures.
const STRUCTURES: u8 = 2;

/// Text `WNID` and number `ILSVRC2012_ID` of each structure of the variable `synsets`.
pub(super) fn synsets(bytes: &[u8]) -> Result<Vec<(String, u32)>> {
    if bytes.starts_with(b"MATLAB 7.3") {
        return Err(Error::new("a file of MATLAB 7.3, which is HDF5; version 5 is read").advice(ADVICE));
    }
    if !bytes.starts_with(b"MATLAB 5.0 MAT-file") || bytes.get(124..HEAD) != Some(b"\0\x01IM") {
        return Err(Error::new("not a MATLAB file of version 5, least byte first").advice(ADVICE));
    }
    let (mut rest, mut left) = (&bytes[HEAD..], MOST);
    while !rest.is_empty() {
        let (kind, content, next) = element(rest)?;
        rest = next;
        let content = match kind {
            COMPRESSED => {
                let unpacked = unpacked(content, left)?;
                left -= unpacked.len() as u64;
                Cow::Owned(element(&unpacked)?.1.to_vec())
            }
            MATRIX => Cow::Borrowed(content),
            _ => continue,
        };
        let matrix = Matrix::read(&content)?;
        if matrix.name == b"synsets" && matrix.class == STRUCTURES {
            return rows(&matrix);
        }
    }
    Err(Error::new("no array of structures called synsets").advice(ADVICE))
}

const ADVICE: &str = "Take meta.mat of the 2012 development kit, or write synsets.txt: n02119789 1 on each line.";

fn damaged(what: &str) -> Error {
    Error::new(format!("damaged: {what}")).advice("Unpack the development kit again.")
}

/// The first element: its type, its content, and what follows it.
fn element(bytes: &[u8]) -> Result<(u32, &[u8], &[u8])> {
    let cut = || damaged("cut off inside an element");
    let word = |at: usize| bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_le_bytes);
    let first = word(0).ok_or_else(cut)?;
    // Up to four bytes of content share the eight of the head with their type and length.
    let (kind, length, start) = match first >> 16 {
        0 => (first, word(4).ok_or_else(cut)?, 8),
        short => (first & 0xffff, short, 4),
    };
    let end = start + length as usize;
    if start == 4 && end > 8 {
        return Err(damaged("a short element of more than four bytes"));
    }
    let content = bytes.get(start..end).ok_or_else(cut)?;
    // Elements begin at multiples of eight bytes, but for packed ones. The padding of the last may be missing.
    let next = if kind == COMPRESSED { end } else { end.next_multiple_of(8) };
    Ok((kind, content, bytes.get(next..).unwrap_or_default()))
}

/// The content of a packed element, of at most `most` bytes.
fn unpacked(bytes: &[u8], most: u64) -> Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    let read = flate2::read::ZlibDecoder::new(bytes).take(most + 1).read_to_end(&mut unpacked);
    match read {
        Ok(_) if unpacked.len() as u64 > most => {
            Err(Error::new(format!("more than {} MB unpacked", MOST >> 20)).advice(ADVICE))
        }
        Ok(_) => Ok(unpacked),
        Err(_) => Err(damaged("cannot be unpacked")),
    }
}

/// A matrix: its class, the number of its values, its name, and the elements that hold them.
struct Matrix<'a> {
    class: u8,
    count: usize,
    name: &'a [u8],
    values: &'a [u8],
}

impl<'a> Matrix<'a> {
    fn read(content: &'a [u8]) -> Result<Matrix<'a>> {
        let (_, flags, rest) = element(content)?;
        let (_, sizes, rest) = element(rest)?;
        let (_, name, values) = element(rest)?;
        let sizes = sizes.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]) as usize);
        let count = sizes.fold(1, usize::saturating_mul);
        let class = *flags.first().ok_or_else(|| damaged("a matrix without a class"))?;
        Ok(Matrix { class, count, name, values })
    }
}

/// The rows of an array of structures: the values lie side by side, field after field.
fn rows(matrix: &Matrix) -> Result<Vec<(String, u32)>> {
    let (_, length, rest) = element(matrix.values)?;
    let (_, names, mut rest) = element(rest)?;
    let length = length.first().map_or(0, |&length| usize::from(length)).max(1);
    let names: Vec<&[u8]> =
        names.chunks(length).map(|name| name.split(|&byte| byte == 0).next().unwrap_or_default()).collect();
    let place = |wanted: &str| {
        let place = names.iter().position(|name| *name == wanted.as_bytes());
        place.ok_or_else(|| Error::new(format!("synsets without the field {wanted}")).advice(ADVICE))
    };
    let [name, number] = [place("WNID")?, place("ILSVRC2012_ID")?];
    let mut rows = Vec::new();
    for row in 0..matrix.count {
        let (mut text, mut id) = (None, None);
        for field in 0..names.len() {
            let (_, content, next) = element(rest)?;
            rest = next;
            if field == name || field == number {
                let (kind, value, _) = element(Matrix::read(content)?.values)?;
                if field == name {
                    text = written(kind, value);
                } else {
                    id = counted(kind, value);
                }
            }
        }
        match (text, id) {
            (Some(text), Some(id)) => rows.push((text, id)),
            _ => {
                let what = format!("synset {} of {} has no name or no number", row + 1, matrix.count);
                return Err(Error::new(what).advice(ADVICE));
            }
        }
    }
    Ok(rows)
}

/// A text: bytes and UTF-8, or pairs of bytes.
fn written(kind: u32, value: &[u8]) -> Option<String> {
    match kind {
        1 | 2 | 16 => String::from_utf8(value.to_vec()).ok(),
        4 | 17 => {
            let units: Vec<u16> = value.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]])).collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

/// A whole number from 1, of any of the types that MATLAB saves it in, whatever it is in memory.
fn counted(kind: u32, value: &[u8]) -> Option<u32> {
    let number = match (kind, value) {
        (1, &[byte]) => f64::from(byte as i8),
        (2, &[byte]) => f64::from(byte),
        (3, &[a, b]) => f64::from(i16::from_le_bytes([a, b])),
        (4, &[a, b]) => f64::from(u16::from_le_bytes([a, b])),
        (5, &[a, b, c, d]) => f64::from(i32::from_le_bytes([a, b, c, d])),
        (6, &[a, b, c, d]) => f64::from(u32::from_le_bytes([a, b, c, d])),
        (7, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
        (9, bytes) => f64::from_le_bytes(bytes.try_into().ok()?),
        _ => return None,
    };
    (number >= 1.0 && number <= f64::from(u32::MAX) && number.fract() == 0.0).then_some(number as u32)
}

#[cfg(test)]
#[path = "mat_tests.rs"]
mod tests;
