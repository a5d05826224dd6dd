//! An RGB picture to draw on.

use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use crate::formats::write_atomically;
use crate::{Error, Result};

/// Red, green, blue.
pub type Color = [u8; 3];

/// A text to draw: where, how tall, in which colour.
#[derive(Clone, Copy, Debug)]
pub enum Text {
    /// 16 pixels a line.
    Small,
    /// 24 pixels a line.
    Large,
}

impl Text {
    fn raster(self) -> RasterHeight {
        match self {
            Text::Small => RasterHeight::Size16,
            Text::Large => RasterHeight::Size24,
        }
    }
    /// The height of a line in pixels.
    pub fn height(self) -> i64 {
        self.raster().val() as i64
    }
}

/// The width in pixels of a line of text. All characters are equally wide.
pub fn text_width(text: &str, size: Text) -> i64 {
    (text.chars().count() * get_raster_width(FontWeight::Regular, size.raster())) as i64
}

/// An RGB picture; coordinates are pixels from the top left corner, and what falls outside is left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Canvas {
    image: RgbImage,
}

impl Canvas {
    /// A picture of one colour.
    pub fn new(width: u32, height: u32, background: Color) -> Canvas {
        Canvas { image: RgbImage::from_pixel(width, height, Rgb(background)) }
    }
    /// The width in pixels.
    pub fn width(&self) -> i64 {
        i64::from(self.image.width())
    }
    /// The height in pixels.
    pub fn height(&self) -> i64 {
        i64::from(self.image.height())
    }
    /// The picture itself.
    pub fn image(&self) -> &RgbImage {
        &self.image
    }

    /// Mixes `color` into a pixel, `share` of it from 0 to 1.
    pub fn mix(&mut self, x: i64, y: i64, color: Color, share: f32) {
        if (0..self.width()).contains(&x) && (0..self.height()).contains(&y) {
            let pixel = &mut self.image.get_pixel_mut(x as u32, y as u32).0;
            for (old, new) in pixel.iter_mut().zip(color) {
                *old = (f32::from(*old) * (1.0 - share) + f32::from(new) * share).round() as u8;
            }
        }
    }

    /// A filled rectangle.
    pub fn fill(&mut self, x: i64, y: i64, width: i64, height: i64, color: Color) {
        for row in y.max(0)..(y + height).min(self.height()) {
            for column in x.max(0)..(x + width).min(self.width()) {
                self.image.put_pixel(column as u32, row as u32, Rgb(color));
            }
        }
    }

    /// The outline of a rectangle, one pixel wide, inside its bounds.
    pub fn frame(&mut self, x: i64, y: i64, width: i64, height: i64, color: Color) {
        self.fill(x, y, width, 1, color);
        self.fill(x, y + height - 1, width, 1, color);
        self.fill(x, y, 1, height, color);
        self.fill(x + width - 1, y, 1, height, color);
    }

