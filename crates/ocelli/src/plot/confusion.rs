//! A confusion matrix as a picture.

use super::{BLUE, Canvas, Color, GRID, INK, PAPER, Text, text_width};
use crate::metrics::Confusion;

/// Longest class name that is written out, in characters.
const NAME: usize = 18;
/// Classes up to this many get a number in each cell.
const NUMBERED: usize = 30;

/// Draws a confusion matrix: a row a true class, a column a prediction, coloured by the share of the row. From 31 classes
/// on the cells are small and without numbers, from 61 on without names.
pub fn confusion(confusion: &Confusion, classes: &[String]) -> Canvas {
    let n = confusion.classes();
    let names: Vec<String> = (0..n).map(|class| name(classes, class)).collect();
    let largest = (0..n).flat_map(|row| (0..n).map(move |column| confusion.count(row, column))).max().unwrap_or(0);
    let cell = match n {
        0..=NUMBERED => text_width(&largest.to_string(), Text::Small).max(22) + 10,
        31..=60 => Text::Small.height() + 2,
        _ => (960 / n as i64).max(1),
    };
    let longest = names.iter().map(|name| text_width(name, Text::Small)).max().unwrap_or(0);
    let space = if n <= 60 { longest + 12 } else { 8 };
    let (left, top) = (30 + space, 40 + space);
    let side = n as i64 * cell;
    let wide = (left + side + 20).max(left + text_width("predicted", Text::Large));
    let mut canvas = Canvas::new(wide as u32, (top + side.max(text_width("true", Text::Large)) + 20) as u32, PAPER);
    canvas.text(left, 8, "predicted", Text::Large, INK);
    canvas.text_up(4, top + text_width("true", Text::Large), "true", Text::Large, INK);
    for (row, name) in names.iter().enumerate() {
        let truths = confusion.truths(row).max(1);
        let (x, y) = (left, top + row as i64 * cell);
        if n <= 60 {
            let middle = (cell - Text::Small.height()) / 2;
            canvas.text(x - 6 - text_width(name, Text::Small), y + middle, name, Text::Small, INK);
            canvas.text_up(x + row as i64 * cell + middle, top - 6, name, Text::Small, INK);
        }
        for column in 0..n {
            let count = confusion.count(row, column);
            // The square root lifts rare mistakes out of the white.
            let share = (count as f64 / truths as f64).sqrt();
            let x = x + column as i64 * cell;
            canvas.fill(x, y, cell, cell, blend(PAPER, BLUE, share));
            if n <= NUMBERED && count > 0 {
                let label = count.to_string();
                let ink = if share > 0.6 { PAPER } else { INK };
                let (dx, dy) = ((cell - text_width(&label, Text::Small)) / 2, (cell - Text::Small.height()) / 2);
                canvas.text(x + dx, y + dy, &label, Text::Small, ink);
            }
        }
    }
    if n <= 60 {
        for line in 1..n as i64 {
            canvas.fill(left + line * cell, top, 1, side, GRID);
            canvas.fill(left, top + line * cell, side, 1, GRID);
        }
    }
    canvas.frame(left - 1, top - 1, side + 2, side + 2, INK);
    canvas
}

/// A class's name, shortened; its number if it has none.
fn name(classes: &[String], class: usize) -> String {
    let name = classes.get(class).cloned().unwrap_or(class.to_string());
    match name.chars().count() {
        0..=NAME => name,
        _ => name.chars().take(NAME - 1).chain(['~']).collect(),
    }
}

fn blend(from: Color, to: Color, share: f64) -> Color {
    std::array::from_fn(|i| (f64::from(from[i]) * (1.0 - share) + f64::from(to[i]) * share).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(n: usize) -> Confusion {
        let mut confusion = Confusion::new(n);
        for class in 0..n {
            (0..50).for_each(|_| confusion.add(class, class));
            confusion.add(class, (class + 1) % n);
        }
        confusion
    }

    #[test]
    fn the_diagonal_is_dark_and_what_never_happens_is_white() {
        let canvas = confusion(&sample(80), &[]);
        let cell = 960 / 80;
        let at = |row: u32, column: u32| canvas.image().get_pixel(38 + column * cell + 5, 48 + row * cell + 5).0;
        assert_eq!((at(3, 3), at(3, 7)), (blend(PAPER, BLUE, (50.0f64 / 51.0).sqrt()), PAPER));
        assert!(at(3, 4)[0] < 255 && at(3, 4)[0] > at(3, 3)[0]);
    }

    #[test]
    fn any_number_of_classes_and_any_names_can_be_drawn() {
        for n in [0, 1, 2, 10, 30, 31, 60, 61, 1000] {
            let canvas = confusion(&if n == 0 { Confusion::new(0) } else { sample(n) }, &[]);
            assert!(canvas.width() < 1400, "{n} classes: {} pixels", canvas.width());
        }
        let long = vec!["a very long class name that goes on".to_string(), "鳥".to_string()];
        assert!(confusion(&sample(2), &long).width() < 400);
        assert_eq!(name(&long, 0), "a very long class~");
    }
}
