//! Pictures of bytes, scaled: a crate of its own, because it has to be compiled as one unit. In sixteen units the library's
//! vector code is not inlined and takes seven times as long, and all of `ocelli` in one unit doubles the time of a build.
#![forbid(unsafe_code)]

use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images};

/// A picture of `from` = [height, width] pixels of 1 or 3 bytes, scaled to `to`, antialiased and in integers. `cover` first cuts
/// the middle out that has the shape of `to`; without it the shape is stretched.
///
/// # Errors
/// What the library says: a side is 0, or `pixels` has another length.
pub fn scale(pixels: &[u8], from: [usize; 2], channels: usize, to: [usize; 2], cover: bool) -> Result<Vec<u8>, String> {
    let kind = if channels == 1 { PixelType::U8 } else { PixelType::U8x3 };
    let source = images::ImageRef::new(from[1] as u32, from[0] as u32, pixels, kind).map_err(|e| e.to_string())?;
    let mut target = images::Image::new(to[1] as u32, to[0] as u32, kind);
    let mut options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
    if cover {
        options = options.fit_into_destination(None);
    }
    Resizer::new().resize(&source, &mut target, &options).map_err(|e| e.to_string())?;
    Ok(target.into_vec())
}