    /// A line about `thickness` pixels wide, with smooth edges.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), thickness: f64, color: Color) {
        let reach = thickness / 2.0 + 1.0;
        let bounds = |a: f64, b: f64, end: i64| {
            let low = (a.min(b) - reach).floor().max(0.0) as i64;
            let high = (a.max(b) + reach).ceil().min(end as f64) as i64;
            low..high
        };
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = (dx * dx + dy * dy).max(f64::MIN_POSITIVE);
        for y in bounds(from.1, to.1, self.height()) {
            for x in bounds(from.0, to.0, self.width()) {
                // The distance of the pixel's centre from the nearest point of the line.
                let (px, py) = (x as f64 + 0.5 - from.0, y as f64 + 0.5 - from.1);
                let along = ((px * dx + py * dy) / length).clamp(0.0, 1.0);
                let (ex, ey) = (px - along * dx, py - along * dy);
                let share = thickness / 2.0 + 0.5 - (ex * ex + ey * ey).sqrt();
                if share > 0.0 {
                    self.mix(x, y, color, share.min(1.0) as f32);
                }
            }
        }
    }

    /// A line of text with its top left corner at (x, y). Characters that the font lacks become '?'.
    pub fn text(&mut self, x: i64, y: i64, text: &str, size: Text, color: Color) {
        self.glyphs(text, size, |canvas, along, down, share| canvas.mix(x + along, y + down, color, share));
    }

    /// A line of text that runs upwards, with its bottom left corner at (x, y).
    pub fn text_up(&mut self, x: i64, y: i64, text: &str, size: Text, color: Color) {
        self.glyphs(text, size, |canvas, along, down, share| canvas.mix(x + down, y - along, color, share));
    }

    /// Calls `pixel` with each inked pixel of a text: how far along the line, how far below its top, how dark (0 to 1).
    fn glyphs(&mut self, text: &str, size: Text, mut pixel: impl FnMut(&mut Canvas, i64, i64, f32)) {
        let raster = |c| get_raster(c, FontWeight::Regular, size.raster());
        let mut start = 0;
        for c in text.chars() {
            let Some(glyph) = raster(c).or_else(|| raster('?')) else { continue };
            for (down, row) in glyph.rows().enumerate() {
                for (along, share) in row.iter().enumerate().filter(|(_, share)| **share > 0) {
                    pixel(self, start + along as i64, down as i64, f32::from(*share) / 255.0);
                }
            }
            start += glyph.width() as i64;
        }
    }

    /// Copies another picture here, each of its pixels as a square of `scale` pixels.
    pub fn blit(&mut self, x: i64, y: i64, picture: &RgbImage, scale: u32) {
        let size = i64::from(scale.max(1));
        for (column, row, pixel) in picture.enumerate_pixels() {
            self.fill(x + i64::from(column) * size, y + i64::from(row) * size, size, size, pixel.0);
        }
    }

    /// Writes a PNG file, atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut png = std::io::Cursor::new(Vec::new());
        self.image
            .write_to(&mut png, ImageFormat::Png)
            .map_err(|error| Error::new(format!("{}: {error}", path.display())))?;
        write_atomically(path, |file| file.write_all(png.get_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHITE: Color = [255; 3];
    const BLACK: Color = [0; 3];

    fn ink(canvas: &Canvas) -> Vec<(u32, u32)> {
        canvas.image().enumerate_pixels().filter(|(_, _, p)| p.0 != WHITE).map(|(x, y, _)| (x, y)).collect()
    }

    #[test]
    fn rectangles_are_cut_at_the_border() {
        let mut canvas = Canvas::new(4, 3, WHITE);
        canvas.fill(-5, 1, 7, 1, BLACK);
        assert_eq!(ink(&canvas), [(0, 1), (1, 1)]);
        let mut canvas = Canvas::new(4, 4, WHITE);
        canvas.frame(0, 0, 4, 4, BLACK);
        assert_eq!(ink(&canvas).len(), 12);
    }

    #[test]
    fn a_line_covers_its_pixels_and_survives_any_coordinates() {
        let mut canvas = Canvas::new(5, 5, WHITE);
        canvas.line((0.0, 2.5), (5.0, 2.5), 1.0, BLACK);
        assert_eq!(ink(&canvas), [(0, 2), (1, 2), (2, 2), (3, 2), (4, 2)]);
        canvas.line((-1e9, -1e9), (1e9, 1e9), 3.0, BLACK);
        canvas.line((f64::NAN, 0.0), (1.0, f64::INFINITY), 1.0, BLACK);
    }

    #[test]
    fn text_has_the_width_it_says_and_unknown_characters_are_visible() {
        let mut canvas = Canvas::new(100, 20, WHITE);
        canvas.text(2, 1, "Éa", Text::Small, BLACK);
        let right = ink(&canvas).into_iter().map(|(x, _)| x).max().unwrap();
        assert!(right > 10 && i64::from(right) < 2 + text_width("Éa", Text::Small));
        let mut unknown = Canvas::new(20, 20, WHITE);
        unknown.text(0, 0, "\u{1F600}", Text::Small, BLACK);
        let mut question = Canvas::new(20, 20, WHITE);
        question.text(0, 0, "?", Text::Small, BLACK);
        assert_eq!(unknown, question);
    }

    #[test]
    fn upward_text_is_the_turned_text() {
        let mut across = Canvas::new(20, 20, WHITE);
        across.text(0, 0, "R", Text::Small, BLACK);
        let mut upward = Canvas::new(20, 20, WHITE);
        upward.text_up(0, 19, "R", Text::Small, BLACK);
        assert_eq!(image::imageops::rotate270(across.image()), *upward.image());
    }

    #[test]
    fn a_saved_picture_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.png");
        let mut canvas = Canvas::new(6, 4, [1, 2, 3]);
        let mut dots = RgbImage::new(2, 1);
        dots.put_pixel(1, 0, Rgb([9, 9, 9]));
        canvas.blit(1, 1, &dots, 2);
        canvas.save(&path).unwrap();
        let read = image::open(&path).unwrap().to_rgb8();
        assert_eq!(read, *canvas.image());
        assert_eq!((read.get_pixel(3, 2).0, read.get_pixel(5, 2).0), ([9, 9, 9], [1, 2, 3]));
    }
}
