//! Loss and accuracy over the epochs.

use std::path::Path;

use super::{BLUE, Canvas, Color, GRID, INK, ORANGE, PAPER, Text, text_width};
use crate::{Error, Result};

/// The columns of `metrics.csv` that are drawn, a value an epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Epoch numbers.
    pub epochs: Vec<f64>,
    /// Loss on the training split.
    pub train_loss: Vec<f64>,
    /// Loss on the validation split.
    pub val_loss: Vec<f64>,
    /// Fraction right on the training split; empty for regression.
    pub train_accuracy: Vec<f64>,
    /// Fraction right on the validation split; empty for regression.
    pub val_accuracy: Vec<f64>,
}

/// Reads the history of a run from its `metrics.csv`.
///
/// # Errors
/// The file cannot be read or is not of that form.
pub fn read_history(path: &Path) -> Result<History> {
    let broken = |error: &dyn std::fmt::Display| Error::new(format!("{}: {error}", path.display()));
    let mut reader = csv::Reader::from_path(path).map_err(|error| broken(&error))?;
    let headers = reader.headers().map_err(|error| broken(&error))?.clone();
    let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().map_err(|error| broken(&error))?;
    let column = |name: &str| -> Result<Vec<f64>> {
        let Some(at) = headers.iter().position(|header| header == name) else { return Ok(Vec::new()) };
        let number = |row: &csv::StringRecord| row[at].parse().map_err(|_| broken(&format!("{name} '{}'", &row[at])));
        rows.iter().map(number).collect()
    };
    Ok(History {
        epochs: column("epoch")?,
        train_loss: column("train_loss")?,
        val_loss: column("val_loss")?,
        train_accuracy: column("train_acc1")?,
        val_accuracy: column("val_acc1")?,
    })
}

/// The plot area of a panel and the space around it, in pixels.
pub(super) const PLOT: (i64, i64) = (480, 300);
pub(super) const LEFT: i64 = 70;
pub(super) const TOP: i64 = 44;
pub(super) const RIGHT: i64 = 24;
pub(super) const BOTTOM: i64 = 56;

/// Draws the curves: loss, and beside it accuracy where there is one.
pub fn curves(history: &History) -> Canvas {
    let panels = if history.val_accuracy.is_empty() { 1 } else { 2 };
    let width = LEFT + PLOT.0 + RIGHT;
    let mut canvas = Canvas::new((panels * width) as u32, (TOP + PLOT.1 + BOTTOM) as u32, PAPER);
    let percent = |values: &[f64]| values.iter().map(|value| 100.0 * value).collect::<Vec<_>>();
    panel(&mut canvas, 0, "loss", &history.epochs, [&history.train_loss, &history.val_loss]);
    if panels == 2 {
        let lines = [percent(&history.train_accuracy), percent(&history.val_accuracy)];
        panel(&mut canvas, width, "accuracy in %", &history.epochs, [&lines[0], &lines[1]]);
    }
    canvas
}

