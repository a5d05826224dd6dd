//! Files to pictures. The format follows from the content, not from the name.

use super::Picture;
use crate::{Error, Result};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

/// The longest side that is decoded.
pub const MAX_SIDE: u32 = 32_768;
/// The most pixels that are decoded: more than the largest common cameras have. Fuzzing has fewer: a few bytes that claim
/// 128 million pixels take an instrumented decoder more than the ten seconds after which an input counts as hanging.
pub const MAX_PIXELS: u64 = if cfg!(fuzzing) { 4_000_000 } else { 128_000_000 };
/// The largest file that is read.
const MAX_FILE: u64 = 1 << 30;

const SUPPORTED: &str = "PNG, JPEG, BMP, WebP and GIF are read.";

/// Decodes PNG, JPEG, BMP, WebP, or the first frame of a GIF. Transparency is laid on white, 16 bit are scaled to 8, EXIF
/// orientation is applied.
///
/// # Errors
/// Another format (with advice for HEIC, AVIF and TIFF), a damaged or truncated file, or a picture above [`MAX_SIDE`] or
/// [`MAX_PIXELS`], which is refused before memory is taken for it.
pub fn decode(bytes: &[u8]) -> Result<Picture> {
    let format = recognise(bytes)?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    // Eight bytes a pixel hold 16 bit with transparency.
    limits.max_alloc = Some(8 * MAX_PIXELS);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| failed(format, bytes, error))?;
    check_dimensions(decoder.dimensions())?;
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| failed(format, bytes, error))?;
    if format == ImageFormat::Jpeg && !jpeg_ends(bytes) {
        return Err(truncated(format));
    }
    image.apply_orientation(orientation);
    Ok(flatten(image))
}

/// Reads and decodes a file; see [`decode`]. The error names the file.
///
/// # Errors
/// The file cannot be read or decoded, or is not a plain file.
pub fn read(path: &Path) -> Result<Picture> {
    decode(&read_bytes(path)?).map_err(|error| error.at(path.display()))
}

/// The bytes of a plain file of at most 1 GiB.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let metadata = std::fs::metadata(path).map_err(|error| Error::io(path, error))?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(Error::new(format!("{}: not a plain file of at most 1 GiB", path.display()))
            .advice("Give a picture: PNG, JPEG, BMP, WebP or GIF."));
    }
    std::fs::read(path).map_err(|error| Error::io(path, error))
}

/// The first bytes of a plain file, at most `most`.
pub(super) fn first_bytes(path: &Path, most: u64) -> Result<Vec<u8>> {
    if most >= MAX_FILE {
        return read_bytes(path);
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    file.take(most).read_to_end(&mut bytes).map_err(|error| Error::io(path, error))?;
    Ok(bytes)
}

/// Height and width of a picture whose first bytes `read` hands out, orientation not applied. Four thousand are enough for
/// most; where they are not, as before long metadata, all are read.
pub(super) fn size(read: impl Fn(u64) -> Result<Vec<u8>>) -> Result<[usize; 2]> {
    let of = |bytes: &[u8]| {
        let format = recognise(bytes)?;
        let reader = ImageReader::with_format(Cursor::new(bytes), format);
        let (width, height) = reader.into_dimensions().map_err(|error| failed(format, bytes, error))?;
        check_dimensions((width, height))?;
        Ok([height as usize, width as usize])
    };
    of(&read(4096)?).or_else(|_| of(&read(u64::MAX)?))
}

fn check_dimensions((width, height): (u32, u32)) -> Result<()> {
    if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Error::new(format!(
            "{width} x {height} pixels; the limit is {MAX_SIDE} a side and {} million in all",
            MAX_PIXELS / 1_000_000
        ))
        .advice("Scale the picture down first."));
    }
    if width == 0 || height == 0 {
        return Err(Error::new(format!("{width} x {height} pixels")).advice("Remove the picture: it is empty."));
    }
    Ok(())
}

/// The format by the first bytes.
fn recognise(bytes: &[u8]) -> Result<ImageFormat> {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, WebP};
    let supported = SUPPORTED;
    match image::guess_format(bytes) {
        Ok(format @ (Png | Jpeg | Bmp | WebP | Gif)) => Ok(format),
        _ => {
            let (what, advice) = match bytes {
                [] => ("an empty file", "Remove it, or copy it again.".into()),
                [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] if brand.starts_with(b"avi") => {
                    ("an AVIF picture", format!("Convert it, for example: avifdec IN.avif OUT.png. {supported}"))
                }
                [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..]
                    if [b"hei", b"hev", b"mif", b"msf"].iter().any(|heic| brand.starts_with(*heic)) =>
                {
                    ("a HEIC picture", format!("Convert it, for example: heif-convert IN.heic OUT.jpg. {supported}"))
                }
                [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => {
                    ("a TIFF picture", format!("Convert it, for example: magick IN.tif OUT.png. {supported}"))
                }
                _ if !bytes[..bytes.len().min(512)].contains(&0)
                    && String::from_utf8_lossy(&bytes[..bytes.len().min(512)])
                        .chars()
                        .filter(|&c| c == '\u{fffd}')
                        .count()
                        < 2 =>
                {
                    ("a text file, not a picture", format!("Remove it from the pictures. {supported}"))
                }
                _ => ("not a picture that is known", supported.into()),
            };
            Err(Error::new(what).advice(advice))
        }
    }
}

