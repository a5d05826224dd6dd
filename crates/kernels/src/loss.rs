//! Losses and their gradients: softmax cross-entropy, and of each output by itself mean squared error and binary
//! cross-entropy.
//!
//! The sum over the batch is taken in `f64` by groups of samples and a tree, see [`crate::reduce`].

use std::ops::Range;

use crate::Cpu;
use crate::math::{exp_f64, ln};
use crate::pool::Shares;
use crate::real::Real;
use crate::reduce::sum_samples;
use crate::simd::{Kernel, LANES, Simd, dispatch, load_part};
use crate::softmax::{exp_sum, maximum};

/// Softmax cross-entropy, PyTorch's `CrossEntropyLoss` with its weighted mean: with label smoothing s, C classes and
/// class weights w, a row of label t costs (1 − s)·w_t·(−log p_t) + s/C·Σ w_c·(−log p_c), and the loss is the sum of the
/// rows over Σ w_t.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy<'a> {
    /// Classes, the length of a row of logits.
    pub classes: usize,
    /// Label smoothing in [0, 1].
    pub smoothing: f32,
    /// A weight for each class; all 1 without.
    pub class_weights: Option<&'a [f32]>,
    /// Factor of loss and gradient: the weight of this output of a network.
    pub factor: f32,
    /// For each row a second label with its share of the target, of which the label has the rest; empty where there are none.
    pub mixed: &'a [Mixed],
    /// Rows of the batch before those of the logits, which may be a part of it; labels are the batch's.
    pub first: usize,
}

/// A second label.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mixed {
    /// A class.
    pub label: u32,
    /// Its share of the target, in [0, 1].
    pub share: f32,
}

/// What a loss tells of one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Row {
    /// The sample's own loss, before the mean and the factor.
    pub loss: f32,
    /// Whether the label's logit is the largest, the first of equal ones.
    pub correct: bool,
}

impl CrossEntropy<'_> {
    fn weight(&self, class: usize) -> f64 {
        self.class_weights.map_or(1.0, |weights| f64::from(weights[class]))
    }
    /// The rows of the logits among those of the batch.
    fn rows(&self, logits: usize, labels: &[u32]) -> Range<usize> {
        let rows = self.first..self.first + logits / self.classes;
        let fits = logits.is_multiple_of(self.classes) && rows.end <= labels.len();
        assert!(fits, "a row of {} logits for each label", self.classes);
        let mut all = labels.iter().chain(self.mixed.iter().map(|mixed| &mixed.label));
        assert!(all.all(|&label| (label as usize) < self.classes), "labels below {}", self.classes);
        assert!(self.mixed.is_empty() || self.mixed.len() == labels.len(), "a second label for each row");
        assert!(self.class_weights.is_none_or(|weights| weights.len() == self.classes), "a weight for each class");
        rows
    }
    /// What the sum of rows is divided by.
    fn total_weight(&self, labels: &[u32]) -> f64 {
        sum_samples(labels.len(), &|i| {
            self.targets(labels, i).iter().map(|&(class, share)| share * self.weight(class)).fold(0.0, |a, b| a + b)
        })
    }
    /// The classes of a row with their shares.
    fn targets(&self, labels: &[u32], i: usize) -> [(usize, f64); 2] {
        let Mixed { label, share } = self.mixed.get(i).copied().unwrap_or(Mixed { label: labels[i], share: 0.0 });
        let share = f64::from(share);
        [(labels[i] as usize, 1.0 - share), (label as usize, share)]
    }
    fn sum_of_weights(&self) -> f64 {
        (0..self.classes).map(|c| self.weight(c)).fold(0.0, |sum, weight| sum + weight)
    }
}

/// The definition: the loss of the rows, divided by the whole batch, and its gradient for the logits.
pub fn cross_entropy_reference<T: Real>(loss: &CrossEntropy, logits: &[T], labels: &[u32], gradient: &mut [T]) -> T {
    let rows = loss.rows(logits.len(), labels);
    let of = T::from_f64;
    let (smoothing, classes) = (f64::from(loss.smoothing), loss.classes);
    let factor = of(f64::from(loss.factor) / loss.total_weight(labels));
    let mut sum = T::ZERO;
    crate::softmax::softmax_reference(classes, logits, gradient);
    for (i, label) in rows.enumerate() {
        let targets = loss.targets(labels, label);
        let row = i * classes..(i + 1) * classes;
        let (x, d) = (&logits[row.clone()], &mut gradient[row]);
        let max = x.iter().fold(T::NEG_INFINITY, |max, &x| if x > max { x } else { max });
        let log_sum = max + x.iter().map(|&x| (x - max).exp()).sum::<T>().ln();
        let target = |c: usize| {
            let share: f64 = targets.iter().filter(|(class, _)| *class == c).map(|(_, share)| share).sum();
            of(((1.0 - smoothing) * share + smoothing / classes as f64) * loss.weight(c))
        };
        let total: T = (0..classes).map(target).sum();
        for c in 0..classes {
            sum += target(c) * (log_sum - x[c]);
            d[c] = factor * (d[c] * total - target(c));
        }
    }
    sum * factor
}

