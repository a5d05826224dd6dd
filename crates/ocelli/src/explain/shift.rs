//! How much each layer's output changes when the picture moves by a few pixels.
//!
//! Pooling is said to hardly mind a small shift. Measured, it is true on average and false in places: both are reported.

use crate::error::{Error, Result};
use crate::net::{Resolved, Source};
use crate::plot::{Canvas, Color, Text};
use crate::tensor::Tensors;

/// Directions in which the picture moves, as rows and columns.
const DIRECTIONS: [(&str, [isize; 2]); 4] = [("right", [0, 1]), ("left", [0, -1]), ("down", [1, 0]), ("up", [-1, 0])];
/// Shifts go from 1 to this many pixels.
pub const MOST: usize = 8;

/// What was measured.
#[derive(Clone, Debug)]
pub struct Shifts {
    /// Per layer, the picture itself (`input`) first.
    pub layers: Vec<LayerChange>,
    /// Pooling layers that a shift changed more than their own input.
    pub counter_examples: Vec<CounterExample>,
    /// How many times a pooling layer was compared with its own input.
    pub pooled: usize,
    /// Per shift and direction, the softmax probability of the class that is followed.
    pub answers: Vec<Answer>,
}

/// One layer's relative change ‖shifted − still‖ / ‖still‖ (Euclidean norms).
#[derive(Clone, Debug)]
pub struct LayerChange {
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_name: String,
    /// For shifts of 1 to 8 pixels, the mean over the four directions.
    pub change: [f64; MOST],
}

/// A place where pooling minded the shift more than what it pooled.
#[derive(Clone, Debug)]
pub struct CounterExample {
    /// The pooling layer.
    pub layer: String,
    /// `right`, `left`, `down` or `up`.
    pub direction: &'static str,
    /// Pixels.
    pub shift: usize,
    /// Relative change of what it pools.
    pub before: f64,
    /// Relative change of its output.
    pub after: f64,
}

/// The net's answer to a shifted picture.
#[derive(Clone, Debug)]
pub struct Answer {
    /// `right`, `left`, `down` or `up`.
    pub direction: &'static str,
    /// Pixels.
    pub shift: usize,
    /// The class with the highest output.
    pub class: usize,
    /// The softmax probability of the class that is followed.
    pub probability: f64,
}

/// Measures every layer. `image` is `[channels, height, width]`, prepared; `activations` runs the net on such a picture and
/// keeps every layer's output; `class` is the class whose probability is followed. Pixels that move in repeat the edge.
///
/// # Errors
/// Those of `activations`; a picture of no more than 8 rows or columns.
pub fn measure(
    net: &Resolved,
    image: &[f32],
    class: usize,
    activations: &mut dyn FnMut(&[f32]) -> Result<Tensors>,
) -> Result<Shifts> {
    let [_, height, width] = net.input;
    if height <= MOST || width <= MOST {
        return Err(Error::new(format!("pictures of {height}x{width} pixels cannot be shifted by {MOST}")));
    }
    let still = activations(image)?;
    let output = &net.layers[net.main_output().layer].name;
    let mut shifts = Shifts { layers: rows(net), counter_examples: Vec::new(), pooled: 0, answers: Vec::new() };
    for shift in 1..=MOST {
        for (direction, step) in DIRECTIONS {
            let moved = shifted(image, net.input, step.map(|step| step * shift as isize));
            let after = activations(&moved)?;
            let mut changes = vec![relative_change(image, &moved)];
            for layer in &net.layers {
                changes.push(match (still.get(&layer.name), after.get(&layer.name)) {
                    (Some(still), Some(after)) => relative_change(&still.data, &after.data),
                    _ => return Err(Error::new(format!("{}: the engine did not keep its output", layer.name))),
                });
            }
            for (row, change) in shifts.layers.iter_mut().zip(&changes) {
                row.change[shift - 1] += change / DIRECTIONS.len() as f64;
            }
            for (i, layer) in net.layers.iter().enumerate().filter(|(_, layer)| is_pooling(layer.kind.type_name())) {
                let before = match layer.inputs[0] {
                    Source::Input => changes[0],
                    Source::Layer(source) => changes[source + 1],
                };
                shifts.pooled += 1;
                if changes[i + 1] > before {
                    let layer = layer.name.clone();
                    shifts.counter_examples.push(CounterExample {
                        layer,
                        direction,
                        shift,
                        before,
                        after: changes[i + 1],
                    });
                }
            }
            if let Some(logits) = after.get(output) {
                let (class, probability) =
                    (crate::metrics::top(&logits.data, 1).first().copied().unwrap_or(0), softmax(&logits.data, class));
                shifts.answers.push(Answer { direction, shift, class, probability });
            }
        }
    }
    Ok(shifts)
}

impl Shifts {
    /// A row a layer with its changes, then a row for every counter-example and every answer.
    pub fn to_csv(&self) -> String {
        let pixels = (1..=MOST).map(|pixels| format!("shift_{pixels}")).collect::<Vec<_>>().join(",");
        let mut text = format!("layer,type,{pixels}\n");
        for LayerChange { name, type_name, change } in &self.layers {
            let change: Vec<String> = change.iter().map(f64::to_string).collect();
            text.push_str(&format!("{name},{type_name},{}\n", change.join(",")));
        }
        text.push_str("\npooling_layer,direction,shift,change_before,change_after\n");
        for CounterExample { layer, direction, shift, before, after } in &self.counter_examples {
            text.push_str(&format!("{layer},{direction},{shift},{before},{after}\n"));
        }
        text.push_str("\ndirection,shift,class,probability\n");
        for Answer { direction, shift, class, probability } in &self.answers {
            text.push_str(&format!("{direction},{shift},{class},{probability}\n"));
        }
        text
    }

