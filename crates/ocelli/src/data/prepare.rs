//! From a picture of any size to the numbers that a net sees.

use super::{Augment, Dataset, Picture};
use crate::words::counted;
use crate::{Error, Result};
use ocelli_scale::scale;
use serde::{Deserialize, Serialize};

/// How a picture of another shape is brought to the net's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// Scaled to cover [`Preparation::cover`], then the centre is cut out.
    #[default]
    Crop,
    /// Scaled to fit, black beside or above and below.
    Letterbox,
    /// Scaled in both directions apart.
    Stretch,
}

impl std::str::FromStr for Resize {
    type Err = Error;
    fn from_str(text: &str) -> Result<Resize> {
        match text {
            "crop" => Ok(Resize::Crop),
            "letterbox" => Ok(Resize::Letterbox),
            "stretch" => Ok(Resize::Stretch),
            _ => Err(Error::usage(format!("no way to resize is called '{text}'"))
                .advice("Choose crop, letterbox or stretch.")),
        }
    }
}

/// What is done to every picture before the net sees it; stored with the model. In this order: channels converted, resized
/// (antialiased, in integers, so that the bits are the same on every machine), divided by 255, (x − mean) / std.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preparation {
    /// Height and width of the net's input.
    pub size: [usize; 2],
    /// Channels of the net's input: 1 or 3.
    pub channels: usize,
    /// How other shapes are brought to `size`.
    pub resize: Resize,
    /// For [`Resize::Crop`]: what the scaled picture covers before the centre is cut out; size / 0.875, rounded, by
    /// default (a shorter side of 256 for 224), and `size` where the data has one small size already.
    pub cover: [usize; 2],
    /// Mean per channel, of values in [0, 1].
    pub mean: Vec<f32>,
    /// Standard deviation per channel.
    pub std: Vec<f32>,
    /// A mean for each pixel, in place of the mean per channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_image: Option<MeanImage>,
}

/// The mean of each pixel over a data set, `[channels, height, width]`, in 65,535ths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MeanImage(Vec<u16>);

impl MeanImage {
    /// From the sums of `n` pictures of bytes, channels last.
    pub(super) fn new(sums: &[u64], n: u64, channels: usize) -> MeanImage {
        let n = n.max(1);
        let mean = |sum: &u64| ((257 * sum + n / 2) / n).min(65535) as u16;
        MeanImage((0..channels).flat_map(|channel| sums.iter().skip(channel).step_by(channels)).map(mean).collect())
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: a picture has pixels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values, in [0, 1].
    pub fn values(&self) -> impl Iterator<Item = f32> {
        self.0.iter().map(|&value| f32::from(value) / 65535.0)
    }
}

impl From<MeanImage> for String {
    /// Four hexadecimal digits a value.
    fn from(image: MeanImage) -> String {
        image.0.iter().map(|value| format!("{value:04x}")).collect()
    }
}

impl TryFrom<String> for MeanImage {
    type Error = Error;
    fn try_from(text: String) -> Result<MeanImage> {
        let digits = text.as_bytes().chunks(4).map(|four| {
            let four = std::str::from_utf8(four).ok().filter(|four| four.len() == 4 && !four.starts_with('+'))?;
            u16::from_str_radix(four, 16).ok()
        });
        digits.collect::<Option<_>>().map(MeanImage).ok_or_else(|| Error::new("a mean image that is not hexadecimal"))
    }
}

impl Preparation {
    /// The default preparation for a net's input, with mean 0 and standard deviation 1.
    ///
    /// # Errors
    /// A size of 0, or channels other than 1 and 3.
    pub fn new(size: [usize; 2], channels: usize, resize: Resize) -> Result<Preparation> {
        if !matches!(channels, 1 | 3) {
            return Err(Error::new(format!("the net's input has {channels} channels; pictures have 1 or 3"))
                .advice("Set input = [1, H, W] for grey or [3, H, W] for colour in the net."));
        }
        if size.iter().any(|&side| side == 0 || side > super::MAX_SIDE as usize / 2) {
            return Err(Error::usage(format!("an image size of {} x {}", size[0], size[1]))
                .advice("Choose --image-size N or HxW with sides of 1 to 16384."));
        }
        let cover = size.map(|side| (side as f64 / 0.875).round() as usize);
        let (mean, std) = (vec![0.0; channels], vec![1.0; channels]);
        Ok(Preparation { size, channels, resize, cover, mean, std, mean_image: None })
    }

    /// The preparation for a net's input and a data set. Where all pictures of the set have one size (MNIST, CIFAR-10, a
    /// folder of pictures of one size), that size is kept if it is the net's, and also if it is up to 4/3 of the net's and
    /// the augmentation cuts windows out of it (24 × 24 of 28 × 28).
    ///
    /// # Errors
    /// As [`Preparation::new`]; a picture that cannot be read.
    pub fn for_data(
        data: &Dataset,
        size: [usize; 2],
        channels: usize,
        resize: Resize,
        augment: &Augment,
    ) -> Result<Preparation> {
        let mut preparation = Preparation::new(size, channels, resize)?;
        if let Some(own) = data.one_size()? {
            let windows = augment.cuts() && (0..2).all(|i| own[i] >= size[i] && 3 * own[i] <= 4 * size[i]);
            if own == size || windows {
                preparation.cover = own;
            }
        }
        Ok(preparation)
    }

