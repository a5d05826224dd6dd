//! Pictures with lines, boxes and text: the canvas, learning curves, confusion matrices, the ILSVRC chart.

mod canvas;
mod confusion;
mod curves;
mod ilsvrc;
mod lr_curve;

pub use canvas::{Canvas, Color, Text, text_width};
pub use confusion::confusion;
pub use curves::{History, curves, read_history};
pub use ilsvrc::{ILSVRC_CSV, IlsvrcResult, ilsvrc, ilsvrc_results};
pub use lr_curve::{RateAndLoss, lr_curve};

/// The background of pictures with text.
pub const PAPER: Color = [255, 255, 255];
/// Text and axes.
pub const INK: Color = [40, 40, 40];
/// Grid lines.
const GRID: Color = [225, 225, 225];
/// Training values.
const BLUE: Color = [31, 104, 180];
/// Validation values.
const ORANGE: Color = [217, 95, 2];
