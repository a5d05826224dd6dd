use super::*;
use image::{ColorType, ExtendedColorType, ImageEncoder, codecs};

/// 6 rows of 8 pixels: red falls from the left, green from the top.
fn gradient() -> Vec<u8> {
    (0..6u8).flat_map(|y| (0..8u8).flat_map(move |x| [x * 30, y * 40, 100])).collect()
}

fn encoded(format: ImageFormat, pixels: &[u8], width: u32, height: u32, colour: ColorType) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image::write_buffer_with_format(&mut out, pixels, width, height, colour, format).unwrap();
    out.into_inner()
}

fn png(pixels: &[u8], width: u32, height: u32, colour: ColorType) -> Vec<u8> {
    encoded(ImageFormat::Png, pixels, width, height, colour)
}

fn jpeg() -> Vec<u8> {
    let mut out = Vec::new();
    let encoder = codecs::jpeg::JpegEncoder::new_with_quality(&mut out, 100);
    encoder.write_image(&gradient(), 8, 6, ExtendedColorType::Rgb8).unwrap();
    out
}

#[test]
fn every_format_is_read_whatever_the_file_is_called() {
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
        let picture = decode(&encoded(format, &gradient(), 8, 6, ColorType::Rgb8)).unwrap();
        assert_eq!((picture.height, picture.width, picture.channels), (6, 8, 3));
        assert_eq!(picture.pixels, gradient(), "{format:?} keeps every value");
    }
    for bytes in [jpeg(), encoded(ImageFormat::Gif, &gradient(), 8, 6, ColorType::Rgb8)] {
        let picture = decode(&bytes).unwrap();
        assert_eq!((picture.height, picture.width, picture.channels), (6, 8, 3));
        assert!(picture.pixels.iter().zip(gradient()).all(|(a, b)| a.abs_diff(b) < 24));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("photo.gif");
    std::fs::write(&path, jpeg()).unwrap();
    assert_eq!(read(&path).unwrap(), decode(&jpeg()).unwrap());
}

#[test]
fn the_first_frame_of_a_gif_is_taken() {
    let mut out = Vec::new();
    {
        let mut encoder = codecs::gif::GifEncoder::new(&mut out);
        for value in [0, 255] {
            let frame = image::RgbaImage::from_pixel(2, 2, image::Rgba([value, value, value, 255]));
            encoder.encode_frame(image::Frame::new(frame)).unwrap();
        }
    }
    assert_eq!(decode(&out).unwrap().pixels, [0; 12]);
}

#[test]
fn transparency_is_laid_on_white_and_16_bit_are_scaled() {
    let transparent = png(&[10, 20, 30, 0, 10, 20, 30, 255, 0, 0, 0, 128], 3, 1, ColorType::Rgba8);
    assert_eq!(decode(&transparent).unwrap().pixels, [255, 255, 255, 10, 20, 30, 127, 127, 127]);
    let grey = png(&[0, 0, 0, 255], 2, 1, ColorType::La8);
    assert_eq!(decode(&grey).unwrap(), Picture { height: 1, width: 2, channels: 1, pixels: vec![255, 0] });
    let deep: Vec<u8> = [0u16, 0x8080, 0xffff].iter().flat_map(|value| value.to_ne_bytes()).collect();
    assert_eq!(decode(&png(&deep, 3, 1, ColorType::L16)).unwrap().pixels, [0, 128, 255]);
}

/// The picture of scripts/make_odd_pictures.py.
fn smooth() -> Vec<u8> {
    (0..24u8).flat_map(|y| (0..32u8).flat_map(move |x| [40 + 5 * x, 30 + 7 * y, 200 - 3 * x])).collect()
}

#[test]
fn progressive_and_cmyk_jpegs_are_read() {
    for name in ["progressive", "cmyk"] {
        let bytes = std::fs::read(format!("../../tests/pictures/{name}.jpg")).unwrap();
        let picture = decode(&bytes).unwrap();
        assert_eq!((picture.height, picture.width, picture.channels), (24, 32, 3), "{name}");
        let furthest = picture.pixels.iter().zip(smooth()).map(|(a, b)| a.abs_diff(b)).max();
        assert!(furthest < Some(12), "{name}: {furthest:?} levels away");
        for keep in [bytes.len() / 2, bytes.len() * 3 / 4, bytes.len() - 2] {
            let error = decode(&bytes[..keep]).unwrap_err();
            assert!(error.what().contains("JPEG"), "{name}: {error}");
        }
    }
}

#[test]
fn jpegs_of_kinds_that_are_not_read_are_named_and_not_called_damaged() {
    let frame = jpeg().windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = jpeg();
        bytes[frame + at] = byte;
        decode(&bytes).unwrap_err()
    };
    for (at, byte, what) in [
        (4, 12, "a JPEG of 12 bits a colour"),
        (4, 16, "a JPEG of 16 bits a colour"),
        (1, 0xc3, "a lossless JPEG"),
        (1, 0xc5, "a hierarchical JPEG"),
        (1, 0xc9, "a JPEG with arithmetic coding"),
    ] {
        let error = with(at, byte);
        assert_eq!(error.what(), what);
        assert!(error.to_string().contains("\nConvert it, for example: magick"), "{error}");
    }
    assert!(with(4, 3).what().contains("damaged JPEG"));
}

