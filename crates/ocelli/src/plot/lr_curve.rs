//! The loss over the learning rate.

use super::curves::{Axis, BOTTOM, LEFT, PLOT, RIGHT, TOP, line};
use super::{BLUE, Canvas, GRID, INK, ORANGE, PAPER, Text, text_width};

/// A step: its rate, the loss before it, and the smoothed loss.
pub type RateAndLoss = [f64; 3];

/// Draws the loss of each step and the smoothed loss over the rate, whose axis has a tick a power of ten, and marks the rate
/// that is told.
pub fn lr_curve(steps: &[RateAndLoss], told: Option<f64>) -> Canvas {
    let mut canvas = Canvas::new((LEFT + PLOT.0 + RIGHT) as u32, (TOP + PLOT.1 + BOTTOM) as u32, PAPER);
    let values = || steps.iter().flat_map(|step| [step[1], step[2]]);
    // What diverges at the end would press all else against the ground.
    let start = steps.first().map_or(1.0, |step| step[2]);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max).min(1.5 * start));
    let vertical = if low < high { Axis::new(low, high, PLOT.1) } else { Axis::new(0.0, 1.0, PLOT.1) };
    let ends = [steps.first(), steps.last()].map(|step| step.map_or(0.0, |step| step[0].log10()));
    let (low, high) = (ends[0].floor(), (ends[1] - 1e-9).ceil().max(ends[0].floor() + 1.0));
    let horizontal = Axis { low, high, pixels: PLOT.0, step: 1.0 };
    let (x0, y0) = (LEFT, TOP + PLOT.1);
    for tick in vertical.ticks() {
        let y = y0 - vertical.place(tick).round() as i64;
        canvas.fill(x0, y, PLOT.0, 1, GRID);
        let label = vertical.label(tick);
        canvas.text(x0 - 6 - text_width(&label, Text::Small), y - Text::Small.height() / 2, &label, Text::Small, INK);
    }
    for tick in horizontal.ticks() {
        let x = x0 + horizontal.place(tick).round() as i64;
        canvas.fill(x, TOP, 1, PLOT.1, GRID);
        let label = format!("1e{tick:.0}");
        canvas.text(x - text_width(&label, Text::Small) / 2, y0 + 6, &label, Text::Small, INK);
    }
    canvas.frame(x0, TOP, PLOT.0 + 1, PLOT.1 + 1, INK);
    canvas.text(x0, 8, "loss", Text::Large, INK);
    let caption = "learning rate";
    canvas.text(x0 + (PLOT.0 - text_width(caption, Text::Small)) / 2, y0 + 30, caption, Text::Small, INK);
    let top = vertical.high;
    let point = |step: &RateAndLoss, value: f64| {
        (x0 as f64 + horizontal.place(step[0].log10()), y0 as f64 - vertical.place(value.min(top)))
    };
    let points = |value: fn(&RateAndLoss) -> f64| steps.iter().map(|step| point(step, value(step))).collect::<Vec<_>>();
    line(&mut canvas, &points(|step| step[1]), GRID);
    line(&mut canvas, &points(|step| step[2]), BLUE);
    if let Some(rate) = told {
        let x = x0 as f64 + horizontal.place(rate.log10());
        canvas.line((x, TOP as f64), (x, y0 as f64), 2.0, ORANGE);
        canvas.text(x as i64 + 6, TOP + 6, &format!("{rate:.2e}"), Text::Small, ORANGE);
    }
    canvas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_told_rate_is_marked_and_nothing_is_too_little() {
        let step = |i: usize| [1e-5 * 1.5f64.powi(i as i32), 2.3 - 0.02 * i as f64, 2.3 - 0.01 * i as f64];
        let steps: Vec<RateAndLoss> = (0..30).map(step).collect();
        let orange = |canvas: &Canvas| canvas.image().pixels().filter(|pixel| pixel.0 == ORANGE).count();
        assert!(orange(&lr_curve(&steps, Some(1e-3))) > 300 && orange(&lr_curve(&steps, None)) == 0);
        lr_curve(&[], None);
        lr_curve(&steps[..1], Some(1e-5));
    }
}
