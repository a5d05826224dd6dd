//! Tensors in a `.safetensors` file, with one text of our own in its metadata.
//!
//! The layout is [safetensors](https://github.com/huggingface/safetensors): eight bytes of header length, a JSON header,
//! raw little-endian values. All of our metadata is a single TOML text under one key, because the order of several keys
//! would change from run to run and the same training must give the same bytes.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo};

use super::write_atomically;
use crate::{Error, Result, Tensor, Tensors};

/// The metadata key that holds our text.
const KEY: &str = "ocelli";

/// Writes tensors and the metadata text atomically; `tensors` may be borrowed from several maps.
pub fn write<'a>(path: &Path, tensors: impl IntoIterator<Item = (Cow<'a, str>, &'a Tensor)>, text: &str) -> Result<()> {
    let tensors: Vec<_> = tensors.into_iter().collect();
    let header = header(&tensors, text)?;
    write_atomically(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        tensors.iter().try_for_each(|(_, tensor)| write_values(file, &tensor.data))
    })
}

/// The JSON header, padded with spaces so that the values start at a multiple of eight bytes.
fn header(tensors: &[(Cow<str>, &Tensor)], text: &str) -> Result<Vec<u8>> {
    let mut start = 0;
    let infos = tensors.iter().map(|(name, tensor)| {
        let end = start + 4 * tensor.data.len();
        let info = TensorInfo { dtype: Dtype::F32, shape: tensor.dims.clone(), data_offsets: (start, end) };
        start = end;
        (name.to_string(), info)
    });
    let metadata = Metadata::new(Some(HashMap::from([(KEY.to_string(), text.to_string())])), infos.collect());
    let metadata = metadata.map_err(|error| Error::new(format!("tensors cannot be written: {error}")))?;
    let mut json = serde_json::to_vec(&metadata).map_err(|error| Error::new(format!("metadata: {error}")))?;
    json.resize(json.len().next_multiple_of(8), b' ');
    Ok(json)
}

/// Values as little-endian bytes, through a small buffer.
fn write_values(file: &mut dyn Write, values: &[f32]) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    for chunk in values.chunks(buffer.len() / 4) {
        for (bytes, value) in buffer.chunks_exact_mut(4).zip(chunk) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        file.write_all(&buffer[..4 * chunk.len()])?;
    }
    Ok(())
}

/// Reads a `.safetensors` file: its tensors as f32 and our metadata text, if it has one.
///
/// # Errors
/// The file is missing, truncated or damaged, or a tensor is not of a floating-point type.
pub fn read(path: &Path) -> Result<(Tensors, Option<String>)> {
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    take(bytes).map_err(|error| error.at(path.display()))
}

/// `read` on bytes. Every size is checked against the bytes that are there, so a hostile file allocates no more than a
/// few times its own length.
pub fn parse(bytes: &[u8]) -> Result<(Tensors, Option<String>)> {
    take(bytes.to_vec())
}

/// Values that are held as bytes and as numbers at the same time.
const PIECE: usize = 1 << 20;

/// `parse` from the end to the beginning, giving back what is read: a large file is hardly ever held twice.
fn take(mut bytes: Vec<u8>) -> Result<(Tensors, Option<String>)> {
    let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| {
        Error::new(format!("not a whole .safetensors file ({} bytes): {error}", bytes.len()))
            .advice("It is truncated, damaged or of another kind: copy or export it again.")
    })?;
    let text = metadata.metadata().as_ref().and_then(|map| map.get(KEY)).cloned();
    let mut tensors = Tensors::new();
    for name in metadata.offset_keys().into_iter().rev() {
        let Some(info) = metadata.info(&name) else { continue };
        // After the length of the header and the header.
        let start = 8 + header + info.data_offsets.0;
        // PyTorch counts batches beside its running statistics; nothing here needs the count.
        if !name.ends_with("num_batches_tracked") {
            let data = take_values(&mut bytes, start, info.dtype).map_err(|error| error.at(&name))?;
            tensors.insert(name, Tensor { dims: info.shape.clone(), data });
        }
        bytes.truncate(start);
    }
    Ok((tensors, text))
}

/// The values that begin at `start` and end with the bytes, which are taken off.
fn take_values(bytes: &mut Vec<u8>, start: usize, dtype: Dtype) -> Result<Vec<f32>> {
    let size = match dtype {
        Dtype::F64 => 8,
        Dtype::F32 => 4,
        Dtype::BF16 | Dtype::F16 => 2,
        other => return Err(Error::new(format!("values of type {other}, where f32, f64, f16 or bf16 are read"))),
    };
    let mut values = vec![0.0; (bytes.len() - start) / size];
    let mut end = values.len();
    while end > 0 {
        let first = end.saturating_sub(PIECE);
        let (at, out) = (start + first * size, &mut values[first..end]);
        match dtype {
            Dtype::F64 => convert(&bytes[at..], out, |bytes| f64::from_le_bytes(bytes) as f32),
            Dtype::F32 => convert(&bytes[at..], out, f32::from_le_bytes),
            Dtype::BF16 => convert(&bytes[at..], out, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
            _ => convert(&bytes[at..], out, |bytes| half(u16::from_le_bytes(bytes))),
        }
        bytes.truncate(at);
        bytes.shrink_to_fit();
        end = first;
    }
    Ok(values)
}

fn convert<const N: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    out.iter_mut().zip(bytes.as_chunks::<N>().0).for_each(|(out, bytes)| *out = value(*bytes));
}