/// One diagram of two lines, training and validation, whose left edge is at `left`.
fn panel(canvas: &mut Canvas, left: i64, title: &str, epochs: &[f64], lines: [&[f64]; 2]) {
    let finite = || lines.into_iter().flatten().copied().filter(|value| value.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let vertical = if low <= high { Axis::new(low, high, PLOT.1) } else { Axis::new(0.0, 1.0, PLOT.1) };
    let last = epochs.last().copied().unwrap_or(1.0).max(2.0);
    let horizontal = Axis { low: 1.0, high: last, pixels: PLOT.0, step: nice((last - 1.0) / 8.0).max(1.0) };
    let (x0, y0) = (left + LEFT, TOP + PLOT.1);
    for tick in vertical.ticks() {
        let y = y0 - vertical.place(tick).round() as i64;
        canvas.fill(x0, y, PLOT.0, 1, GRID);
        let label = vertical.label(tick);
        canvas.text(x0 - 6 - text_width(&label, Text::Small), y - Text::Small.height() / 2, &label, Text::Small, INK);
    }
    for tick in horizontal.ticks() {
        let x = x0 + horizontal.place(tick).round() as i64;
        canvas.fill(x, TOP, 1, PLOT.1, GRID);
        let label = horizontal.label(tick);
        canvas.text(x - text_width(&label, Text::Small) / 2, y0 + 6, &label, Text::Small, INK);
    }
    canvas.frame(x0, TOP, PLOT.0 + 1, PLOT.1 + 1, INK);
    canvas.text(x0, 8, title, Text::Large, INK);
    let caption = "epoch";
    canvas.text(x0 + (PLOT.0 - text_width(caption, Text::Small)) / 2, y0 + 30, caption, Text::Small, INK);
    let mut legend = x0 + PLOT.0;
    for (values, name, color) in [(lines[1], "validation", ORANGE), (lines[0], "training", BLUE)] {
        legend -= text_width(name, Text::Small);
        canvas.text(legend, 16, name, Text::Small, color);
        legend -= 28;
        canvas.line((legend as f64, 24.0), (legend as f64 + 22.0, 24.0), 2.0, color);
        legend -= 14;
        let point = |epoch: f64, value: f64| (x0 as f64 + horizontal.place(epoch), y0 as f64 - vertical.place(value));
        let points: Vec<_> = epochs.iter().zip(values).map(|(epoch, value)| point(*epoch, *value)).collect();
        line(canvas, &points, color);
    }
}

/// A line through points, with a dot on each if they are few; points that are not numbers leave a gap.
pub(super) fn line(canvas: &mut Canvas, points: &[(f64, f64)], color: Color) {
    let good = |point: &(f64, f64)| point.1.is_finite();
    for pair in points.windows(2).filter(|pair| pair.iter().all(good)) {
        canvas.line(pair[0], pair[1], 2.0, color);
    }
    if points.len() <= 40 {
        points.iter().filter(|point| good(point)).for_each(|point| canvas.line(*point, *point, 6.0, color));
    }
}

/// A linear axis from `low` to `high` over `pixels`, with a tick every `step`.
pub(super) struct Axis {
    pub low: f64,
    pub high: f64,
    pub pixels: i64,
    pub step: f64,
}

impl Axis {
    /// An axis whose ends are ticks around `low` and `high`.
    pub fn new(low: f64, high: f64, pixels: i64) -> Axis {
        // Equal values still need an axis of some length.
        let span = (high - low).max(high.abs() * 1e-3).max(1e-6);
        let step = nice(span / 5.0);
        Axis { low: (low / step).floor() * step, high: ((low + span) / step).ceil() * step, pixels, step }
    }
    pub fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low) * self.pixels as f64
    }
    pub fn ticks(&self) -> impl Iterator<Item = f64> {
        // Multiples of the step; an end that is one but for rounding counts.
        let first = (self.low / self.step - 1e-6).ceil();
        let count = (self.high / self.step + 1e-6).floor() - first;
        (0..=(count.max(0.0) as usize).min(100)).map(move |i| (first + i as f64) * self.step)
    }
    /// As many decimals as the step has.
    pub fn label(&self, tick: f64) -> String {
        let decimals = (-self.step.log10().floor()).clamp(0.0, 8.0) as usize;
        // Not "-0".
        format!("{:.decimals$}", if tick.abs() < self.step * 1e-6 { 0.0 } else { tick })
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is not below `step`.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.max(1e-12).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|nice| *nice >= step * 0.999).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(epochs: usize) -> History {
        let curve = |f: fn(f64) -> f64| (0..epochs).map(|i| f(i as f64)).collect::<Vec<_>>();
        History {
            epochs: curve(|i| i + 1.0),
            train_loss: curve(|i| 2.3 * (-i / 3.0).exp() + 0.02),
            val_loss: curve(|i| 2.2 * (-i / 3.0).exp() + 0.08),
            train_accuracy: curve(|i| 1.0 - 0.9 * (-i / 2.0).exp()),
            val_accuracy: curve(|i| 0.98 - 0.88 * (-i / 2.0).exp()),
        }
    }

    fn has(canvas: &Canvas, color: Color) -> bool {
        canvas.image().pixels().any(|pixel| pixel.0 == color)
    }

    #[test]
    fn both_curves_are_drawn_beside_each_other() {
        let canvas = curves(&history(12));
        assert_eq!(canvas.width(), 2 * (LEFT + PLOT.0 + RIGHT));
        assert!(has(&canvas, BLUE) && has(&canvas, ORANGE));
        let regression = History { train_accuracy: vec![], val_accuracy: vec![], ..history(3) };
        assert_eq!(curves(&regression).width(), LEFT + PLOT.0 + RIGHT);
    }

    #[test]
    fn no_epochs_one_epoch_equal_values_and_nan_can_be_drawn() {
        curves(&History::default());
        curves(&history(1));
        let flat = History { train_loss: vec![0.0; 4], val_loss: vec![f64::NAN; 4], ..history(4) };
        curves(&flat);
        let broken = History { train_loss: vec![f64::INFINITY; 4], val_loss: vec![f64::NAN; 4], ..history(4) };
        curves(&broken);
    }

    #[test]
    fn ticks_are_round_numbers_around_the_values() {
        let axis = Axis::new(0.12, 2.31, 100);
        let labels: Vec<String> = axis.ticks().map(|tick| axis.label(tick)).collect();
        assert_eq!(labels, ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5"]);
        assert_eq!((axis.place(0.0), axis.place(2.5)), (0.0, 100.0));
        let epochs = Axis { low: 1.0, high: 12.0, pixels: 100, step: 5.0 };
        assert_eq!(epochs.ticks().map(|tick| epochs.label(tick)).collect::<Vec<_>>(), ["5", "10"]);
        assert_eq!([0.03, 0.11, 0.2, 7.0].map(nice), [0.05, 0.2, 0.2, 10.0]);
    }

    #[test]
    fn the_history_of_a_run_is_read_by_column_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        std::fs::write(&path, "epoch,val_loss,extra,train_loss\n1,0.5,x,0.75\n2,NaN,x,0.25\n").unwrap();
        let history = read_history(&path).unwrap();
        assert_eq!((history.epochs, history.train_loss), (vec![1.0, 2.0], vec![0.75, 0.25]));
        assert!(history.val_loss[1].is_nan() && history.val_accuracy.is_empty());
        std::fs::write(&path, "epoch,val_loss\n1,high\n").unwrap();
        assert!(read_history(&path).unwrap_err().what().contains("val_loss 'high'"));
    }
}