/// The loss of a batch up to the last of the logits' rows; writes each sample's [`Row`] among those of the batch and, if
/// wanted, the gradient for the logits.
///
/// # Panics
/// A label is not below the number of classes, or a slice has a wrong length.
pub fn cross_entropy(
    cpu: &Cpu,
    loss: &CrossEntropy,
    logits: &[f32],
    labels: &[u32],
    gradient: Option<&mut [f32]>,
    rows: &mut [Row],
) -> f64 {
    let Range { start: first, end } = loss.rows(logits.len(), labels);
    assert_eq!(rows.len(), labels.len(), "a row for each label");
    let (classes, weights) = (loss.classes, loss.sum_of_weights());
    let factor = f64::from(loss.factor) / loss.total_weight(labels);
    let gradient = gradient.map(|gradient| {
        assert_eq!(gradient.len(), logits.len(), "a gradient for each logit");
        Shares::new(gradient)
    });
    let shares = Shares::new(rows);
    cpu.pool().run_ranges(end - first, classes, &|range| {
        for i in range {
            let x = &logits[i * classes..(i + 1) * classes];
            // SAFETY: every row belongs to one task.
            let (gradient, row) =
                unsafe { (gradient.as_ref().map(|g| g.part(i * classes, classes)), &mut shares.part(first + i, 1)[0]) };
            let targets = loss.targets(labels, first + i);
            *row = dispatch(cpu.isa(), EntropyRow { loss, x, targets, weights, factor, gradient });
        }
    });
    factor * sum_samples(end, &|i| f64::from(rows[i].loss))
}

struct EntropyRow<'a> {
    loss: &'a CrossEntropy<'a>,
    x: &'a [f32],
    targets: [(usize, f64); 2],
    /// Σ of all classes' weights.
    weights: f64,
    factor: f64,
    gradient: Option<&'a mut [f32]>,
}

impl Kernel for EntropyRow<'_> {
    type Output = Row;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Row {
        let EntropyRow { loss, x, targets, weights, factor, gradient } = self;
        let max = maximum(s, x);
        let mut gradient = gradient;
        let sum = exp_sum(s, x, max, gradient.as_deref_mut());
        let (smoothing, log_sum) = (f64::from(loss.smoothing), ln(f64::from(sum)));
        let hot = targets.map(|(label, share)| (1.0 - smoothing) * share * loss.weight(label));
        let even = smoothing / loss.classes as f64;
        let own = |i: usize| hot[i] * (log_sum - f64::from(x[targets[i].0] - max));
        // A class without a share costs nothing, whatever its logit.
        let mut cost = if hot[1] > 0.0 { own(0) + own(1) } else { own(0) };
        if smoothing > 0.0 {
            cost += even * (log_sum * weights - weighted_sum(s, x, max, loss.class_weights));
        }
        if let Some(gradient) = gradient {
            let scale = (factor * (hot[0] + hot[1] + even * weights) / f64::from(sum)) as f32;
            let even = (factor * even) as f32;
            match loss.class_weights {
                Some(weights) => gradient.iter_mut().zip(weights).for_each(|(d, &w)| *d = *d * scale - even * w),
                None => gradient.iter_mut().for_each(|d| *d = *d * scale - even),
            }
            targets.iter().zip(hot).for_each(|(&(label, _), hot)| gradient[label] -= (factor * hot) as f32);
        }
        Row { loss: cost as f32, correct: x.iter().position(|&x| x == max) == Some(targets[0].0) }
    }
}

/// Σ w·(x − max) by 16 lanes and their tree.
#[inline(always)]
fn weighted_sum<S: Simd>(s: S, x: &[f32], max: f32, weights: Option<&[f32]>) -> f64 {
    let mut sum = s.zero();
    for i in (0..x.len()).step_by(LANES) {
        let n = LANES.min(x.len() - i);
        // SAFETY: n elements are left at i; lanes beyond them have weight 0 or the value 0.
        unsafe {
            let distance = s.sub(crate::softmax::load_or(s, x.as_ptr().add(i), n, max), s.splat(max));
            sum = match weights {
                Some(weights) => s.fma(load_part(s, weights.as_ptr().add(i), n), distance, sum),
                None => s.add(sum, distance),
            };
        }
    }
    f64::from(s.sum(sum))
}

/// A loss of each output by itself against a target, its mean over all outputs of a batch.
#[derive(Clone, Copy, Debug)]
pub struct EachOutput {
    /// What an output costs.
    pub cost: Cost,
    /// Outputs of a row.
    pub width: usize,
    /// Factor of loss and gradient: the weight of this output of a network.
    pub factor: f32,
    /// Rows of the batch before these, which may be a part of it; targets are the batch's.
    pub first: usize,
}

/// What one output costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// (x − target)², PyTorch's `MSELoss`. Nothing counts as correct.
    Squared,
    /// Binary cross-entropy of a logit and a target in [0, 1], PyTorch's `BCEWithLogitsLoss`: max(x, 0) − x·target +
    /// ln(1 + e^−|x|), which no logit overflows. A row is correct if all its probabilities are on the side of 0.5 where their
    /// targets are.
    Logistic,
}