    /// Sets what the scaled picture covers before the net's size is cut out of it.
    ///
    /// # Errors
    /// It is smaller than that, or nothing is cut.
    pub fn covering(self, cover: [usize; 2]) -> Result<Preparation> {
        let [height, width] = self.size;
        if self.resize != Resize::Crop {
            return Err(Error::usage("a size to cover without resize crop").advice("Leave --cover or --resize out."));
        }
        if cover[0] < height || cover[1] < width || cover.iter().any(|&side| side > super::MAX_SIDE as usize) {
            return Err(Error::usage(format!("{height} x {width} pixels cut out of {} x {}", cover[0], cover[1]))
                .advice(format!("Choose --cover from {} up to {}.", height.max(width), super::MAX_SIDE)));
        }
        Ok(Preparation { cover, ..self })
    }

    /// Puts `mean` and `std` in place of the measured ones.
    ///
    /// # Errors
    /// Not a value per channel, or a standard deviation that is not positive.
    pub fn with_statistics(self, mean: Vec<f32>, std: Vec<f32>) -> Result<Preparation> {
        if mean.len() != self.channels || std.len() != self.channels {
            let (means, stds) = (counted(mean.len(), "mean"), counted(std.len(), "standard deviation"));
            let channels = counted(self.channels, "channel");
            return Err(Error::usage(format!("{means} and {stds} for {channels}"))
                .advice("Give --mean and --std a value for each channel, separated by commas."));
        }
        if !mean.iter().all(|m| m.is_finite()) || !std.iter().all(|s| s.is_finite() && *s > 0.0) {
            return Err(Error::usage(format!("a mean of {mean:?} with a standard deviation of {std:?}"))
                .advice("Pixels are in [0, 1]: means lie there too, standard deviations above 0."));
        }
        Ok(Preparation { mean, std, ..self })
    }

    /// The picture as the net sees it, before it becomes numbers: `size`, `channels`.
    ///
    /// # Errors
    /// The picture has no pixels.
    pub fn frame(&self, picture: Picture) -> Result<Picture> {
        self.canvas(picture, self.size)
    }

    /// The numbers of a picture: `[channels, height, width]`.
    ///
    /// # Errors
    /// The picture has no pixels.
    pub fn numbers(&self, picture: Picture) -> Result<Vec<f32>> {
        let frame = self.frame(picture)?;
        let mut numbers = vec![0.0; frame.pixels.len()];
        Scale::new(self).write(&frame.pixels, self.size, Window::default(), self.size, &mut numbers);
        Ok(numbers)
    }

    /// What numbers look like: the nearest bytes.
    pub fn picture(&self, numbers: &[f32]) -> Picture {
        let ([height, width], channels) = (self.size, self.channels);
        let less: Vec<f32> = match &self.mean_image {
            Some(image) => image.values().collect(),
            None => (0..numbers.len()).map(|i| self.mean[i / (height * width) % channels]).collect(),
        };
        let value = |i: usize| 255.0 * (numbers[i] * self.std[i / (height * width) % channels] + less[i]);
        let at = |i: usize| i % channels * height * width + i / channels;
        let pixels = (0..height * width * channels).map(|i| (value(at(i)) + 0.5).clamp(0.0, 255.0) as u8).collect();
        Picture { height, width, channels, pixels }
    }

    /// The size that augmentation cuts its windows from.
    pub(super) fn canvas_size(&self, augment: &Augment) -> [usize; 2] {
        match self.resize {
            Resize::Crop if augment.cuts() => self.cover,
            _ => self.size,
        }
    }

