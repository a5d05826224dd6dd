//! What is fitted after training, on the validation split: a temperature, and from which probability on an answer counts.

use std::sync::Arc;

use ocelli_kernels::math::exp_f64;

use super::{EvaluateOptions, Evaluation};
use crate::data::{Dataset, LoadOptions, Loader, Split};
use crate::exec::Inference;
use crate::model::{Model, SURE};
use crate::{Error, Result};

/// The temperature T for which softmax(scores / T) gives the split the lowest cross-entropy (Guo et al. 2017), between 0.05
/// and 20. It moves no answer, only how sure it is.
///
/// # Errors
/// The model predicts numbers; else as [`super::evaluate()`].
pub fn fit_temperature(model: &Model, mut data: Dataset, split: Split, options: &EvaluateOptions) -> Result<f32> {
    if model.is_regression() {
        return Err(Error::usage("a temperature for a model that predicts numbers")
            .advice("Leave --temperature out: only probabilities of classes have one."));
    }
    if model.multi_label {
        return Err(Error::usage("a temperature for a model of several classes a picture")
            .advice("Leave --temperature out: it is fitted for one class a picture."));
    }
    model.check_labels(&data)?;
    data.match_classes(&model.classes)?;
    let net = model.resolve()?;
    let load = LoadOptions { workers: options.workers, skip_bad: options.skip_bad, ..Default::default() };
    let loaders = Loader::with_views(&Arc::new(data), split, &model.preparation, None, options.batch_size, &load)?;
    let mut inference = Inference::new(&net, model.tensors.clone(), &options.device, options.batch_size)?;
    let (mut scores, mut labels) = (Vec::new(), Vec::new());
    for batch in loaders.iter().flat_map(|loader| loader.epoch(0, 0)) {
        let batch = batch?;
        scores.extend(inference.logits(&batch.images, batch.n)?);
        labels.extend(batch.labels);
    }
    Ok(temperature(&scores, &labels, net.classes))
}

/// Newton's steps on 1/T, in which the cross-entropy is convex, kept between the ends that its slope allows.
fn temperature(scores: &[f32], labels: &[u32], classes: usize) -> f32 {
    let (mut low, mut high, mut beta) = (0.05f64, 20.0f64, 1.0f64);
    for _ in 0..100 {
        let (mut slope, mut curvature) = (0.0, 0.0);
        for (row, label) in scores.chunks_exact(classes).zip(labels) {
            let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let (mut sum, mut mean, mut square) = (0.0, 0.0, 0.0);
            for score in row {
                let from_top = f64::from(*score) - f64::from(highest);
                let weight = exp_f64(beta * from_top);
                sum += weight;
                mean += weight * from_top;
                square += weight * from_top * from_top;
            }
            let (mean, square) = (mean / sum, square / sum);
            slope += mean - (f64::from(row[*label as usize]) - f64::from(highest));
            curvature += square - mean * mean;
        }
        if slope > 0.0 {
            high = beta
        } else {
            low = beta
        }
        let step = beta - slope / curvature;
        let next = if step > low && step < high { step } else { 0.5 * (low + high) };
        let moved = (next - beta).abs();
        beta = next;
        if moved < 1e-9 {
            break;
        }
    }
    (1.0 / beta) as f32
}

/// For each class the lowest probability from which on at least `share` of its answers are right; infinite where no
/// probability is enough, [`SURE`] for a class that is never answered.
pub fn fit_unsure(evaluation: &Evaluation, classes: usize, share: f64) -> Vec<f32> {
    let mut answers: Vec<Vec<(f32, bool)>> = vec![Vec::new(); classes];
    for prediction in &evaluation.predictions {
        if let Some((class, probability)) = prediction.top.first() {
            answers[*class as usize].push((*probability, prediction.is_right()));
        }
    }
    let threshold = |mut answers: Vec<(f32, bool)>| {
        if answers.is_empty() {
            return SURE;
        }
        answers.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (mut right, mut found) = (0, f32::INFINITY);
        for (i, (probability, is_right)) in answers.iter().enumerate() {
            right += usize::from(*is_right);
            // Answers of the same probability stand or fall together.
            let last_of_equals = answers.get(i + 1).is_none_or(|next| next.0 < *probability);
            if last_of_equals && right as f64 >= share * (i + 1) as f64 {
                found = *probability;
            }
        }
        found
    };
    answers.into_iter().map(threshold).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::cross_entropy;
    use crate::train::Prediction;

    #[test]
    fn the_temperature_is_where_no_other_has_a_lower_loss() {
        // Far too sure: of four pictures with 4 to 0 one is wrong, so that ln 3 to 0 would be right. T = 4 / ln 3.
        let scores = [4.0, 0.0, 4.0, 0.0, 4.0, 0.0, 4.0, 0.0];
        let found = temperature(&scores, &[0, 0, 0, 1], 2);
        assert!((f64::from(found) - 4.0 / 3f64.ln()).abs() < 1e-5, "{found}");
        let scores: Vec<f32> = (0..60).map(|i| ((i * 37 % 23) as f32 - 11.0) / 3.0).collect();
        let labels: Vec<u32> = (0..20).map(|i| i * 7 % 3).collect();
        let loss = |t: f32| -> f64 {
            let row = |row: &[f32]| row.iter().map(|s| s / t).collect::<Vec<f32>>();
            scores.chunks(3).zip(&labels).map(|(r, l)| cross_entropy(&row(r), *l as usize)).sum()
        };
        let best = temperature(&scores, &labels, 3);
        assert!(loss(best) <= loss(best * 1.02) && loss(best) <= loss(best / 1.02), "{best}");
        // Always right: as sure as is allowed.
        assert!((temperature(&[4.0, 0.0], &[0], 2) - 0.05).abs() < 1e-3);
    }

    #[test]
    fn an_answer_counts_from_the_lowest_probability_that_keeps_the_promise() {
        let prediction = |class: u32, probability: f32, right: bool| Prediction {
            position: 0,
            truth: Some(if right { class } else { 9 }),
            top: vec![(class, probability)],
            values: vec![],
            loss: 0.0,
        };
        let predictions = vec![
            prediction(0, 0.9, true),
            prediction(0, 0.8, true),
            prediction(0, 0.7, false),
            prediction(0, 0.6, true),
            prediction(0, 0.5, false),
            prediction(1, 0.99, false),
        ];
        let evaluation = Evaluation { predictions, ..Evaluation::default() };
        assert_eq!(fit_unsure(&evaluation, 3, 0.75), [0.6, f32::INFINITY, SURE]);
        assert_eq!(fit_unsure(&evaluation, 3, 0.8), [0.8, f32::INFINITY, SURE]);
    }
}