fn truncated(format: ImageFormat) -> Error {
    Error::new(format!("a truncated {}", name(format))).advice("Copy the file again, or remove it.")
}

/// Why a file cannot be decoded: a JPEG of a kind that is not read, or damage.
fn failed(format: ImageFormat, bytes: &[u8], error: ImageError) -> Error {
    let mut segments = jpeg_segments(bytes).take_while(|(marker, _)| *marker != SCAN);
    // The head of a frame; among its markers lie those of three tables. Its first byte after the length is the precision.
    let frame = segments.find(|(marker, _)| (0xc0..=0xcf).contains(marker) && ![0xc4, 0xc8, 0xcc].contains(marker));
    let kind = match (format, frame.map(|(marker, at)| (marker, bytes.get(at + 4)))) {
        (ImageFormat::Jpeg, Some((_, Some(&bits)))) if bits > 8 => format!("a JPEG of {bits} bits a colour"),
        (ImageFormat::Jpeg, Some((0xc3, _))) => "a lossless JPEG".into(),
        (ImageFormat::Jpeg, Some((0xc5..=0xc7, _))) => "a hierarchical JPEG".into(),
        (ImageFormat::Jpeg, Some((0xc9.., _))) => "a JPEG with arithmetic coding".into(),
        _ => return damaged(format, error),
    };
    Error::new(kind).advice(format!("Convert it, for example: magick IN.jpg -depth 8 OUT.png. {SUPPORTED}"))
}

fn damaged(format: ImageFormat, error: ImageError) -> Error {
    if let ImageError::IoError(io) = &error
        && io.kind() == std::io::ErrorKind::UnexpectedEof
    {
        return truncated(format);
    }
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    Error::new(format!("a damaged {}: {line}", name(format))).advice("Copy the file again, or remove it.")
}

fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Bmp => "BMP",
        ImageFormat::WebP => "WebP",
        _ => "GIF",
    }
}

/// Whether an end marker follows the first scan. The decoder fills what is missing with grey; a cut file is an error here.
/// The search begins at the scan because a thumbnail in the metadata has an end marker of its own.
fn jpeg_ends(bytes: &[u8]) -> bool {
    let scan = jpeg_segments(bytes).find(|(marker, _)| *marker == SCAN);
    // Not walked through: what the decoder accepted stands.
    scan.is_none_or(|(_, at)| bytes[at..].windows(2).rev().any(|pair| pair == [0xff, 0xd9]))
}

/// The marker of a scan.
const SCAN: u8 = 0xda;

/// Marker and place of the segments of a JPEG; right up to the first scan.
fn jpeg_segments(bytes: &[u8]) -> impl Iterator<Item = (u8, usize)> {
    let mut at = 2;
    std::iter::from_fn(move || {
        // A fill byte may stand before a marker.
        while bytes.get(at..at + 2) == Some(&[0xff, 0xff]) {
            at += 1;
        }
        let &[0xff, marker, high, low] = bytes.get(at..at + 4)?.first_chunk()? else { return None };
        let place = at;
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
        Some((marker, place))
    })
}

/// Eight bits, one or three channels, transparency on white.
fn flatten(image: DynamicImage) -> Picture {
    let (height, width) = (image.height() as usize, image.width() as usize);
    let on_white =
        |value: u8, alpha: u8| ((u32::from(value) * u32::from(alpha) + 255 * u32::from(255 - alpha) + 127) / 255) as u8;
    let colour = image.color();
    let (channels, pixels) = match (colour.has_color(), colour.has_alpha()) {
        (false, false) => (1, image.into_luma8().into_raw()),
        (true, false) => (3, image.into_rgb8().into_raw()),
        (false, true) => {
            let pixels = image.into_luma_alpha8().into_raw();
            (1, pixels.chunks_exact(2).map(|pixel| on_white(pixel[0], pixel[1])).collect())
        }
        (true, true) => {
            let pixels = image.into_rgba8().into_raw();
            let blend = |pixel: &[u8]| [0, 1, 2].map(|c| on_white(pixel[c], pixel[3]));
            (3, pixels.chunks_exact(4).flat_map(blend).collect())
        }
    };
    Picture { height, width, channels, pixels }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
