//! Pictures of bytes, scaled: a crate of its own, because it has to be compiled as one unit. In sixteen units the library's
//! vector code is not inlined and takes seven times as long, and all of `ocelli` in one unit doubles the time of a build.
#![forbid(unsafe_code)]

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

/// A picture of `from` = [height, width] pixels of 1 or 3 bytes, scaled to `to`, antialiased and in integers. `cover` first cuts
/// the middle out that has the shape of `to`; without it the shape is stretched.
///
/// # Errors
/// What the library says: `pixels` is shorter than `from` needs.
pub fn scale(pixels: &[u8], from: [usize; 2], channels: usize, to: [usize; 2], cover: bool) -> Result<Vec<u8>, String> {
    let mut options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
    if cover {
        options = options.fit_into_destination(None);
    }
    let mut target = vec![0; to[0] * to[1] * channels];
    match channels {
        1 => resize::<U8>(pixels, from, &mut target, to, &options)?,
        _ => resize::<U8x3>(pixels, from, &mut target, to, &options)?,
    }
    Ok(target)
}

/// For one kind of pixel: the library's call that takes any compiles thirteen.
fn resize<P: PixelTrait>(
    pixels: &[u8],
    from: [usize; 2],
    target: &mut [u8],
    to: [usize; 2],
    options: &ResizeOptions,
) -> Result<(), String> {
    let source = TypedImageRef::<P>::from_buffer(from[1] as u32, from[0] as u32, pixels).map_err(|e| e.to_string())?;
    let mut target = TypedImage::<P>::from_buffer(to[1] as u32, to[0] as u32, target).map_err(|e| e.to_string())?;
    Resizer::new().resize_typed(&source, &mut target, options).map_err(|e| e.to_string())
}
