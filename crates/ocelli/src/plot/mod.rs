//! Pictures with lines, boxes and text: the canvas, learning curves, confusion matrices.

mod canvas;

pub use canvas::{Canvas, Color, Text, text_width};