#[test]
fn sixteen_bit_colours_are_scaled() {
    let deep: Vec<u8> = [0u16, 0x8080, 0xffff].iter().flat_map(|value| value.to_ne_bytes()).collect();
    assert_eq!(decode(&png(&deep, 1, 1, ColorType::Rgb16)).unwrap().pixels, [0, 128, 255]);
    let clear: Vec<u8> = [0u16, 0, 0, 0].iter().flat_map(|value| value.to_ne_bytes()).collect();
    assert_eq!(decode(&png(&clear, 1, 1, ColorType::Rgba16)).unwrap().pixels, [255; 3]);
}

#[test]
fn exif_orientation_is_applied() {
    // Orientation 6: the camera lay on its side, the picture is turned clockwise. TIFF, little endian, one entry.
    let mut exif = b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    let plain = jpeg();
    exif.splice(0..0, plain[..2].iter().copied());
    exif.extend(&plain[2..]);
    let (upright, turned) = (decode(&plain).unwrap(), decode(&exif).unwrap());
    assert_eq!((turned.height, turned.width), (8, 6));
    // The top row of the turned picture is the left column of the other, from the bottom.
    let row: Vec<&[u8]> = turned.pixels.chunks(3).take(6).collect();
    let column: Vec<&[u8]> = (0..6).rev().map(|y| &upright.pixels[y * 8 * 3..][..3]).collect();
    assert_eq!(row, column);
}

#[test]
fn a_truncated_picture_is_an_error_in_every_format() {
    let formats = [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Gif];
    let mut files: Vec<Vec<u8>> =
        formats.iter().map(|&format| encoded(format, &gradient(), 8, 6, ColorType::Rgb8)).collect();
    files.push(jpeg());
    for bytes in files {
        for keep in [bytes.len() / 2, bytes.len() * 3 / 4] {
            let error = decode(&bytes[..keep]).unwrap_err();
            let named = error.what().contains("truncated") || error.what().contains("damaged");
            assert!(named && error.to_string().contains("\nCopy the file again"), "{error}");
        }
    }
    assert!(decode(&jpeg()[..jpeg().len() - 2]).unwrap_err().what().contains("truncated JPEG"));
}

#[test]
fn a_thumbnail_does_not_hide_that_a_jpeg_is_cut() {
    let thumbnail = jpeg();
    let length = (thumbnail.len() + 2) as u16;
    let head = [&[0xff, 0xd8, 0xff, 0xe2][..], &length.to_be_bytes(), &thumbnail].concat();
    let whole = [&head[..], &jpeg()[2..]].concat();
    assert!(decode(&whole).is_ok());
    assert!(decode(&whole[..whole.len() - 20]).unwrap_err().what().contains("truncated JPEG"));
}

#[test]
fn a_huge_picture_is_refused_by_its_head() {
    // CRC of the PNG's head, so that the size is what is refused.
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        })
    };
    let mut huge_png = png(&gradient(), 8, 6, ColorType::Rgb8);
    huge_png[16..24].copy_from_slice(&[50_000u32.to_be_bytes(), 50_000u32.to_be_bytes()].concat());
    let sum = crc(&huge_png[12..29]);
    huge_png[29..33].copy_from_slice(&sum.to_be_bytes());
    let mut huge_bmp = encoded(ImageFormat::Bmp, &gradient(), 8, 6, ColorType::Rgb8);
    huge_bmp[18..26].copy_from_slice(&[50_000u32.to_le_bytes(), 50_000u32.to_le_bytes()].concat());
    let mut huge_gif = encoded(ImageFormat::Gif, &gradient(), 8, 6, ColorType::Rgb8);
    huge_gif[6..10].copy_from_slice(&[50_000u16.to_le_bytes(), 50_000u16.to_le_bytes()].concat());
    let mut huge_jpeg = jpeg();
    let frame = huge_jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    huge_jpeg[frame + 5..frame + 9].copy_from_slice(&[50_000u16.to_be_bytes(), 50_000u16.to_be_bytes()].concat());
    for bytes in [huge_png, huge_bmp, huge_gif, huge_jpeg] {
        let error = decode(&bytes).unwrap_err();
        assert!(error.what().contains("50000 x 50000 pixels; the limit is 32768 a side and 128 million"), "{error}");
    }
}

#[test]
fn what_is_no_picture_is_named_with_advice() {
    let named = |bytes: &[u8]| decode(bytes).unwrap_err().to_string();
    assert!(named(b"Dear diary, today I was called .jpg.").contains("a text file"));
    assert!(named("Ünïcödé is text too, even when cut in the midd".as_bytes()).contains("a text file"));
    assert!(named(b"").contains("an empty file"));
    assert!(
        named(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic").contains("HEIC") && named(b"\0\0\0\x18ftypmif1").contains("HEIC")
    );
    assert!(named(b"\0\0\0\x18ftypheic").contains("heif-convert"));
    assert!(named(b"\0\0\0\x1cftypavif\0\0\0\0").contains("AVIF"));
    assert!(named(b"II*\0\x08\0\0\0").contains("TIFF") && named(b"MM\0*\0\0\0\x08").contains("TIFF"));
    assert!(named(b"\x7fELF\x02\x01\x01\0\0\0").contains("not a picture that is known"));
}

#[test]
fn a_folder_or_a_missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert!(read(folder.path()).unwrap_err().what().contains("not a plain file"));
    let missing = folder.path().join("gone.png");
    assert!(read(&missing).unwrap_err().what().contains("gone.png"));
    assert_eq!(first_bytes(&missing, 10).unwrap_err(), read(&missing).unwrap_err());
}