    /// The picture at a canvas size, which is `size` or `cover`.
    pub(super) fn canvas(&self, picture: Picture, canvas: [usize; 2]) -> Result<Picture> {
        let picture = picture.with_channels(self.channels);
        match self.resize {
            Resize::Crop => Ok(resample(picture, self.cover, true)?.centre(canvas)),
            Resize::Stretch => resample(picture, canvas, false),
            Resize::Letterbox => {
                let [height, width] = canvas;
                // The side that fits exactly decides; the other is rounded, to one pixel at least.
                let inner = if picture.height * width >= picture.width * height {
                    [height, ratio(picture.width, height, picture.height)]
                } else {
                    [ratio(picture.height, width, picture.width), width]
                };
                let scaled = resample(picture, inner, false)?;
                let (top, left) = ((height - scaled.height) / 2, (width - scaled.width) / 2);
                let channels = scaled.channels;
                let mut pixels = vec![0; height * width * channels];
                for (y, row) in scaled.pixels.chunks_exact(scaled.width * channels).enumerate() {
                    pixels[((top + y) * width + left) * channels..][..row.len()].copy_from_slice(row);
                }
                Ok(Picture { height, width, channels, pixels })
            }
        }
    }
}

/// a · b / c, rounded, at least 1.
fn ratio(a: usize, b: usize, c: usize) -> usize {
    ((2 * a * b + c) / (2 * c)).max(1)
}

/// Scales to `[height, width]` with a triangle filter that widens when shrinking (antialiased). With `cover`, the largest
/// centred part of the wanted shape is scaled. The filter's weights are whole numbers of 16 bits made with plain
/// arithmetic on f64, and sums are of integers: the same bits on every machine.
pub(super) fn resample(picture: Picture, [height, width]: [usize; 2], cover: bool) -> Result<Picture> {
    if [picture.height, picture.width] == [height, width] {
        return Ok(picture);
    }
    let from = [picture.height, picture.width];
    let pixels = scale(&picture.pixels, from, picture.channels, [height, width], cover).map_err(|error| {
        Error::new(format!("{} x {} pixels cannot be scaled: {error}", picture.width, picture.height))
            .advice("Remove the picture.")
    })?;
    Ok(Picture { height, width, channels: picture.channels, pixels })
}

/// Where a picture is cut from its canvas: outside of the canvas is black.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    pub top: isize,
    pub left: isize,
    pub flip: bool,
}

impl Window {
    /// The middle of a canvas.
    pub(super) fn centre(canvas: [usize; 2], size: [usize; 2]) -> Window {
        let [top, left] = [0, 1].map(|i| ((canvas[i] - size[i]) / 2) as isize);
        Window { top, left, flip: false }
    }

    /// The part of a canvas of bytes, channels last, as a picture of `size`.
    pub(super) fn picture(&self, canvas: &[u8], from: [usize; 2], size: [usize; 2], channels: usize) -> Picture {
        let ([rows, columns], [height, width]) = (from, size);
        let mut pixels = vec![0; height * width * channels];
        for (y, line) in pixels.chunks_exact_mut(width * channels).enumerate() {
            let Some(row) = self.row(y, rows) else { continue };
            let row = &canvas[row * columns * channels..][..columns * channels];
            for (x, pixel) in line.chunks_exact_mut(channels).enumerate() {
                let x = if self.flip { width - 1 - x } else { x };
                let column = self.left.checked_add_unsigned(x).and_then(|x| usize::try_from(x).ok());
                if let Some(column) = column.filter(|&column| column < columns) {
                    pixel.copy_from_slice(&row[column * channels..][..channels]);
                }
            }
        }
        Picture { height, width, channels, pixels }
    }

    /// The canvas's row that row `y` of the window lies on.
    fn row(&self, y: usize, rows: usize) -> Option<usize> {
        self.top.checked_add_unsigned(y).and_then(|y| usize::try_from(y).ok()).filter(|&y| y < rows)
    }
}

/// (value / 255 − mean) / std of every byte, per channel.
pub(super) struct Scale {
    tables: Vec<[f32; 256]>,
    /// What a mean image takes off each number.
    less: Vec<f32>,
}

impl Scale {
    pub(super) fn new(preparation: &Preparation) -> Scale {
        let Preparation { mean, std, mean_image, size, .. } = preparation;
        let table = |(mean, std): (&f32, &f32)| {
            let mean = if mean_image.is_some() { 0.0 } else { *mean };
            std::array::from_fn(|value| (value as f32 / 255.0 - mean) / std)
        };
        let tables = mean.iter().zip(std).map(table).collect();
        let values = mean_image.iter().flat_map(MeanImage::values).enumerate();
        let less = values.map(|(i, value)| value / std[i / (size[0] * size[1]) % std.len()]).collect();
        Scale { tables, less }
    }

    /// Writes the `[channels, height, width]` numbers of a window of `size` of a canvas of bytes, channels last.
    pub(super) fn write(&self, canvas: &[u8], from: [usize; 2], window: Window, size: [usize; 2], out: &mut [f32]) {
        let channels = self.tables.len();
        let ([rows, columns], [height, width]) = (from, size);
        for (channel, (plane, table)) in out.chunks_exact_mut(height * width).zip(&self.tables).enumerate() {
            for (y, line) in plane.chunks_exact_mut(width).enumerate() {
                let Some(row) = window.row(y, rows) else {
                    line.fill(table[0]);
                    continue;
                };
                let row = &canvas[row * columns * channels..][..columns * channels];
                // The columns of the window that lie on the canvas.
                let first = window.left.min(0).unsigned_abs().min(width);
                let last = columns.saturating_add_signed(-window.left).clamp(first, width);
                line.fill(table[0]);
                let from = (first as isize + window.left) as usize * channels + channel;
                for (value, &byte) in
                    line[first..last].iter_mut().zip(row.get(from..).unwrap_or_default().iter().step_by(channels))
                {
                    *value = table[usize::from(byte)];
                }
                if window.flip {
                    line.reverse();
                }
            }
        }
        out.iter_mut().zip(&self.less).for_each(|(value, less)| *value -= less);
    }
}

#[cfg(test)]
#[path = "prepare_tests.rs"]
mod tests;