    /// A line a layer over the shifts; pooling layers are thick.
    pub fn draw(&self) -> Canvas {
        const INK: Color = [60; 3];
        const WIDTH: i64 = 480;
        const LEFT: i64 = 60;
        const TOP: i64 = 40;
        let line = Text::Small.height();
        let height = (self.layers.len() as i64 * line).max(300);
        let mut canvas = Canvas::new((LEFT + WIDTH + 300) as u32, (TOP + height + 50) as u32, [255; 3]);
        canvas.text(
            8,
            8,
            "Relative change of each layer's output when the picture moves (pooling: thick lines)",
            Text::Small,
            INK,
        );
        let finite = self.layers.iter().flat_map(|layer| layer.change).filter(|change| change.is_finite());
        let most = finite.fold(0.1, f64::max);
        let x = |shift: usize| (LEFT + WIDTH * (shift as i64 - 1) / (MOST as i64 - 1)) as f64;
        let y = |change: f64| (TOP + height) as f64 - change.min(most) / most * height as f64;
        canvas.frame(LEFT, TOP, WIDTH + 1, height + 1, [200; 3]);
        for shift in 1..=MOST {
            canvas.text(x(shift) as i64 - 4, TOP + height + 6, &shift.to_string(), Text::Small, INK);
        }
        canvas.text(LEFT + WIDTH / 2 - 40, TOP + height + 26, "pixels moved", Text::Small, INK);
        canvas.text(8, TOP - 4, &format!("{most:.2}"), Text::Small, INK);
        canvas.text(8, TOP + height - line / 2, "0", Text::Small, INK);
        for (i, layer) in self.layers.iter().enumerate() {
            let (color, thickness) =
                (line_color(i, self.layers.len()), if is_pooling(&layer.type_name) { 3.5 } else { 1.5 });
            for shift in 1..MOST {
                let change = |shift: usize| layer.change[shift - 1];
                canvas.line((x(shift), y(change(shift))), (x(shift + 1), y(change(shift + 1))), thickness, color);
            }
            let at = TOP + i as i64 * line;
            canvas.fill(LEFT + WIDTH + 20, at + line / 2 - 2, 24, thickness as i64, color);
            let label = format!("{} ({})", layer.name, layer.type_name);
            canvas.text(LEFT + WIDTH + 52, at, &label, Text::Small, INK);
        }
        canvas
    }
}

fn rows(net: &Resolved) -> Vec<LayerChange> {
    let row = |name: &str, type_name: &str| LayerChange {
        name: name.into(),
        type_name: type_name.into(),
        change: [0.0; MOST],
    };
    let layers = net.layers.iter().map(|layer| row(&layer.name, layer.kind.type_name()));
    std::iter::once(row("input", "picture")).chain(layers).collect()
}

/// Colours around the circle from red over green to blue, every other one darker.
fn line_color(i: usize, n: usize) -> Color {
    let turn = 5.0 * i as f64 / n.max(1) as f64;
    let wave = |shift: f64| (1.5 - (turn - shift).abs().min(6.0 - (turn - shift).abs())).clamp(0.0, 1.0);
    let bright = if i.is_multiple_of(2) { 220.0 } else { 140.0 };
    [0.0, 2.0, 4.0].map(|shift| (bright * wave(shift)) as u8)
}

fn is_pooling(type_name: &str) -> bool {
    type_name.ends_with("_pool")
}

fn softmax(logits: &[f32], class: usize) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponential = |logit: &f32| f64::from(logit - most).exp();
    logits.get(class).map_or(0.0, exponential) / logits.iter().map(exponential).sum::<f64>()
}

/// ‖after − before‖ / ‖before‖; 0 where nothing changed, infinite where something came from nothing.
fn relative_change(before: &[f32], after: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let difference: f64 = before.iter().zip(after).map(|(a, b)| square(b - a)).sum();
    let norm: f64 = before.iter().map(|a| square(*a)).sum();
    if difference == 0.0 { 0.0 } else { (difference / norm).sqrt() }
}

/// The picture moved down and right by `[rows, columns]`; the edge is repeated where nothing moves in.
fn shifted(image: &[f32], [channels, height, width]: [usize; 3], [down, right]: [isize; 2]) -> Vec<f32> {
    let from = |at: usize, by: isize, size: usize| (at as isize - by).clamp(0, size as isize - 1) as usize;
    let mut moved = Vec::with_capacity(image.len());
    for channel in 0..channels {
        for y in 0..height {
            let row = &image[(channel * height + from(y, down, height)) * width..][..width];
            moved.extend((0..width).map(|x| row[from(x, right, width)]));
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shifted_picture_repeats_its_edge() {
        let image = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(shifted(&image, [1, 2, 3], [0, 1]), [1.0, 1.0, 2.0, 4.0, 4.0, 5.0]);
        assert_eq!(shifted(&image, [1, 2, 3], [-1, 0]), [4.0, 5.0, 6.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn changes_are_relative() {
        assert_eq!(relative_change(&[3.0, 4.0], &[3.0, 4.0]), 0.0);
        assert_eq!(relative_change(&[3.0, 4.0], &[0.0, 0.0]), 1.0);
        assert_eq!(relative_change(&[0.0], &[1.0]), f64::INFINITY);
    }
}
