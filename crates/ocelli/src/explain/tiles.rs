//! Values as small pictures, and sheets of them.

use crate::plot::{Canvas, Color, Text, text_width};
use image::{Rgb, RgbImage};

const WHITE: Color = [255; 3];
const INK: Color = [40; 3];
/// Around each tile, so that white ones can be seen.
const FRAME: Color = [200; 3];
const GAP: i64 = 6;
/// Cells of a sheet are drawn at least this large, so that a 5×5 filter can be seen.
const CELL: u32 = 64;

/// A picture of a sheet with the words under it.
pub struct Tile {
    /// What it is.
    pub label: String,
    /// One pixel a value.
    pub picture: RgbImage,
}

/// Values in black to white: `low` is black, `high` white.
pub fn grey(values: &[f32], size: [usize; 2], low: f32, high: f32) -> RgbImage {
    picture(size, |i| [level(values[i], low, high); 3])
}

/// Three planes as red, green and blue between `low` and `high`.
pub fn colour(values: &[f32], size: [usize; 2], low: f32, high: f32) -> RgbImage {
    let area = size[0] * size[1];
    picture(size, |i| std::array::from_fn(|channel| level(values[channel * area + i], low, high)))
}

/// Signed values: blue below 0, white at 0, red above, full at ±`most`.
pub fn signed(values: &[f32], size: [usize; 2], most: f32) -> RgbImage {
    picture(size, |i| {
        let fade = 255 - level(values[i].abs(), 0.0, most);
        if values[i] < 0.0 { [fade, fade, 255] } else { [255, fade, fade] }
    })
}

/// The largest absolute value, at least a tiny one, so that nothing is divided by 0.
pub fn largest(values: &[f32]) -> f32 {
    values.iter().filter(|value| value.is_finite()).fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()))
}

/// Tiles in rows of `columns`, all scaled alike, with a title above.
pub fn sheet(title: &str, tiles: &[Tile], columns: usize) -> Canvas {
    let columns = columns.clamp(1, tiles.len().max(1)) as i64;
    let side = tiles.iter().map(|tile| tile.picture.width().max(tile.picture.height())).max().unwrap_or(1).max(1);
    let scale = (CELL / side).max(1);
    let most = |of: fn(&RgbImage) -> u32| tiles.iter().map(|tile| of(&tile.picture)).max().unwrap_or(0);
    let labels = tiles.iter().map(|tile| text_width(&tile.label, Text::Small)).max().unwrap_or(0);
    let line = if labels > 0 { Text::Small.height() } else { 0 };
    let width = i64::from(most(RgbImage::width) * scale).max(labels) + GAP;
    let height = i64::from(most(RgbImage::height) * scale) + line + GAP;
    let rows = (tiles.len() as i64 + columns - 1) / columns;
    let top = Text::Small.height() + 2 * GAP;
    let whole = (columns * width + GAP).max(text_width(title, Text::Small) + 2 * GAP);
    let mut canvas = Canvas::new(whole as u32, (top + rows * height) as u32, WHITE);
    canvas.text(GAP, GAP, title, Text::Small, INK);
    for (i, tile) in tiles.iter().enumerate() {
        let (x, y) = (GAP + i as i64 % columns * width, top + i as i64 / columns * height);
        canvas.blit(x, y, &tile.picture, scale);
        let (across, down) = (tile.picture.width() * scale, tile.picture.height() * scale);
        canvas.frame(x, y, across.into(), down.into(), FRAME);
        let below = y + i64::from(tile.picture.height() * scale);
        canvas.text(x, below, &tile.label, Text::Small, INK);
    }
    canvas
}

fn picture([height, width]: [usize; 2], pixel: impl Fn(usize) -> Color) -> RgbImage {
    RgbImage::from_fn(width as u32, height as u32, |x, y| Rgb(pixel(y as usize * width + x as usize)))
}

fn level(value: f32, low: f32, high: f32) -> u8 {
    let range = (high - low).max(f32::MIN_POSITIVE);
    // NaN becomes 0.
    (((value - low) / range).clamp(0.0, 1.0) * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_colours() {
        assert_eq!(
            grey(&[0.0, 0.5, 1.0, f32::NAN], [2, 2], 0.0, 1.0).into_raw()[..9],
            [0, 0, 0, 128, 128, 128, 255, 255, 255]
        );
        assert_eq!(signed(&[-2.0, 0.0, 2.0], [1, 3], 2.0).into_raw(), [0, 0, 255, 255, 255, 255, 255, 0, 0]);
        assert_eq!(colour(&[1.0, 0.0, 0.5], [1, 1], 0.0, 1.0).into_raw(), [255, 0, 128]);
    }

    #[test]
    fn a_sheet_holds_every_tile_and_its_label() {
        let tile = |label: &str| Tile { label: label.into(), picture: grey(&[0.0; 4], [2, 2], 0.0, 1.0) };
        let canvas = sheet("title", &[tile("0"), tile("1"), tile("2")], 2);
        let black = canvas.image().pixels().filter(|pixel| pixel.0 == [0; 3]).count();
        assert_eq!(black, 3 * 64 * 64 - 3 * 4 * 63);
    }
}