impl EachOutput {
    /// The rows of `x` among those of the batch.
    fn rows(&self, x: usize, targets: usize) -> Range<usize> {
        let rows = self.first..self.first + x / self.width;
        let fits = x.is_multiple_of(self.width) && targets.is_multiple_of(self.width);
        assert!(fits && rows.end * self.width <= targets, "a row of {} targets for each sample", self.width);
        rows
    }
}

/// The definition: the loss of the rows, divided by the whole batch, and its gradient for `x`.
pub fn each_output_reference<T: Real>(loss: &EachOutput, [x, targets]: [&[T]; 2], gradient: &mut [T]) -> T {
    let rows = loss.rows(x.len(), targets.len());
    let factor = T::from_f64(f64::from(loss.factor) / targets.len() as f64);
    let mut sum = T::ZERO;
    for ((&x, &target), d) in x.iter().zip(&targets[rows.start * loss.width..]).zip(gradient) {
        let (cost, slope) = match loss.cost {
            Cost::Squared => ((x - target) * (x - target), T::from_f64(2.0) * (x - target)),
            Cost::Logistic => {
                let positive = if x > T::ZERO { x } else { T::ZERO };
                let probability = T::ONE / (T::ONE + (-x).exp());
                (positive - x * target + (T::ONE + (-x.abs()).exp()).ln(), probability - target)
            }
        };
        sum += cost;
        *d = factor * slope;
    }
    sum * factor
}

/// The loss of a batch up to the last row of `x`; writes each sample's own mean among the rows of the batch and, if wanted,
/// the gradient for `x`.
///
/// # Panics
/// A slice has a wrong length.
pub fn each_output(
    cpu: &Cpu,
    loss: &EachOutput,
    [x, targets]: [&[f32]; 2],
    gradient: Option<&mut [f32]>,
    rows: &mut [Row],
) -> f64 {
    let width = loss.width;
    let Range { start: first, end } = loss.rows(x.len(), targets.len());
    assert_eq!(rows.len() * width, targets.len(), "a row for each sample");
    let factor = f64::from(loss.factor) / rows.len() as f64;
    let scale = factor / width as f64;
    let gradient = gradient.map(|gradient| {
        assert_eq!(gradient.len(), x.len(), "a gradient for each element");
        Shares::new(gradient)
    });
    let shares = Shares::new(rows);
    cpu.pool().run_ranges(end - first, width, &|range| {
        for i in range {
            let (x, targets) = (&x[i * width..(i + 1) * width], &targets[(first + i) * width..][..width]);
            // SAFETY: every row belongs to one task.
            let (gradient, row) =
                unsafe { (gradient.as_ref().map(|g| g.part(i * width, width)), &mut shares.part(first + i, 1)[0]) };
            *row = match loss.cost {
                Cost::Squared => squared(cpu, x, targets, scale, gradient),
                Cost::Logistic => logistic(x, targets, scale, gradient),
            };
        }
    });
    factor * sum_samples(end, &|i| f64::from(rows[i].loss))
}

fn squared(cpu: &Cpu, x: &[f32], targets: &[f32], scale: f64, gradient: Option<&mut [f32]>) -> Row {
    let sum = dispatch(cpu.isa(), Squares { x, targets });
    if let Some(gradient) = gradient {
        let scale = (2.0 * scale) as f32;
        let distances = x.iter().zip(targets).map(|(x, target)| x - target);
        gradient.iter_mut().zip(distances).for_each(|(d, distance)| *d = scale * distance);
    }
    Row { loss: sum / x.len() as f32, correct: false }
}

/// In f64, one after the other: a row has as many values as there are classes.
fn logistic(x: &[f32], targets: &[f32], scale: f64, mut gradient: Option<&mut [f32]>) -> Row {
    let (mut sum, mut correct) = (0.0, true);
    for (i, (&x, &target)) in x.iter().zip(targets).enumerate() {
        correct &= (x >= 0.0) == (target >= 0.5);
        let (x, target) = (f64::from(x), f64::from(target));
        // e^−|x| lies in (0, 1], and is NaN where x is.
        let small = exp_f64(-x.abs());
        sum += x.max(0.0) - x * target + ln(1.0 + small);
        if let Some(gradient) = &mut gradient {
            let probability = if x >= 0.0 { 1.0 } else { small } / (1.0 + small);
            gradient[i] = (scale * (probability - target)) as f32;
        }
    }
    Row { loss: (sum / x.len() as f64) as f32, correct }
}

struct Squares<'a> {
    x: &'a [f32],
    targets: &'a [f32],
}

impl Kernel for Squares<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut sum = s.zero();
        for i in (0..self.x.len()).step_by(LANES) {
            let n = LANES.min(self.x.len() - i);
            // SAFETY: n elements are left at i.
            let distance = unsafe {
                s.sub(load_part(s, self.x.as_ptr().add(i), n), load_part(s, self.targets.as_ptr().add(i), n))
            };
            sum = s.fma(distance, distance, sum);
        }
        s.sum(sum)
    }
}
