//! The part of the picture that a unit sees, drawn on the picture.

use super::tiles::Tile;
use crate::error::{Error, Result};
use crate::net::Resolved;
use crate::plot::{Canvas, Color, Text, text_width};
use crate::shape::ReceptiveField;

/// The rectangle of the picture that the unit at `[row, column]` of a layer sees: top, left, height, width. It may reach
/// beyond the picture, into the padding.
pub fn rectangle(field: &ReceptiveField, unit: [usize; 2]) -> ([isize; 2], [usize; 2]) {
    (std::array::from_fn(|i| field.start[i] + (unit[i] * field.jump[i]) as isize), field.size)
}

/// Layers whose units have a place in the picture.
pub fn layers(net: &Resolved) -> Vec<&str> {
    let fields = net.receptive_fields();
    let placed = net.layers.iter().zip(&fields).filter(|(_, field)| field.is_some());
    placed.filter(|(layer, _)| layer.shape.size().is_some()).map(|(layer, _)| layer.name.as_str()).collect()
}

/// The receptive field of one unit of `layer` (`unit` is its row and column; the middle one if `None`), drawn on the
/// picture, and the sentence that says its size and place.
///
/// # Errors
/// The layer does not exist, sees the whole picture, or has no such unit.
pub fn draw(net: &Resolved, layer: &str, unit: Option<[usize; 2]>, picture: Tile) -> Result<(Canvas, String)> {
    let all = net.receptive_fields();
    let place = net.layers.iter().position(|candidate| candidate.name == layer);
    let found = place.and_then(|i| Some((all[i]?, net.layers[i].shape.size()?)));
    let Some((field, size)) = found else {
        return Err(super::no_layer(net, layer, &layers(net), "units with a place in the picture"));
    };
    let unit = unit.unwrap_or([size[0] / 2, size[1] / 2]);
    if unit[0] >= size[0] || unit[1] >= size[1] {
        let what =
            format!("{layer} has {}x{} units; there is no row {}, column {}", size[0], size[1], unit[0], unit[1]);
        return Err(Error::usage(what).advice("Rows and columns are counted from 0."));
    }
    let ([top, left], [height, width]) = rectangle(&field, unit);
    let [_, rows, columns] = net.input;
    let (bottom, right) = (top + height as isize, left + width as isize);
    let inside = top >= 0 && left >= 0 && bottom <= rows as isize && right <= columns as isize;
    let beyond = if inside { String::new() } else { format!(", of the picture's {rows}x{columns} and its padding") };
    let sentence = format!(
        "{layer}, unit at row {}, column {} of {}x{}: sees {height}x{width} pixels, rows {top} to {}, columns {left} to {}{beyond}; \
         neighbours see {},{} pixels further",
        unit[0],
        unit[1],
        size[0],
        size[1],
        bottom - 1,
        right - 1,
        field.jump[0],
        field.jump[1],
    );
    Ok((canvas(&picture, &sentence, [top, left], [height, width]), sentence))
}

/// The picture, enlarged, with the rectangle over it and the sentence above; a margin shows the part in the padding.
fn canvas(picture: &Tile, sentence: &str, [top, left]: [isize; 2], [height, width]: [usize; 2]) -> Canvas {
    const MARK: Color = [230, 30, 30];
    const OUTSIDE: Color = [200; 3];
    let (rows, columns) = (picture.picture.height() as i64, picture.picture.width() as i64);
    let [top, left, height, width] = [top as i64, left as i64, height as i64, width as i64];
    let scale = (360 / rows.max(columns)).clamp(1, 16);
    // Fields larger than the picture are cut at one picture's size around it.
    let before = |start: i64, size: i64| (-start).clamp(0, size) + 1;
    let after = |end: i64, size: i64| (end - size).clamp(0, size) + 1;
    let (above, beside) = (before(top, rows), before(left, columns));
    let all_rows = above + rows + after(top + height, rows);
    let all_columns = beside + columns + after(left + width, columns);
    let lines: Vec<&str> = sentence.split(": ").collect();
    let text = lines.iter().map(|line| text_width(line, Text::Small)).max().unwrap_or(0) + 16;
    let header = 8 + lines.len() as i64 * Text::Small.height();
    let mut canvas = Canvas::new((all_columns * scale).max(text) as u32, (header + all_rows * scale) as u32, [255; 3]);
    for (i, line) in lines.iter().enumerate() {
        canvas.text(8, 4 + i as i64 * Text::Small.height(), line, Text::Small, [40; 3]);
    }
    canvas.fill(0, header, all_columns * scale, all_rows * scale, OUTSIDE);
    canvas.blit(beside * scale, header + above * scale, &picture.picture, scale as u32);
    let (x, y) = ((beside + left) * scale, header + (above + top) * scale);
    for inset in 0..2 {
        canvas.frame(x + inset, y + inset, width * scale - 2 * inset, height * scale - 2 * inset, MARK);
    }
    canvas
}
