//! Whether a picture looks like the pictures that a model learned from.

use crate::data::{Picture, Preparation};
use crate::error::Result;
use crate::plot::Canvas;
use image::{Rgb, RgbImage};
use std::path::Path;

/// How a picture compares with the training pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// As far as brightness and contrast say, it could be one of them.
    Like,
    /// Dark on light, where the training pictures are light on dark: the negative would be like them.
    Negative,
    /// Much brighter, darker, flatter or harsher than they are.
    Unlike,
}

/// Judges a framed picture by the mean and deviation of its prepared numbers, which are near 0 and 1 for training pictures.
pub fn judge(frame: &Picture, preparation: &Preparation, numbers: &[f32]) -> Look {
    let n = numbers.len().max(1) as f64;
    let mean = numbers.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let deviation = (numbers.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n).sqrt();
    let dark_ground = preparation.channels == 1 && preparation.mean[0] < 0.4;
    if dark_ground && border(frame) > 0.6 && mean > 0.5 {
        return Look::Negative;
    }
    // A training picture's own mean is rarely more than 1.5 deviations of all pixels away from theirs; 2 leaves room.
    if mean.abs() > 2.0 || !(0.2..=3.0).contains(&deviation) { Look::Unlike } else { Look::Like }
}

/// The median brightness of the outermost pixels, in [0, 1].
fn border(frame: &Picture) -> f64 {
    let (height, width, channels) = (frame.height, frame.width, frame.channels);
    let mut values: Vec<u8> = (0..height * width)
        .filter(|i| i / width == 0 || i / width == height - 1 || i % width == 0 || i % width == width - 1)
        .map(|i| frame.pixels[i * channels])
        .collect();
    values.sort_unstable();
    values.get(values.len() / 2).map_or(0.0, |value| f64::from(*value) / 255.0)
}

/// The picture in red, green and blue, as sheets need it.
pub fn rgb(picture: &Picture) -> RgbImage {
    RgbImage::from_fn(picture.width as u32, picture.height as u32, |x, y| {
        let at = (y as usize * picture.width + x as usize) * picture.channels;
        Rgb(std::array::from_fn(|channel| picture.pixels[at + channel.min(picture.channels - 1)]))
    })
}

/// Writes a picture as a PNG file.
///
/// # Errors
/// The file cannot be written.
pub fn save(picture: &Picture, path: &Path) -> Result<()> {
    let mut canvas = Canvas::new(picture.width as u32, picture.height as u32, [0; 3]);
    canvas.blit(0, 0, &rgb(picture), 1);
    canvas.save(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Resize;

    fn digit() -> Picture {
        let pixels = (0..784).map(|i| if (i % 28) / 4 == 3 && i / 28 > 4 && i / 28 < 23 { 250 } else { 3 }).collect();
        Picture { height: 28, width: 28, channels: 1, pixels }
    }

    fn judged(picture: Picture) -> Look {
        let preparation = Preparation { cover: [28, 28], ..Preparation::new([28, 28], 1, Resize::Crop).unwrap() };
        let preparation = preparation.with_statistics(vec![0.13], vec![0.31]).unwrap();
        judge(&preparation.frame(picture.clone()).unwrap(), &preparation, &preparation.numbers(picture).unwrap())
    }

    #[test]
    fn a_dark_digit_on_light_paper_is_noticed() {
        assert_eq!(judged(digit()), Look::Like);
        assert_eq!(judged(digit().inverted()), Look::Negative);
        assert_eq!(judged(Picture { pixels: vec![0; 784], ..digit() }), Look::Unlike, "nothing is drawn on it");
    }

    #[test]
    fn grey_becomes_three_equal_channels() {
        assert_eq!(rgb(&digit()).get_pixel(13, 10).0, [250; 3]);
    }
}