/// An IEEE 754 half: 1 sign bit, 5 exponent bits of bias 15, 10 fraction bits.
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (u32::from(bits >> 10 & 31), u32::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction as f32 / 16_777_216.0, // subnormal: fraction * 2^-24
        31 => f32::from_bits(0xff << 23 | fraction << 13),
        _ => f32::from_bits((exponent + 112) << 23 | fraction << 13),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

/// Checks that `found` has the names and shapes (sizes, outermost first) of `expected`.
///
/// # Errors
/// All that differs: shapes, names that are missing, names that are too many.
pub fn check(found: &Tensors, expected: &BTreeMap<String, Vec<usize>>) -> Result<()> {
    let mut parts = Vec::new();
    let both = expected.iter().filter_map(|(name, want)| Some((name, &found.get(name)?.dims, want)));
    let other: Vec<_> = both.filter(|(_, have, want)| have != want).collect();
    if let Some(((name, have, want), rest)) = other.split_first() {
        let mut part = format!("{name} has the shape {have:?} in the file, but {want:?} in the network");
        rest.iter().take(3).for_each(|(name, have, want)| part.push_str(&format!(", {name} {have:?}, but {want:?}")));
        if rest.len() > 3 {
            part.push_str(&format!(" and {} more", rest.len() - 3));
        }
        parts.push(part);
    }
    let missing: Vec<_> = expected.keys().filter(|name| !found.contains_key(*name)).collect();
    let extra: Vec<_> = found.keys().filter(|name| !expected.contains_key(*name)).collect();
    let advice = match missing.is_empty() && extra.is_empty() {
        true => "The weights belong to another network or number of classes.",
        false => "The weights belong to another network, or its layers have other names.",
    };
    if !missing.is_empty() {
        parts.push(format!("{} tensors of the network are missing ({})", missing.len(), listed(&missing)));
    }
    if !extra.is_empty() {
        parts.push(format!("{} are unknown to it ({})", extra.len(), listed(&extra)));
    }
    if parts.is_empty() { Ok(()) } else { Err(Error::new(parts.join(", ")).advice(advice)) }
}

/// The first few names, and how many follow.
fn listed(names: &[&String]) -> String {
    let shown = names.iter().take(4).map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(4) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Tensors {
        Tensors::from([
            ("conv1.weight".to_string(), Tensor::new([2, 1, 1, 2], vec![1.5, -0.0, f32::MIN_POSITIVE, 3e38])),
            ("conv1.bias".to_string(), Tensor::new([2], vec![0.1, -7.0])),
            ("empty".to_string(), Tensor::new([0, 3], vec![])),
        ])
    }

    fn save(path: &Path, tensors: &Tensors, text: &str) {
        write(path, tensors.iter().map(|(name, tensor)| (name.as_str().into(), tensor)), text).unwrap();
    }

    fn bytes() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        save(&path, &sample(), "classes = [\"a\"]\n");
        std::fs::read(path).unwrap()
    }

    #[test]
    fn tensors_and_text_come_back_and_the_bytes_repeat() {
        let (tensors, text) = parse(&bytes()).unwrap();
        assert_eq!(tensors, sample());
        assert_eq!(text.as_deref(), Some("classes = [\"a\"]\n"));
        assert_eq!(bytes(), bytes());
    }

    #[test]
    fn the_reference_implementation_reads_our_files() {
        let bytes = bytes();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("conv1.bias").unwrap().data(), [0.1f32.to_le_bytes(), (-7f32).to_le_bytes()].concat());
    }

    #[test]
    fn every_truncation_and_many_damages_are_errors_or_values_but_never_panics() {
        let bytes = bytes();
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
        }
        for at in 0..bytes.len() {
            for value in [0, 255, bytes[at] ^ 1, b'9', b'{'] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                let _ = parse(&damaged);
            }
        }
    }

    #[test]
    fn a_header_that_promises_more_than_the_file_holds_is_an_error() {
        let json = br#"{"w":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}"#;
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json);
        bytes.extend([0; 4]);
        assert!(parse(&bytes).is_err());
        bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        let error = parse(&bytes).unwrap_err();
        assert!(error.what().starts_with("not a whole .safetensors file"), "{error}");
    }

    #[test]
    fn other_float_types_are_widened() {
        let header = br#"{"h":{"dtype":"F16","shape":[4],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[8,10]},"num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[10,18]}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        for bits in [0x3c00u16, 0xc000, 0x0001, 0x7c00, 0x3fc0] {
            bytes.extend(bits.to_le_bytes());
        }
        bytes.extend([0; 8]);
        let (tensors, text) = parse(&bytes).unwrap();
        assert_eq!(tensors["h"].data, [1.0, -2.0, 5.960_464_5e-8, f32::INFINITY]);
        assert_eq!(tensors["b"].data, [1.5]);
        assert_eq!((tensors.len(), text), (2, None));
    }

    #[test]
    fn a_wrong_shape_is_named_with_both_shapes_and_wrong_names_are_listed() {
        let mut found = sample();
        let expected = sample().into_iter().map(|(name, tensor)| (name, tensor.dims)).collect();
        assert_eq!(check(&found, &expected), Ok(()));
        found.insert("conv1.bias".into(), Tensor::zeros([3]));
        let error = check(&found, &expected).unwrap_err();
        assert_eq!(error.what(), "conv1.bias has the shape [3] in the file, but [2] in the network");
        found.remove("conv1.bias");
        found.insert("fc9.bias".into(), Tensor::zeros([2]));
        let error = check(&found, &expected).unwrap_err();
        assert_eq!(error.what(), "1 tensors of the network are missing (conv1.bias), 1 are unknown to it (fc9.bias)");
    }
}
