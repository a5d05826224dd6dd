//! How a network does on a split: losses, hits, confusion, and each picture's answer.

use crate::data::{Batch, Loader};
use crate::metrics::{
    Confusion, MultiLabel, binary_cross_entropy, calibration_error, cross_entropy, rank, regression_errors, sigmoid,
    softmax, top,
};
use crate::{Error, Result};

/// Answers kept of each picture.
const KEPT: usize = 5;

/// What a network makes of one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Position in the split.
    pub position: usize,
    /// The true class; none for regression and several classes a picture.
    pub truth: Option<u32>,
    /// The most probable classes with their probabilities, best first, at most five.
    pub top: Vec<(u32, f32)>,
    /// What was predicted, for regression; of several classes a picture the probability of each.
    pub values: Vec<f32>,
    /// Loss of this picture.
    pub loss: f64,
}

impl Prediction {
    /// Whether the true class comes first.
    pub fn is_right(&self) -> bool {
        self.truth.is_some() && self.truth == self.top.first().map(|(class, _)| *class)
    }
}

/// How a network does on the pictures of a split. Sums go over the pictures in file order, so they do not depend on the
/// batch size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Pictures.
    pub images: usize,
    /// Mean loss: cross-entropy without smoothing and class weights, binary cross-entropy, or the squared error.
    pub loss: f64,
    /// Pictures whose true class comes first; of several classes a picture those with all of them right.
    pub right: usize,
    /// Pictures whose true class is among the first five.
    pub right5: usize,
    /// What was taken for what; where there is one class a picture.
    pub confusion: Option<Confusion>,
    /// Each class by itself; where there are several a picture.
    pub multi_label: Option<MultiLabel>,
    /// Mean absolute error; regression only.
    pub absolute_error: Option<f64>,
    /// Each picture's answer, in file order, if asked for.
    pub predictions: Vec<Prediction>,
}

impl Evaluation {
    /// The fraction of pictures that are [right](Evaluation::right).
    pub fn top1(&self) -> f64 {
        self.right as f64 / self.images.max(1) as f64
    }
    /// The fraction of pictures whose true class is among the first five.
    pub fn top5(&self) -> f64 {
        self.right5 as f64 / self.images.max(1) as f64
    }
    /// The [calibration error](calibration_error) of the kept answers; none for regression, or without them.
    pub fn calibration_error(&self) -> Option<f64> {
        let first = |one: &Prediction| one.top.first().map(|(_, probability)| (*probability, one.is_right()));
        let answers: Vec<_> = self.predictions.iter().filter_map(first).collect();
        (!answers.is_empty()).then(|| calibration_error(answers))
    }
    /// The predictions with the highest losses among the wrong ones, worst first. A loss that is not a number comes first.
    pub fn worst(&self, most: usize) -> Vec<&Prediction> {
        let mut wrong: Vec<&Prediction> = self.predictions.iter().filter(|p| !p.is_right()).collect();
        wrong.sort_by(|a, b| b.loss.total_cmp(&a.loss));
        wrong.truncate(most);
        wrong
    }
    /// The class that all pictures were taken for, where there are several classes but only one answer.
    pub fn only_answer(&self) -> Option<usize> {
        let confusion = self.confusion.as_ref()?;
        let asked = (0..confusion.classes()).filter(|class| confusion.truths(*class) > 0).count();
        let answered = |class: &usize| confusion.predictions(*class) > 0;
        let mut answers = (0..confusion.classes()).filter(answered);
        let first = answers.next()?;
        (asked > 1 && answers.next().is_none()).then_some(first)
    }
}

/// Scores `[n, outputs]` of pictures `[n, C, H, W]`.
pub type Logits<'a> = dyn FnMut(&[f32], usize) -> Result<Vec<f32>> + 'a;

/// Runs all pictures of a loader through `logits`. `outputs` is the number of classes or of predicted values; `keep` keeps
/// each picture's answer. Before each batch `stop` may end it; then there is no result.
///
/// # Errors
/// A picture cannot be read, or the network refuses it.
pub(super) fn evaluate_until(
    logits: &mut Logits,
    loader: &Loader,
    outputs: usize,
    keep: bool,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Evaluation>> {
    let mut sums = Sums::new(outputs, keep, loader.is_multi_label());
    let mut batches = loader.epoch(0, 0);
    while let Some(batch) = batches.next().transpose()? {
        if stop() {
            return Ok(None);
        }
        let scores = logits(&batch.images, batch.n)?;
        if scores.len() != batch.n * outputs {
            return Err(Error::new(format!("{} values for {} pictures of {outputs}", scores.len(), batch.n)));
        }
        sums.add(&batch, &scores)?;
        batches.recycle(batch);
    }
    Ok(Some(sums.finish()))
}

pub(super) struct Sums {
    outputs: usize,
    keep: bool,
    loss: f64,
    absolute: f64,
    is_regression: bool,
    evaluation: Evaluation,
    confusion: Confusion,
    multi_label: Option<MultiLabel>,
}

impl Sums {
    pub(super) fn new(outputs: usize, keep: bool, multi_label: bool) -> Sums {
        let evaluation = Evaluation::default();
        let confusion = Confusion::new(outputs);
        let multi_label = multi_label.then(|| MultiLabel::new(outputs));
        Sums { outputs, keep, loss: 0.0, absolute: 0.0, is_regression: false, evaluation, confusion, multi_label }
    }

    pub(super) fn add(&mut self, batch: &Batch, scores: &[f32]) -> Result<()> {
        self.is_regression = batch.labels.is_empty() && self.multi_label.is_none();
        for (i, scores) in scores.chunks_exact(self.outputs).enumerate() {
            let mut prediction =
                Prediction { position: batch.indices[i], truth: None, top: Vec::new(), values: Vec::new(), loss: 0.0 };
            if let Some(multi_label) = &mut self.multi_label {
                let truths = &batch.targets[i * self.outputs..][..self.outputs];
                self.evaluation.right += usize::from(multi_label.add(scores, truths));
                prediction.loss = binary_cross_entropy(scores, truths);
                if self.keep {
                    prediction.values = scores.iter().map(|score| sigmoid(*score)).collect();
                }
            } else if self.is_regression {
                let (squared, absolute) = regression_errors(scores, &batch.targets[i * self.outputs..][..self.outputs]);
                self.absolute += absolute;
                prediction.loss = squared;
                prediction.values = scores.to_vec();
            } else {
                let label = batch.labels[i] as usize;
                if label >= self.outputs {
                    return Err(Error::new(format!("class number {label} of a network with {} outputs", self.outputs))
                        .advice("Use data with the classes that the network was trained on."));
                }
                let rank = rank(scores, label);
                self.evaluation.right += usize::from(rank == 0);
                self.evaluation.right5 += usize::from(rank < 5);
                let first = top(scores, KEPT);
                self.confusion.add(label, first[0]);
                prediction.loss = cross_entropy(scores, label);
                prediction.truth = Some(label as u32);
                if self.keep {
                    let probabilities = softmax(scores);
                    prediction.top = first.iter().map(|class| (*class as u32, probabilities[*class])).collect();
                }
            }
            self.loss += prediction.loss;
            self.evaluation.images += 1;
            if self.keep {
                self.evaluation.predictions.push(prediction);
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Evaluation {
        let images = self.evaluation.images.max(1) as f64;
        Evaluation {
            loss: self.loss / images,
            confusion: (!self.is_regression && self.multi_label.is_none()).then_some(self.confusion),
            multi_label: self.multi_label,
            absolute_error: self.is_regression.then_some(self.absolute / images),
            ..self.evaluation
        }
    }
}
