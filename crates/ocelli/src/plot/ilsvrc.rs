//! The best top-5 errors of the ImageNet Large Scale Visual Recognition Challenge, year by year.

use super::{BLUE, Canvas, GRID, INK, ORANGE, PAPER, Text, text_width};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A result of the challenge's classification task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IlsvrcResult {
    /// When; none for the person.
    pub year: Option<u16>,
    /// The network, or the team.
    pub who: String,
    /// Pictures in a hundred whose class is not among five guesses.
    pub top5_error: f64,
    /// Whether more pictures were learnt from than the challenge's own.
    pub extra_data: Option<String>,
}

impl IlsvrcResult {
    /// Whether more pictures were learnt from than the challenge's own.
    pub fn has_extra_data(&self) -> bool {
        self.extra_data.as_deref() == Some("yes")
    }
}

/// The results as a table, `ilsvrc-results.csv`.
pub const ILSVRC_CSV: &str = include_str!("../../data/ilsvrc-results.csv");

/// The winners from 2010 to 2017, with extra data and without, and a person.
///
/// # Errors
/// None: the table is part of the library and tested.
pub fn ilsvrc_results() -> Result<Vec<IlsvrcResult>> {
    let mut reader = csv::Reader::from_reader(ILSVRC_CSV.as_bytes());
    reader.deserialize().map(|row| row.map_err(|error| Error::new(format!("ilsvrc-results.csv: {error}")))).collect()
}

/// Pixels of a year, of a bar, of a point of error, and around the plot.
const YEAR: i64 = 132;
const BAR: i64 = 48;
const POINT: i64 = 14;
const LEFT: i64 = 64;
const TOP: i64 = 64;
const RIGHT: i64 = 24;
const BOTTOM: i64 = 76;
const HIGHEST: i64 = 30;

/// Draws the results as bars, a person's error as a line.
pub fn ilsvrc(results: &[IlsvrcResult]) -> Canvas {
    let mut years: Vec<u16> = results.iter().filter_map(|result| result.year).collect();
    years.dedup();
    let (width, height) = (YEAR * years.len() as i64, POINT * HIGHEST);
    let mut canvas = Canvas::new((LEFT + width + RIGHT) as u32, (TOP + height + BOTTOM) as u32, PAPER);
    let base = TOP + height;
    let y_of = |error: f64| base - (error * POINT as f64).round() as i64;
    canvas.text(LEFT, 8, "ILSVRC: top-5 error in %", Text::Large, INK);
    for error in (0..=HIGHEST).step_by(5) {
        let (y, label) = (y_of(error as f64), error.to_string());
        canvas.fill(LEFT, y, width, 1, GRID);
        canvas.text(LEFT - 8 - text_width(&label, Text::Small), y - Text::Small.height() / 2, &label, Text::Small, INK);
    }
    let mut legend = LEFT + width;
    for (name, color) in [("with extra data", ORANGE), ("the challenge's data alone", BLUE)] {
        legend -= text_width(name, Text::Small);
        canvas.text(legend, 14, name, Text::Small, INK);
        legend -= 20;
        canvas.fill(legend, 16, 14, 12, color);
        legend -= 20;
    }
    for (place, &year) in years.iter().enumerate() {
        let centre = LEFT + place as i64 * YEAR + YEAR / 2;
        let of_year: Vec<&IlsvrcResult> = results.iter().filter(|result| result.year == Some(year)).collect();
        let mut x = centre - BAR * of_year.len() as i64 / 2;
        for result in &of_year {
            let (y, label) = (y_of(result.top5_error), result.top5_error.to_string());
            let color = if result.has_extra_data() { ORANGE } else { BLUE };
            canvas.fill(x + 2, y, BAR - 4, base - y, color);
            let middle = x + BAR / 2 - text_width(&label, Text::Small) / 2;
            canvas.text(middle, y - Text::Small.height() - 2, &label, Text::Small, INK);
            x += BAR;
        }
        let names = of_year.first().map_or("", |result| &result.who).split(' ');
        for (line, text) in std::iter::once(year.to_string().as_str()).chain(names).enumerate() {
            let y = base + 8 + line as i64 * (Text::Small.height() + 2);
            canvas.text(centre - text_width(text, Text::Small) / 2, y, text, Text::Small, INK);
        }
    }
    canvas.fill(LEFT, base, width, 1, INK);
    for person in results.iter().filter(|result| result.year.is_none()) {
        let (y, label) = (y_of(person.top5_error), format!("{}: {}", person.who, person.top5_error));
        for x in (LEFT..LEFT + width).step_by(10) {
            canvas.fill(x, y, 6, 2, INK);
        }
        canvas.text(
            LEFT + width - text_width(&label, Text::Small),
            y - Text::Small.height() - 4,
            &label,
            Text::Small,
            INK,
        );
    }
    canvas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_has_the_challenges_figures_with_extra_data_told_apart() {
        let results = ilsvrc_results().unwrap();
        let own = |extra: bool| -> Vec<f64> {
            let of_years = results.iter().filter(|result| result.year.is_some() && result.has_extra_data() == extra);
            of_years.map(|result| result.top5_error).collect()
        };
        assert_eq!(own(false), [28.2, 25.8, 16.4, 11.7, 6.7, 3.57, 2.99, 2.25]);
        assert_eq!(own(true), [15.3, 11.2]);
        let person = results.iter().find(|result| result.year.is_none()).unwrap();
        assert_eq!(person.top5_error, 5.1);
    }

    #[test]
    fn a_bar_is_as_high_as_its_error() {
        let canvas = ilsvrc(&ilsvrc_results().unwrap());
        let column = |x: i64, color| {
            canvas.image().enumerate_pixels().filter(|(at, _, p)| i64::from(*at) == x && p.0 == color).count()
        };
        let first = column(LEFT + YEAR / 2, BLUE) as i64;
        assert_eq!(first, (28.2 * POINT as f64).round() as i64, "2010, in a gap of the person's dashes");
        let with_extra = LEFT + 2 * YEAR + YEAR / 2 + BAR / 2;
        assert!(column(with_extra, ORANGE) > 15 * POINT as usize, "2012, the second bar");
    }
}
