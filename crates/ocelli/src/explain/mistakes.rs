//! The worst mistakes of an evaluation as a contact sheet.

use super::look::rgb;
use super::tiles::{self, Tile};
use crate::data::Picture;
use crate::plot::Canvas;

/// A picture that was taken for something else.
pub struct Mistake {
    /// As the network saw it.
    pub picture: Picture,
    /// What it is.
    pub truth: String,
    /// What it was taken for.
    pub answer: String,
    /// The probability of that answer.
    pub probability: f32,
}

/// The mistakes in rows of eight, each with `truth -> answer, probability` under it.
pub fn sheet(mistakes: &[Mistake]) -> Canvas {
    let cut = |name: &str| name.chars().take(10).collect::<String>();
    let tile = |mistake: &Mistake| Tile {
        label: format!("{} -> {} {:.0}%", cut(&mistake.truth), cut(&mistake.answer), 100.0 * mistake.probability),
        picture: rgb(&mistake.picture),
    };
    let tiles: Vec<Tile> = mistakes.iter().map(tile).collect();
    tiles::sheet("The worst mistakes: true class -> answer, its probability", &tiles, 8)
}
